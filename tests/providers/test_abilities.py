"""The table of what models can do, and what a request needs."""

from __future__ import annotations

import pytest

from core.content import NO_OPTIONS, ImagePart, Options, ResponseFormat, Tool, ToolCall
from core.types import Message
from keys.spec import KeySpec
from llm.providers.abilities import LACKS, NOTHING, Ability, abilities_of, needs_of
from llm.providers.registry import ProviderRegistry

A = Ability


@pytest.mark.parametrize(
    ("protocol", "model", "can", "cannot"),
    [
        ("openai", "gpt-4o", [A.IMAGE_DATA, A.JSON_SCHEMA, A.STOP, A.SEED], [A.FIVE_STOPS]),
        ("openai", "gpt-4", [A.TOOLS, A.SEED], [A.IMAGE_URL, A.JSON_SCHEMA, A.JSON_OBJECT]),
        ("openai", "gpt-4-turbo", [A.IMAGE_URL, A.JSON_OBJECT], [A.JSON_SCHEMA]),
        ("openai", "gpt-4.1-mini", [A.IMAGE_URL, A.JSON_SCHEMA], []),
        ("openai", "gpt-3.5-turbo", [A.TOOLS, A.JSON_OBJECT], [A.IMAGE_DATA, A.JSON_SCHEMA]),
        ("openai", "o4-mini", [A.SEED, A.IMAGE_DATA], [A.STOP, A.TOP_P]),
        ("openai", "openai/gpt-5.2", [A.JSON_SCHEMA], [A.STOP, A.TOP_P]),
        ("openai", "gpt-5-chat-latest", [A.STOP, A.TOP_P], [A.TOOLS, A.JSON_SCHEMA]),
        ("openai", "gpt-5.2-chat-latest", [A.STOP, A.TOOLS, A.JSON_SCHEMA], []),
        ("openai", "gpt-4o-2024-05-13", [A.JSON_OBJECT, A.IMAGE_URL], [A.JSON_SCHEMA]),
        ("openai", "gpt-4o-2024-08-06", [A.JSON_SCHEMA, A.GIF], []),
        ("openai", "text-embedding-3-small", [A.EMBEDDINGS], []),
        ("anthropic", "claude-opus-5", [A.JSON_SCHEMA, A.STOP], [A.SEED, A.TOP_P, A.EMBEDDINGS]),
        ("anthropic", "claude-sonnet-4-6", [A.JSON_SCHEMA, A.TOP_P], [A.JSON_OBJECT]),
        ("anthropic", "claude-opus-4-1-20250805", [A.TOP_P, A.GIF], [A.JSON_SCHEMA]),
        ("anthropic", "claude-haiku-4-5-20251001", [A.JSON_SCHEMA, A.TOP_P], []),
        ("anthropic", "claude-sonnet-4-20250514", [A.TOOLS, A.TOP_P], [A.JSON_SCHEMA]),
        ("anthropic", "claude-3-5-haiku-latest", [A.TOOLS, A.IMAGE_URL], [A.JSON_SCHEMA]),
        ("anthropic", "claude-2.1", [A.STOP], [A.TOOLS, A.IMAGE_DATA]),
        ("gemini", "gemini-2.5-flash", [A.SEED, A.IMAGE_URL], [A.JSON_BESIDE_TOOLS, A.SIX_STOPS]),
        ("gemini", "gemini-3.1-pro-preview", [A.JSON_BESIDE_TOOLS, A.FIVE_STOPS], [A.SIX_STOPS]),
        ("gemini", "models/gemini-2.0-flash", [A.IMAGE_DATA], [A.IMAGE_URL]),
        ("gemini", "gemma-3-27b-it", [A.IMAGE_DATA], [A.TOOLS, A.JSON_OBJECT]),
        ("gemini", "gemini-2.5-flash-image", [A.IMAGE_DATA], [A.TOOLS, A.JSON_SCHEMA, A.GIF]),
    ],
)
def test_what_models_can_do(
    protocol: str, model: str, can: list[Ability], cannot: list[Ability]
) -> None:
    able = abilities_of(protocol, model, None)
    assert able >= set(can)
    assert not able & set(cannot)


def test_servers_of_others_may_take_more_than_openai() -> None:
    assert A.FIVE_STOPS in abilities_of("openai", "llama-3.3-70b", "http://localhost:8000/v1")
    assert A.FIVE_STOPS not in abilities_of("openai", "gpt-4o", "https://eu.api.openai.com/v1")


def test_every_fact_has_its_source() -> None:
    assert all(len(fact.source) > 10 and fact.lacks for fact in LACKS)


CALLING = Message("assistant", "", (ToolCall("1", "f", "{}"),))


@pytest.mark.parametrize(
    ("messages", "options", "needs"),
    [
        ([Message("user", "a")], NO_OPTIONS, NOTHING),
        ([CALLING], NO_OPTIONS, {A.TOOLS}),
        ([Message("tool", "a", tool_call_id="1")], NO_OPTIONS, {A.TOOLS}),
        ([Message("user", (ImagePart(url="https://a.b/c"),))], NO_OPTIONS, {A.IMAGE_URL}),
        ([Message("user", (ImagePart(data="YQ=="),))], NO_OPTIONS, {A.IMAGE_DATA}),
        (
            [Message("user", (ImagePart(data="YQ==", media_type="image/gif"),))],
            NO_OPTIONS,
            {A.IMAGE_DATA, A.GIF},
        ),
        ([], Options(tools=(Tool("f"),)), {A.TOOLS}),
        ([], Options(response_format=ResponseFormat("text")), NOTHING),
        ([], Options(response_format=ResponseFormat("json_object")), {A.JSON_OBJECT}),
        (
            [],
            Options(tools=(Tool("f"),), response_format=ResponseFormat("json_schema")),
            {A.TOOLS, A.JSON_SCHEMA, A.JSON_BESIDE_TOOLS},
        ),
        ([], Options(stop=("a",) * 4), {A.STOP}),
        ([], Options(stop=("a",) * 5), {A.STOP, A.FIVE_STOPS}),
        ([], Options(stop=("a",) * 6), {A.STOP, A.SIX_STOPS}),
        ([], Options(top_p=0.5, seed=0), {A.TOP_P, A.SEED}),
        ([], Options(provider_options={"openai": {"user": "x"}}), NOTHING),
    ],
)
def test_what_a_request_needs(
    messages: list[Message], options: Options, needs: frozenset[Ability]
) -> None:
    assert needs_of(messages, options) == needs


def test_the_registry_asks_the_adapter() -> None:
    registry = ProviderRegistry()
    key = KeySpec(key_id="a", model_name="claude-opus-5", provider="anthropic")
    assert A.SEED not in registry.abilities_of(key)
    unknown = KeySpec(key_id="a", model_name="m", provider="nobody")
    assert A.SEED in registry.abilities_of(unknown), "the request itself says what is wrong"
