"""Which node of a Redis Cluster serves which slot, as its nodes tell it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from core.redis_calls import Command
from core.redis_urls import Address

_WITH_KEYS_COUNTED = frozenset({"EVAL", "EVALSHA"})
_WITHOUT_KEY = frozenset({"CLIENT", "CLUSTER", "CONFIG", "INFO", "PING", "PUBLISH", "SCRIPT"})

Ask = Callable[[Address], Any]
"""Gives a node's answer to CLUSTER SLOTS."""


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


class SlotMap:
    """The owner of each slot. Read at the first question, and again when it proves wrong.

    Without locks: threads that find it wrong at the same time all read it, and the last one wins;
    a node that is asked for a slot that it does not serve says so.

    Args:
        named: the nodes of `REDIS_URL`.
        ask: may raise what a connection raises.
        learned: is told all nodes that are known, whenever the map was read.
    """

    def __init__(
        self, named: Sequence[Address], ask: Ask, learned: Callable[[set[Address]], None]
    ) -> None:
        self._named = tuple(named)
        self._ask = ask
        self._learned = learned
        self._owners: list[Address | None] = []
        self._doubted: Address | None = None

    def owner(self, slot: int) -> Address:
        """The node that serves a slot.

        Raises:
            redis.ConnectionError: no node serves it, or none answers.
        """
        doubted, self._doubted = self._doubted, None
        if doubted is not None or not self._owners or self._owners[slot] is None:
            self.read_again(but_last=doubted)
        owner = self._owners[slot]
        if owner is None:
            raise redis.ConnectionError(f"no node of the cluster serves slot {slot}")
        return owner

    def moved(self, slot: int, address: Address) -> None:
        """A node said that this slot is served there: ask there for the others as well."""
        self._read([address, *self._known()])
        self._owners[slot] = address

    def doubt(self, address: Address) -> None:
        """This node hangs: before the next command the others are asked who serves what."""
        self._doubted = address

    def read_again(self, but_last: Address | None = None) -> Address:
        """Read the map, and return the node that answered.

        Args:
            but_last: the node to ask after all others.

        Raises:
            redis.ConnectionError: no node answers.
        """
        addresses = self._known()
        if but_last in addresses:
            addresses.remove(but_last)
            addresses.append(but_last)
        return self._read(addresses)

    def _known(self) -> list[Address]:
        """The owners in random order; then the named ones, in case all the others have moved."""
        known = [address for address in dict.fromkeys(self._owners) if address is not None]
        random.shuffle(known)
        return list(dict.fromkeys([*known, *self._named]))

    def _read(self, addresses: Iterable[Address]) -> Address:
        why = "none is known"
        for address in addresses:
            try:
                ranges = self._ask(address)
            except (redis.ConnectionError, redis.TimeoutError) as error:
                why = str(error)
                continue
            owners: list[Address | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
            for first, last, (host, port, *_), *_replicas in ranges:
                # A node that does not know its own name is where it was asked.
                owner = Address(host if host not in (None, "", "?") else address.host, port)
                owners[first : last + 1] = [owner] * (last - first + 1)
            self._owners = owners
            self._learned({address, *self._named, *(owner for owner in owners if owner)})
            return address
        raise redis.ConnectionError(f"no node of the cluster answers: {why}")
