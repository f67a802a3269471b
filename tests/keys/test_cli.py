from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from core.settings import get_settings
from keys.cli import app
from keys.registry import KeyRegistry, parse_keys
from keys.schema import json_schema
from keys.secret_store import EnvSecretStore
from tests.keys.fakes import entry, fake_secret, text_of

ROOT = Path(__file__).parents[2]
USUAL = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY")
ADDRESSES = ("OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL")


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name in (*USUAL, *ADDRESSES) or name.startswith("API_KEY_") or name == "KEYS_FILE":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_help_teaches() -> None:
    assert "Secrets stand in the environment or in .env, never in that file" in run("--help").output
    assert "Exit code 0: the file is good" in run("validate", "--help").output
    told = run("init", "--help").output
    assert "OPENAI_API_KEY" in told
    assert "--tier" in told


def test_validate_points_out_a_provider_that_is_not_built_in() -> None:
    Path("keys.json").write_text(text_of(entry("a", provider="openay"), entry("b")))
    result = run("validate")
    assert result.exit_code == 0
    assert "Provider 'openay' is not built in" in result.output
    Path("keys.json").write_text(text_of(entry("b")))
    assert "not built in" not in run("validate").output


def test_validate_shows_the_keys_and_where_their_secrets_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret = fake_secret()
    monkeypatch.setenv("API_KEY_A", secret)
    monkeypatch.setenv("API_KEY_C", "changeme")
    Path("keys.json").write_text(
        text_of(entry("a", rpm=10, tpm=250_000), entry("b"), entry("c"), entry("d", active=False))
    )
    result = run("validate")
    assert result.exit_code == 0
    for words in ("rpm 10, tpm 250000", "in API_KEY_A", "missing", "not usable", "(not active)"):
        assert words in result.output
    assert "keys.json is good: 4 keys." in result.output
    assert "Without a secret: 2 keys. The first: there is no secret for key 'b'" in result.output
    assert secret not in result.output + result.stderr


def test_validate_tells_everything_that_is_wrong_and_fails() -> None:
    secret = fake_secret()
    Path("my[bold].json").write_text(text_of(entry("a", rpm=-5), entry("b", api_key=secret)))
    result = run("validate", "my[bold].json")
    assert result.exit_code == 1
    assert "my[bold].json:7: keys[0] 'a': rpm is -5; write a whole number" in result.stderr
    assert "keys[1] 'b': \"api_key\" seems to hold a secret" in result.stderr
    assert secret not in result.output + result.stderr


def test_validate_without_a_file_names_both_ways() -> None:
    result = run("validate")
    assert result.exit_code == 1
    assert "python -m keys init" in result.stderr
    assert "keys_example.json" in result.stderr


def test_validate_and_init_use_keys_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS_FILE", "other.json")
    monkeypatch.setenv("OPENAI_API_KEY", fake_secret())
    assert "Wrote other.json." in run("init").output
    assert "other.json is good: 1 key." in run("validate").output


def test_init_writes_keys_that_work_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {name: fake_secret() for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")}
    secrets["GOOGLE_API_KEY"] = fake_secret("AI" + "za")
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    result = run("init")
    assert result.exit_code == 0
    text = Path("keys.json").read_text()
    jsonschema.validate(json.loads(text), json_schema())
    assert json.loads(text)["$schema"] == (ROOT / "keys" / "keys.schema.json").as_uri()
    for key, secret in zip(KeyRegistry(Path("keys.json")).keys(), secrets.values(), strict=True):
        assert EnvSecretStore().fetch(key).get_secret_value() == secret
        assert key.rpm is not None
        assert key.key_id in result.output
        assert secret not in text + result.output + result.stderr
    assert "its secret is in GOOGLE_API_KEY" in result.output
    assert "Check the limits: https://" in result.output


def test_init_reads_the_env_file_and_takes_the_limits_of_the_tier() -> None:
    Path(".env").write_text(f"GEMINI_API_KEY={fake_secret()}\nOPENAI_API_KEY=your-api-key-here\n")
    result = run("init", "--tier", "tier2", "--output", "new.json")
    assert result.exit_code == 0
    (key,) = parse_keys(Path("new.json").read_text(), path="new.json")
    assert (key.provider, key.rpm, key.tags) == ("gemini", 2000, {"tier": "tier2"})
    assert "Left out" in result.stderr
    assert "OPENAI_API_KEY holds a placeholder" in result.stderr


def test_init_takes_an_address_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fake_secret())
    monkeypatch.setenv("GEMINI_API_KEY", fake_secret())
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "not of a provider that has a key")
    monkeypatch.setenv("OPENAI_BASE_URL", "gateway.local")
    refused = run("init")
    assert refused.exit_code == 1
    assert "OPENAI_BASE_URL is no address to ask at: base_url" in refused.stderr
    assert not Path("keys.json").exists()
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.local/v1")
    assert "at the address of OPENAI_BASE_URL" in run("init").output
    written = parse_keys(Path("keys.json").read_text(), path="keys.json")
    keys = {key.provider: key for key in written}
    assert keys["openai"].base_url == "https://gateway.local/v1"
    assert keys["gemini"].base_url is None


def test_init_replaces_no_pipe_and_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fake_secret())
    os.mkfifo("pipe")
    result = run("init", "--force", "--output", "pipe")
    assert result.exit_code == 1
    assert "pipe cannot be written: it is no regular file" in result.stderr
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


def test_init_overwrites_only_when_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fake_secret())
    Path("real.json").write_text("mine")
    Path("keys.json").symlink_to("real.json")
    result = run("init")
    assert result.exit_code == 1
    assert "keys.json is already there; edit it, or overwrite it with --force" in result.stderr
    assert Path("keys.json").read_text() == "mine"
    assert run("init", "--force").exit_code == 0
    assert Path("keys.json").is_symlink()
    assert len(parse_keys(Path("real.json").read_text(), path="real.json")) == 1
    assert sorted(os.listdir()) == ["keys.json", "real.json"]


def test_init_without_any_key_names_both_ways_and_writes_nothing() -> None:
    result = run("init")
    assert result.exit_code == 1
    assert "set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY" in result.stderr
    assert "copy keys_example.json" in result.stderr
    assert not Path("keys.json").exists()


def test_init_into_a_folder_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", fake_secret())
    for extra in ([], ["--force"]):
        result = run("init", "--output", "no/such/keys.json", *extra)
        assert result.exit_code == 1
        assert "cannot be written: No such file or directory" in result.stderr


def test_init_beside_the_package_names_the_schema_by_a_short_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("keys.cli.SCHEMA_FILE", tmp_path / "keys" / "keys.schema.json")
    monkeypatch.setenv("OPENAI_API_KEY", fake_secret())
    run("init")
    assert json.loads(Path("keys.json").read_text())["$schema"] == "./keys/keys.schema.json"


def test_a_wrong_setting_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_PORT", "no")
    result = run("validate")
    assert result.exit_code == 1
    assert "PROMETHEUS_PORT" in result.stderr


def test_schema_prints_the_schema() -> None:
    assert json.loads(run("schema").output) == json_schema()


def test_python_m_keys_runs(tmp_path: Path) -> None:
    Path("keys.json").write_text(text_of(entry("a", rpm=0)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-m", "keys", "validate", "keys.json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 1
    assert found.stderr.startswith("keys.json:7: keys[0] 'a': rpm is 0; write a whole number")
    assert found.stdout == ""
