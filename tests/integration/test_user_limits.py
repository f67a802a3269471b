"""Limits of users in a whole router: what a reply says, and that a refusal costs no key a thing."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis as redis_py
from prometheus_client import REGISTRY

from core.errors import ConfigurationError, InvalidRequest, StorageError
from core.events import Event, UserRefused
from core.redis_connection import RedisConnection, shared_redis
from core.settings import get_settings
from core.types import ProviderReply, Usage
from keys.manager import get_key_manager
from keys.rate_limiter import RateLimiter, build_rate_limiter, get_rate_limiter
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry
from llm.router import RequestRouter
from lua.loader import load
from lua.names import Names
from lua.user_limit_calls import Allowance
from tests.conftest import MakeSettings
from tests.integration.routers import MakeRouter, key, manager_of, wait_for
from tests.servers import PlainServer

BOTH_ROUTERS = True


class Echo:
    """A provider in this process; it counts its calls."""

    calls = 0

    def send(self, call: ProviderCall) -> ProviderReply:
        Echo.calls += 1
        return ProviderReply("Hi!", call.model, "stop", Usage(5, 2))

    def close(self) -> None:
        pass


@pytest.fixture
def make(make_router: MakeRouter) -> Callable[..., RequestRouter]:
    """Makes routers over keys of `Echo`."""
    Echo.calls = 0
    registry = ProviderRegistry()
    registry.register("echo", Echo)

    def make_one(**settings: Any) -> RequestRouter:
        keys = [key(name, "echo", rpm=5000) for name in "ab"]
        return make_router(keys=keys, providers=registry, **settings)

    return make_one


def limiter_of(router: RequestRouter) -> RateLimiter:
    return router._parts.driver.limiter


def scripts_run(monkeypatch: pytest.MonkeyPatch, router: RequestRouter) -> list[list[str]]:
    """A list for each trip to Redis from now on: the digests of its scripts."""
    connection: RedisConnection = router._parts.redis
    trips: list[list[str]] = []
    call, call_many, tell = connection.call, connection.call_many, connection.tell

    def one(*words: Any) -> Any:
        trips.append([words[1]])
        return call(*words)

    def many(commands: Any) -> Any:
        trips.append([command[1] for command in commands])
        return call_many(commands)

    def told(command: Any, heard: Any) -> None:
        trips.append([command[1]])
        tell(command, heard)

    monkeypatch.setattr(connection, "call", one)
    monkeypatch.setattr(connection, "call_many", many)
    monkeypatch.setattr(connection, "tell", told)
    return trips


def test_a_user_who_hammers_costs_the_pool_nothing(
    make: Callable[..., RequestRouter], monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    router = make(user_rpm_default=1, user_burst_default=3)
    router.send_one_shot("Hello", user_id="warm")
    counter = "request_router_rate_limited_total", {"source": "user"}
    before = REGISTRY.get_sample_value(*counter) or 0.0
    trips = scripts_run(monkeypatch, router)
    Echo.calls = 0
    with ThreadPoolExecutor(8) as pool:
        replies = list(
            pool.map(lambda _: router.send_one_shot("Hello", user_id="eve"), range(1000))
        )
    assert Counter(reply.get("error_type", "success") for reply in replies) == {
        "success": 3,
        "user_rate_limited": 997,
    }
    names = {load(name).sha: name for name in ("user_limits", "reserve", "settle")}
    assert Counter(names[sha] for trip in trips for sha in trip) == {
        "user_limits": 1000,
        "reserve": 3,
        "settle": 3,
    }
    assert Echo.calls == 3
    used = sum(status["rpm"]["used"] for status in manager_of(router).get_all_key_statuses())
    assert used == 4, "the warm one and the three"
    assert sum(isinstance(event, UserRefused) for event in events) == 997
    assert REGISTRY.get_sample_value(*counter) == before + 997
    assert router.send_one_shot("Hello", user_id="bo")["success"], "others are served meanwhile"


def test_the_reply_tells_when_to_come_back(make: Callable[..., RequestRouter]) -> None:
    router = make(user_rpm_default=30, user_burst_default=1)
    assert router.send_one_shot("Hello", user_id="bo")["success"]
    reply = router.send_one_shot("Hello", user_id="bo", max_wait=30)
    assert reply["error_type"] == "user_rate_limited"
    assert 0 < reply["retry_after"] <= 2
    assert "user 'bo'" in reply["error"]
    assert reply["attempts"] == []
    threading.Event().wait(reply["retry_after"])
    assert router.send_one_shot("Hello", user_id="bo")["success"]


def test_all_users_together_have_a_limit(make: Callable[..., RequestRouter]) -> None:
    router = make(global_rpm_max=1, global_burst_max=3)
    users = ["bo", "eve", None, "bo", None]
    replies = [router.send_one_shot("Hello", user_id=user) for user in users]
    assert [reply["success"] for reply in replies] == [True] * 3 + [False] * 2
    assert all("all users together" in reply["error"] for reply in replies[3:])


def test_a_refused_turn_of_a_chat_leaves_the_history_as_it_was(
    make: Callable[..., RequestRouter],
) -> None:
    router = make(user_rpm_default=1)
    assert router.send_chat("c", "One", "bo")["success"]
    reply = router.send_chat("c", "Two", "bo")
    assert reply["error_type"] == "user_rate_limited"
    assert reply["conversation_id"] == "c"
    history = router._parts.driver.conversations.get_history("c")
    assert [message["content"] for message in history] == ["One", "Hi!"]


def test_trips_to_redis(
    make: Callable[..., RequestRouter], monkeypatch: pytest.MonkeyPatch
) -> None:
    free, limited, shared = make(), make(user_rpm_default=1000), make(global_rpm_max=1000)
    for router, one_shot, anonymous in ((free, 2, 2), (limited, 3, 2), (shared, 3, 3)):
        router.send_chat("warm", "Hello", "bo")
        trips = scripts_run(monkeypatch, router)
        assert router.send_one_shot("Hello", user_id="bo")["success"]
        assert len(trips) == one_shot
        trips.clear()
        assert router.send_one_shot("Hello")["success"]
        assert len(trips) == anonymous
        trips.clear()
        assert router.send_chat("c", "Hello", "bo")["success"]
        assert len(trips) == 3
        assert load("load_conversation").sha in trips[0]


def test_a_chat_survives_a_flush_of_the_scripts(
    make: Callable[..., RequestRouter], redis: redis_py.Redis
) -> None:
    router = make(user_rpm_default=1000)
    redis.script_flush()
    assert router.send_chat("c", "Hello", "bo")["success"]


def test_a_limit_of_ones_own_is_seen_by_all_routers(make: Callable[..., RequestRouter]) -> None:
    here, there = make(user_rpm_default=1), make(user_rpm_default=1)
    limiter_of(here).set_user_limit("vip", rpm=6, burst=4)
    assert limiter_of(there).get_user_limit("vip") == Allowance(6, 4)
    assert limiter_of(there).get_user_limit("bo") == Allowance(1, 1)
    replies = [there.send_one_shot("Hello", user_id="vip") for _ in range(5)]
    assert [reply["success"] for reply in replies] == [True] * 4 + [False]
    assert limiter_of(there).clear_user_limit("vip")
    assert limiter_of(here).get_user_limit("vip") == Allowance(1, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("", 1), "user_id"),
        ((7, 1), "user_id"),
        (("\ud800", 1), "user_id"),
        (("bo", 0), "rpm"),
        (("bo", True), "rpm"),
        (("bo", 1.5), "rpm"),
        (("bo", 1, 0), "burst"),
        (("bo", 10**10), "rpm"),
    ],
)
def test_wrong_limits_are_refused(
    redis_server: RedisConnection, arguments: Any, named: str
) -> None:
    limiter = RateLimiter(redis_server, Names("llm"), each_user=Allowance(1, 1))
    with pytest.raises(InvalidRequest, match=named):
        limiter.set_user_limit(*arguments)


def test_a_limit_that_nobody_would_read_is_refused(redis_server: RedisConnection) -> None:
    with pytest.raises(ConfigurationError, match="USER_RPM_DEFAULT or GLOBAL_RPM_MAX"):
        RateLimiter(redis_server, Names("llm")).set_user_limit("bo", 1)


@pytest.mark.parametrize("name", ["user_burst_default", "global_burst_max"])
def test_a_burst_without_its_rate_is_refused(make: Callable[..., RequestRouter], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{name.upper()} is 5, but"):
        make(**{name: 5})


def test_the_burst_is_the_rate_where_it_is_not_set(
    redis_server: RedisConnection, settings: MakeSettings
) -> None:
    limiter = build_rate_limiter(settings(user_rpm_default=7), redis_server)
    assert limiter.get_user_limit("bo") == Allowance(7, 7)


def test_without_redis_the_limits_are_a_typed_refusal(
    make: Callable[..., RequestRouter], tmp_path: Any, redis_server: RedisConnection
) -> None:
    with PlainServer(tmp_path / "gone") as server:
        router = make(user_rpm_default=9, redis_url=server.url, llm_on_redis_down="fail")
        assert router.send_one_shot("Hello", user_id="bo")["success"]
        server.kill()
        assert router.send_one_shot("Hello", user_id="bo")["error_type"] == "redis_unavailable"
        assert router.send_chat("c", "Hi", "bo")["error_type"] == "conversation_unavailable"
        with pytest.raises(StorageError):
            limiter_of(router).set_user_limit("bo", 5)
        server.start()
        wait_for(lambda: router.send_one_shot("Hello", user_id="bo")["success"])


def test_a_limit_that_cannot_be_written_refuses_a_chat_as_well(
    make: Callable[..., RequestRouter], redis: redis_py.Redis
) -> None:
    router = make(user_rpm_default=9)
    redis.hset(Names("llm").user_bucket("bo"), "not", "a string")
    reply = router.send_chat("c", "Hello", "bo")
    assert reply["error_type"] == "redis_unavailable"
    assert Echo.calls == 0


def test_the_limiter_of_the_process_is_that_of_the_settings(
    redis: object, settings: MakeSettings, redis_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_DATA_DIR", str(redis_folder))
    monkeypatch.setenv("USER_RPM_DEFAULT", "4")
    made = (get_settings, shared_redis, get_key_manager, get_rate_limiter)
    for cached in made:
        cached.cache_clear()
    try:
        assert get_rate_limiter() is get_rate_limiter()
        assert get_rate_limiter().get_user_limit("bo") == Allowance(4, 4)
    finally:
        shared_redis().close()
        for cached in made:
            cached.cache_clear()
