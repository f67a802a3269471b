"""Which errors mean that Redis is away, and who is told."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError, NoScriptError, RedisError

from core.redis_watch import OutOfService, StateLost, WatchedCalls, out_of_service

AWAY = [
    redis.ConnectionError("refused"),
    redis.TimeoutError("late"),
    redis.BusyLoadingError("Redis is loading the dataset in memory"),
    redis.ReadOnlyError("You can't write against a read only replica."),
    redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'"),
    redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
    redis.ResponseError("MISCONF Errors writing to the AOF file"),
    redis.ResponseError("Error running script (call to f_1): @user_script:3: -OOM command not"),
]
HERE = [
    NoPermissionError("this user has no permissions to run the 'evalsha' command"),
    redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    NoScriptError("No matching script."),
    redis.DataError("a command takes str"),
    StateLost("another epoch"),
]


class Watcher:
    def __init__(self, lost: bool = False) -> None:
        self.away: str | None = None
        self.failures: list[RedisError] = []
        self.lost = lost

    def failed(self, error: RedisError) -> None:
        self.failures.append(error)

    def forgotten(self) -> None:
        if self.lost:
            raise StateLost("lost")


class Scripted:
    """Gives what it was told to, or raises it."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)

    def call(self, *args: Any) -> Any:
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def call_many(self, commands: Any) -> list[Any]:
        return [self.replies.pop(0) for _ in commands]

    def close(self) -> None:
        pass


def watched(watcher: Watcher, *replies: Any) -> WatchedCalls:
    return WatchedCalls(Scripted(*replies), watcher, frozenset({"known"}))


@pytest.mark.parametrize("error", AWAY, ids=str)
def test_redis_is_away(error: RedisError) -> None:
    assert out_of_service(error)


@pytest.mark.parametrize("error", HERE, ids=str)
def test_redis_is_not_away(error: RedisError) -> None:
    assert not out_of_service(error)


def test_a_redis_that_is_known_to_be_away_is_not_asked() -> None:
    watcher = Watcher()
    watcher.away = "gone"
    calls = watched(watcher)
    for act in (lambda: calls.call("PING"), lambda: calls.call_many([("PING",)])):
        with pytest.raises(OutOfService, match="gone"):
            act()


def test_failures_are_told() -> None:
    watcher, error = Watcher(), redis.ConnectionError("refused")
    with pytest.raises(redis.ConnectionError):
        watched(watcher, error).call("PING")
    full = redis.OutOfMemoryError("full")
    assert watched(watcher, "PONG", full).call_many([("PING",), ("SET", "a", 1)]) == ["PONG", full]
    assert watcher.failures == [error, full]


def test_a_forgotten_script_may_mean_that_more_was_forgotten() -> None:
    missing = NoScriptError("No matching script.")
    with pytest.raises(NoScriptError):
        watched(Watcher(), missing).call("EVALSHA", "known")
    with pytest.raises(StateLost):
        watched(Watcher(lost=True), missing).call("EVALSHA", "known")
    with pytest.raises(NoScriptError):
        watched(Watcher(lost=True), missing).call("EVALSHA", "a conversation's")
    commands = [("EVALSHA", "known"), ("EVALSHA", "a conversation's")]
    first, second = watched(Watcher(lost=True), missing, missing).call_many(commands)
    assert isinstance(first, StateLost)
    assert isinstance(second, NoScriptError)
