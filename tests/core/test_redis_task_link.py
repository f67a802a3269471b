"""The connection that the tasks of a loop share: in order, in time, and back after a loss."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from core.bridge import on_task
from core.deadlines import no_later_than
from core.redis_connection import RedisConnection, open_redis
from core.settings import Settings
from tests.servers import PlainServer
from tests.tls import TlsFront


def opened(url: str, **more: Any) -> RedisConnection:
    return open_redis(Settings(_env_file=None, redis_url=url, **more))


def clients(server: PlainServer) -> int:
    with redis.Redis.from_url(server.url) as client:
        return len(client.client_list())


def test_each_gets_its_own_reply_over_one_connection(tmp_path: Path) -> None:
    async def run(connection: RedisConnection) -> None:
        async def own(n: int) -> None:
            for _ in range(20):
                assert await on_task(connection.call, "ECHO", str(n)) == str(n)
                many = await on_task(connection.call_many, [("ECHO", f"{n}.{i}") for i in range(3)])
                assert many == [f"{n}.{i}" for i in range(3)]

        await asyncio.gather(*[own(n) for n in range(64)])

    with PlainServer(tmp_path) as server, opened(server.url) as connection:
        before = clients(server)
        asyncio.run(run(connection))
        assert clients(server) <= before + 1


def test_a_cancelled_task_leaves_no_reply_to_another(tmp_path: Path) -> None:
    async def run(connection: RedisConnection) -> None:
        await on_task(connection.call, "PING")
        for n in range(200):
            task = asyncio.create_task(on_task(connection.call, "ECHO", "lost"))
            if n % 2:
                await asyncio.sleep(0)
            task.cancel()
            assert await on_task(connection.call, "ECHO", str(n)) == str(n)
            await asyncio.gather(task, return_exceptions=True)

    with PlainServer(tmp_path) as server, opened(server.url) as connection:
        asyncio.run(run(connection))


def test_it_connects_again_after_the_server_was_restarted(tmp_path: Path) -> None:
    async def run(server: PlainServer, connection: RedisConnection) -> None:
        assert await on_task(connection.call, "PING") == "PONG"
        await asyncio.to_thread(server.kill)
        with pytest.raises(redis.ConnectionError):
            await on_task(connection.call, "PING")
        await asyncio.to_thread(server.start)
        assert await on_task(connection.call, "PING") == "PONG"

    with PlainServer(tmp_path) as server, opened(server.url) as connection:
        asyncio.run(run(server, connection))


def test_a_hanging_server_is_given_up_in_time_and_the_loop_goes_on(tmp_path: Path) -> None:
    async def run(server: PlainServer, connection: RedisConnection) -> None:
        assert await on_task(connection.call, "PING") == "PONG"
        server.freeze()
        try:
            began = time.monotonic()
            with pytest.raises(redis.TimeoutError):
                await on_task(connection.call, "PING")
            assert 0.2 < time.monotonic() - began < 2.0
            with no_later_than(time.monotonic() + 0.1), pytest.raises(redis.RedisError):
                await on_task(connection.call, "PING")
        finally:
            server.thaw()

    with PlainServer(tmp_path) as server, opened(server.url, redis_timeout_seconds=0.3) as made:
        asyncio.run(run(server, made))


def test_each_loop_has_a_connection_of_its_own(tmp_path: Path) -> None:
    with PlainServer(tmp_path) as server, opened(server.url) as connection:
        for _ in range(3):
            assert asyncio.run(on_task(connection.call, "PING")) == "PONG"
        assert connection.call("PING") == "PONG"


def test_a_large_command_and_a_large_reply_pass(tmp_path: Path) -> None:
    text = "x" * 3_000_000

    async def run(connection: RedisConnection) -> None:
        await asyncio.gather(*[on_task(connection.call, "SET", f"k{n}", text) for n in range(4)])
        assert await on_task(connection.call, "GET", "k3") == text

    with PlainServer(tmp_path) as server, opened(server.url) as connection:
        asyncio.run(run(connection))


def test_tasks_speak_tls_over_one_connection(tmp_path: Path) -> None:
    text = "ü" * 1_500_000

    async def run(front: TlsFront, connection: RedisConnection) -> None:
        async def own(n: int) -> None:
            for _ in range(20):
                assert await on_task(connection.call, "ECHO", str(n)) == str(n)
                many = await on_task(connection.call_many, [("ECHO", f"{n}.{i}") for i in range(3)])
                assert many == [f"{n}.{i}" for i in range(3)]

        await asyncio.gather(*[own(n) for n in range(64)])
        await asyncio.gather(*[on_task(connection.call, "SET", f"k{n}", text) for n in range(4)])
        large = [on_task(connection.call, "GET", f"k{n}") for n in range(4)]
        small = [own(n) for n in range(8)]
        found = await asyncio.gather(*large, *small)
        assert found[:4] == [text] * 4
        assert front.connections == 1

    with (
        PlainServer(tmp_path) as server,
        TlsFront(server.socket, tmp_path) as front,
        opened(front.url) as connection,
    ):
        asyncio.run(run(front, connection))


def test_over_tls_too_it_times_out_and_connects_again(tmp_path: Path) -> None:
    async def run(server: PlainServer, connection: RedisConnection) -> None:
        assert await on_task(connection.call, "PING") == "PONG"
        server.freeze()
        try:
            with pytest.raises(redis.TimeoutError):
                await on_task(connection.call, "PING")
        finally:
            server.thaw()
        assert await on_task(connection.call, "PING") == "PONG"
        await asyncio.to_thread(server.kill)
        with pytest.raises(redis.ConnectionError):
            await on_task(connection.call, "PING")
        await asyncio.to_thread(server.start)
        assert await on_task(connection.call, "PING") == "PONG"

    with (
        PlainServer(tmp_path) as server,
        TlsFront(server.socket, tmp_path) as front,
        opened(front.url, redis_timeout_seconds=0.5) as connection,
    ):
        asyncio.run(run(server, connection))


def test_a_certificate_that_nobody_signed_is_no_server_s(tmp_path: Path) -> None:
    async def run(connection: RedisConnection) -> None:
        with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
            await on_task(connection.call, "PING")

    with (
        PlainServer(tmp_path) as server,
        TlsFront(server.socket, tmp_path) as front,
        opened(front.url.partition("?")[0]) as connection,
    ):
        asyncio.run(run(connection))


def test_what_redis_refuses_is_raised_by_its_kind(redis_server: RedisConnection) -> None:
    async def run() -> None:
        with pytest.raises(redis.ResponseError):
            await on_task(redis_server.call, "NO-SUCH-COMMAND")
        assert await on_task(redis_server.call, "PING") == "PONG"

    asyncio.run(run())


def test_a_cluster_serves_tasks(cluster_redis: RedisConnection) -> None:
    async def run() -> None:
        async def own(n: int) -> None:
            await on_task(cluster_redis.call, "SET", f"key-{n}", str(n))
            assert await on_task(cluster_redis.call, "GET", f"key-{n}") == str(n)

        await asyncio.gather(*[own(n) for n in range(60)])

    asyncio.run(run())
