"""Wrong arguments are refused before anything is done, each by its name."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest
from core.redis_connection import RedisConnection
from core.settings import Settings
from core.types import ChatRequest, Message
from llm.arguments import checked
from llm.factory import build_router
from llm.options import Extras
from llm.router import RequestRouter
from tests.integration.routers import key, write_keys

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
WRONG: dict[str, list[Any]] = {
    "prompt": [None, 5, b"Hello", ["Hello"], "", " \n\t", "\ud800"],
    "system_prompt": [5, b"x", ["x"], "\udfff"],
    "model_preference": ["", 5, ["gpt-4o"]],
    "fallback_models": [5, "gpt-4o-mini", [""], [5], [None]],
    "allowed_providers": [5, "openai", [], [""], [5], [None]],
    "exclude_keys": [None, 5, "a", [""], [5], [None]],
    "expected_completion_tokens": [0, -1, 1.0, "512", None, True],
    "max_output_tokens": [0, -1, 1.0, "512", None, True],
    "temperature": [-0.1, 2.1, "hot", True, float("nan"), float("inf")],
    "user_id": ["", 5, "a\nb", "x" * 600, "\ud800"],
    "timeout": [0, -1, "5", True, float("nan"), float("inf")],
    "max_wait": [-1, "5", None, True, float("nan"), float("inf")],
    "priority": [None, 1.5, "high", True],
    "workload": ["huge", "", 5, ["light"]],
    "tags": [5, "free", ["free"], {"a": 1}, {1: "a"}, {"a": None}],
    "idle_timeout": [0, -1, "5", True, float("nan"), float("inf")],
    "messages": [[{"role": "user", "content": "and a prompt"}], 5, "Hello", []],
    "tools": [5, "now", [5], [{"type": "web_search"}], [{"function": {}}], [TOOL, TOOL],
              [{"type": "function", "function": {"name": "not good"}}],
              [{"type": "function", "function": {"name": "a", "parameters": 5}}],
              [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}],
              [{"type": "function", "function": {"name": "a", "strict": "yes"}}],
              [{"type": "function", "function": {"name": "a", "parameters": {"x": object()}}}]],
    "tool_choice": [5, "always", "auto", "required", {"type": "function"},
                    {"type": "function", "function": {"name": "a"}}],
    "response_format": [5, "json", {}, {"type": "xml"}, {"type": "json_schema"},
                        {"type": "json_schema", "json_schema": {"name": "a"}},
                        {"type": "json_schema", "json_schema": {"schema": 5}},
                        {"type": "json_object", "schema": {}}],
    "stop": [5, "", [""], ["a", 5], ["x"] * 101, "\ud800"],
    "top_p": [0, -0.1, 1.1, "0.5", True, float("nan")],
    "seed": [1.5, "1", True, 2**64],
    "provider_options": [5, "openai", {"opnai": {}}, {"openai": 5}, {"openai": {"n": 3}},
                         {"openai": {"max_tokens": 9}}, {"anthropic": {"stream": True}},
                         {"openai": {"user": object()}},
                         {"gemini": {"generationConfig": {"candidateCount": 2}}}],
}  # fmt: skip
OF_A_CHAT: dict[str, list[Any]] = {
    "conv_id": [None, "", 5, "a\0b", "x" * 600, "\ud800"],
    "keep_partial": [None, 1, "yes"],
    "metadata": [5, "text", ["a"], {1: "a"}, {"a": object()}, {"a": float("nan")}, {"": 1}],
}
RIGHT: dict[str, list[Any]] = {
    "prompt": ["Hello", "a", " padded ", "今天", "\x00", "x" * 1_000_000],
    "system_prompt": [None, "Be brief."],
    "fallback_models": [[], (), ["a", "b"], ("a",), iter(["a"])],
    "allowed_providers": [None, ["openai"], ("openai", "gemini"), iter(["openai"])],
    "exclude_keys": [[], ["a"], ("a", "b"), {"a"}],
    "expected_completion_tokens": [1, 100_000],
    "max_output_tokens": [1, 1_000_000],
    "temperature": [None, 0, 0.0, 1, 2, 2.0],
    "user_id": [None, "bo", "a b", "用户"],
    "timeout": [None, 1, 0.5, 3600, 86_400],
    "idle_timeout": [None, 1, 0.5, 3600],
    "max_wait": [0, 0.5, 3600],
    "priority": [-5, 0, 100],
    "workload": [None, "light", "medium", "heavy"],
    "tags": [None, {}, {"tier": "free"}],
    "tools": [None, [], [TOOL], (TOOL,), [{"type": "function", "function": {"name": "a"}}]],
    "tool_choice": [None, "none"],
    "response_format": [None, {"type": "text"}, {"type": "json_object"},
                        {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}],
    "stop": [None, [], "a", ["a", "b"], ("a",)],
    "top_p": [None, 1, 0.5],
    "seed": [None, 0, -1, 2**40],
    "provider_options": [None, {}, {"openai": {"user": "x"}},
                         {"gemini": {"generationConfig": {"thinkingConfig": {}}}}],
}  # fmt: skip


def cases(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name} {number}")
        for name, values in table.items()
        for number, value in enumerate(values)
    ]


@pytest.fixture(scope="module")
def router(
    redis_server: RedisConnection, redis_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RequestRouter]:
    """Its one key is of a provider that nobody registered: no request gets further than that."""
    path = tmp_path_factory.mktemp("arguments") / "keys.json"
    write_keys(path, [key("a", provider="nobody")])
    chosen: dict[str, Any] = {"_env_file": None, "keys_file": path, "llm_data_dir": redis_folder}
    with build_router(Settings(**chosen)) as made:
        yield made


@pytest.mark.parametrize(("name", "value"), cases(WRONG))
def test_a_wrong_argument_of_a_one_shot_names_itself(
    router: RequestRouter, name: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest, match=name):
        router.send_one_shot(**{"prompt": "Hello", name: value})


@pytest.mark.parametrize(("name", "value"), cases({**WRONG, **OF_A_CHAT}))
def test_a_wrong_argument_of_a_chat_names_itself(
    router: RequestRouter, name: str, value: Any
) -> None:
    with pytest.raises(InvalidRequest, match=name):
        router.send_chat(**{"conv_id": "c", "prompt": "Hello", name: value})


@pytest.mark.parametrize(("name", "value"), cases(RIGHT))
def test_a_right_argument_is_taken(router: RequestRouter, name: str, value: Any) -> None:
    reply = router.send_one_shot(**{"prompt": "Hello", name: value})
    assert "error_type" in reply, "it was taken, and came to the key that cannot serve"


def test_every_argument_is_tested_with_wrong_values() -> None:
    for method, tested in (
        (RequestRouter.send_one_shot, WRONG),
        (RequestRouter.send_chat, {**WRONG, **OF_A_CHAT}),
    ):
        named = set(inspect.signature(method).parameters) - {"self", "extras"}
        assert named | set(Extras.__annotations__) == set(tested)


def test_an_argument_that_nobody_knows_is_a_type_error(router: RequestRouter) -> None:
    with pytest.raises(TypeError, match="frequency"):
        router.send_one_shot("Hello", frequency=3)  # type: ignore[call-arg]


def test_wrong_arguments_are_value_errors_too() -> None:
    assert issubclass(InvalidRequest, ValueError)


def test_a_right_request_is_returned_as_it_is() -> None:
    request = ChatRequest("r", (Message("user", "Hello"),), conv_id="c")
    assert checked(request) is request
    assert checked(request) is request
