"""What is changed of keys at run time, as Redis keeps it for all processes.

Nobody asks for it: every reservation tells a number that moves with each change
(`lua/reserve.lua`), and only when it has moved is the rest read. What was never changed costs
nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from redis.exceptions import RedisError

from core.errors import ConfigurationError
from core.events import KeysRejected, emit
from core.redis_calls import Calls
from keys.places import Places
from keys.registry import KeyRegistry
from keys.schema import parse_keys
from keys.spec import KeySpec
from lua.lifecycle_calls import Known, known_commands, read_known
from lua.limiter_types import Shard

LOOK_SECONDS = 1.0
"""A process that finds no key for a request asks at most so often whether one was registered."""

RUN_TIME = "registered at run time"
"""Stands for a file's name where an entry of Redis is wrong."""


class RuntimeKeys:
    """Puts into the registry what was registered and revoked, and tells whose secret was rotated.
    Safe under threads.

    Args:
        calls: gives the commands on the Redis of the limits.
        clustered: whether each provider has a shard of its own.

    Attributes:
        generation: moves whenever something new was put in force.
    """

    def __init__(
        self,
        calls: Callable[[], Calls],
        clustered: bool,
        registry: KeyRegistry,
        places: Places,
    ) -> None:
        self._calls = calls
        self.clustered = clustered
        self._registry = registry
        self._places = places
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}
        self._versions: Mapping[str, int] = {}
        self._revoked: Mapping[str, int] = {}
        self._on_rotation: list[Callable[[str], None]] = []
        self._next_look = float("-inf")
        self._begun = False
        self.generation = 0

    def on_rotation(self, forget: Callable[[str], None]) -> None:
        """Call `forget` with the id of each key whose secret was rotated."""
        self._on_rotation.append(forget)

    def version_of(self, key: KeySpec) -> int:
        """How often the key's secret was rotated, as far as this process knows."""
        return self._versions.get(key.key_id, 0)

    @property
    def revoked(self) -> Mapping[str, int]:
        """When (Unix ms) keys were revoked, by key id."""
        return self._revoked

    def notice(self, shard: Shard, changes: int) -> None:
        """A reservation told this number: read what was changed if it is not the one known."""
        known = self._known.get(shard.tag)
        if changes != (known.changes if known else 0):
            try:
                self.refresh()
            except RedisError:
                return  # the next reservation tells it again

    def begin(self) -> None:
        """Read it once, before this process's first request."""
        if not self._begun:
            self._begun = True
            with suppress(RedisError):  # the request itself tells what is wrong
                self.refresh()

    def look(self) -> bool:
        """`refresh`, but at most once a second."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_SECONDS
        return self.refresh()

    def refresh(self) -> bool:
        """Read what was changed. Returns whether anything was new.

        Raises:
            redis.exceptions.RedisError: whatever Redis reports.
        """
        with self._lock:
            shards = {shard.tag: shard for shard in map(self._places.shard, self.providers())}
            replies = self._calls().call_many(
                [command for shard in shards.values() for command in known_commands(shard)]
            )
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
            pairs = zip(replies[::2], replies[1::2], strict=True)
            known = {tag: read_known(*pair) for tag, pair in zip(shards, pairs, strict=True)}
            if known == self._known:
                return False
            rotated = self._take(known)
        for key_id in rotated:
            for forget in self._on_rotation:
                forget(key_id)
        return True

    def providers(self) -> Collection[str]:
        """Whose keys there are, or were registered; on one server any of them stands for all."""
        providers = {key.provider for key in self._registry.every_key()}
        if self.clustered:  # each provider's keys lie on a shard of their own
            providers.update(self._calls().call("SMEMBERS", self._places.registered()))
        return providers or {"openai"}

    def _take(self, known: dict[str, Known]) -> list[str]:
        """Put it in force. Returns whose secret was rotated."""
        versions: dict[str, int] = {}
        revoked: dict[str, int] = {}
        specs: dict[str, KeySpec] = {}
        for one in known.values():
            versions.update(one.versions)
            revoked.update(one.revoked)
            for key_id, text in one.specs.items():
                spec = _spec_of(text)
                if spec is not None:
                    specs[key_id] = spec
        rotated = [key_id for key_id, n in versions.items() if n != self._versions.get(key_id, 0)]
        self._versions, self._revoked, self._known = versions, revoked, known
        self.generation += 1
        self._registry.share(specs, revoked)
        return rotated


def _spec_of(text: str) -> KeySpec | None:
    try:
        (spec,) = parse_keys(json.dumps({"keys": [json.loads(text)]}), path=RUN_TIME)
    except (ConfigurationError, ValueError) as error:
        # Written by a newer version, perhaps: the other keys go on.
        emit(KeysRejected(RUN_TIME, str(error)))
        return None
    return spec
