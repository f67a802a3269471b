"""Whatever a provider or the secret store does, under 32 threads: nothing is lost, no call outlives
its deadline, no key is punished for another's fault, and every reservation is settled."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis as redis_py
from pydantic import SecretStr

from core.errors import SecretStoreDown
from keys.spec import KeySpec
from llm.router import RequestRouter
from tests.integration.routers import MODELS, MakeRouter, key, manager_of, secret_of, wait_for
from tools.simulated_provider import SimulatedProvider
from tools.simulation.errors import TABLE
from tools.simulation.faults import TRANSPORT

THREADS = 32
SECONDS = 0.8
SHORT, LONG = 1.0, 20.0
"""Seconds that a call has: where something hangs, and where every call can be answered."""

ALLOWED_BEYOND = 0.1
"""Seconds by which a call may outlive its deadline, beside what the machine itself is late."""

KNOWN = {
    "rate_limited", "no_keys", "invalid_request", "context_too_long", "content_filtered",
    "auth_failed", "quota_exhausted", "provider_unavailable", "timeout", "secret_unavailable",
}  # fmt: skip
NAMED = [(provider, name) for provider, rows in TABLE.items() for name in rows]


@dataclass
class Load:
    """What 32 threads saw.

    Args:
        lateness: the seconds by which each call outlived its deadline; negative: in time.
        noise: the most by which the machine itself was late meanwhile, in seconds.
    """

    replies: list[Any] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    noise: float = 0.0

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(reply.get("error_type", "success") for reply in self.replies)


@contextmanager
def machines_noise(load: Load, redis: redis_py.Redis) -> Iterator[None]:
    """How late threads are done that only sleep and then ask Redis once, as a call whose time is
    over has to do, beside those that work."""
    stop = threading.Event()
    latest: list[float] = []

    def sleep() -> None:
        worst = 0.0
        while not stop.is_set():
            due = time.monotonic() + 0.02
            stop.wait(0.02)
            redis.ping()
            worst = max(worst, time.monotonic() - due)
        latest.append(worst)

    threads = [threading.Thread(target=sleep) for _ in range(8)]
    for thread in threads:
        thread.start()
    yield
    stop.set()
    for thread in threads:
        thread.join()
    load.noise = max(0.0, *latest)


def put_under_load(
    router: RequestRouter,
    meanwhile: Callable[[], None] = lambda: None,
    seconds: float = SECONDS,
    timeout: float = LONG,
    **request: Any,
) -> Load:
    load, lock = Load(), threading.Lock()
    end = time.monotonic() + seconds

    def send(number: int) -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            if number % 4 == 0:
                reply = router.send_chat(f"chat-{number}", "Hello", timeout=timeout, **request)
            else:
                reply = router.send_one_shot("Hello", timeout=timeout, **request)
            late = time.monotonic() - began - timeout
            with lock:
                load.replies.append(reply)
                load.lateness.append(late)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(THREADS)]
    with machines_noise(load, router._parts.redis.client):
        for thread in threads:
            thread.start()
        meanwhile()
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads), "a call never came back"
    return load


def check_calls(load: Load) -> None:
    assert load.replies
    strange = [r for r in load.replies if not r["success"] and r["error_type"] not in KNOWN]
    assert not strange, [(r["error_type"], r["error"], r["attempts"]) for r in strange]
    assert all(reply["success"] or reply["error"] for reply in load.replies)
    assert max(load.lateness) <= ALLOWED_BEYOND + load.noise


def check_all_is_settled(router: RequestRouter, redis: redis_py.Redis) -> None:
    """The counters prove it: nothing is held, nothing is under way, no record is open.

    A call whose time was over may leave its settlement to the process's next beat, a second later.
    """

    def unsettled() -> list[str]:
        names = list(redis.scan_iter("llm:*:reservation:*", count=1000))
        assert names
        return [name for name in names if not (redis.get(name) or "S").startswith("S")]

    wait_for(lambda: not unsettled(), 5)
    for status in manager_of(router).get_all_key_statuses():
        assert status["parallel"]["used"] == 0, status
    for name in redis.scan_iter("llm:*:group:*"):
        held = int(redis.hget(name, "m").split("|")[6])
        assert held == 0, f"{name} still holds output tokens"
    assert list(redis.scan_iter("llm:*:leases:*")) == []


def check_punished_alone(router: RequestRouter, well: list[str]) -> None:
    """Keys that met no fault have no change of state in their own or their group's name."""
    for name in well:
        own = [
            entry
            for entry in manager_of(router).history(name)
            if not entry["subject"].startswith("circuit of")
            or entry["subject"] == f"circuit of key {name}"
        ]
        assert own == [], f"{name} is punished for another's fault"


def three_of_each() -> list[dict[str, Any]]:
    held = {"max_parallel": 50, "otpm": 10_000_000}
    return [key(f"{provider}-{n}", provider, **held) for provider in MODELS for n in range(3)]


WELL = [f"{provider}-{n}" for provider in MODELS for n in (1, 2)]


@pytest.fixture
def router(make_router: MakeRouter, simulator: SimulatedProvider) -> RequestRouter:
    warm = make_router(keys=three_of_each(), llm_circuit_seconds=0.5, log_level="CRITICAL")
    for model in MODELS.values():
        assert warm.send_one_shot("Hello", model)["success"]
    return warm


@pytest.mark.parametrize("fault", sorted(TRANSPORT))
def test_a_key_that_breaks_in_one_way_harms_no_other(
    router: RequestRouter, simulator: SimulatedProvider, redis: redis_py.Redis, fault: str
) -> None:
    for provider in MODELS:
        simulator.add_fault(fault, key=f"{provider}-0")
    hangs = fault in ("hang", "stall")
    load = put_under_load(router, timeout=SHORT if hangs else LONG)
    check_calls(load)
    check_all_is_settled(router, redis)
    check_punished_alone(router, WELL)
    if hangs:
        assert set(load.outcomes) == {"success", "timeout"}
        assert max(load.lateness) > 0, "the deadline was what ended them"
    else:
        assert set(load.outcomes) == {"success"}, "nothing is lost where another key serves"


def test_keys_that_meet_every_named_error_harm_no_other(
    router: RequestRouter, simulator: SimulatedProvider, redis: redis_py.Redis
) -> None:
    back_at_once = {"invalid_request", "context_too_long", "content_filtered"}

    def break_them() -> None:
        for provider, name in NAMED:
            simulator.add_fault(name, key=f"{provider}-0", protocol=provider, times=3)  # type: ignore
            manager_of(router).enable(f"{provider}-0")
            time.sleep(SECONDS / len(NAMED))

    load = put_under_load(router, break_them, seconds=SECONDS + 1)
    check_calls(load)
    check_all_is_settled(router, redis)
    check_punished_alone(router, WELL)
    lost = [r for r in load.replies if not r["success"] and r["error_type"] not in back_at_once]
    regional = [r for r in lost if "unsupported_country" in r["error"]]
    assert lost == regional, "only what is the caller's, or the place's, goes back"


@pytest.mark.parametrize("fault", ["flap", "drop", "garbage", "html"])
def test_a_provider_that_breaks_as_a_whole_is_left_for_another(
    router: RequestRouter, simulator: SimulatedProvider, redis: redis_py.Redis, fault: str
) -> None:
    more = {"period": 40} if fault == "flap" else {}
    simulator.add_fault(fault, protocol="openai", **more)  # type: ignore[arg-type]
    models = [MODELS["openai"], MODELS["gemini"]]
    load = put_under_load(
        router, seconds=2 * SECONDS, model_preference=models[0], fallback_models=models[1:]
    )
    check_calls(load)
    check_all_is_settled(router, redis)
    check_punished_alone(router, [f"gemini-{n}" for n in range(3)])
    states = {s["key_id"]: s["state"] for s in manager_of(router).get_all_key_statuses()}
    assert set(states.values()) == {"available"}, "what may pass marks nobody"
    assert set(load.outcomes) == {"success"}
    attempts = sum(len(reply["attempts"]) for reply in load.replies)
    failed = sum(a["outcome"] != "success" for r in load.replies for a in r["attempts"])
    if fault != "flap":
        # Each thread may be on its way there when the circuits open; later ones are probes.
        assert failed < THREADS + attempts / 8, "load goes down where a provider fails"
    simulator.clear_faults()
    wait_for(lambda: router.send_one_shot("Hello", models[0])["key_id"], 5)


def test_everything_at_once_and_then_all_is_well_again(
    router: RequestRouter, simulator: SimulatedProvider, redis: redis_py.Redis
) -> None:
    passing = {
        "openai": ["server_error", "service_unavailable", "request_timeout", "conflict"],
        "anthropic": ["api_error", "overloaded_error", "timeout_error"],
        "gemini": ["INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"],
    }
    for kind in sorted(TRANSPORT):
        simulator.add_fault(kind, probability=0.04)
    for provider, names in passing.items():
        for name in names:
            simulator.add_fault(name, protocol=provider, probability=0.05)  # type: ignore[arg-type]
    load = put_under_load(router, timeout=SHORT)
    check_calls(load)
    check_all_is_settled(router, redis)
    assert load.outcomes["success"] > len(load.replies) / 2
    simulator.clear_faults()
    for model in MODELS.values():
        wait_for(lambda m=model: router.send_one_shot("Hello", m)["success"], 5)
    store = router._parts.driver.conversations
    for number in range(0, THREADS, 4):
        answered = [
            r for r in load.replies if r["success"] and r["conversation_id"] == f"chat-{number}"
        ]
        kept = store.get_history(f"chat-{number}", 10_000)
        assert len(kept) == 2 * len(answered), "each answered turn is kept, and no other"


class StoppableStore:
    """A secret store that says so, breaks or hangs while it is down."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.up = threading.Event()
        self.up.set()

    def fetch(self, key: KeySpec) -> SecretStr:
        if not self.up.is_set():
            if self.how == "says so":
                raise SecretStoreDown("the store is sealed")
            if self.how == "breaks":
                raise OSError("the store is gone")
            self.up.wait()
        return SecretStr(secret_of(key.key_id))


@pytest.mark.parametrize("stale_seconds", [60.0, 0.0])
@pytest.mark.parametrize("how", ["says so", "breaks", "hangs"])
def test_a_secret_store_that_stops_takes_nothing_with_it(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    redis: redis_py.Redis,
    how: str,
    stale_seconds: float,
) -> None:
    make_router(keys=three_of_each()).close()
    store = StoppableStore(how)
    router = make_router(
        secret_store=store,
        secret_cache_ttl_seconds=0.2,
        secret_stale_seconds=stale_seconds,
        log_level="CRITICAL",
    )
    for model in MODELS.values():
        assert router.send_one_shot("Hello", model)["success"]

    def stop_and_go_on() -> None:
        time.sleep(SECONDS / 3)
        store.up.clear()
        time.sleep(SECONDS / 3)
        store.up.set()

    served_from_cache = stale_seconds and how != "hangs"
    load = put_under_load(router, stop_and_go_on, timeout=LONG if served_from_cache else SHORT)
    check_calls(load)
    check_all_is_settled(router, redis)
    check_punished_alone(router, [f"{provider}-{n}" for provider in MODELS for n in range(3)])
    assert load.outcomes["success"] > 0
    if served_from_cache:
        assert set(load.outcomes) == {"success"}, "what is cached goes on serving"
    wait_for(lambda: all(router.send_one_shot("Hello", m)["success"] for m in MODELS.values()), 9)
