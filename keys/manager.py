"""KeyManager: which key serves a request, what is reserved on it, and how each key fares.

The decision itself is one Lua call (`lua/reserve.lua`); this file prepares it, names its outcome
in the project's terms and keeps the plans that do not change from request to request.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redis.exceptions import RedisError

from core.errors import ConfigurationError, NoKeys, RequestTooLarge, StorageError
from core.events import KeyCooledDown, emit
from core.redis_calls import Calls
from core.redis_connection import shared_redis
from core.settings import Settings, get_settings
from keys.policies import DayEnds, Need, weigh
from keys.registry import KeyRegistry, parse_keys
from keys.selection import (
    Candidate,
    Plan,
    Selection,
    candidates_for,
    first_of_each_model,
    pack,
    without,
)
from keys.spec import KeySpec
from keys.status import KeyStatus, describe, read_statuses
from lua import limiter_calls
from lua.limiter_calls import (
    CLEAR,
    NEVER,
    Charge,
    Geometry,
    Mark,
    NoRoom,
    Refusal,
    Reserved,
    Weights,
)
from lua.loader import ScriptCall, run_pipeline
from lua.names import Names

MAX_CANDIDATES = 32
"""So many keys are looked at in one call; a larger pool is tried in parts, in random order."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A key, and what is reserved on it for one attempt."""

    id: str
    key: KeySpec
    need: Need
    weights: Weights
    home: str


@dataclass(frozen=True, slots=True)
class Refused:
    """No key has room.

    Args:
        retry_after: seconds until one has, at the latest; None if nobody knows.
        by_settlement: only calls under way stand in the way, so that it may be sooner.
    """

    retry_after: float | None
    reason: str
    by_settlement: bool = False


class KeyManager:
    """Chooses, reserves, settles and reports. Safe under threads; shares its limits through Redis.

    Args:
        redis: runs commands on Redis.
        registry: the keys of `keys.json`.
        window_seconds: the length of the providers' minute; 60 but in demos and tests.
        prefix: what all Redis keys begin with.
        rotate: False for the roll-back switch, by which each model's first key serves alone.
        clock: Unix seconds, for the ends of the providers' days.
    """

    def __init__(
        self,
        redis: Calls,
        registry: KeyRegistry,
        *,
        window_seconds: float = 60.0,
        prefix: str = "llm",
        rotate: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._names = Names(prefix)
        self._geometry = Geometry(window_ms=round(window_seconds * 1000))
        self._rotate = rotate
        self._day_ends = DayEnds(clock)
        self._turn = itertools.count(int.from_bytes(os.urandom(2), "big"))
        self._plans: dict[tuple[object, ...], tuple[Plan, ...]] = {}
        self._plans_version = -1
        self._plans_lock = threading.Lock()

    @property
    def registry(self) -> KeyRegistry:
        """The keys as configured."""
        return self._registry

    @property
    def window_seconds(self) -> float:
        """The length of a provider's minute, in seconds."""
        return self._geometry.window_ms / 1000

    def models_of(self, selection: Selection) -> tuple[str, ...]:
        """The models of the keys that a selection allows, in the order in which they are tried."""
        allowed = candidates_for(self._registry.keys(), selection)
        return tuple(dict.fromkeys(candidate.key.model_name for candidate in allowed))

    # -- one request ---------------------------------------------------------------------------

    def reserve(
        self,
        need: Need,
        selection: Selection,
        *,
        reservation_id: str,
        lease_seconds: float,
        avoid: Collection[str] = (),
    ) -> Reservation | Refused:
        """Choose a key and reserve the estimated use on it: one round trip for up to 32 keys.

        Args:
            need: what the request is expected to use, in tokens.
            selection: what the caller allows.
            reservation_id: a new one for each attempt; the same one gets the same answer.
            lease_seconds: how long parallel slots and output are held if this process dies.
            avoid: names of keys, groups or providers (see `selection.subjects_of`) to leave out.

        Raises:
            NoKeys: nothing that is configured fits the selection, or all of it is avoided.
            RequestTooLarge: no allowed key could ever admit so much at once.
            StorageError: Redis did not answer.
        """
        plans = self._plans_for(selection, avoid)
        refusals = []
        for plan in plans:
            weights = [weigh(policy, need, self._day_ends(policy.day_zone)) for policy in plan.policies]
            with _storage("reserve a key"):
                answer = limiter_calls.reserve(
                    self._redis,
                    self._geometry,
                    reservation_key=self._names.reservation(plan.home, reservation_id),
                    reservation_id=reservation_id,
                    health_keys=plan.health_keys,
                    group_keys=plan.group_keys,
                    weights=weights,
                    candidates=plan.rows,
                    tiers=plan.tiers,
                    lease_ms=round(lease_seconds * 1000),
                    rotation=next(self._turn),
                )
            if isinstance(answer, Reserved):
                chosen = answer.candidate
                return Reservation(
                    reservation_id,
                    plan.candidates[chosen].key,
                    need,
                    weights[plan.policy_rows[chosen]],
                    plan.home,
                )
            refusals.append(answer)
        return _refused(refusals, need)

    def settle_call(
        self, reservation: Reservation, charge: Charge, marks: Sequence[Mark] = ()
    ) -> ScriptCall:
        """The settlement of a reservation, for a pipeline of one's own."""
        key = reservation.key
        return limiter_calls.settle_call(
            self._geometry,
            reservation_key=self._names.reservation(reservation.home, reservation.id),
            group_key=self._names.group(key.provider, key.group),
            leases_key=self._names.leases(key.provider, key.group),
            health_key=self._names.health(key.provider),
            reservation_id=reservation.id,
            charge=charge,
            marks=marks,
        )

    def settle(
        self,
        reservation: Reservation,
        charge: Charge,
        marks: Sequence[Mark] = (),
        also: Sequence[ScriptCall] = (),
    ) -> list[Any]:
        """Settle with what was used and mark what must be passed over, in one round trip.

        Args:
            also: further scripts that go along, such as a conversation's append.

        Returns:
            The results of `also`; for one that failed, its exception.

        Raises:
            StorageError: Redis did not answer; the reservation ages out of its window.
        """
        with _storage("settle a reservation"):
            call = self.settle_call(reservation, charge, marks)
            if not also:
                call.run(self._redis)
                return []
            settled, *others = run_pipeline(self._redis, [call, *also])
            if isinstance(settled, RedisError):
                raise settled
        return others

    # -- the pool ------------------------------------------------------------------------------

    def mark_key_unhealthy(
        self, key_id: str, cooldown_seconds: float, reason: str = "marked by hand"
    ) -> None:
        """Pass a key over for a time, in all processes. A longer cooldown in force stays.

        Raises:
            ConfigurationError: no such key.
            StorageError: Redis did not answer.
        """
        if cooldown_seconds < 0:
            raise ConfigurationError(f"cooldown_seconds is {cooldown_seconds}; write 0 or more")
        key = self._known(key_id)
        mark = Mark(f"k:{key_id}", "throttled", round(cooldown_seconds * 1000), _clean(reason))
        with _storage("mark a key"):
            limiter_calls.mark(self._redis, self._names.health(key.provider), [mark])
        emit(KeyCooledDown(key.provider, key_id, "throttled", cooldown_seconds, reason))

    def mark_key_healthy(self, key_id: str) -> None:
        """End a key's cooldown, or take it back into rotation."""
        key = self._known(key_id)
        with _storage("clear a key's mark"):
            limiter_calls.mark(
                self._redis,
                self._names.health(key.provider),
                [Mark(f"k:{key_id}", "", CLEAR, ""), Mark(f"g:{key.group}", "", CLEAR, "")],
            )

    def add_key(self, key: KeySpec | dict[str, Any]) -> KeySpec:
        """Add a key to this process at run time; `keys.json` is not changed.

        Raises:
            ConfigurationError: the entry is wrong, or its id is taken.
        """
        if not isinstance(key, KeySpec):
            (key,) = parse_keys(json.dumps({"keys": [key]}), path="add_key")
        self._registry.add(key)
        return key

    def remove_key(self, key_id: str) -> None:
        """Take a key out of this process at run time; `keys.json` is not changed.

        Raises:
            ConfigurationError: no such key.
        """
        self._known(key_id)
        self._registry.remove(key_id)

    def reload_keys(self) -> int:
        """Read `keys.json` now, and return how many keys are in force.

        Raises:
            ConfigurationError: the file is wrong; the keys in force stay.
        """
        return self._registry.reload()

    def get_key_status(self, key_id: str) -> KeyStatus:
        """How one key fares: its use of each limit, and whether it is passed over and why.

        Raises:
            ConfigurationError: no such key.
            StorageError: Redis did not answer.
        """
        return self._statuses([self._known(key_id)])[0]

    def get_all_key_statuses(self) -> list[KeyStatus]:
        """The same for every key, in the order of `keys.json`."""
        return self._statuses(self._registry.keys())

    def health_check(self) -> dict[str, Any]:
        """Whether at least one key can serve now, with a count and a reason for each that cannot.

        Returns:
            `healthy`, `reason`, `total`, `available`, `unavailable` (key id to reason), and
            `keys_file` (a problem with the newest edit, or None).
        """
        try:
            return describe(self.get_all_key_statuses(), self._registry.problem)
        except StorageError as error:
            return {"healthy": False, "reason": str(error), "keys_file": self._registry.problem}

    # -- inside --------------------------------------------------------------------------------

    def _known(self, key_id: str) -> KeySpec:
        key = self._registry.get(key_id)
        if key is None:
            known = ", ".join(k.key_id for k in self._registry.keys()[:20])
            raise ConfigurationError(f"there is no key {key_id!r}; known are: {known}")
        return key

    def _statuses(self, keys: Sequence[KeySpec]) -> list[KeyStatus]:
        with _storage("read the keys' status"):
            return read_statuses(self._redis, self._names, self._geometry, keys)

    def _plans_for(self, selection: Selection, avoid: Collection[str]) -> tuple[Plan, ...]:
        keys = self._registry.keys()
        with self._plans_lock:
            if self._plans_version != self._registry.version:
                self._plans.clear()
                self._plans_version = self._registry.version
            plans = None if avoid else self._plans.get(selection.identity)
        if plans is not None:
            return plans
        allowed = candidates_for(keys, selection)
        if not allowed:
            raise NoKeys(_nothing_fits(keys, selection))
        if not self._rotate:
            allowed = first_of_each_model(allowed)
        candidates = without(allowed, avoid)
        if not candidates:
            raise NoKeys(f"every key for {selection.describe()} was tried and failed")
        plans = tuple(pack(part, self._names, self._geometry) for part in _parts(candidates))
        if not avoid:
            with self._plans_lock:
                self._plans[selection.identity] = plans
        return plans


@lru_cache(maxsize=1)
def get_key_manager() -> KeyManager:
    """The KeyManager of this process, made from the settings at first use."""
    return build_key_manager(get_settings(), shared_redis())


def build_key_manager(settings: Settings, redis: Calls) -> KeyManager:
    """A KeyManager from settings and a connection to Redis.

    Raises:
        ConfigurationError: `keys.json` is missing or wrong.
    """
    return KeyManager(
        redis,
        KeyRegistry(settings.keys_file),
        window_seconds=settings.rate_window_seconds,
        prefix=settings.redis_key_prefix,
        rotate=settings.llm_multi_key_router_enabled,
    )


@contextmanager
def _storage(what: str) -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        raise StorageError(f"could not {what}: Redis said {error}") from error


def _parts(candidates: tuple[Candidate, ...]) -> Iterator[tuple[Candidate, ...]]:
    for at in range(0, len(candidates), MAX_CANDIDATES):
        yield candidates[at : at + MAX_CANDIDATES]


def _refused(refusals: Sequence[NoRoom], need: Need) -> Refused:
    if all(refusal.when_ms == NEVER for refusal in refusals):
        raise RequestTooLarge(
            f"the request needs about {need.input} input and up to {need.max_output} output "
            "tokens; that is more than any allowed key admits in a minute or a day: shorten it, "
            "lower max_output_tokens, or allow a key with larger limits"
        )
    waits = [r.wait_seconds for r in refusals if r.wait_seconds is not None]
    counts: dict[Refusal, int] = {}
    for refusal in refusals:
        for passed in refusal.passed_over:
            counts[passed.why] = counts.get(passed.why, 0) + 1
    words = {
        Refusal.FULL: "full",
        Refusal.IN_FLIGHT: "busy",
        Refusal.COOLING: "cooling down or out of rotation",
        Refusal.TOO_LARGE: "too small for this request",
    }
    reason = ", ".join(f"{counts[why]} {word}" for why, word in words.items() if why in counts)
    return Refused(
        min(waits) if waits else None,
        f"no key has room now: {reason}",
        by_settlement=Refusal.IN_FLIGHT in counts,
    )


def _nothing_fits(keys: Sequence[KeySpec], selection: Selection) -> str:
    models = ", ".join(sorted({key.model_name for key in keys if key.active})) or "none"
    return f"no active key serves {selection.describe()}; configured models: {models}"


def _clean(reason: str) -> str:
    return " ".join(reason.split())[:200]
