"""The keys that a selection allows, packed for reserve.lua; and how a large pool is tried.

Up to 32 keys go to Redis in one call. Of a larger pool a few are drawn at random, then the others,
so that a call costs what it costs for a small pool while most keys have room. What a call passed
over is remembered for a moment, so that a pool of which most is cooling down costs no more.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from keys.places import Places
from keys.policies import Policy, policy_of
from keys.selection import Candidate, subjects_of
from lua.limiter_types import Geometry, GroupKeys, PassedOver, Refusal, Shard

if TYPE_CHECKING:
    from keys.spec import KeySpec

MAX_CANDIDATES = 32
"""So many keys are looked at in one call at most."""

FIRST_DRAW = 8
"""So many of a larger pool are looked at first: while there is room, one of them is taken."""

PASSED_OVER_BY_MARK = (Refusal.COOLING, Refusal.CIRCUIT)

MEMORY_SECONDS = 5.0
"""So long a cooldown is believed without asking; somebody may have ended it."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A candidate as reserve.lua takes it; `policy` is the index of its policy in the pool."""

    candidate: Candidate
    group: GroupKeys
    policy: int
    row: str


@dataclass(frozen=True)
class Plan:
    """Candidates of one shard in the order in which they are tried."""

    shard: Shard
    packed: tuple[Packed, ...]
    policies: tuple[Policy, ...]
    tiers: str

    @cached_property
    def groups(self) -> tuple[GroupKeys, ...]:
        """The candidates' groups."""
        return tuple(p.group for p in self.packed)

    @cached_property
    def group_keys(self) -> tuple[str, ...]:
        """The Redis keys of those groups in one run, as reserve.lua takes them."""
        return tuple(key for group in self.groups for key in group)

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """The candidates as reserve.lua takes them."""
        return tuple(p.row for p in self.packed)

    def key(self, index: int) -> KeySpec:
        """The key of a candidate."""
        return self.packed[index].candidate.key

    def only(self, index: int) -> Plan:
        """The same with one candidate alone."""
        return Plan(self.shard, (self.packed[index],), self.policies, "1")

    def index_of(self, key_field: str) -> int:
        """Which candidate has this field, "k:<key id>"."""
        return self._places[key_field]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {subjects_of(p.candidate.key).key: n for n, p in enumerate(self.packed)}


class Pool:
    """All candidates of one selection on one shard. Safe under threads.

    Args:
        candidates: the best tier first; at least one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        places: Places,
        geometry: Geometry,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        policies: list[Policy] = []
        packed = []
        for candidate in candidates:
            key = candidate.key
            policy = policy_of(key.provider, key.base_url)
            if policy not in policies:
                policies.append(policy)
            at = policies.index(policy)
            packed.append(Packed(candidate, places.group(key), at, _row(key, at, geometry)))
        self._packed = tuple(packed)
        self._policies = tuple(policies)
        self._shard = places.shard(candidates[0].key.provider)
        self._full_memory = 2 * geometry.slot_ms / 1000
        self._clock = clock
        self._whole = self._plan(self._packed) if len(packed) <= MAX_CANDIDATES else None
        self._blocked: dict[str, float] = {}
        self._open: tuple[Packed, ...] = self._packed
        self._open_until = float("inf")

    @property
    def shard(self) -> Shard:
        """Where all its counters lie."""
        return self._shard

    @property
    def size(self) -> int:
        """How many candidates it has."""
        return len(self._packed)

    @property
    def large(self) -> bool:
        """Whether it is tried in parts."""
        return self._whole is None

    def plans(self) -> Iterator[Plan]:
        """What to try, one call after the other; at least one."""
        if self._whole is not None:
            yield self._whole
            return
        rest = self._shuffled(self._those_open())
        if not rest:
            soonest = sorted(self._packed, key=lambda p: self._blocked.get(_id(p), 0.0))
            yield self._plan(tuple(soonest[:MAX_CANDIDATES]))
            return
        size = FIRST_DRAW
        while rest:
            yield self._plan(rest[:size])
            rest, size = rest[size:], MAX_CANDIDATES

    def every_plan(self) -> Iterator[Plan]:
        """Plans that cover the whole pool in its order, whatever is remembered of it."""
        for at in range(0, len(self._packed), MAX_CANDIDATES):
            yield self._plan(self._packed[at : at + MAX_CANDIDATES])

    def learn(self, plan: Plan, passed_over: Sequence[PassedOver], now_ms: int) -> None:
        """Remember for a moment what a call passed over."""
        if not self.large or not passed_over:
            return
        now = self._clock()
        blocked = dict(self._blocked)
        for passed in passed_over:
            seconds = MEMORY_SECONDS if passed.why in PASSED_OVER_BY_MARK else self._full_memory
            if passed.why is Refusal.TOO_LARGE:
                continue  # another request may be smaller
            if passed.until_ms > 0:
                seconds = min(seconds, (passed.until_ms - now_ms) / 1000)
            blocked[_id(plan.packed[passed.candidate])] = now + seconds
        self._remember(blocked, now)

    def learn_marks(self, blocked_fields: Sequence[str]) -> None:
        """Remember for a moment that these fields ("k:...", "g:...", "p:...") are passed over."""
        if not self.large:
            return
        now, fields = self._clock(), set(blocked_fields)
        blocked = dict(self._blocked)
        for packed in self._packed:
            if not fields.isdisjoint(subjects_of(packed.candidate.key)):
                blocked[_id(packed)] = now + MEMORY_SECONDS
        self._remember(blocked, now)

    def _remember(self, blocked: dict[str, float], now: float) -> None:
        # Replaced as a whole, and the list of open ones with it: readers take no lock.
        alive = {key_id: until for key_id, until in blocked.items() if until > now}
        self._blocked = alive
        self._open_until = min(alive.values(), default=float("inf"))
        self._open = tuple(p for p in self._packed if _id(p) not in alive)

    def _those_open(self) -> tuple[Packed, ...]:
        now = self._clock()
        if now >= self._open_until:
            self._remember(self._blocked, now)
        return self._open

    def _shuffled(self, packed: tuple[Packed, ...]) -> tuple[Packed, ...]:
        """Begin each tier at a random place."""
        if not packed:
            return packed
        first_tier = packed[0].candidate.tier
        if packed[-1].candidate.tier == first_tier:
            start = random.randrange(len(packed))
            return packed[start:] + packed[:start]
        tiers: dict[int, list[Packed]] = {}
        for one in packed:
            tiers.setdefault(one.candidate.tier, []).append(one)
        shuffled: list[Packed] = []
        for tier in tiers.values():
            start = random.randrange(len(tier))
            shuffled += tier[start:] + tier[:start]
        return tuple(shuffled)

    def _plan(self, packed: tuple[Packed, ...]) -> Plan:
        sizes = Counter(p.candidate.tier for p in packed)
        return Plan(
            shard=self._shard,
            packed=packed,
            policies=self._policies,
            tiers=",".join(str(sizes[tier]) for tier in sorted(sizes)),
        )


def _id(packed: Packed) -> str:
    return packed.candidate.key.key_id


def _row(key: KeySpec, policy: int, geometry: Geometry) -> str:
    limits = (key.rpm, key.tpm, key.itpm, key.otpm, key.rpd, key.tpd, key.max_parallel)
    *names, service = subjects_of(key)
    row = (
        *names,
        *(limit or 0 for limit in limits),
        *burst_of(key, geometry),
        policy + 1,
        service,
    )
    return "|".join(str(part) for part in row)


def burst_of(key: KeySpec, geometry: Geometry) -> tuple[int, int]:
    """Slots to look back, and the requests they may hold, for the optional sub-minute cap."""
    if key.burst_window_seconds is None or key.rpm is None:
        return 0, 0
    share = min(1.0, key.burst_window_seconds * 1000 / geometry.window_ms)
    slots = -int(-key.burst_window_seconds * 1000 // geometry.slot_ms) + 1
    return min(slots, geometry.counted), max(1, int(key.rpm * share))
