"""The limiter as the rest of the program sees it: the scripts, the waiting room and the clock."""

from __future__ import annotations

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from core.events import CircuitOpened, emit
from core.redis_connection import RedisConnection
from keys.places import Places
from keys.policies import DayEnds, Need, charge_unsent, lesson_of, told_use, weigh
from keys.pool import Plan
from keys.redis_clock import RedisClock
from keys.reservations import End, Refused, Reservation
from keys.runtime import RuntimeKeys
from keys.selection import subjects_of
from keys.waiting import Ticket, WaitingRoom
from lua import limiter_calls
from lua.circuits import USUAL_RULES, CircuitRules, Pulse
from lua.limiter_types import (
    NO_PATIENCE,
    UNREAD,
    Explanation,
    Geometry,
    GroupKeys,
    Heartbeat,
    NoRoom,
    Patience,
    Reserved,
    Settled,
    Settlement,
    Shard,
    Turn,
    Waits,
    Weights,
)
from lua.loader import ScriptCall, run_pipeline


@dataclass(frozen=True, slots=True)
class Attempt:
    """One reservation to be made: on which keys, for what, under which id.

    Args:
        lease_seconds: how long parallel slots and output are held if this process dies.
    """

    plan: Plan
    need: Need
    id: str
    lease_seconds: float


class Limiter:
    """Reserves and settles. Safe under threads. Every method may raise redis-py's errors.

    Args:
        redis: the connection to the server that keeps the counters.
        geometry: the measures of the ring.
        rules: when circuits open.
        runtime: what is changed of keys at run time, for all processes.
        clock: Unix seconds, for the ends of the providers' days.
    """

    def __init__(
        self,
        redis: RedisConnection,
        places: Places,
        geometry: Geometry,
        *,
        rules: CircuitRules = USUAL_RULES,
        runtime: RuntimeKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._runtime = runtime
        self._redis = redis
        self._places = places
        self._geometry = geometry
        self._day_ends = DayEnds(clock)
        self._clocks: dict[str, RedisClock] = defaultdict(RedisClock)
        self._ratios: dict[str, float] = {}
        self._turn = itertools.count(int.from_bytes(os.urandom(2), "big"))
        self._room = WaitingRoom(
            redis.pubsub,
            places.channel,
            self._wake,
            patience=min(5.0, max(0.25, geometry.window_ms / 12_000)),
        )

    def reserve(self, attempt: Attempt) -> Reservation | NoRoom:
        """Choose one of the plan's keys and reserve on it, in one round trip."""
        outcome = self._reserve(attempt, NO_PATIENCE)
        assert not isinstance(outcome, Waits), "it was not asked to wait"
        return outcome

    def reserve_or_wait(
        self, attempt: Attempt, max_wait: float, priority: int
    ) -> Reservation | Refused | NoRoom:
        """The same, but wait in the queue for at most `max_wait` seconds where there is no room."""
        plan = attempt.plan
        fields = [subjects_of(plan.key(n)).group for n in range(len(plan.packed))]
        ticket = Ticket(attempt.id, plan.shard, dict(zip(fields, plan.groups, strict=True)))
        began = time.monotonic()
        channel = self._room.enter(ticket)
        try:
            turn = None
            while turn is None:
                left = max(0.001, began + max_wait - time.monotonic())
                outcome = self._queue_up(attempt, Patience(round(left * 1000), priority, channel))
                if not isinstance(outcome, Waits):
                    return outcome
                turn = self._room.wait(ticket, left)
                turn = turn or limiter_calls.leave(self._redis, plan.shard, attempt.id)
                if turn is None and not ticket.lost:
                    return Refused(None, f"no key had room within max_wait of {max_wait:g} s")
                ticket.lost = False
            time.sleep(turn.delay_seconds)
        except BaseException:
            self._give_back(attempt)
            raise
        finally:
            self._room.exit(ticket)
        return self._reservation(attempt, turn, time.monotonic() - began)

    def _queue_up(self, attempt: Attempt, patience: Patience) -> Reservation | NoRoom | Waits:
        """Reserve, or join the queue."""
        outcome = self._reserve(attempt, patience)
        if isinstance(outcome, Waits):
            plan = attempt.plan
            for candidate, at_ms in outcome.looks:
                seconds = (at_ms - outcome.now_ms) / 1000
                self._room.look_later(plan.shard, plan.groups[candidate], seconds)
        return outcome

    def settle(
        self, reservation: Reservation, end: End, also: Sequence[ScriptCall] = ()
    ) -> list[Any]:
        """Settle, with further scripts in the same round trip. Returns their results."""
        settled, *others = run_pipeline(self._redis, [self._settlement(reservation, end), *also])
        if isinstance(settled, RedisError):
            raise settled
        outcome = limiter_calls.read_settled(settled)
        if outcome.ratio is not None:
            self._ratios[reservation.key.model_name] = outcome.ratio
        if outcome.key_opened or outcome.service_opened:
            self._tell_opened(reservation, end, outcome)
        return others

    def _tell_opened(self, reservation: Reservation, end: End, outcome: Settled) -> None:
        subjects = subjects_of(reservation.key)
        opened = (outcome.key_opened, subjects.key), (outcome.service_opened, subjects.service)
        request_id = reservation.id.rpartition(".")[0]
        for is_open, subject in opened:
            if is_open:
                provider, why = reservation.key.provider, end.heartbeat.why
                emit(CircuitOpened(provider, subject.partition(":")[2], why, request_id))

    def ratio_of(self, model: str) -> float:
        """A model's real input tokens for each estimated one, as this process saw it last."""
        return self._ratios.get(model, 1.0)

    def refresh_ratios(self, shard: Shard) -> None:
        """See every model's ratio as Redis has it now."""
        self._ratios.update(limiter_calls.ratios(self._redis, shard))

    def explain(self, plan: Plan, need: Need) -> tuple[int, list[Explanation]]:
        """Why each of the plan's keys would be chosen or passed over; changes nothing."""
        return limiter_calls.explain(
            self._redis,
            self._geometry,
            plan.shard,
            groups=plan.groups,
            weights=self.weights(plan, need),
            candidates=plan.rows,
        )

    def weights(self, plan: Plan, need: Need) -> list[Weights]:
        """What a request would add under each of the plan's policies."""
        return [weigh(policy, need, self._day_ends(policy.day_zone)) for policy in plan.policies]

    def close(self) -> None:
        """End the threads of the waiting room."""
        self._room.close()

    # -- inside --------------------------------------------------------------------------------

    def _reserve(self, attempt: Attempt, patience: Patience) -> Reservation | NoRoom | Waits:
        plan = attempt.plan
        weights = self.weights(plan, attempt.need)
        before = time.monotonic()
        answer = limiter_calls.reserve(
            self._redis,
            self._geometry,
            plan.shard,
            reservation_key=self._places.reservation(plan.shard, attempt.id),
            reservation_id=attempt.id,
            group_keys=plan.group_keys,
            weights=weights,
            candidates=plan.rows,
            tiers=plan.tiers,
            lease_ms=round(attempt.lease_seconds * 1000),
            rotation=next(self._turn),
            patience=patience,
        )
        self._clocks[plan.shard.tag].observe(before, answer.now_ms)
        if self._runtime is not None and answer.changes != UNREAD:
            self._runtime.notice(plan.shard, answer.changes)
        if isinstance(answer, Reserved):
            key_field = subjects_of(plan.key(answer.candidate)).key
            return self._reservation(attempt, Turn(key_field, answer.now_ms, answer.now_ms))
        return answer

    def _reservation(self, attempt: Attempt, turn: Turn, waited: float = 0.0) -> Reservation:
        plan = attempt.plan
        index = plan.index_of(turn.key_field)
        return Reservation(
            id=attempt.id,
            key=plan.key(index),
            need=attempt.need,
            weights=self.weights(plan, attempt.need)[plan.packed[index].policy],
            shard=plan.shard,
            ready_at=self._clocks[plan.shard.tag].local(turn.at_ms),
            waited=waited,
            secret_version=self._runtime.version_of(plan.key(index)) if self._runtime else 0,
        )

    def _settlement(self, reservation: Reservation, end: End) -> ScriptCall:
        key = reservation.key
        return limiter_calls.settle_call(
            self._geometry,
            reservation.shard,
            reservation_key=self._places.reservation(reservation.shard, reservation.id),
            reservation_id=reservation.id,
            group=self._places.group(key),
            logs=self._places.logs(key),
            settlement=Settlement(
                charge=end.charge,
                subjects="|".join(subjects_of(key)),
                lesson=lesson_of(key.model_name, reservation.need, end.usage),
                answered=end.answered,
                late_ms=max(0, round(end.late * 1000)),
                told=told_use(end.quotas),
                marks=end.marks,
                heartbeat=end.heartbeat,
                rules=self._rules,
                secret_version=reservation.secret_version,
            ),
        )

    def _give_back(self, attempt: Attempt) -> None:
        """Whoever waited is interrupted: leave the queue, and give back what was reserved."""
        turn = limiter_calls.leave(self._redis, attempt.plan.shard, attempt.id)
        if turn is not None:
            unsent = End(charge_unsent(), answered=False, heartbeat=Heartbeat(Pulse.UNKNOWN))
            self.settle(self._reservation(attempt, turn), unsent)

    def _wake(self, shard: Shard, group: GroupKeys) -> None:
        limiter_calls.wake(self._redis, self._geometry, shard, group)
