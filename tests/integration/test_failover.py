"""What fails is passed over, for as long as it must be, and the request goes on with another."""

from __future__ import annotations

import time
from typing import Any

import pytest

from core.events import Event, KeyCooledDown
from core.redis_connection import RedisConnection
from tests.integration.routers import (
    MODELS,
    MakeRouter,
    key,
    manager_beside,
    manager_of,
    secret_of,
    wait_for,
)
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True

TWO = [key("a"), key("b", priority=1)]
"""Keys of which `a` is always tried first."""


def tried(reply: Any) -> list[tuple[str, str]]:
    return [(attempt["key_id"], attempt["outcome"]) for attempt in reply["attempts"]]


@pytest.mark.parametrize("provider", MODELS)
def test_a_revoked_key_gives_way_to_the_next_and_all_processes_know(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    redis_server: RedisConnection,
    provider: str,
) -> None:
    router = make_router(keys=[key("a", provider), key("b", provider, priority=1)])
    simulator.revoke("a")
    assert tried(router.send_one_shot("Hello")) == [("a", "auth_failed"), ("b", "success")]
    assert tried(router.send_one_shot("Hello")) == [("b", "success")]
    status = manager_beside(router, redis_server).get_key_status("a")
    assert (status["available"], status["state"]) == (False, "invalid")
    assert status["cooldown_seconds"] is None, "until somebody acts"
    assert status["reason"].startswith("auth_failed")


def test_a_key_that_was_taken_out_comes_back_when_somebody_acts(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=TWO)
    simulator.add_fault("invalid_api_key", times=1)
    router.send_one_shot("Hello")
    manager_of(router).mark_key_healthy("a")
    assert tried(router.send_one_shot("Hello")) == [("a", "success")]


def test_a_new_secret_counts_as_soon_as_the_old_one_was_refused(
    make_router: MakeRouter, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = make_router(keys=TWO)
    assert router.send_one_shot("Hello")["key_id"] == "a"
    simulator.revoke("a")
    assert router.send_one_shot("Hello")["key_id"] == "b"
    monkeypatch.setenv("API_KEY_A", "sk-rotated-0123456789")
    manager_of(router).mark_key_healthy("a")
    assert tried(router.send_one_shot("Hello")) == [("a", "success")]


@pytest.mark.parametrize("provider", MODELS)
def test_a_429_cools_the_group_for_as_long_as_the_provider_asks(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    redis_server: RedisConnection,
    provider: str,
) -> None:
    team = [key(name, provider, quota_group="team") for name in ("a1", "a2")]
    router = make_router(keys=[*team, key("b", provider, priority=1)])
    error = {
        "openai": "rate_limit_exceeded",
        "anthropic": "rate_limit_error",
        "gemini": "RESOURCE_EXHAUSTED_PER_MINUTE",
    }[provider]
    simulator.add_fault(error, times=1, retry_after=37)
    reply = router.send_one_shot("Hello")
    assert [outcome for _, outcome in tried(reply)] == ["rate_limited", "success"]
    assert reply["key_id"] == "b", "the whole group is passed over"
    beside = manager_beside(router, redis_server)
    for name in ("a1", "a2"):
        status = beside.get_key_status(name)
        assert status["state"] == "throttled"
        assert status["cooldown_seconds"] == pytest.approx(37, abs=1)


def test_a_cooldown_ends_by_itself(make_router: MakeRouter, simulator: SimulatedProvider) -> None:
    router = make_router(keys=TWO)
    simulator.add_fault("rate_limit_exceeded", times=1, retry_after=0.3)
    assert router.send_one_shot("Hello")["key_id"] == "b"
    wait_for(lambda: router.send_one_shot("Hello")["key_id"] == "a", 3)


def test_a_short_cooldown_never_shortens_a_longer_one(make_router: MakeRouter) -> None:
    manager = manager_of(make_router(keys=TWO))
    manager.mark_key_unhealthy("a", 100)
    manager.mark_key_unhealthy("a", 1)
    assert (manager.get_key_status("a")["cooldown_seconds"] or 0) > 99


TRANSIENT = [
    ("server_error", "provider_unavailable"),
    ("service_unavailable", "provider_unavailable"),
    ("request_timeout", "provider_unavailable"),
    ("conflict", "provider_unavailable"),
    ("drop", "provider_unavailable"),
    ("drop_midway", "provider_unavailable"),
    ("garbage", "provider_unavailable"),
    ("empty", "provider_unavailable"),
    ("html", "provider_unavailable"),
]


@pytest.mark.parametrize(("fault", "outcome"), TRANSIENT)
def test_what_may_pass_is_tried_on_the_next_key_and_marks_nobody(
    make_router: MakeRouter, simulator: SimulatedProvider, fault: str, outcome: str
) -> None:
    router = make_router(keys=TWO)
    simulator.add_fault(fault, times=1)
    assert tried(router.send_one_shot("Hello")) == [("a", outcome), ("b", "success")]
    assert manager_of(router).get_key_status("a")["available"]


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
@pytest.mark.parametrize("fault", ["drop", "drop_midway", "garbage"])
def test_a_broken_answer_of_any_provider_is_tried_again(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: str
) -> None:
    router = make_router(keys=[key("a", provider)])
    simulator.add_fault(fault, times=1)
    reply = router.send_one_shot("Hello")
    assert tried(reply) == [("a", "provider_unavailable"), ("a", "success")]


def test_a_provider_that_is_overloaded_gives_way_to_another(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", "anthropic"), key("b", "gemini", priority=1)])
    simulator.add_fault("overloaded_error")
    assert tried(router.send_one_shot("Hello"))[-1] == ("b", "success")


@pytest.mark.parametrize("fault", ["hang", "stall"])
@pytest.mark.parametrize("provider", MODELS)
def test_the_deadline_is_kept_whatever_hangs(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: str
) -> None:
    router = make_router(keys=[key("a", provider), key("b", provider)])
    router.send_one_shot("Hello")  # loads the SDK
    simulator.add_fault(fault)
    began = time.monotonic()
    reply = router.send_one_shot("Hello", timeout=0.4)
    took = time.monotonic() - began
    assert reply["error_type"] == "timeout"
    assert 0.35 < took < 0.7


def test_the_deadline_is_for_all_tries_together(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=TWO, llm_max_retries=20, llm_base_backoff_ms=100)
    router.send_one_shot("Hello")
    simulator.add_fault("server_error")
    began = time.monotonic()
    reply = router.send_one_shot("Hello", timeout=0.6)
    assert time.monotonic() - began < 0.9
    assert not reply["success"]
    assert len(reply["attempts"]) > 1


@pytest.mark.parametrize(
    ("provider", "fault"),
    [
        ("openai", "content_filter"),
        ("openai", "content_filter_finish"),
        ("anthropic", "refusal"),
        ("gemini", "SAFETY"),
        ("gemini", "PROMPT_BLOCKED"),
    ],
)
def test_blocked_content_goes_back_at_once_and_the_key_stays_healthy(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: str
) -> None:
    router = make_router(keys=[key("a", provider), key("b", provider)])
    simulator.add_fault(fault, times=1)
    reply = router.send_one_shot("Hello")
    assert reply["error_type"] == "content_filtered"
    assert len(reply["attempts"]) == 1
    assert reply["reasons"]
    assert all(status["available"] for status in manager_of(router).get_all_key_statuses())


@pytest.mark.parametrize(("provider", "fault"), [("anthropic", "refusal"), ("gemini", "SAFETY")])
def test_a_withheld_answer_is_charged_what_the_provider_counted(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: str
) -> None:
    router = make_router(keys=[key("a", provider, itpm=100_000, tpm=100_000)])
    simulator.add_fault(fault, times=1)
    router.send_one_shot("Hello " * 100)
    counted = simulator.report()["keys"]["a"]["tokens_in"]
    status = manager_of(router).get_key_status("a")
    assert counted == 150
    assert status["itpm"]["used"] >= counted
    assert status["tpm"]["used"] >= counted


@pytest.mark.parametrize(
    ("provider", "fault"),
    [
        ("openai", "context_length_exceeded"),
        ("anthropic", "prompt_too_long"),
        ("gemini", "CONTEXT_TOO_LONG"),
    ],
)
def test_a_prompt_too_long_goes_back_at_once(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: str
) -> None:
    router = make_router(keys=[key("a", provider), key("b", provider)])
    simulator.add_fault(fault, times=1)
    reply = router.send_one_shot("Hello")
    assert reply["error_type"] == "context_too_long"
    assert len(reply["attempts"]) == 1


@pytest.mark.parametrize(
    ("provider", "fault"),
    [
        ("openai", "insufficient_quota"),
        ("openai", "billing_hard_limit_reached"),
        ("anthropic", "credit_balance_too_low"),
        ("anthropic", "enforced_spend_limit_reached"),
        ("gemini", "FAILED_PRECONDITION"),
    ],
)
def test_a_spent_quota_takes_its_group_out(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: str
) -> None:
    team = [key(name, provider, quota_group="team") for name in ("a1", "a2")]
    router = make_router(keys=[*team, key("b", provider, priority=1)])
    simulator.add_fault(fault, times=1)
    reply = router.send_one_shot("Hello")
    assert [outcome for _, outcome in tried(reply)] == ["quota_exhausted", "success"]
    assert reply["key_id"] == "b"
    states = [manager_of(router).get_key_status(name)["state"] for name in ("a1", "a2")]
    assert states == ["exhausted", "exhausted"]


def test_a_day_that_is_spent_at_gemini_lasts_until_midnight_pacific(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", "gemini"), key("b", "gemini", priority=1)])
    simulator.add_fault("RESOURCE_EXHAUSTED_PER_DAY", times=1)
    assert router.send_one_shot("Hello")["key_id"] == "b"
    seconds = manager_of(router).get_key_status("a")["cooldown_seconds"]
    assert seconds is not None
    assert 0 < seconds <= 25 * 3600
    assert seconds != pytest.approx(36, abs=2), "the delay that the body names is too short"


def test_a_model_that_a_key_may_not_use_concerns_that_key_alone(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", quota_group="team"), key("b", quota_group="team")])
    simulator.add_fault("model_permission", key="a")
    for _ in range(3):
        assert router.send_one_shot("Hello")["key_id"] == "b"
    assert not manager_of(router).get_key_status("a")["available"]
    assert manager_of(router).get_key_status("b")["available"]


def test_a_key_without_a_secret_is_passed_over_for_some_seconds(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", secret=None), key("b", priority=1)])
    reply = router.send_one_shot("Hello")
    assert tried(reply) == [("a", "secret_unavailable"), ("b", "success")]
    assert "API_KEY_A" in reply["attempts"][0]["error"]
    seconds = manager_of(router).get_key_status("a")["cooldown_seconds"]
    assert seconds == pytest.approx(5, abs=1)
    assert manager_of(router).get_key_status("a")["rpm"]["used"] == 0


def test_when_all_keys_fail_every_attempt_is_told(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    faults = {
        "a": ("invalid_api_key", "auth_failed"),
        "b": ("rate_limit_exceeded", "rate_limited"),
        "c": ("insufficient_quota", "quota_exhausted"),
        "d": ("server_error", "provider_unavailable"),
    }
    router = make_router(keys=[key(name, priority=n) for n, name in enumerate(faults)])
    for name, (fault, _) in faults.items():
        simulator.add_fault(fault, key=name)
    reply = router.send_one_shot("Hello")
    assert tried(reply) == [(name, outcome) for name, (_, outcome) in faults.items()]
    assert reply["error_type"] == "provider_unavailable"
    assert all(attempt["error"] for attempt in reply["attempts"])


def test_more_keys_are_tried_than_there_are_retries_where_each_says_no_at_once(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    names = "abcdef"
    router = make_router(keys=[key(name, priority=n) for n, name in enumerate(names)])
    for name in names[:5]:
        simulator.revoke(name)
    replies = [router.send_one_shot("Hello") for _ in range(2)]
    assert replies[-1]["key_id"] == "f", "what the first one learned helps the second"


def test_the_retries_are_those_of_the_settings(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=TWO, llm_max_retries=2)
    simulator.add_fault("server_error")
    assert len(router.send_one_shot("Hello")["attempts"]) == 3


def test_when_a_provider_fails_the_fallback_model_of_another_answers(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("o1"), key("o2"), key("g", "gemini"), key("c", "anthropic")])
    simulator.add_fault("server_error", protocol="openai")
    reply = router.send_one_shot("Hello", MODELS["openai"], fallback_models=[MODELS["gemini"]])
    assert [a["provider"] for a in reply["attempts"]] == ["openai", "openai", "gemini"]
    assert reply["model"] == MODELS["gemini"]


def test_without_a_fallback_no_other_model_answers(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("o"), key("g", "gemini")])
    simulator.add_fault("server_error", protocol="openai")
    reply = router.send_one_shot("Hello", MODELS["openai"])
    assert {attempt["provider"] for attempt in reply["attempts"]} == {"openai"}
    assert reply["error_type"] == "provider_unavailable"


def test_a_fallback_model_serves_when_the_preferred_one_is_full(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("o", rpm=1), key("g", "gemini")])
    replies = [
        router.send_one_shot("Hello", MODELS["openai"], fallback_models=[MODELS["gemini"]])
        for _ in range(2)
    ]
    assert [reply["key_id"] for reply in replies] == ["o", "g"]


def test_a_provider_that_nobody_registered_is_named_and_passed_over(
    make_router: MakeRouter,
) -> None:
    router = make_router(keys=[key("a", "nobody"), key("b", priority=1)])
    reply = router.send_one_shot("Hello")
    assert reply["key_id"] == "b"
    assert "no provider is called 'nobody'" in reply["attempts"][0]["error"]
    assert manager_of(router).get_key_status("a")["rpm"]["used"] == 0


def test_an_address_where_nobody_listens_is_passed_over_and_charged_nothing(
    make_router: MakeRouter,
) -> None:
    router = make_router(keys=[key("a", base_url="http://127.0.0.1:9"), key("b", priority=1)])
    assert tried(router.send_one_shot("Hello"))[0] == ("a", "provider_unavailable")
    assert manager_of(router).get_key_status("a")["rpm"]["used"] == 0


# -- a failure that may pass, while nothing else is free ---------------------------------------


def test_the_only_key_that_serves_is_tried_again_though_another_is_out_of_rotation(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=TWO)
    simulator.revoke("b")
    manager_of(router).mark_key_unhealthy("b", 100, "revoked")
    simulator.add_fault("server_error", key="a", times=1)
    assert tried(router.send_one_shot("Hello")) == [("a", "provider_unavailable"), ("a", "success")]


def test_the_only_key_with_room_is_tried_again_though_another_is_full(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a"), key("b", rpm=1, priority=1)])
    assert router.send_one_shot("Hello")["key_id"] == "a"
    manager_of(router).mark_key_unhealthy("a", 0.05)
    wait_for(lambda: router.send_one_shot("Hello")["key_id"] == "b")
    wait_for(lambda: manager_of(router).get_key_status("a")["available"])
    simulator.add_fault("server_error", key="a", times=1)
    assert tried(router.send_one_shot("Hello")) == [("a", "provider_unavailable"), ("a", "success")]


def test_the_only_key_large_enough_is_tried_again_though_another_is_too_small(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", tpm=100_000), key("b", tpm=10, priority=1)])
    simulator.add_fault("server_error", key="a", times=1)
    assert tried(router.send_one_shot("Hello")) == [("a", "provider_unavailable"), ("a", "success")]


def test_what_cools_down_is_told_to_whoever_watches(
    make_router: MakeRouter, simulator: SimulatedProvider, events: list[Event]
) -> None:
    router = make_router(keys=TWO)
    simulator.add_fault("rate_limit_exceeded", times=1, retry_after=20)
    router.send_one_shot("Hello")
    (cooled,) = [event for event in events if isinstance(event, KeyCooledDown)]
    assert (cooled.provider, cooled.state) == ("openai", "throttled")
    assert cooled.subject.endswith("a")
    assert cooled.seconds == 20
    assert secret_of("a") not in cooled.reason
