"""What the scanner's tests share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.scanner.credentials import LLM, Fake
from tools.scanner.cli import main
from tools.scanner.findings import Finding
from tools.scanner.scanner import Scanner

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "tools" / "secret_scanner.py"

Found = Callable[..., list[Finding]]


@pytest.fixture
def fake(request: pytest.FixtureRequest) -> Fake:
    """Random text, another for each test and the same in every run."""
    return Fake(request.node.name)


@pytest.fixture
def secret(fake: Fake) -> str:
    """A key that its form gives away."""
    return next(kind for kind in LLM if kind.name == "anthropic").make(fake)


@pytest.fixture
def found() -> Found:
    """What is found in some text."""

    def scan(text: str | bytes, path: str = "file.txt") -> list[Finding]:
        raw = text if isinstance(text, bytes) else text.encode()
        outcome = Scanner().scan_bytes(raw, path)
        assert outcome.errors == []
        return outcome.findings

    return scan


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs the command line in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: main([*arguments, "--no-banner"])


def script(*arguments: str, cwd: Path, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Runs the script by itself, isolated from this environment's packages."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, timeout=60, check=False, **options)  # type: ignore[call-overload, no-any-return]
