"""No key is ever sent more than its limits allow, and nearly all of it is used."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from keys.policies import Need
from keys.selection import Selection
from keys.spec import KeySpec
from llm.router import RequestRouter
from tests.integration.routers import (
    MakeRouter,
    key,
    limit,
    manager_of,
    secret_of,
    wait_for,
)
from tests.providers.dialects import OPENAI
from tests.providers.scripted import Reply, ScriptedServer
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True


def at_once(router: RequestRouter, number: int, **arguments: Any) -> list[Any]:
    with ThreadPoolExecutor(min(number, 16)) as pool:
        sent = [pool.submit(router.send_one_shot, "Hello", **arguments) for _ in range(number)]
        return [future.result() for future in sent]


def outcomes(replies: list[Any]) -> list[str]:
    return sorted(reply.get("error_type", "success") for reply in replies)


def refusals(simulator: SimulatedProvider) -> dict[str, int]:
    """What the provider refused, by key and reason; an empty dict is what we promise."""
    keys = simulator.report()["keys"]
    return {name: found["refused"] for name, found in keys.items() if found["refused"]}


def test_of_many_requests_at_once_as_many_are_sent_as_the_limit_allows(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", rpm=7)])
    limit(simulator, "a", rpm=7)
    replies = at_once(router, 30)
    assert outcomes(replies) == ["rate_limited"] * 23 + ["success"] * 7
    assert refusals(simulator) == {}
    assert simulator.report()["totals"]["overshoot"] == 0


def test_the_limits_of_several_keys_add_up(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", rpm=3), key("b", rpm=5), key("c", rpm=4, priority=1)])
    for name, rpm in (("a", 3), ("b", 5), ("c", 4)):
        limit(simulator, name, rpm=rpm)
    assert outcomes(at_once(router, 15)).count("success") == 12
    assert refusals(simulator) == {}


def test_keys_of_one_quota_group_share_its_limit(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    team = [key(name, rpm=5, tpm=100_000, quota_group="team") for name in "abc"]
    router = make_router(keys=team)
    for name in "abc":
        limit(simulator, name, rpm=5, group="team")
    assert outcomes(at_once(router, 12)).count("success") == 5
    assert refusals(simulator) == {}
    assert {s["rpm"]["used"] for s in manager_of(router).get_all_key_statuses()} == {5}


@pytest.mark.parametrize(
    ("provider", "tpm", "sent", "admitted"),
    [
        ("openai", 1000, 12, 10),  # max_output_tokens, of which nothing is given back
        ("anthropic", 200, 9, 7),  # input and output: 108 are reserved, 15 are used
        ("gemini", 40, 19, 17),  # input alone: 8 are reserved, 2 are used
    ],
)
def test_tokens_a_minute_are_counted_as_the_provider_counts_them(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    provider: str,
    tpm: int,
    sent: int,
    admitted: int,
) -> None:
    router = make_router(keys=[key("a", provider, tpm=tpm)])
    limit(simulator, "a", tpm=tpm)
    arguments: dict[str, Any] = {"max_output_tokens": 100, "expected_completion_tokens": 100}
    if provider == "openai":
        arguments["expected_completion_tokens"] = 50
    replies = [router.send_one_shot("Hello", **arguments) for _ in range(sent)]
    assert outcomes(replies).count("success") == admitted
    assert refusals(simulator) == {}
    assert simulator.report()["totals"]["overshoot"] == 0


def test_output_tokens_are_held_while_they_are_produced(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", "anthropic", otpm=100)])
    limit(simulator, "a", otpm=100)
    simulator.add_fault("latency", seconds=0.3)
    replies = at_once(router, 6, max_output_tokens=40)
    assert outcomes(replies).count("success") == 2, "two might produce 80 of 100"
    assert manager_of(router).get_key_status("a")["otpm"]["used"] == 26


def test_output_that_was_not_produced_is_given_back(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", "anthropic", otpm=100)])
    replies = [router.send_one_shot("Hello", max_output_tokens=40) for _ in range(6)]
    assert outcomes(replies) == ["rate_limited"] + ["success"] * 5, "5 times 13, and 40 held"


@pytest.mark.parametrize(("provider", "zone"), [("openai", UTC), ("gemini", "America/Los_Angeles")])
def test_a_days_requests_come_back_when_the_providers_day_ends(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, zone: Any
) -> None:
    router = make_router(keys=[key("a", provider, rpd=3)])
    limit(simulator, "a", rpd=3)
    replies = [router.send_one_shot("Hello") for _ in range(4)]
    assert outcomes(replies) == ["rate_limited"] + ["success"] * 3
    assert refusals(simulator) == {}
    now = datetime.now(ZoneInfo(zone) if isinstance(zone, str) else zone)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), now.tzinfo)
    left = midnight.timestamp() - now.timestamp()
    assert replies[-1]["retry_after"] == pytest.approx(left, abs=5)


def test_a_days_tokens_are_limited_as_well(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", "gemini", tpd=25)])
    assert outcomes([router.send_one_shot("Hello") for _ in range(12)]).count("rate_limited") > 0
    assert (manager_of(router).get_key_status("a")["tpd"]["used"]) <= 25


def test_no_more_calls_are_under_way_than_max_parallel_allows(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", max_parallel=3)])
    limit(simulator, "a", max_parallel=3)
    simulator.add_fault("latency", seconds=0.05)
    replies = at_once(router, 16, max_wait=20)
    assert outcomes(replies) == ["success"] * 16
    assert simulator.report()["keys"]["a"]["concurrency_peak"] == 3
    assert refusals(simulator) == {}


def test_a_slot_of_max_parallel_is_free_again_after_any_end(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", max_parallel=1)], llm_max_retries=0)
    router.send_one_shot("Hello")
    for fault in ("server_error", "drop", "garbage", "content_filter", "hang"):
        simulator.add_fault(fault, times=1)
        assert not router.send_one_shot("Hello", timeout=0.3)["success"]
        assert manager_of(router).get_key_status("a")["parallel"]["used"] == 0
    assert router.send_one_shot("Hello")["success"]


def test_a_burst_window_spreads_the_requests_of_a_minute(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=180, burst_window_seconds=1)])
    replies = [router.send_one_shot("Hello") for _ in range(4)]
    assert [reply["success"] for reply in replies] == [True, True, True, False]
    assert 0 < replies[-1]["retry_after"] < 2


def test_a_request_that_no_key_could_ever_admit_is_told_so(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", tpm=100)])
    reply = router.send_one_shot("Hello " * 1000, max_wait=5)
    assert reply["error_type"] == "invalid_request"
    assert "retry_after" not in reply
    assert simulator.report()["totals"]["accepted"] == 0


# -- waiting for room --------------------------------------------------------------------------


def test_without_max_wait_a_full_pool_refuses_at_once_and_tells_when(
    make_router: MakeRouter,
) -> None:
    router = make_router(keys=[key("a", rpm=1)])
    assert router.send_one_shot("Hello")["success"]
    began = time.monotonic()
    reply = router.send_one_shot("Hello")
    assert time.monotonic() - began < 0.2
    assert reply["error_type"] == "rate_limited"
    assert 55 < reply["retry_after"] <= 61
    assert reply["attempts"] == []


@pytest.mark.parametrize("limits", [{"rpm": 2}, {"tpm": 220}], ids=["rpm", "tpm"])
def test_waiting_as_long_as_retry_after_says_succeeds_and_not_much_less(
    make_router: MakeRouter, limits: dict[str, int]
) -> None:
    router = make_router(keys=[key("a", **limits)], rate_window_seconds=0.8)
    arguments: dict[str, Any] = {"max_output_tokens": 100}
    router.send_one_shot("Hello", **arguments)
    time.sleep(0.2)
    router.send_one_shot("Hello", **arguments)
    refused = router.send_one_shot("Hello", **arguments)
    assert refused["error_type"] == "rate_limited"
    time.sleep(refused["retry_after"] / 2)
    assert not router.send_one_shot("Hello", **arguments)["success"]
    time.sleep(refused["retry_after"] / 2)
    assert router.send_one_shot("Hello", **arguments)["success"]


def test_retry_after_is_right_for_a_key_that_is_full_and_cooling_down(
    make_router: MakeRouter,
) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=1)
    router.send_one_shot("Hello")
    manager_of(router).mark_key_unhealthy("a", 0.1)
    refused = router.send_one_shot("Hello")
    time.sleep(refused["retry_after"])
    assert router.send_one_shot("Hello")["success"]


def test_retry_after_is_right_for_a_key_that_comes_back_from_a_cooldown(
    make_router: MakeRouter,
) -> None:
    router = make_router(keys=[key("a", rpm=4)], rate_window_seconds=2)
    manager_of(router).mark_key_unhealthy("a", 0.1)
    time.sleep(0.15)
    replies = [router.send_one_shot("Hello") for _ in range(6)]
    refused = next(reply for reply in replies if not reply["success"])
    time.sleep(refused["retry_after"])
    assert router.send_one_shot("Hello")["success"]


def test_a_daily_allowance_that_headers_tell_is_not_taken_for_the_minute_s(
    make_router: MakeRouter,
) -> None:
    # "10,000 a day, one comes back every 8.64 s": half of it was used since this morning.
    told = {
        "x-ratelimit-limit-requests": "10000",
        "x-ratelimit-remaining-requests": "5000",
        "x-ratelimit-reset-requests": "12h0m0s",
    }
    with ScriptedServer() as server:
        server.default = Reply(OPENAI.success, headers=told)
        entry = key("a", rpm=500, rpd=10_000, base_url=server.url)
        router = make_router(keys=[entry])
        replies = [router.send_one_shot("Hello") for _ in range(3)]
    assert outcomes(replies) == ["success"] * 3
    assert manager_of(router).get_key_status("a")["rpm"]["used"] == 3


def test_retry_after_is_the_first_opening_of_any_key(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1), key("b", rpm=1)], rate_window_seconds=1)
    router.send_one_shot("Hello")
    time.sleep(0.3)
    router.send_one_shot("Hello")
    refused = router.send_one_shot("Hello")
    assert refused["retry_after"] < 0.75
    time.sleep(refused["retry_after"])
    assert router.send_one_shot("Hello")["success"]


def test_with_max_wait_the_request_waits_for_room_and_succeeds(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=0.5)
    began = time.monotonic()
    router.send_one_shot("Hello")
    assert router.send_one_shot("Hello", max_wait=5)["success"]
    assert 0.5 <= time.monotonic() - began < 2


def test_a_max_wait_that_is_too_short_is_not_waited_for(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=10)
    router.send_one_shot("Hello")
    began = time.monotonic()
    reply = router.send_one_shot("Hello", max_wait=2)
    assert time.monotonic() - began < 0.5
    assert reply["error_type"] == "rate_limited"
    assert reply["retry_after"] > 2
    assert "beyond max_wait of 2 s" in reply["error"]


def test_who_waited_in_vain_learns_what_is_full_and_when_it_opens(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=1.5)
    router.send_one_shot("Hello")
    replies = at_once(router, 2, max_wait=2.2)
    assert outcomes(replies) == ["rate_limited", "success"]
    reply = next(reply for reply in replies if not reply["success"])
    assert 0 < reply["retry_after"] < 1.6
    assert "no key has room now: 1 full" in reply["error"]
    assert "max_wait of 2.2 s is over; the next opens in" in reply["error"]


def test_a_timeout_ends_the_wait(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=10)
    router.send_one_shot("Hello")
    began = time.monotonic()
    assert not router.send_one_shot("Hello", max_wait=60, timeout=0.4)["success"]
    assert time.monotonic() - began < 0.7


def test_many_that_wait_are_all_served_and_the_provider_refuses_none(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    # The provider's window is shorter by what a loaded machine may need from here to there; with
    # real minutes that is half a second.
    router = make_router(keys=[key("a", rpm=8)], rate_window_seconds=1.5)
    limit(simulator, "a", rpm=8, window_seconds=0.5)
    assert outcomes(at_once(router, 15, max_wait=20)) == ["success"] * 15
    assert refusals(simulator) == {}


def test_a_request_that_is_late_to_leave_is_counted_when_it_leaves(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    class SlowOnce:
        """A secret store, such as a vault, whose first answer takes most of a window."""

        def __init__(self) -> None:
            self.seconds = 0.8

        def fetch(self, key: KeySpec) -> SecretStr:
            seconds, self.seconds = self.seconds, 0.0
            time.sleep(seconds)
            return SecretStr(secret_of(key.key_id))

    router = make_router(keys=[key("a", rpm=1)], secret_store=SlowOnce(), rate_window_seconds=1.2)
    limit(simulator, "a", rpm=1, window_seconds=1.0)
    replies = [router.send_one_shot("Hello", max_wait=10) for _ in range(2)]
    assert outcomes(replies) == ["success"] * 2
    assert refusals(simulator) == {}


def served_in_order(router: RequestRouter, waiting: list[tuple[str, int]]) -> list[str]:
    """Begin these (name, priority) one after another while the pool is full; who ends when."""
    assert router.send_one_shot("Hello")["success"]
    served: list[str] = []

    def wait(name: str, priority: int) -> None:
        assert router.send_one_shot("Hello", max_wait=30, priority=priority)["success"]
        served.append(name)

    threads = [threading.Thread(target=wait, args=one) for one in waiting]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return served


def test_those_that_wait_are_served_first_come_first_served(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=0.5)
    waiting = [(name, 0) for name in "abcde"]
    assert served_in_order(router, waiting) == ["a", "b", "c", "d", "e"]


def test_of_those_that_wait_a_higher_priority_is_served_first(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=0.6)
    waiting = [("low", -1), ("normal", 0), ("high", 5)]
    assert served_in_order(router, waiting) == ["high", "normal", "low"]


# -- what heals --------------------------------------------------------------------------------


def test_what_a_dead_process_had_reserved_comes_back(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=0.5)
    manager = manager_of(router)
    manager.reserve(Need(10, 10, 10), Selection(), reservation_id="dead", lease_seconds=0.3)
    assert router.send_one_shot("Hello")["error_type"] == "rate_limited"
    wait_for(lambda: router.send_one_shot("Hello")["success"], 3)


def test_a_slot_that_a_dead_process_held_comes_back_when_its_lease_ends(
    make_router: MakeRouter,
) -> None:
    router = make_router(keys=[key("a", "anthropic", max_parallel=1, otpm=1000)])
    manager = manager_of(router)
    manager.reserve(Need(10, 10, 900), Selection(), reservation_id="dead", lease_seconds=0.3)
    assert manager.get_key_status("a")["otpm"]["used"] == 900
    assert router.send_one_shot("Hello", max_output_tokens=500)["error_type"] == "rate_limited"
    time.sleep(0.4)
    status = manager.get_key_status("a")
    assert (status["parallel"]["used"], status["otpm"]["used"]) == (0, 0)
    assert router.send_one_shot("Hello", max_output_tokens=500)["success"]
    assert manager.get_key_status("a")["otpm"]["used"] == 13
