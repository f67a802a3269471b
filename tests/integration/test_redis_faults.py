"""Redis forgets its scripts, dies, hangs and refuses; with `LLM_ON_REDIS_DOWN=fail` requests get a
typed answer, and it heals. What `local` makes of it is in test_redis_trouble.py."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from core.errors import StorageError
from core.events import ConversationNotSaved, Event, SettleFailed
from core.redis_connection import RedisConnection
from llm.router import RequestRouter
from tests.integration.routers import MakeRouter, key, manager_of, wait_for
from tests.servers import PlainServer
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PlainServer]:
    with PlainServer(tmp_path / "server") as plain:
        yield plain


@pytest.fixture
def admin(server: PlainServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def router(make_router: MakeRouter, server: PlainServer) -> RequestRouter:
    made = make_router(
        keys=[key("a", rpm=10_000, max_parallel=100), key("b", rpm=10_000)],
        redis_url=server.url,
        redis_timeout_seconds=0.5,
        llm_on_redis_down="fail",
    )
    assert made.send_one_shot("Hello")["success"]
    return made


def timed(router: RequestRouter, **arguments: Any) -> tuple[Any, float]:
    began = time.monotonic()
    reply = router.send_one_shot("Hello", **arguments)
    return reply, time.monotonic() - began


# -- scripts -----------------------------------------------------------------------------------


def test_scripts_that_redis_forgot_are_given_again(
    router: RequestRouter, admin: redis_py.Redis
) -> None:
    for _ in range(3):
        admin.script_flush()
        assert router.send_one_shot("Hello")["success"]
        admin.script_flush()
        assert router.send_chat("c", "Hello")["success"]
    admin.script_flush()
    assert len(manager_of(router).get_all_key_statuses()) == 2


def test_scripts_may_be_forgotten_at_any_moment_of_a_request(
    router: RequestRouter, admin: redis_py.Redis
) -> None:
    stop = threading.Event()

    def flush() -> None:
        while not stop.is_set():
            admin.script_flush()
            time.sleep(0.001)

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            turns = [pool.submit(router.send_chat, "c", f"turn {n}") for n in range(40)]
            replies = [turn.result() for turn in turns]
    finally:
        stop.set()
        flushing.join()
    assert all(reply["success"] for reply in replies)
    assert len(router._parts.driver.conversations.get_history("c")) == 80
    status = manager_of(router).get_all_key_statuses()
    assert sum(one["rpm"]["used"] for one in status) == 41
    assert [one["parallel"]["used"] for one in status] == [0, 0]


# -- death -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "reason"),
    [("fail", "; requests are refused"), ("local", "never learned how many share the limits")],
)
def test_a_router_that_began_without_redis_says_why_it_sends_nothing(
    make_router: MakeRouter, choice: str, reason: str
) -> None:
    made = make_router(keys=[key("a")], redis_url="redis://127.0.0.1:1", llm_on_redis_down=choice)
    assert made.send_one_shot("Hello")["error_type"] == "redis_unavailable"
    assert reason in made.health_check()["redis"]["reason"]


def test_a_dead_redis_is_a_typed_failure_at_once_and_a_living_one_serves_again(
    router: RequestRouter, server: PlainServer, simulator: SimulatedProvider
) -> None:
    server.kill()
    sent = simulator.report()["totals"]["accepted"]
    reply, took = timed(router)
    assert reply["error_type"] == "redis_unavailable"
    assert reply["attempts"] == []
    assert took < 1
    assert simulator.report()["totals"]["accepted"] == sent, "nothing is sent unreserved"
    server.start()
    wait_for(lambda: router.send_one_shot("Hello")["success"])


def test_without_its_history_a_chat_is_refused_with_an_error_of_its_own(
    router: RequestRouter, server: PlainServer
) -> None:
    assert router.send_chat("c", "Hello")["success"]
    server.kill()
    reply = router.send_chat("c", "Still there?")
    assert reply["error_type"] == "conversation_unavailable"
    assert reply["attempts"] == []


def test_health_says_that_redis_is_away_and_does_not_raise(
    router: RequestRouter, server: PlainServer
) -> None:
    server.kill()
    health = router.health_check()
    assert health["healthy"] is False
    for part in ("redis", "keys", "conversations"):
        assert health[part]["healthy"] is False
        assert health[part]["reason"]
    server.start()
    wait_for(lambda: router.health_check()["healthy"])


def test_a_crash_under_load_gives_answers_or_typed_failures_and_heals(
    router: RequestRouter, server: PlainServer
) -> None:
    outcomes: Counter[str] = Counter()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            reply = router.send_one_shot("Hello", timeout=3)
            outcomes[reply.get("error_type", "success")] += 1

    with ThreadPoolExecutor(6) as pool:
        sending = [pool.submit(send) for _ in range(6)]
        wait_for(lambda: outcomes["success"] > 20)
        server.kill()
        wait_for(lambda: outcomes["redis_unavailable"] > 5)
        server.start()
        before = outcomes["success"]
        wait_for(lambda: outcomes["success"] > before + 20)
        stop.set()
    for one in sending:
        one.result()
    assert set(outcomes) == {"success", "redis_unavailable"}


def test_an_answer_is_not_lost_when_redis_dies_before_it_is_settled(
    router: RequestRouter, server: PlainServer, simulator: SimulatedProvider, events: list[Event]
) -> None:
    simulator.add_fault("latency", seconds=1.0)
    with ThreadPoolExecutor(2) as pool:
        one_shot = pool.submit(router.send_one_shot, "Hello")
        chat = pool.submit(router.send_chat, "c", "Hello")
        wait_for(lambda: in_flight(simulator) == 2)
        server.kill()
        assert one_shot.result()["success"]
        assert chat.result()["success"]
    kinds = Counter(type(event) for event in events)
    assert kinds[SettleFailed] == 0, "it is told when Redis is back"
    assert kinds[ConversationNotSaved] == 1


def test_who_waits_for_room_while_redis_restarts_is_served_afterwards(
    make_router: MakeRouter, server: PlainServer
) -> None:
    router = make_router(
        keys=[key("a", rpm=1)],
        redis_url=server.url,
        redis_timeout_seconds=0.5,
        rate_window_seconds=3,
    )
    assert router.send_one_shot("Hello")["success"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(timed, router, max_wait=5)
        time.sleep(0.2)
        server.kill()
        server.start()
        reply, took = waiting.result()
    assert reply["success"], reply
    assert took < 4.5


def test_the_embedded_server_is_brought_back_with_its_data(
    make_router: MakeRouter, tmp_path: Path
) -> None:
    router = make_router(keys=[key("a", rpm=100)], llm_data_dir=tmp_path / "data")
    assert router.send_chat("c", "Hello")["success"]
    connection: RedisConnection = router._parts.redis
    info: Any = connection.client.info("server")
    os.kill(info["process_id"], signal.SIGKILL)
    reply = router.send_chat("c", "Still there?")
    assert reply["success"], reply
    history = router._parts.driver.conversations.get_history("c")
    assert [m["content"] for m in history][::2] == ["Hello", "Still there?"]


# -- hanging -----------------------------------------------------------------------------------


def test_a_redis_that_hangs_is_a_typed_failure_within_its_timeout(
    router: RequestRouter, server: PlainServer
) -> None:
    server.freeze()
    reply, took = timed(router)
    server.thaw()
    assert reply["error_type"] == "redis_unavailable"
    assert took < 1
    wait_for(lambda: router.send_one_shot("Hello")["success"], 3)


def test_the_deadline_of_a_request_holds_while_redis_hangs(
    make_router: MakeRouter, server: PlainServer
) -> None:
    router = make_router(keys=[key("a")], redis_url=server.url, redis_timeout_seconds=2)
    router.send_one_shot("Hello")
    server.freeze()
    reply, took = timed(router, timeout=0.5)
    server.thaw()
    assert not reply["success"]
    assert took < 0.8


def test_an_answer_is_given_in_time_though_redis_hangs_before_it_is_settled(
    make_router: MakeRouter, server: PlainServer, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a")], redis_url=server.url, redis_timeout_seconds=4)
    router.send_one_shot("Hello")
    simulator.add_fault("latency", seconds=1.0)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(timed, router, timeout=3.0)
        wait_for(lambda: in_flight(simulator) == 1)
        server.freeze()
        reply, took = sent.result()
    server.thaw()
    assert reply["success"]
    assert took < 3.3


# -- refusing ----------------------------------------------------------------------------------


def test_a_redis_that_takes_no_writes_is_a_typed_failure(
    router: RequestRouter, admin: redis_py.Redis, simulator: SimulatedProvider
) -> None:
    sent = simulator.report()["totals"]["accepted"]
    refuse_writes(admin, True)
    reply = router.send_one_shot("Hello")
    assert reply["error_type"] == "redis_unavailable"
    assert simulator.report()["totals"]["accepted"] == sent
    refuse_writes(admin, False)
    wait_for(lambda: router.send_one_shot("Hello")["success"])


def test_a_settlement_that_redis_refused_is_told_when_it_is_back(
    make_router: MakeRouter,
    server: PlainServer,
    admin: redis_py.Redis,
    simulator: SimulatedProvider,
    events: list[Event],
) -> None:
    router = make_router(
        keys=[key("a", "gemini", rpm=1, tpm=100)],
        redis_url=server.url,
        rate_window_seconds=20,
    )
    simulator.add_fault("latency", seconds=0.3, times=1)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(router.send_one_shot, "Hello")
        wait_for(lambda: in_flight(simulator) == 1)
        refuse_writes(admin, True)
        assert sent.result()["success"]
    refuse_writes(admin, False)
    assert SettleFailed not in [type(event) for event in events]
    wait_for(lambda: used_tokens(router) in range(8))  # reserved were 8
    assert router.send_one_shot("Hello")["error_type"] == "rate_limited"


def used_tokens(router: RequestRouter) -> int | None:
    """What Redis counts; None while it is away."""
    try:
        return manager_of(router).get_key_status("a")["tpm"]["used"]
    except StorageError:
        return None


def refuse_writes(admin: redis_py.Redis, refuse: bool) -> None:
    """Redis takes no writes while it has too few replicas."""
    admin.config_set("min-replicas-to-write", int(refuse))


def in_flight(simulator: SimulatedProvider) -> int:
    return sum(found["in_flight"] for found in simulator.report()["keys"].values())
