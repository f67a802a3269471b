"""Messages, tools, images, formats: through the router and the real SDKs to each provider."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from conversation.records import Turn
from core.content import ToolCall
from core.types import ProviderReply, Usage
from llm.providers import anthropic, gemini, openai
from llm.providers.abilities import EVERYTHING
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry
from llm.router import RequestRouter
from tests.integration.routers import MODELS, MakeRouter, key
from tools.simulated_provider import SimulatedProvider

PROVIDERS = ("openai", "anthropic", "gemini")
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["place"],
        },
    },
}
CITY = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["name", "size"],
    "additionalProperties": False,
}
AS_CITY = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
NEWEST = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-sonnet-4-6",
    "gemini": "gemini-3.1-pro-preview",
}


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def router(make_router: MakeRouter, provider: str) -> RequestRouter:
    return make_router(keys=[key("a", provider, model_name=NEWEST[provider])])


def accepted(simulator: SimulatedProvider) -> int:
    return simulator.report()["totals"]["accepted"]


def test_a_whole_exchange_of_messages(router: RequestRouter) -> None:
    reply = router.send_one_shot(
        messages=[
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "One?"},
            {"role": "assistant", "content": "Two."},
            {"role": "user", "content": [{"type": "text", "text": "Three?"}]},
        ]
    )
    assert reply["success"], reply
    assert reply["content"] is not None
    assert reply["content"].endswith('begins: "Three?"')


def test_a_tool_is_called_and_its_result_goes_back(router: RequestRouter) -> None:
    asked: list[dict[str, Any]] = [{"role": "user", "content": "Tell me the weather in Paris"}]
    reply = router.send_one_shot(messages=asked, tools=[WEATHER])
    assert reply["success"], reply
    assert (reply["stop_reason"], reply["content"]) == ("tool_calls", "")
    (call,) = reply["tool_calls"]
    assert call["type"] == "function"
    assert call["function"]["name"] == "weather"
    assert json.loads(call["function"]["arguments"])["days"] == 1

    said = {"role": "assistant", "content": reply["content"], "tool_calls": reply["tool_calls"]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "12 C"}
    second = router.send_one_shot(messages=[*asked, said, result], tools=[WEATHER])
    assert second["success"], second
    assert second["tool_calls"] == []
    assert second["content"] is not None
    assert "12 C" in second["content"]


def test_two_tools_at_once(router: RequestRouter) -> None:
    now = {"type": "function", "function": {"name": "now"}}
    asked = [{"role": "user", "content": "The weather, and what time is it now?"}]
    reply = router.send_one_shot(messages=asked, tools=[WEATHER, now])
    calls = reply["tool_calls"]
    assert [call["function"]["name"] for call in calls] == ["weather", "now"]
    assert len({call["id"] for call in calls}) == 2
    said = {"role": "assistant", "content": None, "tool_calls": calls}
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"result {n}"}
        for n, call in enumerate(calls)
    ]
    second = router.send_one_shot(messages=[*asked, said, *results], tools=[WEATHER, now])
    assert second["success"], second
    assert "result 1" in str(second["content"])


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("none", []),
        ("auto", []),
        ("required", ["weather"]),
        ({"type": "function", "function": {"name": "now"}}, ["now"]),
    ],
)
def test_a_tool_is_called_as_is_chosen(
    router: RequestRouter, choice: Any, called: list[str]
) -> None:
    now = {"type": "function", "function": {"name": "now"}}
    reply = router.send_one_shot("Hello", tools=[WEATHER, now], tool_choice=choice)
    assert reply["success"], reply
    assert [call["function"]["name"] for call in reply["tool_calls"]] == called


def test_a_conversation_keeps_calls_and_results(router: RequestRouter) -> None:
    first = router.send_chat("c", "What is the weather in Oslo?", tools=[WEATHER])
    (call,) = first["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": "3 C"}
    second = router.send_chat("c", messages=[result], tools=[WEATHER])
    assert second["success"], second
    assert "3 C" in str(second["content"])
    # Whoever goes on without tools still may: Anthropic alone wants them declared.
    third = router.send_chat("c", "Thank you")
    assert third["success"], third
    history = router._parts.driver.conversations.get_history("c")
    assert [message["role"] for message in history] == [
        "user", "assistant", "tool", "assistant", "user", "assistant"
    ]  # fmt: skip
    assert history[1]["tool_calls"] == first["tool_calls"]
    assert history[2]["tool_call_id"] == call["id"]


def test_a_conversation_that_awaits_a_result_says_so(
    router: RequestRouter, simulator: SimulatedProvider
) -> None:
    first = router.send_chat("c", "What is the weather in Oslo?", tools=[WEATHER])
    count = accepted(simulator)
    reply = router.send_chat("c", "Never mind")
    assert reply["error_type"] == "invalid_request"
    assert first["tool_calls"][0]["id"] in reply["error"]
    wrong = router.send_chat(
        "c", messages=[{"role": "tool", "tool_call_id": "another", "content": "3 C"}]
    )
    assert wrong["error_type"] == "invalid_request"
    assert accepted(simulator) == count


def test_a_turn_sent_at_the_same_time_does_not_spoil_the_conversation(
    router: RequestRouter,
) -> None:
    """The first one's results never came before the second ended."""
    store = router._parts.driver.conversations
    store.append_turn(Turn("c", "1", "The weather?", "", tool_calls=(ToolCall("x", "f", "{}"),)))
    store.append_turn(Turn("c", "2", "Hello", "Hi"))
    reply = router.send_chat("c", "Are you there?")
    assert reply["success"], reply
    assert "3 message(s)" in str(reply["content"])


@pytest.mark.parametrize("at", ["data", "address"])
def test_images(router: RequestRouter, at: str) -> None:
    url = f"data:image/png;base64,{PIXEL}" if at == "data" else "https://example.com/a/cat.png"
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    reply = router.send_one_shot(messages=[{"role": "user", "content": content}])
    assert reply["success"], reply
    assert reply["tokens"]["input"] > 800, "the simulation counts 850 for an image"


def test_images_stay_in_a_conversation(router: RequestRouter) -> None:
    content = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    router.send_chat("c", messages=[{"role": "user", "content": content}])
    assert router._parts.driver.conversations.get_history("c")[0]["content"] == content
    assert router.send_chat("c", "And what colour is it?")["tokens"]["input"] > 800


def test_an_answer_by_a_schema(router: RequestRouter) -> None:
    reply = router.send_one_shot("A city, please", response_format=AS_CITY)
    assert reply["success"], reply
    assert set(json.loads(str(reply["content"]))) == {"name", "size"}


def test_an_answer_by_a_schema_beside_tools(router: RequestRouter) -> None:
    reply = router.send_one_shot("A city, please", response_format=AS_CITY, tools=[WEATHER])
    assert reply["success"], reply
    assert set(json.loads(str(reply["content"]))) == {"name", "size"}


def test_an_answer_stops_where_it_is_told_to(router: RequestRouter) -> None:
    reply = router.send_one_shot("Hello", stop=["; the last"])
    assert reply["content"] == "You sent 1 message(s)"
    assert router.send_one_shot("Hello", stop="message")["content"] == "You sent 1 "


def test_top_p_in_the_temperature_s_place(router: RequestRouter) -> None:
    assert router.send_one_shot("Hello", top_p=0.5)["success"]


@pytest.mark.parametrize("name", ["openai", "gemini"])
def test_a_seed_and_plain_json(make_router: MakeRouter, name: str) -> None:
    router = make_router(keys=[key("a", name)])
    reply = router.send_one_shot("A city as JSON", seed=7, response_format={"type": "json_object"})
    assert reply["success"], reply
    assert "answer" in json.loads(str(reply["content"]))


ONLY_OTHERS = [
    ("anthropic", "claude-sonnet-4-6", {"seed": 7}, "seed"),
    ("anthropic", "claude-sonnet-4-6", {"response_format": {"type": "json_object"}}, "json_object"),
    ("anthropic", "claude-3-5-haiku", {"response_format": AS_CITY}, "json_schema"),
    ("anthropic", "claude-opus-5", {"top_p": 0.5}, "top_p"),
    ("openai", "gpt-5-mini", {"stop": "x"}, "stop"),
    ("openai", "o4-mini", {"top_p": 0.5}, "top_p"),
    ("openai", "gpt-4-turbo", {"response_format": AS_CITY}, "json_schema"),
    ("gemini", "gemini-2.5-flash", {"response_format": AS_CITY, "tools": [WEATHER]}, "together"),
    ("gemini", "gemini-2.5-flash", {"stop": list("abcdef")}, "more than 5"),
]


@pytest.mark.parametrize(("name", "model", "extras", "word"), ONLY_OTHERS)
def test_what_a_provider_cannot_do_is_refused_before_anything_is_reserved(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    name: str,
    model: str,
    extras: dict[str, Any],
    word: str,
) -> None:
    router = make_router(keys=[key("a", name, model_name=model, rpm=10)])
    reply = router.send_one_shot("Hello", **extras)
    assert (reply["success"], reply["error_type"]) == (False, "invalid_request")
    assert word in reply["error"]
    assert model in reply["error"]
    assert reply["attempts"] == []
    assert simulator.report()["totals"] == simulator.report()["totals"] | {"accepted": 0}
    status = router._parts.driver.keys.get_key_status("a")
    assert status["rpm"]["used"] == 0


@pytest.mark.parametrize(
    ("name", "model", "extras"),
    [
        ("anthropic", "claude-sonnet-4-6", {"provider_options": {"anthropic": {"seed": 7}}}),
        ("openai", "gpt-5-mini", {"stop": "x"}),
        ("openai", "o4-mini", {"top_p": 0.5}),
        ("gemini", "gemini-2.5-flash", {"response_format": AS_CITY, "tools": [WEATHER]}),
    ],
)
def test_without_the_table_the_provider_refuses_it_in_its_own_words(
    make_router: MakeRouter,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    model: str,
    extras: dict[str, Any],
) -> None:
    for module in (openai, anthropic, gemini):
        monkeypatch.setattr(module, "abilities_of", lambda *_: EVERYTHING)
    router = make_router(keys=[key("a", name, model_name=model)])
    reply = router.send_one_shot("Hello", **extras)
    assert reply["error_type"] == "invalid_request", reply
    assert len(reply["attempts"]) == 1


def test_keys_that_cannot_do_it_are_left_out(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("c", "anthropic"), key("o", "openai"), key("g", "gemini")])
    for n in range(6):
        reply = router.send_one_shot(f"Hello {n}", seed=7)
        assert reply["success"], reply
    report = simulator.report()["keys"]
    assert report["c"]["accepted"] == 0
    assert report["o"]["accepted"] > 0
    assert report["g"]["accepted"] > 0
    preferred = router.send_one_shot(
        "Hello", MODELS["anthropic"], seed=7, fallback_models=[MODELS["gemini"]]
    )
    assert preferred["key_id"] == "g"


def test_failover_to_another_provider_takes_the_tools_along(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    order = [MODELS[name] for name in PROVIDERS]
    router = make_router(keys=[key(name, name) for name in PROVIDERS])
    asked: list[dict[str, Any]] = [{"role": "user", "content": "The weather in Rome?"}]
    first = router.send_one_shot(messages=asked, tools=[WEATHER], model_preference=order[0])
    assert first["provider"] == "openai"
    said = {"role": "assistant", "content": None, "tool_calls": first["tool_calls"]}
    call_id = first["tool_calls"][0]["id"]
    messages = [*asked, said, {"role": "tool", "tool_call_id": call_id, "content": '{"c": 20}'}]
    simulator.revoke("openai")
    second = router.send_one_shot(
        messages=messages, tools=[WEATHER], model_preference=order[0], fallback_models=order[1:]
    )
    assert (second["success"], second["provider"]) == (True, "anthropic")
    simulator.revoke("anthropic")
    third = router.send_one_shot(
        messages=messages, tools=[WEATHER], model_preference=order[0], fallback_models=order[1:]
    )
    assert (third["success"], third["provider"]) == (True, "gemini"), third


def test_a_provider_s_own_fields_reach_it_and_no_other(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("o", "openai"), key("g", "gemini")])
    own = {"openai": {"user": "x"}, "gemini": {"generationConfig": {"topK": 3}}}
    for name in ("openai", "gemini"):
        assert router.send_one_shot("Hi", MODELS[name], provider_options=own)["success"]
    wrong = {"openai": {"topK": 3}, "gemini": {"user": "x"}}
    for name in ("openai", "gemini"):
        reply = router.send_one_shot("Hi", MODELS[name], provider_options=wrong)
        assert reply["error_type"] == "invalid_request"
        assert ("topK" if name == "openai" else "user") in reply["error"]


def test_all_of_it_is_reserved(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", "gemini")])
    plain = router.explain("Hello")["estimated_tokens"]
    tool = {"type": "function", "function": {"name": "a", "description": "word " * 1_000}}
    with_tools = router.explain("Hello", tools=[tool])["estimated_tokens"]
    assert with_tools > plain + 800
    image = [{"type": "image_url", "image_url": "https://example.com/a.png"}]
    shown = router.explain(messages=[{"role": "user", "content": image}])["estimated_tokens"]
    assert shown > plain + 1_000
    schema = {"type": "object", "description": "word " * 1_000}
    shape = {"type": "json_schema", "json_schema": {"schema": schema}}
    assert router.explain("Hello", response_format=shape)["estimated_tokens"] > plain + 800
    call = {
        "id": "1", "type": "function",
        "function": {"name": "a", "arguments": '{"x": "' + "word " * 1_000 + '"}'},
    }  # fmt: skip
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    assert router.explain(messages=messages)["estimated_tokens"] > plain + 800


def test_an_adapter_that_says_nothing_of_its_abilities_gets_plain_text_alone(
    make_router: MakeRouter,
) -> None:
    class Echo:
        def send(self, call: ProviderCall) -> ProviderReply:
            return ProviderReply(str(call.messages[-1].content), call.model, "stop", Usage(1, 1))

        def close(self) -> None: ...

    router = make_router(keys=[key("a", "echo")], providers=ProviderRegistry({"echo": Echo}))
    assert router.send_one_shot("Hello")["content"] == "Hello"
    reply = router.send_one_shot("Hello", tools=[WEATHER])
    assert reply["error_type"] == "invalid_request"
    assert "tools" in reply["error"]
