"""A place to run commands in: a folder with a keys.json, and simulated providers behind it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from click.testing import Result
from typer.testing import CliRunner

from core.settings import Settings
from llm.cli import app
from tools.simulated_provider import SimulatedProvider

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cr3t-of-{}"
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}


class Place:
    """Runs commands with keys, secrets and a Redis of its own."""

    def __init__(self, folder: Path, data_dir: Path, providers: SimulatedProvider) -> None:
        self.folder = folder
        self.providers = providers
        self.environment = {"LLM_DATA_DIR": str(data_dir), "LLM_BASE_BACKOFF_MS": "1"}
        self.entries: list[dict[str, Any]] = []
        addresses = {
            "openai": providers.openai_base_url,
            "anthropic": providers.anthropic_base_url,
            "gemini": providers.gemini_base_url,
        }
        for provider, model in MODELS.items():
            self.add_key(f"{provider}-1", provider=provider, model_name=model,
                         base_url=addresses[provider])  # fmt: skip

    def add_key(self, key_id: str, **fields: Any) -> None:
        """Put a key into keys.json, its secret into the environment, and both to the provider."""
        entry = {"rpm": 100, **fields, "key_id": key_id}
        self.entries.append(entry)
        self.providers.configure_key(SECRET.format(key_id), name=key_id, rpm=entry["rpm"])
        self.environment["API_KEY_" + key_id.upper().replace("-", "_")] = SECRET.format(key_id)
        self.write_keys(json.dumps({"keys": self.entries}))

    def write_keys(self, text: str) -> None:
        (self.folder / "keys.json").write_text(text, encoding="utf-8")

    def run(self, *arguments: str, typed: str = "", code: int = 0) -> Result:
        """Run a command in this process, and check its exit code and its manners."""
        result = CliRunner().invoke(app, list(arguments), input=typed, env=self.environment)
        assert result.exit_code == code, result.output + repr(result.exception)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        self.check(result.output)
        return result

    def spawn(self, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments in a process of its own."""
        done = subprocess.run(
            [sys.executable, *arguments],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=self.folder,
            env=self.process_environment(),
            check=False,
        )
        self.check(done.stdout + done.stderr)
        return done

    def process_environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONUTF8": "1",
            **self.environment,
        }

    def check(self, output: str) -> None:
        """No command ever shows a traceback or a secret."""
        assert "Traceback" not in output
        assert SECRET.format("") not in output


@pytest.fixture(scope="session")
def simulation() -> Iterator[SimulatedProvider]:
    with SimulatedProvider() as providers:
        yield providers


@pytest.fixture
def place(
    tmp_path: Path,
    redis_folder: Path,
    redis: redis_py.Redis,
    simulation: SimulatedProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    yield Place(tmp_path, redis_folder, simulation)
    simulation.clear_faults()
