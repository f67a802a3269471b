"""`python -m llm send`: answers, exit codes, and what it says where it cannot answer."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from llm.cli import app
from tests.cli.conftest import MODELS, Place


def test_the_answer_is_all_that_standard_output_gets(place: Place) -> None:
    result = place.run("send", "Hello there")
    assert result.stdout == 'You sent 1 message(s); the last one begins: "Hello there"\n'
    assert "3 + 15 tokens" in result.stderr


@pytest.mark.parametrize("arguments", [["send"], ["send", "-"]])
def test_the_prompt_may_be_piped_in(place: Place, arguments: list[str]) -> None:
    assert '"from a pipe"' in place.run(*arguments, typed="from a pipe\n").stdout


def test_the_model_can_be_chosen(place: Place) -> None:
    result = place.run("send", "Hello", "--model", "claude-haiku-4-5", "--system", "Be kind.")
    assert "anthropic-1, claude-haiku-4-5" in result.stderr


def test_json_is_the_whole_reply(place: Place) -> None:
    reply = json.loads(place.run("send", "Hello", "--json", "--model", "gpt-4o-mini").stdout)
    assert (reply["success"], reply["key_id"], reply["model"]) == (True, "openai-1", "gpt-4o-mini")
    assert reply["tokens"]["total"] > 0


def test_an_answer_that_was_cut_is_said_to_be(place: Place) -> None:
    result = place.run("send", "Hello", "--max-output-tokens", "5")
    assert "cut at --max-output-tokens" in result.stderr


def test_several_tries_are_shown(place: Place) -> None:
    place.providers.revoke("openai-1")
    result = place.run("send", "Hello", "-m", "gpt-4o-mini", "-f", "gemini-2.5-flash")
    assert result.stdout.startswith("You sent")
    assert "gemini-1, gemini-2.5-flash" in result.stderr
    assert "auth_failed" in result.stderr


def test_who_may_answer_can_be_chosen(place: Place) -> None:
    place.add_key("openai-2", provider="openai", model_name=MODELS["openai"],
                  base_url=place.providers.openai_base_url)  # fmt: skip
    result = place.run("send", "Hello", "--provider", "openai", "--exclude-key", "openai-1")
    assert "openai-2, gpt-4o-mini" in result.stderr
    explained = json.loads(place.run("explain", "Hello", "--provider", "openai", "--exclude-key",
                                     "openai-2", "--json").stdout)  # fmt: skip
    verdicts = {key["key_id"]: key["verdict"] for key in explained["keys"]}
    assert [key for key, verdict in verdicts.items() if verdict == "chosen"] == ["openai-1"]
    talk = place.run("chat", "who", "--provider", "anthropic", typed="Hello\n")
    assert "anthropic-1" in talk.stderr
    nobody = place.run("send", "Hello", "--provider", "no-such-one", code=1)
    assert "no_keys: no active key serves provider no-such-one" in nobody.stderr
    assert "configured providers: anthropic, gemini, openai" in nobody.stderr


def test_a_refusal_says_why_and_what_to_do(place: Place) -> None:
    result = place.run("send", "Hello", "--model", "no-such-model", code=1)
    assert result.stdout == ""
    assert "no_keys: no active key serves model no-such-model" in result.stderr
    assert "What to do: python -m llm keys" in result.stderr


def test_a_full_key_is_told_with_what_to_do(place: Place) -> None:
    place.add_key("tiny-1", provider="openai", model_name="tiny", rpm=1,
                  base_url=place.providers.openai_base_url)  # fmt: skip
    place.run("send", "Hello", "--model", "tiny")
    result = place.run("send", "Hello", "--model", "tiny", code=1)
    assert "rate_limited: no key has room now" in result.stderr
    assert "--max-wait" in result.stderr


def test_a_failure_is_json_too(place: Place) -> None:
    result = place.run("send", "Hello", "--model", "no-such-model", "--json", code=1)
    assert json.loads(result.stdout)["error_type"] == "no_keys"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["send", ""], "prompt is empty"),
        (["send", "Hello", "--timeout", "0"], "timeout must be a number, more than 0"),
        (["send", "Hello", "--timeout", "nan"], "timeout must be a number"),
        (["send", "Hello", "--max-output-tokens", "0"], "--max-output-tokens"),
        (["send", "Hello", "--no-such-option"], "--no-such-option"),
    ],
)
def test_wrong_arguments_end_with_2(place: Place, arguments: list[str], message: str) -> None:
    assert message in place.run(*arguments, code=2).stderr


@pytest.mark.parametrize("arguments", [["send", "caf\udce9"], ["send", "-"]])
def test_a_prompt_that_is_no_text_is_refused(place: Place, arguments: list[str]) -> None:
    result = CliRunner().invoke(app, arguments, input=b"caf\xe9", env=place.environment)
    assert result.exit_code == 2
    assert "not text in UTF-8" in result.stderr


def test_a_redis_out_of_reach_is_told(place: Place) -> None:
    place.environment["REDIS_URL"] = "redis://127.0.0.1:1/0"
    result = place.run("send", "Hello", code=1)
    assert "redis_unavailable: could not reserve a key: Redis at 127.0.0.1:1" in result.stderr
    assert "this process began without it and never learned how many share" in result.stderr
    assert "--health-check" in result.stderr


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (None, "keys.json is not there"),
        ('{"keys": [', "keys.json:1:11: this is not JSON"),
        ('{"keys": [{"key_id": "a"}]}', "model_name is missing"),
    ],
)
def test_a_wrong_keys_file_is_one_message(place: Place, keys: str | None, message: str) -> None:
    if keys is None:
        (place.folder / "keys.json").unlink()
    else:
        place.write_keys(keys)
    result = place.run("send", "Hello", code=1)
    assert message in result.stderr
    assert result.stdout == ""


def test_a_wrong_setting_is_one_message(place: Place) -> None:
    place.environment["LLM_MAX_RETRIES"] = "many"
    result = place.run("send", "Hello", code=1)
    assert result.stderr == "wrong setting: LLM_MAX_RETRIES is 'many'; allowed: 0 to 20\n"


def test_as_a_program_of_its_own(place: Place) -> None:
    done = place.spawn("-m", "llm", "send", "-", typed="Grüße")
    assert (done.returncode, done.stdout) == (
        0,
        'You sent 1 message(s); the last one begins: "Grüße"\n',
    )


def test_help_teaches_with_examples(place: Place) -> None:
    help_text = place.run("--help").stdout
    assert "python -m llm chat" in help_text
    for command in ("demo", "send", "chat", "keys", "conversations"):
        assert command in help_text
