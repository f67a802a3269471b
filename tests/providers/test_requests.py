"""What is sent to each provider."""

from __future__ import annotations

from typing import Any

import pytest

from core.types import Message
from llm.providers.openai_requests import body_of
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import ANTHROPIC, GEMINI, OPENAI, Dialect, adapter_of, call_of
from tests.providers.scripted import Asked, Reply, ScriptedServer

CHAT = (Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?"))


def ask(server: ScriptedServer, dialect: Dialect, **changes: Any) -> Asked:
    server.default = Reply(dialect.success)
    adapter_of(dialect.name).send(call_of(dialect, server.url, **changes))
    return server.asked[-1]


def test_openai_gets_the_system_prompt_first(server: ScriptedServer) -> None:
    asked = ask(server, OPENAI, system_prompt="Be short.", messages=CHAT, temperature=0.7)
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": "gpt-4o",
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two."},
            {"role": "user", "content": "Three?"},
        ],
        "max_tokens": 64,
        "temperature": 0.7,
    }


def test_openai_tool_messages_go_as_the_users(server: ScriptedServer) -> None:
    asked = ask(server, OPENAI, messages=(Message("user", "a"), Message("tool", "42")))
    assert [message["role"] for message in asked.body["messages"]] == ["user", "user"]


@pytest.mark.parametrize(
    "model",
    ["o1", "o4-mini-2025-04-16", "gpt-5", "gpt-5.2", "gpt-6.1-sol", "openai/gpt-5-mini",
     "ft:o4-mini:us::1"],
)  # fmt: skip
def test_reasoning_models_get_no_temperature_and_the_new_limit(
    server: ScriptedServer, model: str
) -> None:
    body = ask(server, OPENAI, model=model, temperature=0.7).body
    assert body["max_completion_tokens"] == 64
    assert not {"temperature", "max_tokens"} & body.keys()


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-oss-120b", "gpt-5-chat-latest", "llama-3.3-70b"])
def test_other_models_at_another_address_get_the_old_limit(
    server: ScriptedServer, model: str
) -> None:
    body = ask(server, OPENAI, model=model, temperature=0.0).body
    assert body["max_tokens"] == 64
    assert body["temperature"] == 0.0
    assert "max_completion_tokens" not in body


@pytest.mark.parametrize(
    "base_url",
    [None, "https://eu.api.openai.com/v1", "https://mine.openai.azure.com/openai/v1/"],
)
def test_openai_and_azure_get_the_new_limit(base_url: str | None) -> None:
    call = call_of(OPENAI, None, base_url=base_url, temperature=0.5)
    body = body_of(call)
    assert (body["max_completion_tokens"], body["temperature"]) == (64, 0.5)
    assert "max_tokens" not in body


def test_anthropic_gets_the_system_prompt_apart(server: ScriptedServer) -> None:
    asked = ask(server, ANTHROPIC, system_prompt="Be short.", messages=CHAT, temperature=0.7)
    assert asked.path == "/v1/messages"
    assert asked.body == {
        "model": "claude-opus-5",
        "system": "Be short.",
        "messages": [
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two."},
            {"role": "user", "content": "Three?"},
        ],
        "max_tokens": 64,
    }
    assert asked.headers["anthropic-version"] >= "2026-10-21"


@pytest.mark.parametrize(
    "model",
    ["claude-sonnet-4-6", "claude-haiku-4-5-20251001", "claude-opus-4-20250514", "claude-opus-4",
     "claude-3-7-sonnet-latest", "deepseek-chat"],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The model .* is deprecated:DeprecationWarning")
def test_models_that_take_a_temperature_get_it_up_to_1(server: ScriptedServer, model: str) -> None:
    asked = ask(server, ANTHROPIC, model=model, temperature=1.7)
    assert asked.body["temperature"] == 1.0
    assert asked.headers["anthropic-version"] == "2023-06-01"
    assert "temperature" not in ask(server, ANTHROPIC, model=model).body


@pytest.mark.parametrize(
    "model", ["claude-opus-4-7", "claude-opus-4-8", "claude-sonnet-5", "claude-fable-5-2"]
)
def test_models_that_refuse_a_temperature_get_none(server: ScriptedServer, model: str) -> None:
    assert "temperature" not in ask(server, ANTHROPIC, model=model, temperature=0.7).body


def test_gemini_gets_roles_of_its_own(server: ScriptedServer) -> None:
    asked = ask(server, GEMINI, system_prompt="Be short.", messages=CHAT, temperature=0.7)
    assert asked.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    body = asked.body
    assert body.pop("systemInstruction")["parts"] == [{"text": "Be short."}]
    assert body == {
        "contents": [
            {"role": "user", "parts": [{"text": "One?"}]},
            {"role": "model", "parts": [{"text": "Two."}]},
            {"role": "user", "parts": [{"text": "Three?"}]},
        ],
        "generationConfig": {"temperature": 0.7, "maxOutputTokens": 64},
    }


def test_gemini_gets_turns_of_one_role_as_one_content(server: ScriptedServer) -> None:
    asked = ask(server, GEMINI, messages=(Message("user", "a"), Message("user", "b")))
    assert asked.body["contents"] == [{"role": "user", "parts": [{"text": "a"}, {"text": "b"}]}]


@pytest.mark.parametrize(("timeout", "header"), [(2.5, "10"), (30.0, "30")])
def test_gemini_is_given_at_least_ten_seconds(
    server: ScriptedServer, timeout: float, header: str
) -> None:
    assert ask(server, GEMINI, timeout=timeout).headers["x-server-timeout"] == header


def test_without_a_temperature_none_is_sent(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply(dialect.success)
    adapter.send(call_of(dialect, server.url))
    assert b"temperature" not in server.asked[0].raw
    assert b"system" not in server.asked[0].raw


def test_no_cookie_travels_from_one_key_to_another(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply(dialect.success, headers={"set-cookie": "account=1; Path=/"})
    for key in ("one", "two"):
        adapter.send(call_of(dialect, server.url, key_id=key))
    assert all("cookie" not in asked.headers for asked in server.asked)
