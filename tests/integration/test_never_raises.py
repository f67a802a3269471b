"""`send_*` raises for wrong arguments alone, whatever providers, adapters and stores do."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr

from core.errors import InvalidRequest
from core.events import AttemptFinished, Event, RequestFinished
from core.types import ProviderReply, Usage
from keys.spec import KeySpec
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry
from tests.integration.routers import (
    MODELS,
    MakeRouter,
    key,
    manager_of,
    secret_of,
)
from tools.simulated_provider import SimulatedProvider
from tools.simulation.errors import TABLE

BOTH_ROUTERS = True
OF_THREADS = ("test_an_interrupt_is_passed_on_and_its_call_is_settled",)
"""Ctrl-C ends a loop; tasks are cancelled instead: see test_cancelling.py."""

FAULTS = sorted(
    {"hang", "stall", "drop", "drop_midway", "garbage", "empty", "html"}.union(*TABLE.values())
)
RIGHT: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.text(min_size=1).filter(str.strip),
    "system_prompt": st.none() | st.text(min_size=1),
    "model_preference": st.none() | st.sampled_from([*MODELS.values(), "unknown"]),
    "expected_completion_tokens": st.integers(1, 10**6),
    "max_output_tokens": st.integers(1, 10**6),
    "temperature": st.none() | st.floats(0, 2),
    "user_id": st.none() | st.sampled_from(["alice", "bob"]),
    "max_wait": st.sampled_from([0, 0.01, 0.05]),
    "priority": st.integers(-5, 5),
    "fallback_models": st.lists(st.sampled_from([*MODELS.values(), "unknown"]), max_size=3),
    "workload": st.sampled_from([None, "light", "medium", "heavy"]),
    "tags": st.sampled_from([None, {}, {"tier": "free"}, {"no": "such"}]),
}
WRONG: dict[str, list[Any]] = {
    "prompt": ["", " \n", None, 5, b"bytes"],
    "system_prompt": [5, ["x"]],
    "model_preference": ["", 5],
    "expected_completion_tokens": [0, -1, 1.5, "5", None, True],
    "max_output_tokens": [0, -1, 1.5, None],
    "temperature": [-0.1, 2.1, "warm", float("nan")],
    "user_id": ["", 5],
    "max_wait": [-1, None, float("nan"), float("inf")],
    "priority": [0.5, None, "high"],
    "workload": ["huge", 5],
    "timeout": [0, -1, float("nan"), float("inf"), "5"],
}
NAMES = [(name, wrong) for name, values in WRONG.items() for wrong in values]


@seed(20261121)
@examples(
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    arguments=st.fixed_dictionaries({}, optional=RIGHT),
    wrong=st.none() | st.none() | st.none() | st.sampled_from(NAMES),
    faults=st.lists(st.tuples(st.sampled_from(FAULTS), st.sampled_from([0.5, 1.0])), max_size=3),
    chat=st.booleans(),
)
def test_random_faults_and_random_arguments(
    never: Any, arguments: Any, wrong: Any, faults: Any, chat: bool
) -> None:
    router, simulator = never
    simulator.clear_faults()
    for kind, probability in faults:
        simulator.add_fault(kind, probability=probability)
    arguments = {"prompt": "Hello", "timeout": 0.15, **arguments}
    if wrong is not None:
        arguments[wrong[0]] = wrong[1]
    send = router.send_one_shot
    if chat:
        arguments["conv_id"] = "c"
        send = router.send_chat
    if wrong is not None:
        with pytest.raises(InvalidRequest, match=wrong[0]):
            send(**arguments)
        return
    reply = send(**arguments)
    json.dumps(reply)
    assert reply["success"] == (reply["attempts"][-1:] != [] and "error" not in reply)
    assert ("error_type" in reply) == (not reply["success"])
    assert reply.get("error_type") != "internal_error", reply


@pytest.fixture
def never(make_router: MakeRouter, simulator: SimulatedProvider) -> Any:
    keys = [key(f"{name}-{n}", name, rpm=40) for name in MODELS for n in (1, 2)]
    router = make_router(keys=keys, rate_window_seconds=0.5)
    for model in MODELS.values():
        assert router.send_one_shot("Hello", model)["success"]  # loads its SDK
    return router, simulator


class Broken:
    """An adapter that does what it must not."""

    def __init__(self, does: Any) -> None:
        self.does = does

    def send(self, call: ProviderCall) -> Any:
        return self.does(call)

    def close(self) -> None:
        pass


def fail(call: ProviderCall) -> None:
    raise RuntimeError(f"the secret is {call.secret.get_secret_value()}")


FAULTY_ADAPTERS = {
    "raises": fail,
    "gives nothing": lambda call: None,
    "gives a dict": lambda call: {"content": "Hi"},
    "gives no text": lambda call: ProviderReply(None, "m", "stop", None),  # type: ignore[arg-type]
    "counts with words": lambda call: ProviderReply("Hi", "m", "stop", Usage("two", 3)),  # type: ignore[arg-type]
    "counts below zero": lambda call: ProviderReply("Hi", "m", "stop", Usage(-5, -3)),
}


@pytest.mark.parametrize("fault", FAULTY_ADAPTERS)
@pytest.mark.parametrize("chat", [False, True], ids=["one shot", "chat"])
def test_an_adapter_that_breaks_its_contract_is_an_internal_error(
    make_router: MakeRouter, events: list[Event], fault: str, chat: bool
) -> None:
    providers = ProviderRegistry({"own": Broken(FAULTY_ADAPTERS[fault])})
    router = make_router(keys=[key("a", "own", max_parallel=5, tpm=9999)], providers=providers)
    reply: Any = router.send_chat("c", "Hello") if chat else router.send_one_shot("Hello")
    assert reply["error_type"] == "internal_error"
    assert [attempt["outcome"] for attempt in reply["attempts"]] == ["internal_error"]
    assert secret_of("a") not in json.dumps(reply)
    assert [type(e) for e in events if isinstance(e, AttemptFinished | RequestFinished)] == [
        AttemptFinished,
        RequestFinished,
    ]
    status = manager_of(router).get_key_status("a")
    assert status["parallel"]["used"] == 0, "the reservation was settled"
    assert status["rpm"]["used"] == 1


def test_an_adapter_that_cannot_be_made_is_an_internal_error(make_router: MakeRouter) -> None:
    def factory() -> Any:
        raise ModuleNotFoundError("No module named 'their_sdk'")

    router = make_router(
        keys=[key("a", "own", max_parallel=5)], providers=ProviderRegistry({"own": factory})
    )
    reply = router.send_one_shot("Hello")
    assert reply["error_type"] == "internal_error"
    assert manager_of(router).get_key_status("a")["parallel"]["used"] == 0


@pytest.mark.parametrize("gives", [None, RuntimeError("the vault is sealed")])
def test_a_secret_store_that_breaks_its_contract_is_a_typed_failure(
    make_router: MakeRouter, gives: Any
) -> None:
    class Store:
        def fetch(self, key: KeySpec) -> SecretStr:
            if isinstance(gives, Exception):
                raise gives
            return gives  # type: ignore[no-any-return]

    reply = make_router(keys=[key("a")], secret_store=Store()).send_one_shot("Hello")
    assert reply["error_type"] == "secret_unavailable"
    assert "sealed" not in reply["error"], "a foreign message may hold the secret"


def test_an_interrupt_is_passed_on_and_its_call_is_settled(make_router: MakeRouter) -> None:
    def interrupt(call: ProviderCall) -> None:
        raise KeyboardInterrupt

    router = make_router(
        keys=[key("a", "own", max_parallel=5)],
        providers=ProviderRegistry({"own": Broken(interrupt)}),
    )
    with pytest.raises(KeyboardInterrupt):
        router.send_one_shot("Hello")
    status = manager_of(router).get_key_status("a")
    assert (status["parallel"]["used"], status["rpm"]["used"]) == (0, 1)


@pytest.mark.parametrize("tokens", [10**13, 10**16, 10**19, 10**30])
def test_a_huge_max_output_tokens_harms_nobody_else(make_router: MakeRouter, tokens: int) -> None:
    router = make_router(keys=[key("a", rpm=10)])
    with suppress(InvalidRequest):
        router.send_one_shot("Hello", max_output_tokens=tokens)
    assert router.send_one_shot("Hello")["success"]
    assert manager_of(router).get_key_status("a")["available"]


@pytest.mark.parametrize("timeout", [1e6, 1e9, 1e12, 1e300])
def test_a_huge_timeout_is_refused_or_works(make_router: MakeRouter, timeout: float) -> None:
    router = make_router(keys=[key("a", max_parallel=2)])
    with suppress(InvalidRequest):
        reply = router.send_one_shot("Hello", timeout=timeout)
        assert reply["success"], reply


def test_metadata_that_is_not_json_is_refused_before_anything_is_sent(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", max_parallel=1)])
    with pytest.raises(InvalidRequest, match="metadata"):
        router.send_chat("c", "Hello", metadata={"when": object()})
    assert simulator.report()["totals"]["accepted"] == 0
    assert manager_of(router).get_key_status("a")["parallel"]["used"] == 0


@pytest.mark.parametrize("text", ["\ud800", "Hello \udfff"])
def test_a_text_that_is_no_unicode_is_refused_and_named(make_router: MakeRouter, text: str) -> None:
    router = make_router(keys=[key("a")])
    with pytest.raises(InvalidRequest, match="prompt"):
        router.send_one_shot(text)
    with pytest.raises(InvalidRequest, match="system_prompt"):
        router.send_one_shot("Hello", system_prompt=text)
