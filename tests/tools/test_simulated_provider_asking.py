"""Tools, images, formats and embeddings at the simulated providers, through their own SDKs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors

from tools.simulated_provider import SimulatedProvider, SimulationSettings
from tools.simulation.asking import Asked, Function, example_of, shaped, tools_used

SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
CLAUDE_TOOL: Any = {"name": "weather", "input_schema": SCHEMA}
GEMINI_TOOL = {"function_declarations": [{"name": "weather", "parameters_json_schema": SCHEMA}]}
ASKED = "The weather in Oslo?"


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider() as running:
        yield running


@pytest.fixture(scope="module")
def gpt(provider: SimulatedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="key", base_url=provider.openai_base_url, max_retries=0, timeout=5
    ) as client:
        yield client


@pytest.fixture(scope="module")
def claude(provider: SimulatedProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="key", base_url=provider.anthropic_base_url, max_retries=0, timeout=5
    ) as client:
        yield client


@pytest.fixture(scope="module")
def gemini(provider: SimulatedProvider) -> genai.Client:
    return genai.Client(
        api_key="key", vertexai=False, http_options={"base_url": provider.gemini_base_url}
    )


def test_openai_streams_a_tool_call_in_pieces(gpt: openai.OpenAI) -> None:
    stream: Any = gpt.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": ASKED}], tools=[TOOL], stream=True
    )  # type: ignore[call-overload]
    chunks = list(stream)
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert deltas[0].id.startswith("call_")
    assert deltas[0].function.name == "weather"
    arguments = "".join(delta.function.arguments or "" for delta in deltas)
    assert json.loads(arguments) == {"place": ASKED, "days": 1}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_anthropic_streams_a_tool_call_in_pieces(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(
        model="claude-opus-5",
        max_tokens=64,
        messages=[{"role": "user", "content": ASKED}],
        tools=[CLAUDE_TOOL],
    ) as stream:
        message = stream.get_final_message()
    (block,) = message.content
    assert block.type == "tool_use"
    assert block.input == {"place": ASKED, "days": 1}
    assert message.stop_reason == "tool_use"


def test_gemini_streams_a_tool_call(gemini: genai.Client) -> None:
    config: Any = {"tools": [GEMINI_TOOL], "automatic_function_calling": {"disable": True}}
    stream = gemini.models.generate_content_stream(
        model="gemini-3.1-pro-preview", contents=ASKED, config=config
    )
    calls = [call for response in stream for call in response.function_calls or []]
    (call,) = calls
    assert (call.name, call.args) == ("weather", {"place": ASKED, "days": 1})


STRICT: Any = {"type": "json_schema", "json_schema": {"name": "trip", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("completion_tokens", "max_tokens", "finish"),
    [(None, 500, "stop"), (None, 5, "length"), (5, 500, "length"), (200, 500, "stop"),
     (200, 50, "length")],
)  # fmt: skip
def test_json_that_is_cut_says_so_and_is_whole_otherwise(
    completion_tokens: int | None, max_tokens: int, finish: str
) -> None:
    settings = SimulationSettings(completion_tokens=completion_tokens)
    with (
        SimulatedProvider(settings) as running,
        openai.OpenAI(api_key="key", base_url=running.openai_base_url, max_retries=0) as client,
    ):
        (choice,) = client.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": ASKED * 20}],
            response_format=STRICT,
            max_completion_tokens=max_tokens,
        ).choices
    assert choice.finish_reason == finish
    try:
        whole = set(json.loads(choice.message.content or "")) == {"place", "days"}
    except ValueError:
        whole = False
    assert whole is (finish == "stop" or (completion_tokens, max_tokens) == (200, 50))


CALLED = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
ASKING = {"role": "user", "content": ASKED}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALLED]}
PICTURE = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"stop_sequences": ["a"]}, "Unrecognized request argument supplied: stop_sequences"),
        ({"model": "o4-mini", "stop": "a"}, "'stop' is not supported with this model"),
        ({"model": "gpt-5", "max_tokens": 5}, "'max_tokens' is not supported"),
        ({"stop": list("abcde")}, "maximum length 4"),
        ({"tool_choice": "auto"}, "only allowed when 'tools' are specified"),
        ({"tools": [{"type": "function"}]}, "'tools[0].function.name'"),
        ({"messages": [ASKING, CALLING]}, "did not have response messages: 1"),
        ({"messages": [ASKING, {"role": "tool", "tool_call_id": "1", "content": "a"}]},
         "must be a response to a preceeding message"),
        ({"messages": [{"role": "user", "content": [PICTURE]}]}, "no image URL"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "value: 'image'"),
        ({"response_format": {"type": "json_object"}}, "must contain the word 'json'"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
         "json_schema.name"),
        ({"response_format": {"type": "json_schema", "json_schema":
            {"name": "a", "strict": True, "schema": {"type": "object"}}}}, "additionalProperties"),
    ],
)  # fmt: skip
def test_what_openai_refuses(gpt: openai.OpenAI, body: dict[str, Any], words: str) -> None:
    whole = {"model": "gpt-4o", "messages": [ASKING], **body}
    with pytest.raises(openai.BadRequestError) as refused:
        gpt.post("/chat/completions", body=whole, cast_to=object)
    assert words in str(refused.value)


USE = {"type": "tool_use", "id": "1", "name": "weather", "input": {}}
USING = {"role": "assistant", "content": [USE]}
GIVEN = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "a"}]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"seed": 7}, "seed: Extra inputs are not permitted"),
        ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
        ({"messages": [{"role": "system", "content": "a"}]}, 'Unexpected role "system"'),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty"),
        ({"messages": [ASKING, USING, GIVEN]}, "must define `tools`"),
        ({"messages": [ASKING, USING, ASKING], "tools": [CLAUDE_TOOL]}, "immediately after: 1"),
        ({"messages": [ASKING, GIVEN], "tools": [CLAUDE_TOOL]}, "unexpected `tool_use_id`"),
        ({"messages": [ASKING, {"role": "assistant", "content": [{**USE, "id": "a.b"}]}, GIVEN],
          "tools": [CLAUDE_TOOL]}, "should match pattern"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source":
            {"type": "base64", "media_type": "image/tiff", "data": ""}}]}]}, "image/webp"),
        ({"output_config": {"format": {"type": "json_object"}}}, "should be 'json_schema'"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
         "additionalProperties"),
    ],
)  # fmt: skip
def test_what_anthropic_refuses(
    claude: anthropic.Anthropic, body: dict[str, Any], words: str
) -> None:
    whole = {"model": "claude-opus-5", "max_tokens": 9, "messages": [ASKING], **body}
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.post("/v1/messages", body=whole, cast_to=object)
    assert words in str(refused.value)


CONTENT = {"role": "user", "parts": [{"text": ASKED}]}
FUNCTION_CALL = {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {}}}]}
RESPONSE = {
    "role": "user",
    "parts": [{"functionResponse": {"name": "weather", "response": {"output": "a"}}}],
}
DECLARED = {"tools": [{"functionDeclarations": [{"name": "weather"}]}]}
AS_JSON = {"generationConfig": {"responseMimeType": "application/json"}}


@pytest.mark.parametrize(
    ("model", "body", "words"),
    [
        ("gemini-2.5-flash", {"stop": "a"}, 'Unknown name "stop"'),
        ("gemini-2.5-flash", {"generationConfig": {"maxTokens": 5}}, "generation_config"),
        ("gemini-2.5-flash", {"contents": [{"role": "assistant", "parts": []}]}, "valid role"),
        ("gemini-2.5-flash", {"contents": [CONTENT, FUNCTION_CALL, CONTENT]}, "function response"),
        ("gemini-2.5-flash", {"contents": [CONTENT, FUNCTION_CALL]}, "followed by a function"),
        ("gemini-2.5-flash", {"contents": [CONTENT, RESPONSE]}, "function response parts"),
        ("gemini-2.5-flash", {**DECLARED, **AS_JSON}, "is unsupported"),
        ("gemini-2.5-flash", {"generationConfig": {"responseJsonSchema": {}}}, "mime type"),
        ("gemini-3-pro", {"contents": [CONTENT, FUNCTION_CALL, RESPONSE]}, "thought_signature"),
    ],
)
def test_what_gemini_refuses(
    gemini: genai.Client, model: str, body: dict[str, Any], words: str
) -> None:
    config: Any = {"http_options": {"extra_body": body}}
    with pytest.raises(genai_errors.ClientError) as refused:
        gemini.models.generate_content(model=model, contents=ASKED, config=config)
    assert words in str(refused.value)


def test_too_many_texts_at_once(gpt: openai.OpenAI, gemini: genai.Client) -> None:
    model = "text-embedding-3-small"
    with pytest.raises(openai.BadRequestError, match="maximum length 2048"):
        gpt.embeddings.create(model=model, input=["a"] * 2_049)
    with pytest.raises(openai.BadRequestError, match="cannot be an empty string"):
        gpt.embeddings.create(model=model, input=["a", ""])
    with pytest.raises(openai.BadRequestError, match="max 300000 tokens per request"):
        gpt.embeddings.create(model=model, input=["a" * 2_000] * 700)
    with pytest.raises(genai_errors.ClientError, match="at most 100 requests"):
        gemini.models.embed_content(model="gemini-embedding-001", contents=["a"] * 101)


def test_the_plainest_value_of_a_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "size": {"type": ["integer", "null"]},
            "kind": {"enum": ["town", "city"]},
            "parts": {"type": "array", "items": {"type": "number"}},
            "big": {"type": "boolean"},
        },
    }
    assert example_of(schema, "x") == {
        "name": "x",
        "size": 1,
        "kind": "town",
        "parts": [1.5],
        "big": True,
    }


def test_which_tools_are_called() -> None:
    offered = (Function("now"), Function("weather"))

    def names(prompt: str, **asked: Any) -> list[str]:
        return [used.name for used in tools_used(Asked(offered, **asked), prompt, "1")]

    assert names("Hello") == []
    assert names("The weather now") == ["now", "weather"]
    assert names("Hello", must=True) == ["now"]
    assert names("Hello", must=True, only="weather") == ["weather"]
    assert names("It is now noon", after_result=True) == []


def test_the_first_text_to_stop_at_ends_the_answer() -> None:
    assert shaped(Asked(stop=("d", "b")), "abcd") == "a"
    assert shaped(Asked(stop=("x",)), "abcd") == "abcd"
