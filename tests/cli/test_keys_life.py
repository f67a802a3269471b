"""`python -m llm keys register | rotate | revoke | disable | enable | status | history`."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import SECRET, Place

ENTRY = {"key_id": "openai-2", "model_name": "gpt-4o-mini", "provider": "openai", "rpm": 7}


def register(place: Place, **fields: object) -> str:
    entry = {**ENTRY, "base_url": place.providers.openai_base_url, **fields}
    return place.run("keys", "register", json.dumps(entry)).stdout


def statuses(place: Place) -> dict[str, dict[str, object]]:
    found = json.loads(place.run("keys", "status", "--json").stdout)
    return {status["key_id"]: status for status in found["keys"]}


def test_a_key_is_registered_used_and_shown_with_its_source(place: Place) -> None:
    place.environment["API_KEY_OPENAI_2"] = SECRET.format("openai-2")
    place.providers.configure_key(SECRET.format("openai-2"), name="openai-2")
    shown = register(place)
    assert "openai-2 is registered" in shown
    assert "API_KEY_OPENAI_2" in shown, "it says where the secret is expected"
    place.run("keys", "disable", "openai-1", "--reason", "maintenance")
    reply = json.loads(place.run("send", "Hello", "-m", "gpt-4o-mini", "--json").stdout)
    assert reply["key_id"] == "openai-2"
    found = statuses(place)
    assert found["openai-1"]["source"] == "keys.json"
    assert found["openai-2"]["source"] == "run time"
    assert (found["openai-1"]["state"], found["openai-1"]["reason"]) == (
        "disabled", "disable: maintenance",
    )  # fmt: skip
    table = place.run("keys", "status").stdout
    assert "run time" in table
    assert "openai-2" in place.run("keys").stdout


def test_disable_and_enable_are_each_done_once(place: Place) -> None:
    assert "is disabled." in place.run("keys", "disable", "openai-1").stdout
    assert "disabled already" in place.run("keys", "disable", "openai-1").stdout
    place.run("send", "Hello", "--model", "gpt-4o-mini", code=1)
    assert "is available." in place.run("keys", "enable", "openai-1").stdout
    assert "available already" in place.run("keys", "enable", "openai-1").stdout
    place.run("send", "Hello", "--model", "gpt-4o-mini")


def test_a_revoked_key_is_gone_for_good_and_its_history_stays(place: Place) -> None:
    place.run("keys", "revoke", "openai-1", typed="n\n", code=1)
    place.run("keys", "revoke", "openai-1", "--yes", "--reason", "leaked", "--by", "bo")
    place.run("send", "Hello", "--model", "gpt-4o-mini", code=1)
    for act in ("enable", "disable", "rotate"):
        assert "revoked" in place.run("keys", act, "openai-1", code=1).stderr
    entry = json.dumps({**ENTRY, "key_id": "openai-1"})
    assert "another key_id" in place.run("keys", "register", entry, code=1).stderr
    assert "openai-1: revoked at 20" in place.run("keys", "status").stdout
    (last,) = json.loads(place.run("keys", "history", "openai-1", "--json").stdout)
    assert (last["who"], last["before"], last["after"], last["why"]) == (
        "bo", "available", "disabled", "revoke: leaked",
    )  # fmt: skip


def test_a_rotation_says_where_the_secret_is_to_be_changed(place: Place) -> None:
    shown = place.run("keys", "rotate", "openai-1").stdout
    assert "API_KEY_OPENAI_1" in shown
    assert "version 1" in shown


def test_the_history_tells_of_requests_too(place: Place) -> None:
    place.providers.revoke("openai-1")
    place.run("send", "Hello", "--model", "gpt-4o-mini", code=1)
    place.run("keys", "rotate", "openai-1", "--reason", "a new one")
    table = place.run("keys", "history", "openai-1").stdout
    first, second = json.loads(place.run("keys", "history", "openai-1", "--json").stdout)
    assert (first["after"], first["who"], len(first["request_id"])) == ("invalid", "request", 32)
    assert (second["before"], second["after"]) == ("invalid", "available")
    assert "invalid" in table
    assert "nothing has changed" in place.run("keys", "history", "gemini-1").stdout


@pytest.mark.parametrize("act", ["rotate", "disable", "enable", "history", "status"])
def test_an_unknown_key_is_one_message(place: Place, act: str) -> None:
    assert "there is no key" in place.run("keys", act, "no-such-key", code=1).stderr


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{", "no JSON"),
        ("[]", "JSON object"),
        ('{"key_id": "x"}', "model_name"),
        (json.dumps({**ENTRY, "key_id": "openai-1"}), "there already"),
        (json.dumps({**ENTRY, "key_id": "openai_1"}), "API_KEY_OPENAI_1"),
        (json.dumps({**ENTRY, "api_key": "sk-" + "x1" * 20}), "secret"),
    ],
)
def test_a_wrong_entry_is_refused_by_name_and_never_shown(
    place: Place, entry: str, said: str
) -> None:
    result = place.run("keys", "register", entry, code=2 if entry in ("{", "[]") else 1)
    assert said in result.stderr
    assert "x1x1" not in result.output
    assert "openai-2" not in statuses(place)


def test_options_of_the_table_go_behind_no_command(place: Place) -> None:
    assert "behind the command" in place.run("keys", "--json", "status", code=2).stderr
