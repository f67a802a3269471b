"""`python -m llm keys`: the status of the keys as a table, as JSON, and again and again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from tests.cli.conftest import Place


def test_every_key_is_shown_with_its_use(place: Place) -> None:
    place.run("send", "Hello", "--model", "gpt-4o-mini")
    lines = place.run("keys").stdout.splitlines()
    assert lines[0].split()[:2] == ["key", "provider"]
    (openai,) = (line for line in lines if line.startswith("openai-1"))
    assert "available" in openai
    assert "1/100" in openai
    assert lines[-1].split()[:2] == ["3", "keys"]
    assert "1/300" in lines[-1]


def test_a_key_that_is_passed_over_is_shown_with_its_whole_reason(place: Place) -> None:
    place.providers.revoke("openai-1")
    place.run("send", "Hello", "--model", "gpt-4o-mini", code=1)
    shown = place.run("keys").stdout
    assert "invalid" in shown
    assert "open end" in shown
    assert "openai-1: auth_failed: openai: 401 invalid_api_key" in shown


def test_json_is_the_status_as_programs_get_it(place: Place) -> None:
    found = json.loads(place.run("keys", "--json").stdout)
    assert [status["key_id"] for status in found] == ["openai-1", "anthropic-1", "gemini-1"]
    assert found[0]["rpm"] == {"used": 0, "limit": 100}


def test_seconds_and_json_need_their_like(place: Place) -> None:
    assert "--watch" in place.run("keys", "2", code=2).stderr
    assert "--json" in place.run("keys", "--watch", "--json", code=2).stderr


def test_watching_goes_on_until_it_is_interrupted(place: Place) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "llm", "keys", "--watch", "0.2"],
        cwd=place.folder,
        env=place.process_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    tables = 0
    for line in watching.stdout:
        tables += line.startswith("3 keys")
        if tables == 2:
            break
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)
    assert watching.returncode == 0, errors
    assert errors == ""


def test_a_wrong_keys_file_is_one_message(place: Place) -> None:
    place.write_keys("{}")
    result = place.run("keys", code=1)
    assert "keys.json" in result.stderr
    assert result.stdout == ""
