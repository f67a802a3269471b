"""Where each key's counters lie in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keys.selection import subjects_of
from lua.limiter_types import GroupKeys, LogKeys, Shard
from lua.names import Names

if TYPE_CHECKING:
    from keys.spec import KeySpec


class Places:
    """Where each key's counters lie in Redis.

    Args:
        clustered: each provider's limits on a shard of their own, else all on one.
    """

    def __init__(self, names: Names, *, clustered: bool = False) -> None:
        self._names = names
        self._clustered = clustered
        self._shards: dict[str, Shard] = {}
        self._groups: dict[tuple[str, str], GroupKeys] = {}
        self._logs: dict[tuple[str, ...], LogKeys] = {}

    def shard(self, provider: str) -> Shard:
        """What the groups of a provider's shard share."""
        shard = self._shards.get(provider)
        if shard is None:
            shard = self._shards[provider] = self._new_shard(provider)
        return shard

    def _new_shard(self, provider: str) -> Shard:
        tag = self._names.shard(provider, clustered=self._clustered)
        return Shard(
            tag=tag,
            health=self._names.health(tag),
            waiters=self._names.waiters(tag),
            deadlines=self._names.deadlines(tag),
            ratios=self._names.ratios(tag),
            routers=self._names.routers(tag),
            hears_all=not self._clustered,
            keys=self._names.keys(tag),
        )

    def group(self, key: KeySpec) -> GroupKeys:
        """The keys of a key's quota group."""
        found = self._groups.get((key.provider, key.group))
        if found is None:
            place = (self.shard(key.provider).tag, key.provider, key.group)
            names = self._names
            found = GroupKeys(names.group(*place), names.leases(*place), names.queue(*place))
            self._groups[key.provider, key.group] = found
        return found

    def logs(self, key: KeySpec) -> LogKeys:
        """Where the changes of a key's states are kept."""
        subjects = subjects_of(key)
        found = self._logs.get(subjects)
        if found is None:
            tag = self.shard(key.provider).tag
            kept = (subjects.key, subjects.group, subjects.service)
            found = self._logs[subjects] = LogKeys(*(self._names.log(tag, name) for name in kept))
        return found

    def registered(self) -> str:
        """On a cluster, the providers of registered keys."""
        return self._names.providers()

    def log_of(self, provider: str, subject: str) -> str:
        """Where the changes of one subject of a provider's shard are kept."""
        return self._names.log(self.shard(provider).tag, subject)

    def reservation(self, shard: Shard, reservation_id: str) -> str:
        """The record of a reservation."""
        return self._names.reservation(shard.tag, reservation_id)

    def channel(self, shard: Shard, process_id: str) -> str:
        """Where the waiters of a process are told of their turns."""
        return self._names.channel(shard.tag, process_id)
