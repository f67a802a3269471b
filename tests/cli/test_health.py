"""`python -m llm.router --health-check`: can requests be served, and if not, why not?"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from llm.health_command import health_main
from tests.cli.conftest import Place

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(
    place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Check:
    """Runs the health check: its exit code, what it printed, and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        for name, value in place.environment.items():
            monkeypatch.setenv(name, value)
        code = health_main(list(arguments))
        out, err = capfd.readouterr()
        place.check(out + err)
        return code, out, err

    return run


def test_all_is_well(check: Check) -> None:
    code, out, err = check("--health-check")
    assert code == 0
    assert err == ""
    for part, reason in [
        ("redis", "embedded server"),
        ("keys", "3 of 3 keys may serve"),
        ("conversations", "histories can be read"),
        ("secrets", "3 of 3 active keys have a secret"),
    ]:
        (line,) = (line for line in out.splitlines() if line.startswith(part))
        assert "healthy" in line
        assert reason in line


def test_json(check: Check) -> None:
    code, out, _ = check("--health-check", "--json")
    assert (code, json.loads(out)["healthy"]) == (0, True)


def test_keys_without_a_secret(place: Place, check: Check) -> None:
    for name in [name for name in place.environment if name.startswith("API_KEY_")]:
        place.environment[name] = ""
    code, out, _ = check("--health-check")
    assert code == 1
    assert "0 of 3 active keys have a secret" in out
    assert "set API_KEY_OPENAI_1" in " ".join(out.split())


def test_a_redis_out_of_reach(place: Place, check: Check) -> None:
    place.environment["REDIS_URL"] = "redis://127.0.0.1:1/0"
    code, out, _ = check("--health-check")
    assert code == 1
    assert "does not answer" in out


def test_a_wrong_configuration(place: Place, check: Check) -> None:
    place.write_keys("{}")
    code, out, err = check("--health-check")
    assert (code, out) == (1, "")
    assert "keys.json" in err
    code, out, _ = check("--health-check", "--json")
    assert code == 1
    assert "keys.json" in json.loads(out)["reason"]


def test_nothing_asked_for(check: Check) -> None:
    code, out, _ = check()
    assert code == 2
    assert "--health-check" in out


def test_as_the_program_that_the_readme_names(place: Place) -> None:
    (place.folder / "keys.json").unlink()
    done = place.spawn("-m", "llm.router", "--health-check")
    assert done.returncode == 1
    assert done.stderr.startswith("keys.json is not there")
