"""How each provider's successes become ours, and the 200s that are none."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any

import pytest

from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ProviderRateLimited,
    ProviderUnavailable,
)
from core.types import Message, ProviderQuota, ProviderReply, Usage
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import ANTHROPIC, GEMINI, OPENAI, Dialect, adapter_of, call_of
from tests.providers.scripted import Reply, ScriptedServer

Json = dict[str, Any]


def read(server: ScriptedServer, dialect: Dialect, body: Any, **headers: str) -> ProviderReply:
    server.default = Reply(
        body, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )
    return adapter_of(dialect.name).send(call_of(dialect, server.url))


def openai_with(message: Json | None = None, finish: Any = "stop", **body: Any) -> Json:
    choice = {"finish_reason": finish, "message": message or {"content": "Hi."}}
    return copy.deepcopy(OPENAI.success) | {"choices": [choice]} | body


def gemini_with(parts: Sequence[Json] | None = None, finish: Any = "STOP", **body: Any) -> Json:
    content = {"role": "model", "parts": [{"text": "Hi."}] if parts is None else parts}
    candidate = {"content": content, "finishReason": finish}
    return copy.deepcopy(GEMINI.success) | {"candidates": [candidate]} | body


def test_a_plain_answer(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply(dialect.success)
    reply = adapter.send(call_of(dialect, server.url))
    assert (reply.content, reply.stop_reason, reply.usage) == ("Hi.", "stop", Usage(9, 2, 0))
    assert reply.model.startswith(dialect.model)


def test_openai_quotas_are_told(server: ScriptedServer) -> None:
    reply = read(
        server,
        OPENAI,
        OPENAI.success,
        x_ratelimit_limit_requests="500",
        x_ratelimit_remaining_requests="499",
        x_ratelimit_reset_requests="120ms",
    )
    assert reply.quotas == (ProviderQuota("requests", 499, 500, 0.12),)


def test_anthropic_quotas_are_told(server: ScriptedServer) -> None:
    reply = read(
        server,
        ANTHROPIC,
        ANTHROPIC.success,
        anthropic_ratelimit_output_tokens_limit="8000",
        anthropic_ratelimit_output_tokens_remaining="7998",
    )
    assert reply.quotas == (ProviderQuota("output_tokens", 7998, 8000, None),)


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("stop", "stop"), ("length", "length"), ("tool_calls", "tool_calls"),
     ("function_call", "tool_calls"), ("new_one", "other"), (None, "other"), (["x"], "other")],
)  # fmt: skip
def test_openai_stop_reasons(server: ScriptedServer, finish: Any, reason: str) -> None:
    assert read(server, OPENAI, openai_with(finish=finish)).stop_reason == reason


@pytest.mark.parametrize(
    ("stop", "reason"),
    [("end_turn", "stop"), ("stop_sequence", "stop"), ("max_tokens", "length"),
     ("model_context_window_exceeded", "length"), ("tool_use", "tool_calls"),
     ("pause_turn", "other"), (None, "other")],
)  # fmt: skip
def test_anthropic_stop_reasons(server: ScriptedServer, stop: Any, reason: str) -> None:
    body = ANTHROPIC.success | {"stop_reason": stop}
    assert read(server, ANTHROPIC, body).stop_reason == reason


@pytest.mark.parametrize(
    ("finish", "reason"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("CONTINUATION", "length"), ("OTHER", "other"),
     (None, "other")],
)  # fmt: skip
def test_gemini_stop_reasons(server: ScriptedServer, finish: Any, reason: str) -> None:
    assert read(server, GEMINI, gemini_with(finish=finish)).stop_reason == reason


def test_openai_usage_counts_reasoning_as_output_and_tells_the_cache(
    server: ScriptedServer,
) -> None:
    usage = {
        "prompt_tokens": 1200,
        "completion_tokens": 300,
        "prompt_tokens_details": {"cached_tokens": 1024},
        "completion_tokens_details": {"reasoning_tokens": 250},
    }
    assert read(server, OPENAI, openai_with(usage=usage)).usage == Usage(1200, 300, 1024)


def test_anthropic_input_is_all_that_was_read(server: ScriptedServer) -> None:
    usage = {
        "input_tokens": 100,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 1000,
        "output_tokens": 7,
    }
    body = ANTHROPIC.success | {"usage": usage}
    assert read(server, ANTHROPIC, body).usage == Usage(1120, 7, 1000)


def test_gemini_thoughts_are_output_but_no_content(server: ScriptedServer) -> None:
    usage = {
        "promptTokenCount": 50,
        "candidatesTokenCount": 5,
        "thoughtsTokenCount": 40,
        "cachedContentTokenCount": 32,
    }
    parts: list[Json] = [{"text": "Let me think.", "thought": True}, {"text": "Yes"}, {"text": "."}]
    reply = read(server, GEMINI, gemini_with(parts, usageMetadata=usage))
    assert (reply.content, reply.usage) == ("Yes.", Usage(50, 45, 32))


@pytest.mark.parametrize("usage", [None, {}, "many", {"prompt_tokens": -1, "input_tokens": "9"}])
def test_without_usage_none_is_invented(server: ScriptedServer, usage: Any) -> None:
    for dialect, name in ((OPENAI, "usage"), (ANTHROPIC, "usage"), (GEMINI, "usageMetadata")):
        assert read(server, dialect, dialect.success | {name: usage}).usage is None


def test_an_answer_that_was_all_thinking_is_empty(server: ScriptedServer) -> None:
    assert read(server, OPENAI, openai_with({"content": None}, "length")).content == ""
    assert read(server, ANTHROPIC, ANTHROPIC.success | {"content": []}).content == ""
    assert read(server, GEMINI, gemini_with([], "MAX_TOKENS")).content == ""


def test_calls_of_tools_are_told_as_such(server: ScriptedServer) -> None:
    message = {"content": None, "tool_calls": [{"id": "1"}]}
    assert read(server, OPENAI, openai_with(message, "tool_calls")).stop_reason == "tool_calls"
    parts = [{"functionCall": {"name": "look"}}]
    assert read(server, GEMINI, gemini_with(parts)).stop_reason == "tool_calls"


def test_thinking_blocks_of_anthropic_are_no_content(server: ScriptedServer) -> None:
    blocks = [{"type": "thinking", "thinking": "Hm.", "text": "Hm."}, {"type": "text", "text": "A"}]
    assert read(server, ANTHROPIC, ANTHROPIC.success | {"content": blocks}).content == "A"


def test_contents_in_parts_are_joined(server: ScriptedServer) -> None:
    parts = [{"type": "text", "text": "A"}, {"type": "thinking"}, {"type": "text", "text": "B"}]
    assert read(server, OPENAI, openai_with({"content": parts})).content == "AB"


@pytest.mark.parametrize(
    ("dialect", "body", "reasons"),
    [
        (OPENAI, openai_with(finish="content_filter"), ("content_filter",)),
        (
            OPENAI,
            OPENAI.success
            | {
                "choices": [
                    {
                        "finish_reason": "content_filter",
                        "message": {"content": ""},
                        "content_filter_results": {
                            "hate": {"filtered": True},
                            "violence": {"filtered": False},
                        },
                    }
                ]
            },
            ("hate",),
        ),
        (OPENAI, openai_with({"content": None, "refusal": "I can't."}), ("refusal",)),
        (ANTHROPIC, ANTHROPIC.success | {"stop_reason": "refusal", "content": []}, ("refusal",)),
        (
            ANTHROPIC,
            ANTHROPIC.success | {"stop_reason": "refusal", "stop_details": {"category": "bio"}},
            ("bio",),
        ),
        (
            GEMINI,
            {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}},
            ("PROHIBITED_CONTENT",),
        ),
        (
            GEMINI,
            {
                "candidates": [
                    {
                        "finishReason": "SAFETY",
                        "safetyRatings": [
                            {"category": "HARM_A", "blocked": True},
                            {"category": "HARM_B"},
                        ],
                    }
                ]
            },
            ("SAFETY", "HARM_A"),
        ),
        (GEMINI, gemini_with(finish="RECITATION"), ("RECITATION",)),
        (GEMINI, gemini_with(finish="BLOCKLIST"), ("BLOCKLIST",)),
        (GEMINI, gemini_with(finish="SPII"), ("SPII",)),
    ],
)
def test_a_withheld_answer_tells_why(
    server: ScriptedServer, dialect: Dialect, body: Json, reasons: tuple[str, ...]
) -> None:
    with pytest.raises(ContentBlocked) as failed:
        read(server, dialect, body)
    assert failed.value.reasons == reasons
    assert failed.value.provider == dialect.name


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00\x01 this is not JSON \xff\xfe",
        b"null",
        b"[]",
        b'"Hi."',
        b"{}",
        b"[" * 100_000,
        b"<html><body>Welcome to the hotel's network</body></html>",
        b'{"choices": [], "content": null, "candidates": []}',
        b'{"choices": "none", "content": "Hi.", "candidates": {"0": 1}}',
        b'{"choices": [{}], "content": {}, "candidates": [{}]}',
        b'{"choices": [{"message": {}}], "candidates": [{"content": "Hi."}]}',
    ],
)
def test_nonsense_is_the_providers_failure(server: ScriptedServer, body: bytes) -> None:
    for dialect in (OPENAI, ANTHROPIC, GEMINI):
        with pytest.raises(ProviderUnavailable, match=f"{dialect.name}: 200, but no ") as failed:
            read(server, dialect, body)
        assert type(failed.value) is ProviderUnavailable
        assert len(str(failed.value)) < 400


def test_half_a_surrogate_pair_becomes_a_question_mark(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    body = json.dumps(dialect.success).replace("Hi.", "Hi. \\ud83d\\ude00 \\ud83d")
    server.default = Reply(body.encode())
    broken = Message("user", "broken " + chr(0xDC00))
    reply = adapter.send(
        call_of(dialect, server.url, messages=(broken,), system_prompt=broken.content)
    )
    assert reply.content == "Hi. \N{GRINNING FACE} ?"
    assert server.asked[0].raw.count(b"broken ?") == 2


def test_an_error_inside_a_success_is_one(server: ScriptedServer) -> None:
    late = {"error": {"code": 429, "message": "upstream is busy"}}
    with pytest.raises(ProviderRateLimited, match="upstream is busy"):
        read(server, OPENAI, late)
    with pytest.raises(ProviderUnavailable, match="Overloaded"):
        read(server, ANTHROPIC, ANTHROPIC.error("Overloaded", "overloaded_error"))


def test_a_limited_account_is_the_keys_fault(server: ScriptedServer) -> None:
    with pytest.raises(AuthenticationFailed):
        read(server, GEMINI, gemini_with(finish="PUP_LIMITED_DISABLED"))
