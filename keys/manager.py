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
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from redis.exceptions import RedisError

from core.errors import ConfigurationError, NoKeys, RequestTooLarge, StorageError
from core.events import KeyCooledDown, emit
from core.redis_connection import RedisConnection, shared_redis
from core.settings import Settings, get_settings
from keys.policies import DayEnds, Need, charge_unsent, weigh
from keys.redis_clock import RedisClock
from keys.registry import KeyRegistry, parse_keys
from keys.rounds import Rounds, plan_rounds
from keys.selection import (
    Places,
    Plan,
    Selection,
    candidates_for,
    first_of_each_model,
    subjects_of,
    without,
)
from keys.spec import KeySpec
from keys.status import KeyStatus, describe, read_statuses
from keys.waiting import Ticket, WaitingRoom
from lua import limiter_calls
from lua.limiter_calls import (
    CLEAR,
    NEVER,
    NO_PATIENCE,
    Charge,
    Geometry,
    GroupKeys,
    Mark,
    NoRoom,
    Patience,
    Refusal,
    Reserved,
    Shard,
    Turn,
    Waits,
    Weights,
)
from lua.loader import ScriptCall, run_pipeline
from lua.names import Names

MAX_CANDIDATES = 32
"""So many keys are looked at in one call; a larger pool is tried in parts, in random order."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """A key, and what is reserved on it for one attempt.

    Args:
        ready_at: the monotonic time (s) at which Redis counts the request; it is to be sent now.
        waited: seconds that it stood in the queue.
    """

    id: str
    key: KeySpec
    need: Need
    weights: Weights
    shard: Shard
    ready_at: float
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """No key has room, or none had any for as long as the request could wait.

    Args:
        retry_after: seconds until one has, at the latest; None if nobody knows.
    """

    retry_after: float | None
    reason: str


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
        redis: RedisConnection,
        registry: KeyRegistry,
        *,
        window_seconds: float = 60.0,
        prefix: str = "llm",
        rotate: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._places = Places(Names(prefix), clustered=redis.clustered)
        self._geometry = Geometry(window_ms=round(window_seconds * 1000))
        self._rotate = rotate
        self._day_ends = DayEnds(clock)
        self._clocks: dict[str, RedisClock] = defaultdict(RedisClock)
        self._turn = itertools.count(int.from_bytes(os.urandom(2), "big"))
        self._round = itertools.count(int.from_bytes(os.urandom(2), "big"))
        self._plans: dict[tuple[object, ...], Rounds] = {}
        self._plans_version = -1
        self._plans_lock = threading.Lock()
        self._room = WaitingRoom(
            redis.pubsub,
            self._places.channel,
            lambda shard, group: self._wake(shard, group),
            patience=min(5.0, max(0.25, window_seconds / 12)),
        )

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
        max_wait: float = 0.0,
        priority: int = 0,
    ) -> Reservation | Refused:
        """Choose a key and reserve the estimated use on it: one round trip for up to 32 keys.

        On a cluster it is one for each provider that has to be asked, the best tier's first. Those
        who wait stand in the queue of one provider, of the one that opens first.

        Args:
            need: what the request is expected to use, in tokens.
            selection: what the caller allows.
            reservation_id: a new one for each attempt; the same one gets the same answer.
            lease_seconds: how long parallel slots and output are held if this process dies.
            avoid: names of keys, groups or providers (see `selection.subjects_of`) to leave out.
            max_wait: seconds to wait in the queue when no key has room.
            priority: higher is served first among those that wait.

        Raises:
            NoKeys: nothing that is configured fits the selection, or all of it is avoided.
            RequestTooLarge: no allowed key could ever admit so much at once.
            StorageError: Redis did not answer.
        """
        plans = self._plans_for(selection, avoid).in_order(next(self._round))
        attempts: list[_Attempt] = []
        refusals: list[NoRoom] = []
        away: dict[Shard, RedisError] = {}
        with _storage("reserve a key"):
            for plan in plans:
                if plan.shard in away:
                    continue
                weights = self._weights(plan, need)
                attempt = _Attempt(plan, need, weights, reservation_id, lease_seconds)
                try:
                    patience = max_wait if len(plans) == 1 else 0.0
                    outcome = self._reserve_or_wait(attempt, patience, priority)
                except RedisError as error:
                    away[plan.shard] = error  # a cluster's other nodes may answer
                    continue
                if not isinstance(outcome, NoRoom):
                    return outcome
                attempts.append(attempt)
                refusals.append(outcome)
            soonest = _soonest(refusals)
            if soonest is not None and max_wait > 0 and len(plans) > 1:
                outcome = self._reserve_or_wait(attempts[soonest], max_wait, priority)
                if not isinstance(outcome, NoRoom):
                    return outcome
                refusals[soonest] = outcome
            if away and soonest is None:
                raise next(iter(away.values()))
        return _refused(refusals, need)

    def _weights(self, plan: Plan, need: Need) -> list[Weights]:
        return [weigh(policy, need, self._day_ends(policy.day_zone)) for policy in plan.policies]

    def _reserve_now(self, attempt: _Attempt, patience: Patience) -> Reservation | NoRoom | Waits:
        plan = attempt.plan
        before = time.monotonic()
        answer = limiter_calls.reserve(
            self._redis,
            self._geometry,
            plan.shard,
            reservation_key=self._places.reservation(plan.shard, attempt.id),
            reservation_id=attempt.id,
            groups=plan.groups,
            weights=attempt.weights,
            candidates=plan.rows,
            tiers=plan.tiers,
            lease_ms=round(attempt.lease_seconds * 1000),
            rotation=next(self._turn),
            patience=patience,
        )
        self._clocks[plan.shard.tag].observe(before, answer.now_ms)
        if isinstance(answer, Reserved):
            ready_at = self._clocks[plan.shard.tag].local(answer.now_ms)
            return attempt.reservation(answer.candidate, ready_at)
        return answer

    def _reserve_or_wait(
        self, attempt: _Attempt, max_wait: float, priority: int
    ) -> Reservation | Refused | NoRoom:
        if max_wait <= 0:
            outcome = self._reserve_now(attempt, NO_PATIENCE)
            assert not isinstance(outcome, Waits), "it was not asked to wait"
            return outcome
        plan = attempt.plan
        fields = [subjects_of(candidate.key).group for candidate in plan.candidates]
        ticket = Ticket(attempt.id, plan.shard, dict(zip(fields, plan.groups, strict=True)))
        began = time.monotonic()
        channel = self._room.enter(ticket)
        try:
            patience = Patience(round(max_wait * 1000), priority, channel)
            outcome = self._reserve_now(attempt, patience)
            if not isinstance(outcome, Waits):
                return outcome
            for candidate, at_ms in outcome.looks:
                seconds = (at_ms - outcome.now_ms) / 1000
                self._room.look_later(plan.shard, plan.groups[candidate], seconds)
            turn = self._room.wait(ticket, max_wait)
            if turn is None:
                turn = limiter_calls.leave(self._redis, plan.shard, attempt.id)
        except BaseException:
            self._give_back(attempt)
            raise
        finally:
            self._room.exit(ticket)
        if turn is None:
            return Refused(None, f"no key had room within max_wait of {max_wait:g} s")
        return self._take_turn(attempt, turn, began)

    def _take_turn(self, attempt: _Attempt, turn: Turn, began: float) -> Reservation:
        index = attempt.plan.index_of(turn.key_field)
        try:
            time.sleep(turn.delay_seconds)
        except BaseException:
            self._give_back(attempt)
            raise
        ready_at = self._clocks[attempt.plan.shard.tag].local(turn.at_ms)
        return attempt.reservation(index, ready_at, waited=time.monotonic() - began)

    def _give_back(self, attempt: _Attempt) -> None:
        """Whoever waited is interrupted: leave the queue, and give back what was reserved."""
        turn = limiter_calls.leave(self._redis, attempt.plan.shard, attempt.id)
        if turn is not None:
            reservation = attempt.reservation(attempt.plan.index_of(turn.key_field), 0.0)
            self.settle(reservation, charge_unsent())

    def _wake(self, shard: Shard, group: GroupKeys) -> None:
        limiter_calls.wake(self._redis, self._geometry, shard, group)

    def close(self) -> None:
        """End the threads of the waiting room."""
        self._room.close()

    def settle_call(
        self,
        reservation: Reservation,
        charge: Charge,
        marks: Sequence[Mark] = (),
        late: float = 0.0,
    ) -> ScriptCall:
        """The settlement of a reservation, for a pipeline of one's own; see `settle`."""
        key = reservation.key
        return limiter_calls.settle_call(
            self._geometry,
            reservation.shard,
            reservation_key=self._places.reservation(reservation.shard, reservation.id),
            reservation_id=reservation.id,
            group=self._places.group(key),
            charge=charge,
            marks=marks,
            late_ms=max(0, round(late * 1000)),
        )

    def settle(
        self,
        reservation: Reservation,
        charge: Charge,
        marks: Sequence[Mark] = (),
        also: Sequence[ScriptCall] = (),
        late: float = 0.0,
    ) -> list[Any]:
        """Settle with what was used and mark what must be passed over, in one round trip.

        Args:
            also: further scripts that go along, such as a conversation's append.
            late: seconds from `reservation.ready_at` to the sending.

        Returns:
            The results of `also`; for one that failed, its exception.

        Raises:
            StorageError: Redis did not answer; the reservation ages out of its window.
        """
        with _storage("settle a reservation"):
            call = self.settle_call(reservation, charge, marks, late)
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
        mark = Mark(
            subjects_of(key).key, "throttled", round(cooldown_seconds * 1000), _clean(reason)
        )
        with _storage("mark a key"):
            limiter_calls.mark(self._redis, self._places.shard(key.provider), [mark])
        emit(KeyCooledDown(key.provider, key_id, "throttled", cooldown_seconds, reason))

    def mark_key_healthy(self, key_id: str) -> None:
        """End a key's cooldown, or take it back into rotation."""
        key = self._known(key_id)
        subjects = subjects_of(key)
        marks = [Mark(subject, "", CLEAR, "") for subject in (subjects.key, subjects.group)]
        with _storage("clear a key's mark"):
            limiter_calls.mark(self._redis, self._places.shard(key.provider), marks)

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
            return read_statuses(self._redis, self._places, self._geometry, keys)

    def _plans_for(self, selection: Selection, avoid: Collection[str]) -> Rounds:
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
        plans = plan_rounds(candidates, self._places, self._geometry, MAX_CANDIDATES)
        if not avoid:
            with self._plans_lock:
                self._plans[selection.identity] = plans
        return plans


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One reservation to be made: on which keys, for what, under which id."""

    plan: Plan
    need: Need
    weights: list[Weights]
    id: str
    lease_seconds: float

    def reservation(self, candidate: int, ready_at: float, waited: float = 0.0) -> Reservation:
        return Reservation(
            self.id,
            self.plan.candidates[candidate].key,
            self.need,
            self.weights[self.plan.policy_rows[candidate]],
            self.plan.shard,
            ready_at,
            waited,
        )


@lru_cache(maxsize=1)
def get_key_manager() -> KeyManager:
    """The KeyManager of this process, made from the settings at first use."""
    return build_key_manager(get_settings(), shared_redis())


def build_key_manager(settings: Settings, redis: RedisConnection) -> KeyManager:
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


def _soonest(refusals: Sequence[NoRoom]) -> int | None:
    """Which of them opens first, by the clock of its own server; None if nobody knows."""
    waits = [(r.wait_seconds, at) for at, r in enumerate(refusals)]
    return min(((wait, at) for wait, at in waits if wait is not None), default=(0.0, None))[1]


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
        Refusal.QUEUED: "with others waiting for them",
        Refusal.COOLING: "cooling down or out of rotation",
        Refusal.TOO_LARGE: "too small for this request",
    }
    reason = ", ".join(f"{counts[why]} {word}" for why, word in words.items() if why in counts)
    return Refused(min(waits) if waits else None, f"no key has room now: {reason}")


def _nothing_fits(keys: Sequence[KeySpec], selection: Selection) -> str:
    models = ", ".join(sorted({key.model_name for key in keys if key.active})) or "none"
    return f"no active key serves {selection.describe()}; configured models: {models}"


def _clean(reason: str) -> str:
    return " ".join(reason.split())[:200]
