"""What each provider is sent for tools, images and formats, to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from core.content import ImagePart, Options, ResponseFormat, TextPart, Tool, ToolCall, ToolChoice
from core.types import Message
from llm.providers import anthropic_requests, gemini_requests, openai_requests
from llm.providers.base import ProviderCall
from tests.providers.dialects import ANTHROPIC, GEMINI, OPENAI, Dialect, call_of

SCHEMA = {"type": "object", "properties": {"place": {"type": "string"}}}
WEATHER = Tool("weather", "The weather.", SCHEMA, strict=True)
NOW = Tool("now")
PIXEL = ImagePart(data="iVBORw0KGgo=", media_type="image/png", detail="low")
LINK = ImagePart(url="https://example.com/a.jpg?x=1")
CALLS = (ToolCall("a.1", "weather", '{"place": "Oslo"}'), ToolCall("b", "now", ""))
EXCHANGE = (
    Message("system", "Be kind."),
    Message("user", (TextPart("What is it?"), PIXEL, LINK)),
    Message("assistant", "Let me look.", CALLS),
    Message("tool", '{"celsius": 3}', tool_call_id="a.1"),
    Message("tool", "noon", tool_call_id="b"),
    Message("user", "So?"),
)


def call(dialect: Dialect, options: Options | None = None, **changes: Any) -> ProviderCall:
    return call_of(dialect, None, options=options or Options(), **changes)


def test_openai_is_sent_an_exchange() -> None:
    body = openai_requests.body_of(call(OPENAI, messages=EXCHANGE))
    assert body["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url",
             "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.jpg?x=1"}},
        ]},
        {"role": "assistant", "content": "Let me look.", "tool_calls": [
            {"id": "a.1", "type": "function",
             "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}},
            {"id": "b", "type": "function", "function": {"name": "now", "arguments": ""}},
        ]},
        {"role": "tool", "content": '{"celsius": 3}', "tool_call_id": "a.1"},
        {"role": "tool", "content": "noon", "tool_call_id": "b"},
        {"role": "user", "content": "So?"},
    ]  # fmt: skip


def test_anthropic_is_sent_an_exchange() -> None:
    body = anthropic_requests.body_of(call(ANTHROPIC, messages=EXCHANGE))
    assert body["system"] == "Be kind."
    assert body["messages"] == [
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image", "source":
                {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.jpg?x=1"}},
        ]},
        {"role": "assistant", "content": [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "a_1", "name": "weather", "input": {"place": "Oslo"}},
            {"type": "tool_use", "id": "b", "name": "now", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "a_1", "content": '{"celsius": 3}'},
            {"type": "tool_result", "tool_use_id": "b", "content": "noon"},
            {"type": "text", "text": "So?"},
        ]},
    ]  # fmt: skip
    names = [tool["name"] for tool in body["tools"]]
    assert (names, body["tool_choice"]) == (["weather", "now"], {"type": "none"})


def test_gemini_is_sent_an_exchange() -> None:
    body = gemini_requests.body_of(call(GEMINI, messages=EXCHANGE))
    assert body["systemInstruction"] == {"parts": [{"text": "Be kind."}]}
    assert body["contents"] == [
        {"role": "user", "parts": [
            {"text": "What is it?"},
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
            {"fileData": {"fileUri": "https://example.com/a.jpg?x=1", "mimeType": "image/jpeg"}},
        ]},
        {"role": "model", "parts": [
            {"text": "Let me look."},
            {"functionCall": {"id": "a.1", "name": "weather", "args": {"place": "Oslo"}}},
            {"functionCall": {"id": "b", "name": "now", "args": {}}},
        ]},
        {"role": "user", "parts": [
            {"functionResponse": {"id": "a.1", "name": "weather", "response": {"celsius": 3}}},
            {"functionResponse": {"id": "b", "name": "now", "response": {"output": "noon"}}},
            {"text": "So?"},
        ]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("signature", "sent"),
    [("c2ln", "c2ln"), (None, "skip_thought_signature_validator")],
)
def test_gemini_3_gets_a_signature_with_the_first_call(signature: str | None, sent: str) -> None:
    calls = (ToolCall("1", "now", "{}", signature), ToolCall("2", "now", "{}"))
    results = [Message("tool", "noon", tool_call_id=each.id) for each in calls]
    messages = (Message("user", "a"), Message("assistant", "", calls), *results)
    body = gemini_requests.body_of(call(GEMINI, model="gemini-3.1-pro-preview", messages=messages))
    first, second = body["contents"][1]["parts"]
    assert first["thoughtSignature"] == sent
    assert "thoughtSignature" not in second


def test_a_signature_goes_to_google_alone() -> None:
    calls = (ToolCall("1", "now", "{}", "c2ln"),)
    messages = (Message("user", "a"), Message("assistant", "", calls))
    sent = openai_requests.body_of(call(OPENAI, messages=messages))["messages"][1]
    assert sent == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
        ],
    }
    address = "https://generativelanguage.googleapis.com/v1beta/openai"
    to_google = call_of(OPENAI, None, messages=messages, base_url=address)
    (there,) = openai_requests.body_of(to_google)["messages"][1]["tool_calls"]
    assert there["extra_content"] == {"google": {"thought_signature": "c2ln"}}


ALL = Options(
    tools=(WEATHER, NOW),
    tool_choice=ToolChoice("function", "now"),
    response_format=ResponseFormat("json_schema", "city", SCHEMA, strict=True),
    stop=("END",),
    top_p=0.5,
    seed=7,
)


def without(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name not in names}


def test_openai_is_sent_all_options() -> None:
    body = openai_requests.body_of(call(OPENAI, ALL, temperature=0.2))
    function = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
    assert without(body, "model", "messages", "max_completion_tokens") == {
        "temperature": 0.2,
        "tools": [
            {"type": "function", "function": {**function, "strict": True}},
            {"type": "function", "function": {"name": "now"}},
        ],
        "tool_choice": {"type": "function", "function": {"name": "now"}},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "city", "schema": SCHEMA, "strict": True},
        },
        "stop": ["END"],
        "top_p": 0.5,
        "seed": 7,
    }


def test_anthropic_is_sent_all_options() -> None:
    made = call(ANTHROPIC, ALL, temperature=0.2, model="claude-sonnet-4-6")
    assert without(anthropic_requests.body_of(made), "model", "messages", "max_tokens") == {
        "tools": [
            {
                "name": "weather",
                "description": "The weather.",
                "input_schema": SCHEMA,
                "strict": True,
            },
            {"name": "now", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "tool", "name": "now"},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "stop_sequences": ["END"],
        "top_p": 0.5,
    }, "and no temperature: both together are refused"
    assert anthropic_requests.headers_of(made) == {"anthropic-version": "2023-06-01"}


def test_gemini_is_sent_all_options() -> None:
    body = gemini_requests.body_of(call(GEMINI, ALL, temperature=0.2))
    assert without(body, "contents") == {
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "weather",
                        "description": "The weather.",
                        "parametersJsonSchema": SCHEMA,
                    },
                    {"name": "now"},
                ]
            }
        ],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["now"]}},
        "generationConfig": {
            "maxOutputTokens": 64,
            "temperature": 0.2,
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMA,
            "stopSequences": ["END"],
            "topP": 0.5,
            "seed": 7,
        },
    }


@pytest.mark.parametrize(
    ("mode", "openai", "anthropic", "gemini"),
    [
        ("auto", "auto", {"type": "auto"}, {"mode": "AUTO"}),
        ("none", "none", {"type": "none"}, {"mode": "NONE"}),
        ("required", "required", {"type": "any"}, {"mode": "ANY"}),
    ],
)
def test_the_choice_of_a_tool(mode: Any, openai: Any, anthropic: Any, gemini: Any) -> None:
    options = Options(tools=(NOW,), tool_choice=ToolChoice(mode))
    assert openai_requests.body_of(call(OPENAI, options))["tool_choice"] == openai
    assert anthropic_requests.body_of(call(ANTHROPIC, options))["tool_choice"] == anthropic
    body = gemini_requests.body_of(call(GEMINI, options))
    assert body["toolConfig"] == {"functionCallingConfig": gemini}


def test_a_provider_s_own_fields_are_merged() -> None:
    own = {
        "gemini": {
            "generationConfig": {"thinkingConfig": {"thinkingBudget": 0}, "temperature": 0.9},
            "tools": [{"googleSearch": {}}],
            "safetySettings": [],
        },
        "openai": {"user": "x"},
    }
    options = Options(tools=(NOW,), provider_options=own)
    body = gemini_requests.body_of(call(GEMINI, options, temperature=0.2))
    assert body["generationConfig"] == {
        "maxOutputTokens": 64,
        "temperature": 0.9,
        "thinkingConfig": {"thinkingBudget": 0},
    }
    assert [list(tool) for tool in body["tools"]] == [["functionDeclarations"], ["googleSearch"]]
    assert body["safetySettings"] == []
    assert "user" not in body
    assert own["gemini"]["tools"] == [{"googleSearch": {}}], "the caller's own stays as it is"


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [("", {}), ("{}", {}), ("[1]", {"arguments": [1]}), ("{broken", {"arguments": "{broken"})],
)
def test_arguments_that_are_no_object_are_sent_as_what_they_are(arguments: str, sent: Any) -> None:
    messages = (Message("user", "a"), Message("assistant", "", (ToolCall("1", "f", arguments),)))
    body = anthropic_requests.body_of(call(ANTHROPIC, messages=messages))
    assert body["messages"][1]["content"][0]["input"] == sent
    contents = gemini_requests.body_of(call(GEMINI, messages=messages))["contents"]
    assert contents[1]["parts"][0]["functionCall"]["args"] == sent
