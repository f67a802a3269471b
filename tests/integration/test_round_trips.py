"""How often a request goes to Redis: every trip is paid by every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_py

from core.redis_connection import RedisConnection
from llm.router import RequestRouter
from tests.integration.routers import MakeRouter, key, manager_of
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True


@pytest.fixture
def router(make_router: MakeRouter) -> RequestRouter:
    """Warm: its scripts are loaded, its plans are made."""
    warm = make_router(keys=[key(name, rpm=1000, max_parallel=9, rpd=9999) for name in "abc"])
    warm.send_one_shot("Hello")
    warm.send_chat("warm", "Hello", "bo")
    return warm


@pytest.fixture
def trips(router: RequestRouter, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each trip to Redis: how many commands went along."""
    counted: list[int] = []
    connection: RedisConnection = router._parts.redis

    def count(name: str, size: Callable[..., int]) -> None:
        whole = getattr(connection, name)

        def call(*arguments: Any) -> Any:
            counted.append(size(*arguments))
            return whole(*arguments)

        monkeypatch.setattr(connection, name, call)

    count("call", lambda *words: 1)
    count("call_many", len)
    count("tell", lambda command, heard: 1)
    return counted


def commands_while(client: redis_py.Redis, act: Callable[[], object]) -> list[str]:
    """What the server was asked by clients while `act` ran; not what scripts did inside."""
    seen = []
    with client.monitor() as monitor:
        act()
        client.echo("that was all")
        for command in monitor.listen():
            if command["command"].startswith("ECHO"):
                return seen
            name = command["command"].split()[0].upper()
            if command["client_type"] != "lua" and name != "PING":  # PING: is the server there?
                seen.append(name)
    raise AssertionError("the monitor ended")


def test_a_one_shot_makes_two_trips(router: RequestRouter, trips: list[int]) -> None:
    assert router.send_one_shot("Hello", user_id="bo")["success"]
    assert trips == [1, 1]


def test_a_turn_of_a_chat_makes_three_trips(router: RequestRouter, trips: list[int]) -> None:
    assert router.send_chat("c", "Hello", "bo", system_prompt="Be brief.")["success"]
    assert len(trips) == 3


def test_nothing_else_reaches_the_server(
    router: RequestRouter, redis: redis_py.Redis, make_router: MakeRouter
) -> None:
    router.send_one_shot("Hello")
    assert commands_while(redis, lambda: router.send_one_shot("Hello")) == ["EVALSHA"] * 2


def test_each_further_attempt_makes_two_more_trips(
    router: RequestRouter, trips: list[int], simulator: SimulatedProvider
) -> None:
    simulator.add_fault("server_error", times=1)
    assert len(router.send_one_shot("Hello")["attempts"]) == 2
    assert len(trips) == 4


def test_a_refusal_makes_one_trip(make_router: MakeRouter, redis: redis_py.Redis) -> None:
    router = make_router(keys=[key("a", rpm=1)])
    router.send_one_shot("Hello")
    router.send_one_shot("Hello")
    assert commands_while(redis, lambda: router.send_one_shot("Hello")) == ["EVALSHA"]


@pytest.mark.parametrize("arguments", [{"prompt": ""}, {"prompt": "Hello", "timeout": -1}])
def test_wrong_arguments_make_none(
    router: RequestRouter, trips: list[int], arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"prompt|timeout"):
        router.send_one_shot(**arguments)
    assert trips == []


def test_a_model_that_nobody_serves_makes_one_a_second_at_most(
    router: RequestRouter, trips: list[int]
) -> None:
    for _ in range(5):
        assert not router.send_one_shot("Hello", "no-such-model")["success"]
    assert len(trips) == 1, "was such a key registered meanwhile?"


def test_a_status_of_all_keys_makes_one_trip_a_provider_and_one_for_what_was_changed(
    make_router: MakeRouter, redis: redis_py.Redis
) -> None:
    router = make_router(keys=[key("a"), key("b"), key("g", "gemini")])
    statuses = manager_of(router).get_all_key_statuses
    statuses()
    assert len(commands_while(redis, statuses)) <= 2 + 2
