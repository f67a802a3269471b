"""Reads a `REDIS_URL` that names several nodes, and holds what every connection is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, parse_url
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

URL_FORMS = (
    "redis://[user:password@]host:6379/0, redis+cluster://host:6379,host:6379, "
    "redis+sentinel://host:26379,host:26379/service/0, rediss in their place for TLS, "
    "or unix:///path"
)
"""What a `REDIS_URL` may look like, for people."""

_MAX_CONNECTIONS = 10_000


class Address(NamedTuple):
    """Where a node listens.

    Example:
        >>> str(Address("::1", 6379))
        '[::1]:6379'
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class NodesUrl:
    """A URL with several nodes, taken apart.

    Args:
        path: the parts of the path, decoded.
        options: how to connect to any of the nodes: user, password, TLS and the query's options.
        connection_class: redis-py's, with or without TLS.
    """

    nodes: tuple[Address, ...]
    path: tuple[str, ...]
    options: Mapping[str, Any]
    connection_class: type[Any]

    def __repr__(self) -> str:
        return f"<NodesUrl {', '.join(map(str, self.nodes))}>"


def read_nodes_url(url: str, default_port: int) -> NodesUrl:
    """Take `redis+kind://[user:password@]host[:port],.../path?option=value` apart.

    Raises:
        ValueError: the URL is wrong. Its message may hold the password: do not show it.
    """
    parts = urlsplit(url)
    secure = "s" if parts.scheme.startswith("rediss") else ""
    login, at, hosts = parts.netloc.rpartition("@")
    nodes, options = [], {}
    for host in hosts.split(","):
        node = f"redis{secure}://{login}{at}{host}/?{parts.query}"
        options = parse_url(node)  # type: ignore[no-untyped-call]
        if "host" not in options:
            raise ValueError("a host is missing")
        nodes.append(Address(options.pop("host"), options.pop("port", default_port)))
    return NodesUrl(
        nodes=tuple(nodes),
        path=tuple(unquote(part) for part in parts.path.strip("/").split("/") if part),
        connection_class=options.pop("connection_class", Connection),
        options=options,
    )


def pool_options(timeout: float) -> dict[str, Any]:
    """The options of every pool of connections; `timeout` is in seconds."""
    return {
        "decode_responses": True,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "max_connections": _MAX_CONNECTIONS,
        # One more try at once where the connection dropped, none after a timeout.
        "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        "health_check_interval": 0,
        "protocol": 2,
        "driver_info": None,
    }


def no_maintenance() -> MaintNotificationsConfig:
    """Notices of maintenance come unasked for; what reads the socket itself cannot have them."""
    return MaintNotificationsConfig(enabled=False)
