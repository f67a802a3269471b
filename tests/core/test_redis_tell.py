"""`RedisConnection.tell`: sent at once, heard later, never lost in silence."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_py
from redis.exceptions import NoScriptError

from core.bridge import on_task
from core.redis_connection import RedisConnection
from core.redis_watch import WatchedCalls
from tests.servers import PlainServer


@pytest.fixture
def other(server: PlainServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


def test_what_is_told_is_heard_before_the_next_reply(connection: RedisConnection) -> None:
    heard: list[Any] = []
    connection.tell(("INCR", "n"), heard.append)
    assert heard == []
    assert connection.call("GET", "n") == "1"
    assert heard == [1]
    connection.tell(("INCR", "n"), heard.append)
    assert connection.call_many([("GET", "n"), ("PING",)]) == ["2", "PONG"]
    assert heard == [1, 2]


def test_one_after_the_other_is_told_on_one_connection(
    connection: RedisConnection, other: redis_py.Redis
) -> None:
    heard: list[Any] = []
    for _ in range(50):
        connection.tell(("INCR", "n"), heard.append)
    assert heard == list(range(1, 50))
    assert len(other.client_list()) == 2  # ours, and the one that looks


def test_it_is_run_though_nothing_follows(
    connection: RedisConnection, other: redis_py.Redis
) -> None:
    connection.tell(("SET", "told", "yes"), lambda reply: None)
    assert other.get("told") == "yes"


def test_an_error_is_heard_and_spares_the_next_command(connection: RedisConnection) -> None:
    heard: list[Any] = []
    connection.call("SET", "text", "x")
    connection.tell(("INCR", "text"), heard.append)
    assert connection.call("PING") == "PONG"
    assert isinstance(heard[0], redis_py.ResponseError)


def test_it_is_heard_when_the_connection_is_closed(connection: RedisConnection) -> None:
    heard: list[Any] = []
    connection.tell(("ECHO", "last"), heard.append)
    connection.close()
    assert heard == ["last"]
    with pytest.raises(redis_py.ConnectionError):
        connection.tell(("ECHO", "after"), heard.append)
    assert heard == ["last"]


def test_a_dropped_connection_costs_nothing_that_was_told(
    connection: RedisConnection, other: redis_py.Redis
) -> None:
    heard: list[Any] = []
    other.client_kill_filter(_id=str(connection.call("CLIENT", "ID")))
    connection.tell(("INCR", "n"), heard.append)
    assert connection.call("PING") == "PONG"
    told_again = [type(reply) for reply in heard] == [redis_py.ConnectionError]
    assert told_again or heard == [1], "sent into a closed connection, or on a new one"


def test_a_dead_redis_is_heard(connection: RedisConnection, server: PlainServer) -> None:
    heard: list[Any] = []
    server.freeze()
    connection.tell(("INCR", "n"), heard.append)
    server.kill()
    with pytest.raises(redis_py.ConnectionError):
        connection.call("PING")
    assert [type(reply) for reply in heard] == [redis_py.ConnectionError]
    with pytest.raises(redis_py.ConnectionError):
        connection.tell(("INCR", "n"), heard.append)
    assert len(heard) == 1, "what could not be sent is raised, not heard"


def test_a_redis_that_does_not_answer_is_heard_and_raised(
    connection: RedisConnection, server: PlainServer
) -> None:
    heard: list[Any] = []
    connection.call("PING")
    server.freeze()
    try:
        connection.tell(("INCR", "n"), heard.append)
        with pytest.raises(redis_py.TimeoutError):
            connection.call("PING")
    finally:
        server.thaw()
    assert [type(reply) for reply in heard] == [redis_py.ConnectionError]
    assert connection.call("PING") == "PONG"


def test_a_frozen_redis_does_not_hold_up_a_close_for_long(
    connection: RedisConnection, server: PlainServer
) -> None:
    heard: list[Any] = []
    connection.call("PING")
    server.freeze()
    try:
        connection.tell(("INCR", "n"), heard.append)
        connection.close()
    finally:
        server.thaw()
    assert [type(reply) for reply in heard] == [redis_py.ConnectionError]


INCR = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n"


def owing(connection: RedisConnection, count: int, heard: list[Any]) -> None:
    """So many idle connections that owe a reply, as after so many threads at once."""
    calls: Any = connection.calls
    links = [calls._take() for _ in range(count)]
    for link in links:
        link.tell(INCR, heard.append)
    calls._idle.extend(links)


def test_what_idle_connections_owe_is_heard_when_asked_for(connection: RedisConnection) -> None:
    heard: list[Any] = []
    owing(connection, 8, heard)
    connection.call("PING")
    assert len(heard) == 1, "of the connection that was used"
    connection.hear()
    assert sorted(heard) == list(range(1, 9))
    connection.hear()
    assert len(heard) == 8
    assert connection.call("GET", "n") == "8"


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_all_that_is_owed_is_waited_for_once(
    connection: RedisConnection, server: PlainServer, how: str
) -> None:
    heard: list[Any] = []
    connection.call("PING")
    owing(connection, 8, heard)
    connection.hear()
    del heard[:]
    server.freeze()
    try:
        calls: Any = connection.calls
        for link in calls._idle:
            link.tell(INCR, heard.append)
        began = time.monotonic()
        if how == "closed":
            connection.close()
        else:
            calls._drop_idle()
        assert time.monotonic() - began < (1.0 if how == "closed" else 0.2)
    finally:
        server.thaw()
    assert [type(reply) for reply in heard] == [redis_py.ConnectionError] * 8


def test_a_forked_child_leaves_the_reply_to_its_parent(connection: RedisConnection) -> None:
    heard: list[Any] = []
    connection.tell(("ECHO", "parent"), heard.append)
    child = os.fork()
    if child == 0:
        fine = connection.call("ECHO", "child") == "child" and heard == []
        os._exit(0 if fine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert connection.call("ECHO", "x") == "x"
    assert heard == ["parent"]


def test_threads_hear_all_that_they_told(connection: RedisConnection) -> None:
    heard: list[Any] = []

    def work(name: int) -> None:
        for number in range(200):
            connection.tell(("ECHO", f"{name}.{number}"), heard.append)
            assert connection.call("ECHO", str(number)) == str(number)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    connection.close()
    assert sorted(heard) == sorted(f"{n}.{m}" for n in range(8) for m in range(200))


def test_a_task_waits_for_the_reply(connection: RedisConnection) -> None:
    heard: list[Any] = []

    async def tell() -> None:
        await on_task(connection.tell, ("ECHO", "task"), heard.append)
        assert heard == ["task"]
        await on_task(connection.leave_loop)

    asyncio.run(tell())


class _Watcher:
    away: str | None = None

    def __init__(self) -> None:
        self.failures: list[Exception] = []

    def failed(self, error: redis_py.RedisError) -> None:
        self.failures.append(error)

    def forgotten(self) -> None:
        raise AssertionError("nothing is asked in the middle of another exchange")


def test_who_watches_is_told_what_the_server_said_and_not_of_a_lost_connection(
    connection: RedisConnection, server: PlainServer
) -> None:
    watcher = _Watcher()
    heard: list[Any] = []
    calls = WatchedCalls(connection, watcher, frozenset({"0" * 40}))
    calls.tell(("EVALSHA", "0" * 40, 0), heard.append)
    calls.call("SET", "text", "x")
    assert [type(reply) for reply in heard] == [NoScriptError]
    calls.tell(("INCR", "text"), heard.append)
    calls.call("PING")
    assert [str(error) for error in watcher.failures] == [str(heard[1])]
    server.freeze()
    calls.tell(("INCR", "n"), heard.append)
    server.kill()
    server.start()
    assert calls.call("PING") == "PONG"
    assert isinstance(heard[2], redis_py.ConnectionError)
    assert len(watcher.failures) == 1
