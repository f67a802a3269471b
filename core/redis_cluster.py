"""Commands on a Redis Cluster: each goes to the node that serves its key's slot.

The map of slots is read at the first command and again whenever a node says that a slot has moved,
or does not answer. While a slot is on its way from one node to another, or a cluster elects a new
master, a command is repeated until the timeout is over; to the caller that is a slow command.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import redis
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from core.bridge import sleep
from core.redis_calls import Argument, Command, Heard, QuickCalls
from core.redis_slots import SlotMap, slot_of
from core.redis_urls import Address, no_maintenance, pool_options, read_nodes_url

_PAUSE = 0.02
_REDIRECTED = (AskError, TryAgainError, ClusterDownError)  # MovedError is an AskError
_OUT_OF_REACH = (redis.ConnectionError, redis.TimeoutError)


class ClusterCalls:
    """The commands of a `RedisConnection` on a cluster. For threads and over fork.

    Args:
        nodes: some nodes of the cluster; the others are learned from them.
        connection_class: redis-py's, for TCP or TLS.
        options: how to connect to any node.
        patience: seconds to repeat a command while its slot is not served.
    """

    def __init__(
        self,
        nodes: Sequence[Address],
        connection_class: type[Any],
        options: dict[str, Any],
        patience: float,
    ) -> None:
        self._connection_class = connection_class
        self._options = options
        self._patience = patience
        self._nodes: dict[Address, QuickCalls] = {}
        self._slots = SlotMap(nodes, self._ask, self._keep)
        self._closed = False

    def call(self, *args: Argument) -> Any:
        """The reply to one command. See `RedisConnection.call`."""
        reply = self._run(args)
        if isinstance(reply, Exception):
            try:
                raise reply
            finally:
                del reply
        return reply

    def call_many(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to several commands, in one round trip for each node concerned.

        Where a node is out of reach, the error is the value of its commands alone; it is raised
        if no command at all had an answer. See `RedisConnection.call_many`.
        """
        replies: list[Any] = [None] * len(commands)
        shares: dict[Address, list[int]] = {}
        for index, command in enumerate(commands):
            shares.setdefault(self._slots.owner(slot_of(command)), []).append(index)
        for address, indexes in shares.items():
            found = self._share(address, [commands[index] for index in indexes])
            for index, reply in zip(indexes, found, strict=True):
                replies[index] = reply
        if replies and all(isinstance(reply, _OUT_OF_REACH) for reply in replies):
            raise replies[0]
        return replies

    def tell(self, command: Command, heard: Heard) -> None:
        """Send one command and go on; a slot that has moved is an error to be heard. See
        `RedisConnection.tell`."""
        self._node(self._slots.owner(slot_of(command))).tell(command, heard)

    def hear(self) -> None:
        """Read what idle connections owe. See `RedisConnection.hear`."""
        for node in list(self._nodes.values()):
            node.hear()

    def answering_node(self) -> Address:
        """A node that answers now, any one of them.

        Raises:
            redis.ConnectionError: none does.
        """
        return self._slots.read_again()

    def close(self) -> None:
        """Close the idle connections; one in use is closed when its command ends."""
        self._closed = True
        for node in list(self._nodes.values()):
            node.close()

    def leave_loop(self) -> None:
        """See `RedisConnection.leave_loop`."""
        for node in list(self._nodes.values()):
            node.leave_loop()

    # -- inside --------------------------------------------------------------------------------

    def _run(self, command: Command) -> Any:
        """One command wherever the cluster sends it; an error that Redis tells is the value."""
        slot = slot_of(command)
        deadline = time.monotonic() + self._patience
        address, asking = self._slots.owner(slot), False
        while True:
            try:
                reply = self._send(address, command, asking)
            except redis.TimeoutError:
                self._slots.doubt(address)  # not sent again; the next command asks who serves it
                raise
            except redis.ConnectionError as error:
                self._slots.read_again(but_last=address)
                owner = self._slots.owner(slot)
                if owner == address or self._closed:
                    raise
                reply, address, asking = error, owner, False
            else:
                if not isinstance(reply, _REDIRECTED):
                    return reply
                asking = False
                if isinstance(reply, AskError):
                    asking = not isinstance(reply, MovedError)
                    address = Address(reply.host or address.host, reply.port)
                    if not asking:
                        self._slots.moved(slot, address)
                else:
                    sleep(_PAUSE)
                    self._slots.read_again()
                    address = self._slots.owner(slot)
            if time.monotonic() > deadline:
                raise redis.ConnectionError(f"the cluster does not serve slot {slot}: {reply}")

    def _share(self, address: Address, commands: list[Command]) -> list[Any]:
        try:
            replies = self._node(address).call_many(commands)
        except redis.TimeoutError as error:
            self._slots.doubt(address)
            return [error] * len(commands)
        except redis.ConnectionError:
            return [self._value(command) for command in commands]
        return [
            self._value(command) if isinstance(reply, _REDIRECTED) else reply
            for command, reply in zip(commands, replies, strict=True)
        ]

    def _value(self, command: Command) -> Any:
        try:
            return self._run(command)
        except _OUT_OF_REACH as error:
            return error

    def _send(self, address: Address, command: Command, asking: bool) -> Any:
        if asking:
            return self._node(address).call_many([("ASKING",), command])[1]
        return self._node(address).call_many([command])[0]

    def _node(self, address: Address) -> QuickCalls:
        node = self._nodes.get(address)
        if node is None:
            pool = ConnectionPool(
                connection_class=self._connection_class,
                host=address.host,
                port=address.port,
                **self._options,
            )
            node = self._nodes.setdefault(address, QuickCalls(pool))
            if self._closed:
                node.close()
        return node

    def _ask(self, address: Address) -> Any:
        return self._node(address).call("CLUSTER", "SLOTS")

    def _keep(self, known: set[Address]) -> None:
        for gone in [address for address in list(self._nodes) if address not in known]:
            node = self._nodes.pop(gone, None)
            if node is not None:
                node.close()


class _OnSomeNode:
    """A connection to whichever node answers when it connects."""

    def __init__(self, *, calls: ClusterCalls, **options: Any) -> None:
        super().__init__(**options)
        self._calls = calls

    def _connect(self) -> Any:
        self.host, self.port = self._calls.answering_node()
        return super()._connect()  # type: ignore[misc]


class _SomeNode(_OnSomeNode, Connection):
    pass


class _SomeNodeWithTls(_OnSomeNode, SSLConnection):
    pass


def open_cluster(url: str, timeout: float) -> tuple[redis.Redis, ClusterCalls, str]:
    """Open `redis+cluster://`: a client on any one node, the commands, and the place in words.

    Raises:
        ValueError, TypeError: the URL is wrong. Its message may hold the password: do not show it.
    """
    read = read_nodes_url(url, default_port=6379)
    if read.path not in ((), ("0",)) or read.options.get("db"):
        raise ValueError("a cluster has database 0 alone")
    options = {
        **pool_options(timeout),
        "maint_notifications_config": no_maintenance(),
        **read.options,
    }
    calls = ClusterCalls(read.nodes, read.connection_class, options, timeout)
    secure = issubclass(read.connection_class, SSLConnection)
    pool = ConnectionPool(
        connection_class=_SomeNodeWithTls if secure else _SomeNode, calls=calls, **options
    )
    pool.connection_class(**pool.connection_kwargs)  # a wrong option shows here, not later
    client = redis.Redis.from_pool(pool)
    return client, calls, f"Redis Cluster at {', '.join(map(str, read.nodes))}"
