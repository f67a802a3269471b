"""Commands on the master that Redis Sentinel names; after a failover, on the new one."""

from __future__ import annotations

from typing import Any

import redis
from redis.connection import SSLConnection
from redis.sentinel import Sentinel, SentinelConnectionPool

from core.redis_calls import QuickCalls
from core.redis_urls import no_maintenance, pool_options, read_nodes_url

_SENTINELS_OWN = "sentinel_"


class SentinelCalls(QuickCalls):
    """The commands of a `RedisConnection` on a master; each new connection asks a sentinel first.

    Args:
        pool: it knows the sentinels.
        sentinel: closed with the calls.
    """

    def __init__(self, pool: SentinelConnectionPool, sentinel: Sentinel) -> None:
        super().__init__(pool)
        self._sentinel = sentinel

    def close(self) -> None:
        """Close the idle connections; one in use is closed when its command ends."""
        super().close()
        self._sentinel.close()

    def _run(self, packed: bytes, count: int) -> list[Any]:
        try:
            replies = super()._run(packed, count)
        except redis.TimeoutError:
            self._drop_idle()  # they all lead to the master that hangs
            raise
        if any(isinstance(reply, redis.ReadOnlyError) for reply in replies):
            # The master became a replica, and so wrote nothing: the new one is asked.
            self._drop_idle()
            replies = super()._run(packed, count)
        return replies


def open_sentinel(url: str, timeout: float) -> tuple[redis.Redis, SentinelCalls, str]:
    """Open `redis+sentinel://`: a client on the master, the commands, and the place in words.

    User and password are the master's; those of the sentinels are the options `sentinel_username`
    and `sentinel_password`.

    Raises:
        ValueError, TypeError: the URL is wrong. Its message may hold the password: do not show it.
    """
    read = read_nodes_url(url, default_port=26379)
    service, database = (*read.path, "0")[:2] if len(read.path) in (1, 2) else ("", "")
    if not service or not database.isdecimal():
        raise ValueError("the path is /service or /service/database")
    secure = issubclass(read.connection_class, SSLConnection)
    masters, sentinels = {"db": int(database), **pool_options(timeout)}, pool_options(timeout)
    for name, value in read.options.items():
        own = name.startswith(_SENTINELS_OWN)
        masters.update({} if own else {name: value})
        if own or name.startswith("ssl_"):
            sentinels[name.removeprefix(_SENTINELS_OWN)] = value
    sentinels.update(ssl=secure, maint_notifications_config=no_maintenance())
    masters.update(ssl=secure, maint_notifications_config=no_maintenance())
    sentinel = Sentinel(read.nodes, sentinel_kwargs=sentinels)  # type: ignore[no-untyped-call]
    pool = SentinelConnectionPool(service, sentinel, **masters)  # type: ignore[no-untyped-call]
    pool.connection_class(**pool.connection_kwargs)  # a wrong option shows here, not later
    client = redis.Redis.from_pool(pool)
    places = ", ".join(map(str, read.nodes))
    return client, SentinelCalls(pool, sentinel), f"Redis {service!r} of the sentinels at {places}"
