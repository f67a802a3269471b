"""Commands that are watched: what fails, and what a server forgot, is told to whom it concerns.

A server that was restarted or replaced has an empty cache of scripts, so its first EVALSHA is
answered with NOSCRIPT: that tells it before anything is decided there, and costs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import redis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    NoScriptError,
    RedisError,
    TryAgainError,
)

from core.redis_calls import Argument, Calls, Command, Heard

_OUT_OF_REACH = (redis.ConnectionError, redis.TimeoutError)
_OF_THE_MOMENT = (NoScriptError, AskError, TryAgainError, ClusterDownError)  # MovedError is an Ask
_OUT_OF_SERVICE = re.compile(
    r"(?:^|[\s-])(?:OOM|READONLY|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|CLUSTERDOWN|BUSY)\b"
)


class StateLost(RedisError):
    """The server is not the one that it was: what was charged last may be lost."""


class OutOfService(redis.ConnectionError):
    """Redis is known to be away; it was not even asked."""


def out_of_service(error: BaseException) -> bool:
    """Whether an error means that Redis cannot do its work now, for whomever.

    It is out of reach, is full, takes no writes or is loading; not so an error of one command, or
    what it does not allow.

    Example:
        >>> out_of_service(redis.ResponseError("OOM command not allowed"))
        True
        >>> out_of_service(redis.ResponseError("WRONGTYPE Operation against a key"))
        False
    """
    if isinstance(error, _OUT_OF_REACH):
        return True
    known = isinstance(error, redis.ReadOnlyError | redis.OutOfMemoryError)
    return known or bool(_OUT_OF_SERVICE.search(str(error)))


def may_pass(error: BaseException) -> bool:
    """Whether the same command may succeed later: Redis is in trouble, has forgotten the script, or
    its cluster is moving the slot.

    Example:
        >>> may_pass(redis.exceptions.MovedError("3999 127.0.0.1:6381"))
        True
    """
    return isinstance(error, _OF_THE_MOMENT) or out_of_service(error)


class Watcher(Protocol):
    """Who is told.

    Attributes:
        away: why Redis is not asked now; None while it is.
    """

    away: str | None

    def failed(self, error: RedisError) -> None:
        """A command failed."""

    def forgotten(self) -> None:
        """The server forgot a script that is watched.

        Raises:
            StateLost: it forgot more than that.
        """


class WatchedCalls:
    """The commands of `redis`, watched.

    Args:
        scripts: digests of the scripts whose being forgotten is told.
    """

    def __init__(self, redis: Calls, watcher: Watcher, scripts: frozenset[str]) -> None:
        self._redis = redis
        self._watcher = watcher
        self._scripts = scripts

    def call(self, *args: Argument) -> Any:
        """The reply to one command. See `RedisConnection.call`."""
        if self._watcher.away is not None:
            raise OutOfService(self._watcher.away)
        try:
            return self._redis.call(*args)
        except NoScriptError:
            if args[1] in self._scripts:
                self._watcher.forgotten()
            raise
        except RedisError as error:
            self._watcher.failed(error)
            raise

    def call_many(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to several commands. See `RedisConnection.call_many`."""
        if self._watcher.away is not None:
            raise OutOfService(self._watcher.away)
        try:
            replies = self._redis.call_many(commands)
        except RedisError as error:
            self._watcher.failed(error)
            raise
        for index, reply in enumerate(replies):
            if isinstance(reply, RedisError):
                replies[index] = self._judged(commands[index], reply)
        return replies

    def tell(self, command: Command, heard: Heard) -> None:
        """Send one command and go on. See `RedisConnection.tell`."""
        if self._watcher.away is not None:
            raise OutOfService(self._watcher.away)

        def understood(reply: Any) -> None:
            # A connection that was lost, or a script that was forgotten, is asked after by whoever
            # sends the next command: nothing is asked here, in the middle of another exchange.
            if isinstance(reply, redis.ResponseError) and not isinstance(reply, _OF_THE_MOMENT):
                self._watcher.failed(reply)
            heard(reply)

        try:
            self._redis.tell(command, understood)
        except RedisError as error:
            self._watcher.failed(error)
            raise

    def hear(self) -> None:
        """Read what idle connections owe. See `RedisConnection.hear`."""
        self._redis.hear()

    def close(self) -> None:
        """Nothing: the connections are another's."""

    def _judged(self, command: Command, error: RedisError) -> RedisError:
        if not isinstance(error, NoScriptError):
            self._watcher.failed(error)
        elif command[1] in self._scripts:
            try:
                self._watcher.forgotten()
            except StateLost as lost:
                return lost
        return error
