"""Which keys may serve a request, and in what order: pure functions over the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from keys.policies import Policy, policy_of
from keys.spec import KeySpec
from lua.limiter_calls import Geometry, GroupKeys, Shard
from lua.names import Names


@dataclass(frozen=True)
class Selection:
    """What a caller allows.

    Args:
        models: in the caller's order; empty allows every model.
        tags: labels that a key must carry.
        workload: `light`, `medium` or `heavy`; a key without such a tag serves any.
    """

    models: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    workload: str | None = None

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two selections the same."""
        return self.models, tuple(sorted(self.tags.items())), self.workload

    def describe(self) -> str:
        """The selection in words, for an error."""
        parts = []
        if self.models:
            parts.append("model " + " or ".join(self.models))
        if self.tags:
            parts.append("tags " + ", ".join(f"{k}={v}" for k, v in sorted(self.tags.items())))
        if self.workload:
            parts.append(f"workload {self.workload}")
        return " with ".join(parts) or "any model"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that may serve, and its tier: lower tiers are tried first."""

    key: KeySpec
    tier: int


@dataclass(frozen=True)
class Plan:
    """Candidates of one shard in the order in which they are tried, packed for reserve.lua."""

    shard: Shard
    candidates: tuple[Candidate, ...]
    groups: tuple[GroupKeys, ...]
    policies: tuple[Policy, ...]
    policy_rows: tuple[int, ...]
    rows: tuple[str, ...]
    tiers: str

    def index_of(self, key_field: str) -> int:
        """Which candidate has this field, "k:<key id>"."""
        key_id = key_field.removeprefix("k:")
        return next(n for n, c in enumerate(self.candidates) if c.key.key_id == key_id)


def candidates_for(keys: Sequence[KeySpec], selection: Selection) -> tuple[Candidate, ...]:
    """The active keys that the selection allows, by the caller's model order, then priority."""
    found = []
    for key in keys:
        if not key.active or (selection.models and key.model_name not in selection.models):
            continue
        if any(key.tags.get(name) != value for name, value in selection.tags.items()):
            continue
        if selection.workload and key.tags.get("workload", selection.workload) != (
            selection.workload
        ):
            continue
        model = selection.models.index(key.model_name) if selection.models else 0
        found.append((model, key.priority, key))
    ranks = sorted({(model, priority) for model, priority, _ in found})
    tiers = {rank: tier for tier, rank in enumerate(ranks)}
    found.sort(key=lambda entry: entry[:2])
    return tuple(Candidate(key, tiers[model, priority]) for model, priority, key in found)


def first_of_each_model(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The roll-back switch: each model's first key alone."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(candidate.key.model_name, candidate)
    return tuple(seen.values())


def without(candidates: Sequence[Candidate], avoided: Collection[str]) -> tuple[Candidate, ...]:
    """Leave out the keys of which any subject (see `subjects_of`) is avoided."""
    return tuple(c for c in candidates if not any(s in avoided for s in subjects_of(c.key)))


class Subjects(NamedTuple):
    """The names under which a provider, a key and its group are marked or avoided."""

    provider: str
    key: str
    group: str


def subjects_of(key: KeySpec) -> Subjects:
    """A key's subjects.

    Example:
        >>> subjects_of(KeySpec(key_id="a", model_name="m", provider="openai")).group
        'g:openai/a'
    """
    return Subjects(f"p:{key.provider}", f"k:{key.key_id}", f"g:{key.provider}/{key.group}")


class Places:
    """Where each key's counters lie in Redis.

    Args:
        clustered: each provider's limits on a shard of their own, else all on one.
    """

    def __init__(self, names: Names, *, clustered: bool = False) -> None:
        self._names = names
        self._clustered = clustered

    def shard(self, provider: str) -> Shard:
        """What the groups of a provider's shard share."""
        tag = self._names.shard(provider, clustered=self._clustered)
        return Shard(
            tag=tag,
            health=self._names.health(tag),
            waiters=self._names.waiters(tag),
            deadlines=self._names.deadlines(tag),
            ratios=self._names.ratios(tag),
            hears_all=not self._clustered,
        )

    def group(self, key: KeySpec) -> GroupKeys:
        """The keys of a key's quota group."""
        place = (self.shard(key.provider).tag, key.provider, key.group)
        names = self._names
        return GroupKeys(names.group(*place), names.leases(*place), names.queue(*place))

    def reservation(self, shard: Shard, reservation_id: str) -> str:
        """The record of a reservation."""
        return self._names.reservation(shard.tag, reservation_id)

    def channel(self, shard: Shard, process_id: str) -> str:
        """Where the waiters of a process are told of their turns."""
        return self._names.channel(shard.tag, process_id)


def pack(candidates: tuple[Candidate, ...], places: Places, geometry: Geometry) -> Plan:
    """Make a plan: what of it does not depend on the request is computed here, once.

    Args:
        candidates: of one shard, the best tier first.
    """
    policies: list[Policy] = []
    rows, policy_rows = [], []
    for candidate in candidates:
        key = candidate.key
        policy = policy_of(key.provider, key.base_url)
        if policy not in policies:
            policies.append(policy)
        policy_rows.append(policies.index(policy))
        limits = (key.rpm, key.tpm, key.itpm, key.otpm, key.rpd, key.tpd, key.max_parallel)
        row = (
            policy_rows[-1] + 1,
            *subjects_of(key),
            *(limit or 0 for limit in limits),
            *_burst(key, geometry),
        )
        rows.append("|".join(str(part) for part in row))
    sizes = Counter(candidate.tier for candidate in candidates)
    return Plan(
        shard=places.shard(candidates[0].key.provider),
        candidates=candidates,
        groups=tuple(places.group(candidate.key) for candidate in candidates),
        policies=tuple(policies),
        policy_rows=tuple(policy_rows),
        rows=tuple(rows),
        tiers=",".join(str(sizes[tier]) for tier in sorted(sizes)),
    )


def _burst(key: KeySpec, geometry: Geometry) -> tuple[int, int]:
    """Slots to look back, and the requests they may hold, for the optional sub-minute cap."""
    if key.burst_window_seconds is None or key.rpm is None:
        return 0, 0
    share = min(1.0, key.burst_window_seconds * 1000 / geometry.window_ms)
    slots = -int(-key.burst_window_seconds * 1000 // geometry.slot_ms) + 1
    return min(slots, geometry.counted), max(1, int(key.rpm * share))
