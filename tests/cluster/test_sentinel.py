"""A master, its replica and a sentinel: after a failover the router goes on by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis as redis_py
from redis.sentinel import SentinelConnectionPool

from core.bridge import on_task
from core.redis_connection import RedisConnection, open_redis
from core.redis_sentinel import SentinelCalls
from core.redis_urls import pool_options
from keys.outage import State
from tests.conftest import MakeSettings
from tests.constellations import AT_ONCE, Watched, until
from tests.integration.routers import TASKS, THREADS, MakeRouter, key, manager_of
from tests.servers import PlainServer

both_routers = pytest.mark.parametrize("make_router", [THREADS, TASKS], indirect=True)


@both_routers
def test_after_the_master_died_the_router_goes_on_with_the_same_counts(
    make_router: MakeRouter, tmp_path: Path
) -> None:
    with Watched(tmp_path / "watched") as watched:
        router = make_router(
            keys=[key("a", rpm=6)], redis_url=watched.url, llm_on_redis_down="fail"
        )
        assert [router.send_one_shot("Hello")["success"] for _ in range(3)] == [True] * 3
        assert router.send_chat("chat-1", "Hello", "alice")["success"]
        with redis_py.Redis.from_url(watched.master.url) as client:
            client.wait(1, 2000)
        watched.master.kill()
        began = time.monotonic()
        lost = router.send_one_shot("Hello")
        assert lost["error_type"] == "redis_unavailable"
        until(lambda: router.send_one_shot("Hello")["success"], "the replica's promotion", 15)
        assert time.monotonic() - began < 15
        outage = manager_of(router).outages()[0]
        until(lambda: outage.state is State.UP, "that Redis decides alone again", 20)
        assert router.send_chat("chat-1", "Hello", "alice")["success"]
        refused = router.send_one_shot("Hello")
        assert refused["error_type"] == "rate_limited", "the counts went along"
        store = router._parts.driver.conversations
        assert len(store.get_history("chat-1")) == 4


@both_routers
def test_what_was_admitted_during_a_failover_is_charged_to_the_new_master(
    make_router: MakeRouter, tmp_path: Path
) -> None:
    with Watched(tmp_path / "watched") as watched:
        router = make_router(keys=[key("a", rpm=8)], redis_url=watched.url)
        assert [router.send_one_shot("Hello")["success"] for _ in range(3)] == [True] * 3
        outage = manager_of(router).outages()[0]
        until(lambda: outage.routers == 1, "the first beat")
        watched.replica.freeze()  # what follows is lost with the master
        assert router.send_one_shot("Hello")["success"]
        watched.master.kill()
        watched.replica.thaw()
        assert router.send_one_shot("Hello")["success"], "within its share"
        assert router.send_chat("c", "Hi")["error_type"] == "conversation_unavailable"
        until(lambda: outage.state is State.UP, "the replica's promotion", 20)
        assert manager_of(router).get_key_status("a")["rpm"]["used"] == 5
        outcomes = [router.send_one_shot("Hello")["success"] for _ in range(4)]
        assert outcomes == [True] * 3 + [False]


def test_commands_and_news_follow_the_master(settings: MakeSettings, tmp_path: Path) -> None:
    with (
        Watched(tmp_path / "watched") as watched,
        open_redis(settings(redis_url=f"{watched.url}/2")) as connection,
    ):
        assert connection.description == (
            f"Redis 'routers' of the sentinels at 127.0.0.1:{watched.sentinel.port}"
        )
        assert not connection.clustered
        connection.call("SET", "a", "before")
        assert "db=2" in connection.call("CLIENT", "INFO")
        pubsub = connection.pubsub()
        pubsub.subscribe("news")
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        watched.master.kill()

        def heard() -> bool:
            try:
                connection.call("PUBLISH", "news", "hello")
                message = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1)
            except redis_py.ConnectionError:
                return False
            return message is not None and message["data"] == "hello"

        until(heard, "news of the new master", 15)
        assert connection.call("SET", "a", "after") == "OK"
        assert connection.call_many([("GET", "a"), ("PING",)]) == ["after", "PONG"]
        pubsub.close()


class Director:
    """Stands for the sentinels: it names the server that the test chose."""

    def __init__(self, server: PlainServer) -> None:
        self.master = server

    def discover_master(self, service: str) -> tuple[str, int]:
        return "127.0.0.1", self.master.port

    def close(self) -> None:
        pass


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[PlainServer, PlainServer]]:
    with (
        PlainServer(tmp_path / "old", tcp=True, options=AT_ONCE) as old,
        PlainServer(tmp_path / "new", tcp=True, options=AT_ONCE) as new,
    ):
        yield old, new


@pytest.fixture
def director(two: tuple[PlainServer, PlainServer]) -> Director:
    return Director(two[0])


@pytest.fixture
def calls(director: Director) -> Iterator[SentinelCalls]:
    pool = SentinelConnectionPool("any", director, **pool_options(0.3))
    made = SentinelCalls(pool, director)
    yield made
    made.close()
    pool.disconnect()


def test_a_master_that_became_a_replica_is_left_without_an_error(
    two: tuple[PlainServer, PlainServer], director: Director, calls: SentinelCalls
) -> None:
    old, new = two
    calls.call("SET", "a", "before")
    with redis_py.Redis.from_url(old.url) as client:
        client.replicaof("127.0.0.1", new.port)
    director.master = new
    with redis_py.Redis.from_url(new.url) as client:
        until(lambda: client.info("replication")["connected_slaves"] == 1, "the replica")
    assert calls.call("SET", "a", "after") == "OK"
    assert calls.call_many([("GET", "a"), ("SET", "b", 1)]) == ["after", "OK"]


def test_a_master_that_hangs_costs_one_timeout(
    two: tuple[PlainServer, PlainServer], director: Director, calls: SentinelCalls
) -> None:
    old, new = two
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: calls.call("SET", f"key-{n}", n), range(8)))
    old.freeze()
    director.master = new
    with pytest.raises(redis_py.TimeoutError):
        calls.call("SET", "a", "lost")
    assert calls.call("SET", "a", "after") == "OK"


def test_tasks_follow_the_master(settings: MakeSettings, tmp_path: Path) -> None:
    async def run(watched: Watched, connection: RedisConnection) -> None:
        async def writes(n: int) -> bool:
            try:
                return bool(await on_task(connection.call, "SET", f"key-{n}", str(n)) == "OK")
            except redis_py.RedisError:
                return False

        assert all(await asyncio.gather(*[writes(n) for n in range(32)]))
        assert "db=2" in await on_task(connection.call, "CLIENT", "INFO")
        await asyncio.to_thread(watched.master.kill)
        assert not any(await asyncio.gather(*[writes(n) for n in range(32)]))
        end = time.monotonic() + 15
        while not await writes(0):
            assert time.monotonic() < end, "the replica's promotion"
            await asyncio.sleep(0.05)
        assert all(await asyncio.gather(*[writes(n) for n in range(32)]))

    with (
        Watched(tmp_path / "watched") as watched,
        open_redis(settings(redis_url=f"{watched.url}/2")) as connection,
    ):
        asyncio.run(run(watched, connection))


def test_tasks_leave_a_master_that_became_a_replica_without_an_error(
    two: tuple[PlainServer, PlainServer], director: Director, calls: SentinelCalls
) -> None:
    old, new = two

    async def run() -> None:
        assert await on_task(calls.call, "SET", "a", "before") == "OK"
        with redis_py.Redis.from_url(old.url) as client:
            client.replicaof("127.0.0.1", new.port)
        director.master = new
        with redis_py.Redis.from_url(new.url) as client:
            until(lambda: client.info("replication")["connected_slaves"] == 1, "the replica")
        many = [on_task(calls.call, "SET", f"key-{n}", n) for n in range(64)]
        assert await asyncio.gather(*many) == ["OK"] * 64
        with redis_py.Redis.from_url(new.url, decode_responses=True) as client:
            ours = [c for c in client.client_list() if c["flags"] == "N" and c["cmd"] == "set"]
            assert len(ours) == 1, "one connection, however many tasks found the old master out"
            assert client.dbsize() == 64

    asyncio.run(run())


def test_tasks_lose_one_timeout_to_a_master_that_hangs(
    two: tuple[PlainServer, PlainServer], director: Director, calls: SentinelCalls
) -> None:
    old, new = two

    async def run() -> None:
        await on_task(calls.call, "SET", "a", "before")
        old.freeze()
        director.master = new
        lost = [on_task(calls.call, "SET", "a", "lost") for _ in range(16)]
        errors = await asyncio.gather(*lost, return_exceptions=True)
        assert all(isinstance(error, redis_py.TimeoutError) for error in errors)
        assert await on_task(calls.call, "SET", "a", "after") == "OK"

    asyncio.run(run())


def test_without_any_sentinel_the_error_tells_it_and_no_password(settings: MakeSettings) -> None:
    url = "redis+sentinel://:hunter2@127.0.0.1:1/service?sentinel_password=hunter2"
    with open_redis(settings(redis_url=url)) as connection:
        for attempt in (lambda: connection.call("PING"), connection.client.ping):
            with pytest.raises(redis_py.ConnectionError, match="No master found") as caught:
                attempt()
            assert "hunter2" not in str(caught.value)
        assert "hunter2" not in f"{connection!r}{connection.client!r}"
