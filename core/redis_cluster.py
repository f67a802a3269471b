"""Commands on a Redis Cluster: each goes to the node that serves its key's slot.

The map of slots is read at the first command and again whenever a node says that a slot has moved,
or does not answer. While a slot is on its way from one node to another, or a cluster elects a new
master, a command is repeated until the timeout is over; to the caller that is a slow command.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from typing import Any

import redis
from redis.connection import Connection, ConnectionPool, SSLConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from core.redis_calls import Argument, Command, QuickCalls
from core.redis_urls import Address, no_maintenance, pool_options, read_nodes_url

_PAUSE = 0.02
_WITH_KEYS_COUNTED = frozenset({"EVAL", "EVALSHA"})
_WITHOUT_KEY = frozenset({"CLIENT", "CLUSTER", "CONFIG", "INFO", "PING", "PUBLISH", "SCRIPT"})
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
        self._named = tuple(nodes)
        self._connection_class = connection_class
        self._options = options
        self._patience = patience
        self._nodes: dict[Address, QuickCalls] = {}
        self._owners: list[Address | None] = []
        self._doubted: Address | None = None
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
            shares.setdefault(self._owner(slot_of(command)), []).append(index)
        for address, indexes in shares.items():
            found = self._share(address, [commands[index] for index in indexes])
            for index, reply in zip(indexes, found, strict=True):
                replies[index] = reply
        if replies and all(isinstance(reply, _OUT_OF_REACH) for reply in replies):
            raise replies[0]
        return replies

    def answering_node(self) -> Address:
        """A node that answers now, any one of them.

        Raises:
            redis.ConnectionError: none does.
        """
        return self._learn(self._known())

    def close(self) -> None:
        """Close the idle connections; one in use is closed when its command ends."""
        self._closed = True
        for node in list(self._nodes.values()):
            node.close()

    # -- inside --------------------------------------------------------------------------------

    def _run(self, command: Command) -> Any:
        """One command wherever the cluster sends it; an error that Redis tells is the value."""
        slot = slot_of(command)
        deadline = time.monotonic() + self._patience
        address, asking = self._owner(slot), False
        while True:
            try:
                reply = self._send(address, command, asking)
            except redis.TimeoutError:
                self._doubted = address  # not sent again; the next command asks who serves it
                raise
            except redis.ConnectionError as error:
                self._learn(self._known(but_last=address))
                owner = self._owner(slot)
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
                        self._moved(slot, address)
                else:
                    time.sleep(_PAUSE)
                    self._learn(self._known())
                    address = self._owner(slot)
            if time.monotonic() > deadline:
                raise redis.ConnectionError(f"the cluster does not serve slot {slot}: {reply}")

    def _share(self, address: Address, commands: list[Command]) -> list[Any]:
        try:
            replies = self._node(address).call_many(commands)
        except redis.TimeoutError as error:
            self._doubted = address
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

    def _owner(self, slot: int) -> Address:
        doubted, self._doubted = self._doubted, None
        if doubted is not None or not self._owners:
            self._learn(self._known(but_last=doubted))
        owner = self._owners[slot]
        if owner is None:
            self._learn(self._known())
            owner = self._owners[slot]
        if owner is None:
            raise redis.ConnectionError(f"no node of the cluster serves slot {slot}")
        return owner

    def _moved(self, slot: int, address: Address) -> None:
        self._learn([address, *self._known()])
        self._owners[slot] = address

    def _known(self, but_last: Address | None = None) -> list[Address]:
        """The addresses to ask, in random order; the named ones last, in case all have moved."""
        known = [address for address in dict.fromkeys(self._owners) if address is not None]
        random.shuffle(known)
        addresses = list(dict.fromkeys([*known, *self._named]))
        if but_last in addresses:
            addresses.remove(but_last)
            addresses.append(but_last)
        return addresses

    def _learn(self, addresses: Iterable[Address]) -> Address:
        """Read the map of slots from the first of these nodes that answers, and return it."""
        why = "none is known"
        for address in addresses:
            try:
                ranges = self._node(address).call("CLUSTER", "SLOTS")
            except _OUT_OF_REACH as error:
                why = str(error)
                continue
            owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, (host, port, *_), *_replicas in ranges:
                owner = Address(host if host not in (None, "", "?") else address.host, port)
                owners[first : last + 1] = [owner] * (last - first + 1)
            self._owners = owners
            self._forget_all_but({address, *self._named, *owners})
            return address
        raise redis.ConnectionError(f"no node of the cluster answers: {why}")

    def _forget_all_but(self, kept: set[Address | None]) -> None:
        for gone in [address for address in list(self._nodes) if address not in kept]:
            node = self._nodes.pop(gone, None)
            if node is not None:
                node.close()


def slot_of(command: Command) -> int:
    """The slot of a command's key; 0 for one without a key.

    Example:
        >>> slot_of(("GET", "llm:{openai}:health")) == slot_of(("GET", "{openai}"))
        True
    """
    name = str(command[0]).upper()
    if name in _WITH_KEYS_COUNTED:
        key = command[3] if int(command[2]) > 0 else None
    elif name in _WITHOUT_KEY or len(command) == 1:
        key = None
    else:
        key = command[1]
    if key is None:
        return 0
    return key_slot(key if isinstance(key, bytes) else str(key).encode())


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
