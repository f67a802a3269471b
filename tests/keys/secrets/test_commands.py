"""`python -m keys secret ...` and `check-secrets`: what they do, and that they show nothing."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from core.settings import Settings, get_settings
from keys.cli import app
from keys.secret_store import test_secret_access
from tests.integration.routers import wait_for
from tests.keys.fakes import entry, fake_secret, text_of

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("API_KEY_") or name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    get_settings.cache_clear()


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> str:
    key = run("secret", "new-key").output.strip()
    monkeypatch.setenv("LLM_ENCRYPTION_KEY", key)
    monkeypatch.setenv("SECRET_STORE_TYPE", "file")
    return key


def run(*arguments: str, given: str | None = None) -> Result:
    get_settings.cache_clear()
    return CliRunner().invoke(app, list(arguments), input=given)


def test_a_secret_is_kept_listed_checked_and_removed(with_key: str) -> None:
    Path("keys.json").write_text(text_of(entry("a"), entry("b"), entry("c", active=False)))
    secret = fake_secret()
    kept = run("secret", "set", "a", given=f"{secret}\n")
    assert kept.exit_code == 0
    assert "The secret of a is stored in secrets.enc." in kept.output
    listed = run("secret", "list")
    assert "a" in listed.output
    assert list(json.loads(run("secret", "list", "--json").output)) == ["a"]
    checked = run("check-secrets")
    assert checked.exit_code == 1
    assert "can be had" in checked.output
    assert "not found" in checked.output
    assert "there is no secret for key 'b' in secrets.enc; add it with: python" in checked.stderr
    assert "key 'c'" not in checked.stderr
    assert run("check-secrets", "a").exit_code == 0
    found = json.loads(run("check-secrets", "a", "--json").output)
    assert found == [
        {"key_id": "a", "accessible": True, "store": "file", "place": "secrets.enc, under a"}
    ]
    get_settings.cache_clear()
    assert test_secret_access("a")["accessible"]
    refused = test_secret_access("b")
    assert (refused["accessible"], refused["kind"]) == (False, "not found")
    valid = run("validate")
    assert "secrets.enc, under a (see check-secrets)" in valid.output
    removed = run("secret", "remove", "a")
    assert removed.exit_code == 0
    assert run("secret", "remove", "a").exit_code == 1
    for result in (kept, listed, checked, valid, removed):
        assert secret not in result.output + result.stderr


def test_a_secret_on_the_command_line_is_refused_and_not_echoed(with_key: str) -> None:
    secret = fake_secret()
    for arguments in (("a", secret), ("a", "--value", secret), ("a", f"--value={secret}")):
        result = run("secret", "set", *arguments, given="other-secret-1")
        assert result.exit_code == 1
        assert "never stands on the command line" in result.stderr
        assert secret not in result.output + result.stderr
    result = run("secret", "set", secret, given="other-secret-1")
    assert result.exit_code == 1
    assert "cannot be a key_id" in result.stderr
    assert secret not in result.output + result.stderr
    assert not Path("secrets.enc").exists()


def test_what_can_be_no_secret_is_refused(with_key: str) -> None:
    for given in ("", "\n", "changeme\n", "two words\n"):
        result = run("secret", "set", "a", given=given)
        assert result.exit_code == 1
        assert "what was given" in result.stderr


def test_the_encryption_key_is_rotated(with_key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run("secret", "set", "a", given="some-secret-1")
    new = run("secret", "new-key").output.strip()
    monkeypatch.setenv("LLM_ENCRYPTION_KEY", f"{new},{with_key}")
    result = run("secret", "rotate-key")
    assert "1 secret encrypted with the first key of LLM_ENCRYPTION_KEY" in result.output
    monkeypatch.setenv("LLM_ENCRYPTION_KEY", new)
    assert run("check-secrets", "a").exit_code == 0
    monkeypatch.setenv("LLM_ENCRYPTION_KEY", with_key)
    refused = run("check-secrets", "a")
    assert refused.exit_code == 1
    assert "malformed" in refused.output
    assert "no key of LLM_ENCRYPTION_KEY made it" in refused.stderr


def test_what_is_missing_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("secret", "list")
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "LLM_ENCRYPTION_KEY is not set" in result.stderr
    monkeypatch.setenv("SECRET_STORE_TYPE", "vault")
    assert "VAULT_ADDR is not set" in run("check-secrets", "a").stderr
    get_settings.cache_clear()
    found = test_secret_access("a")
    assert (found["accessible"], found["error"][:10]) == (False, "VAULT_ADDR")


def test_a_file_that_the_router_does_not_read_is_pointed_out(
    with_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_STORE_TYPE", "env")
    result = run("secret", "set", "a", given="some-secret-1")
    assert result.exit_code == 0
    assert "SECRET_STORE_TYPE is env" in result.stderr


def test_the_environment_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = fake_secret()
    monkeypatch.setenv("API_KEY_A", secret)
    result = run("check-secrets", "a", "b")
    assert result.exit_code == 1
    assert "API_KEY_A" in result.output
    assert secret not in result.output + result.stderr


def test_a_name_that_keys_json_lacks_may_be_a_slip(with_key: str) -> None:
    Path("keys.json").write_text(text_of(entry("gemini-flash-01"), entry("b")))
    slip = "keys.json has no key 'gemini-flsh-01'; did you mean gemini-flash-01?"
    kept = run("secret", "set", "gemini-flsh-01", given=fake_secret())
    assert (kept.exit_code, slip in kept.stderr) == (0, True)
    assert slip in run("check-secrets", "gemini-flsh-01").stderr
    assert "validate shows those it has" in run("check-secrets", "quite-another").stderr
    assert "has no key" not in run("check-secrets", "b").stderr


def test_a_prompt_does_not_show_what_is_typed(with_key: str) -> None:
    secret = fake_secret()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "keys", "secret", "set", "a"],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while b"Secret of a" not in shown:
            shown += os.read(ours, 1000)
        # What is typed before the terminal is silent is thrown away.
        wait_for(lambda: not termios.tcgetattr(ours)[3] & termios.ECHO)
        os.write(ours, f"{secret}\n".encode())
        while True:
            try:
                more = os.read(ours, 1000)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            shown += more
    finally:
        os.close(ours)
        assert process.wait(30) == 0
    assert b"is stored in secrets.enc" in shown
    assert secret.encode() not in shown
    assert run("check-secrets", "a").exit_code == 0
