"""How each key fares, for people, health checks and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

from core.redis_calls import Calls
from keys.places import Places
from keys.selection import subjects_of
from keys.spec import KeySpec
from lua import limiter_calls
from lua.limiter_types import UNTIL_SOMEBODY_ACTS, Geometry, GroupUse
from lua.states import KeyState


class LimitUse(TypedDict):
    """One limit: what its window has used, and the limit, or None where there is none."""

    used: int
    limit: int | None


class Circuits(TypedDict):
    """The circuits of a key and of its service, which is its provider at one address: each
    "closed", "open" or "half-open"."""

    key: str
    service: str


class KeyStatus(TypedDict):
    """One key as it stands. `available` tells whether a request may be given to it now;
    `cooldown_seconds` is None for a mark that lasts until somebody acts. `source` says where the
    key comes from, what wins first: "this process", "run time", "keys.json"."""

    key_id: str
    provider: str
    model_name: str
    quota_group: str
    active: bool
    available: bool
    state: str
    reason: str
    cooldown_seconds: float | None
    rpm: LimitUse
    tpm: LimitUse
    itpm: LimitUse
    otpm: LimitUse
    rpd: LimitUse
    tpd: LimitUse
    parallel: LimitUse
    circuits: Circuits
    source: str


def read_statuses(
    redis: Calls,
    places: Places,
    geometry: Geometry,
    keys: Sequence[KeySpec],
    sources_of: Callable[[str], Sequence[str]],
) -> list[KeyStatus]:
    """Read every key's counters, one round trip a shard.

    Raises:
        redis.exceptions.RedisError: whatever Redis reports.
    """
    found: dict[str, KeyStatus] = {}
    for shard in dict.fromkeys(places.shard(key.provider) for key in keys):
        own = [key for key in keys if places.shard(key.provider) == shard]
        now_ms, uses = limiter_calls.status(
            redis,
            geometry,
            shard,
            groups=[places.group(key) for key in own],
            fields=["|".join(subjects_of(key)) for key in own],
        )
        for key, use in zip(own, uses, strict=True):
            found[key.key_id] = _status(key, use, now_ms, sources_of(key.key_id))
    return [found[key.key_id] for key in keys]


def describe(statuses: Sequence[KeyStatus], problem: str | None) -> dict[str, Any]:
    """The health of the pool: healthy when at least one key may serve."""
    available = sum(status["available"] for status in statuses)
    unavailable = {
        status["key_id"]: status["reason"] or status["state"]
        for status in statuses
        if not status["available"]
    }
    reason = f"{available} of {len(statuses)} keys may serve"
    return {
        "healthy": available > 0,
        "reason": reason if problem is None else f"{reason}; {problem}",
        "total": len(statuses),
        "available": available,
        "unavailable": unavailable,
        "keys_file": problem,
    }


def _status(key: KeySpec, use: GroupUse, now_ms: int, sources: Sequence[str]) -> KeyStatus:
    until, state, reason = use.blocked_until_ms, use.state, use.reason
    source = " over ".join(sources)
    if not key.active:
        state, reason = KeyState.DISABLED, f"active is false in {sources[0]}"
    for name, circuit in (("key", use.key_circuit), ("provider", use.service_circuit)):
        if until == 0 and circuit.until_ms > now_ms:
            until, reason = circuit.until_ms, f"the {name}'s circuit is open: {circuit.reason}"
    return KeyStatus(
        key_id=key.key_id,
        provider=key.provider,
        model_name=key.model_name,
        quota_group=key.group,
        active=key.active,
        available=key.active and until == 0,
        state=state,
        reason=reason,
        cooldown_seconds=None
        if until == UNTIL_SOMEBODY_ACTS
        else max(0.0, (until - now_ms) / 1000),
        rpm=LimitUse(used=use.requests, limit=key.rpm),
        tpm=LimitUse(used=use.tokens, limit=key.tpm),
        itpm=LimitUse(used=use.input, limit=key.itpm),
        otpm=LimitUse(used=use.output + use.held_output, limit=key.otpm),
        rpd=LimitUse(used=use.requests_today, limit=key.rpd),
        tpd=LimitUse(used=use.tokens_today, limit=key.tpd),
        parallel=LimitUse(used=use.in_flight, limit=key.max_parallel),
        circuits=Circuits(key=use.key_circuit.state, service=use.service_circuit.state),
        source=source,
    )
