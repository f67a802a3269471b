"""Circuits, the retry budget and escalation: load goes down where providers fail."""

from __future__ import annotations

import time

import pytest

from core.events import CircuitOpened, Event
from core.redis_connection import RedisConnection
from tests.integration.routers import (
    MODELS,
    MakeRouter,
    key,
    manager_beside,
    manager_of,
    wait_for,
)
from tools.simulated_provider import SimulatedProvider

SOON = {"llm_circuit_failures": 3, "llm_circuit_seconds": 0.4}
BOTH = [MODELS["openai"], MODELS["gemini"]]


def keys_of_two() -> list[dict[str, object]]:
    return [key("o1"), key("o2"), key("o3"), key("g", "gemini")]


def asked(simulator: SimulatedProvider, key_id: str) -> int:
    found = simulator.report()["keys"][key_id]
    return found["accepted"] + found["refused"] + sum(found["faults"].values())


def test_a_provider_that_keeps_failing_is_recognised_and_left_alone(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    redis_server: RedisConnection,
    events: list[Event],
) -> None:
    router = make_router(keys=keys_of_two(), llm_circuit_failures=3, llm_circuit_seconds=60)
    simulator.add_fault("service_unavailable", protocol="openai")
    replies = [router.send_one_shot("Hello", BOTH[0], fallback_models=BOTH[1:]) for _ in range(6)]
    assert all(reply["success"] for reply in replies), "nothing is lost"
    assert [len(reply["attempts"]) for reply in replies[2:]] == [1] * 4, "it is not asked again"
    (opened,) = [event for event in events if isinstance(event, CircuitOpened)]
    assert opened.provider == "openai"
    assert "503" in opened.reason
    statuses = {s["key_id"]: s for s in manager_beside(router, redis_server).get_all_key_statuses()}
    for name in ("o1", "o2", "o3"):
        assert statuses[name]["circuits"]["service"] == "open", "another process knows it too"
        assert statuses[name]["state"] == "available", "no key is blamed"
        assert not statuses[name]["available"]
    assert statuses["g"]["available"]


def test_explain_shows_circuits(make_router: MakeRouter, simulator: SimulatedProvider) -> None:
    router = make_router(keys=[key("a"), key("b", priority=1)], llm_circuit_failures=1)
    simulator.add_fault("server_error", key="a", times=1)
    router.send_one_shot("Hello")
    first, second = router.explain("Hello")["keys"]
    assert first["circuits"] == {"key": "open", "service": "closed"}
    assert first["verdict"] == "passed over"
    assert first["why"].startswith("the key's circuit is open: provider_unavailable: openai: 500")
    assert 0 < (first["free_in"] or 0) <= 10
    assert (second["verdict"], second["circuits"]["key"]) == ("chosen", "closed")


def test_when_every_circuit_is_open_it_says_so_at_once_and_when_to_come_back(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a")], llm_max_retries=0, llm_circuit_failures=2)
    simulator.add_fault("server_error")
    for _ in range(2):
        router.send_one_shot("Hello")
    before = asked(simulator, "a")
    reply = router.send_one_shot("Hello")
    assert (reply["error_type"], reply["attempts"]) == ("provider_unavailable", [])
    assert 0 < reply["retry_after"] <= 10
    assert "circuit" in reply["error"]
    assert asked(simulator, "a") == before


def test_a_circuit_closes_when_its_probe_is_answered(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=keys_of_two(), **SOON)
    simulator.add_fault("server_error", protocol="openai")
    for _ in range(3):
        router.send_one_shot("Hello", BOTH[0], fallback_models=BOTH[1:])
    simulator.clear_faults()
    wait_for(lambda: router.send_one_shot("Hello", BOTH[0])["success"], 5)
    statuses = manager_of(router).get_all_key_statuses()
    assert {status["circuits"]["service"] for status in statuses} == {"closed"}
    logged = [e["after"] for e in manager_of(router).history("o1") if "openai" in e["subject"]]
    assert logged == ["open", "closed"]


def test_one_who_may_wait_is_served_when_the_circuit_lets_it(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a")], llm_max_retries=0, **SOON)
    simulator.add_fault("server_error", times=3)
    for _ in range(3):
        router.send_one_shot("Hello")
    assert not router.send_one_shot("Hello")["success"]
    assert router.send_one_shot("Hello", max_wait=5)["success"]


def test_a_failing_key_that_names_a_time_is_left_alone_for_that_long(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", "anthropic")])
    router.send_one_shot("Hello")
    simulator.add_fault("overloaded_error", times=1, retry_after=0.7)
    began = time.monotonic()
    reply = router.send_one_shot("Hello")
    assert reply["success"]
    assert 0.7 <= time.monotonic() - began < 2


def test_the_model_that_fails_gives_way_to_another_of_the_same_provider(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    small = {"model_name": "gpt-4o-nano"}
    router = make_router(keys=[key("a"), key("b"), key("c"), key("d", **small)])
    simulator.add_fault("service_unavailable", model=MODELS["openai"])
    reply = router.send_one_shot("Hello", MODELS["openai"], fallback_models=["gpt-4o-nano"])
    assert [a["model"] for a in reply["attempts"]] == [MODELS["openai"]] * 2 + ["gpt-4o-nano"]
    assert reply["success"]


@pytest.mark.parametrize("requests", [60])
def test_retries_are_a_share_of_the_requests(
    make_router: MakeRouter, simulator: SimulatedProvider, requests: int
) -> None:
    router = make_router(keys=[key(name) for name in "abcdef"], llm_circuit_failures=0)
    simulator.add_fault("server_error")
    attempts = sum(len(router.send_one_shot("Hello")["attempts"]) for _ in range(requests))
    share, at_first, a_second = 0.2, 10, 0.5
    assert attempts <= requests * (1 + share) + at_first + a_second * 30
    assert attempts < requests * 2, "without a budget it would be four times as many"


@pytest.mark.parametrize(
    ("provider", "fault"),
    [("openai", "content_filter"), ("anthropic", "refusal"), ("gemini", "SAFETY")],
)
def test_blocked_content_goes_to_the_fallback_models_and_to_no_other(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: str
) -> None:
    others = [name for name in MODELS if name != provider]
    router = make_router(
        keys=[key("a", provider), key("b", provider), *(key(name, name) for name in others)]
    )
    simulator.add_fault(fault, protocol=provider)  # type: ignore[arg-type]
    model, (first, second) = MODELS[provider], others
    alone = router.send_one_shot("Hello", model)
    assert (alone["error_type"], len(alone["attempts"])) == ("content_filtered", 1)
    reply = router.send_one_shot("Hello", model, fallback_models=[MODELS[second], MODELS[first]])
    assert reply["success"]
    assert [a["model"] for a in reply["attempts"]] == [model, MODELS[second]]
    assert all(status["available"] for status in manager_of(router).get_all_key_statuses())
