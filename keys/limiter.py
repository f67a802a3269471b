"""The limiter as the rest of the program sees it: the scripts, the waiting room and the clock."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from redis.exceptions import RedisError, ResponseError

from core.bridge import sleep
from core.events import CircuitOpened, SettleFailed, emit
from core.redis_connection import RedisConnection
from core.redis_watch import StateLost, WatchedCalls, may_pass, out_of_service
from keys.heartbeat import Heartbeat
from keys.local_admission import LocalAdmission, RedisDecides
from keys.outage import Outage, State
from keys.places import Places
from keys.policies import DayEnds, Need, charge_unsent, lesson_of, told_use, weigh
from keys.pool import Plan
from keys.redis_clock import RedisClock
from keys.reservations import Attempt, End, Refused, Reservation
from keys.runtime import RuntimeKeys
from keys.selection import subjects_of
from keys.spec import KeySpec
from keys.waiting import Ticket, WaitingRoom
from lua import limiter_calls
from lua.circuits import USUAL_RULES, CircuitRules, Pulse
from lua.limiter_types import (
    NO_PATIENCE,
    UNREAD,
    Explanation,
    Geometry,
    GroupKeys,
    LifeSign,
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
from lua.loader import ScriptCall, load, run_pipeline

WATCHED_SCRIPTS = ("reserve", "settle", "wake")
"""A server that does not know these may be another one than it was."""


@dataclass(frozen=True, slots=True)
class _Desk:
    """One shard: its commands, its state, and who decides while Redis does not."""

    outage: Outage
    calls: WatchedCalls
    local: LocalAdmission


class Limiter:
    """Reserves and settles. Safe under threads. Every method may raise redis-py's errors.

    Args:
        redis: the connection to the server that keeps the counters.
        geometry: the measures of the ring.
        rules: when circuits open.
        clock: Unix seconds, for the ends of the providers' days.
        admits_locally: whether requests are admitted while Redis is away.
        keys: gives the keys as configured.
    """

    def __init__(
        self,
        redis: RedisConnection,
        places: Places,
        geometry: Geometry,
        *,
        rules: CircuitRules = USUAL_RULES,
        clock: Callable[[], float] = time.time,
        admits_locally: bool = True,
        keys: Callable[[], Sequence[KeySpec]] = tuple,
    ) -> None:
        self._rules = rules
        self._runtime: RuntimeKeys | None = None
        self._redis = redis
        self._admits_locally = admits_locally
        self._keys = keys
        self._desks: dict[str, _Desk] = {}
        self._desks_lock = threading.Lock()
        self._heart = Heartbeat()
        self._places = places
        self._geometry = geometry
        self._day_ends = DayEnds(clock)
        self._clocks: dict[str, RedisClock] = defaultdict(RedisClock)
        self._ratios: dict[str, float] = {}
        self._knows_settle: set[str] = set()
        self._turn = itertools.count(int.from_bytes(os.urandom(2), "big"))
        self._room = WaitingRoom(
            redis.pubsub,
            places.channel,
            self._wake,
            patience=min(5.0, max(0.25, geometry.window_ms / 12_000)),
            away=lambda: any(outage.away is not None for outage in self.outages()),
        )

    def follow(self, runtime: RuntimeKeys) -> None:
        """Tell of what is changed of keys at run time, as reservations learn of it."""
        self._runtime = runtime

    def reserve(self, attempt: Attempt) -> Reservation | NoRoom:
        """Choose one of the plan's keys and reserve on it, in one round trip."""
        desk = self._desk(attempt.plan.shard)
        self._heart.start()
        while True:
            if desk.outage.state is State.UP:
                try:
                    outcome = self._reserve(attempt, NO_PATIENCE)
                except RedisError as error:
                    if not desk.outage.covers(error):
                        raise
                else:
                    assert not isinstance(outcome, Waits), "it was not asked to wait"
                    return outcome
            found = desk.local.reserve(attempt)
            if not isinstance(found, RedisDecides):
                return found

    def reserve_or_wait(
        self, attempt: Attempt, max_wait: float, priority: int
    ) -> Reservation | Refused | NoRoom:
        """The same, but wait in the queue for at most `max_wait` seconds where there is no room."""
        desk = self._desk(attempt.plan.shard)
        began = time.monotonic()
        self._heart.start()
        while True:
            if desk.outage.state is State.UP:
                try:
                    outcome = self._wait(attempt, began, max_wait, priority)
                except RedisError as error:
                    if not desk.outage.covers(error):
                        raise
                else:
                    if outcome is not None:
                        return outcome
            found = desk.local.reserve_or_wait(attempt, began, max_wait, priority)
            if not isinstance(found, RedisDecides):
                return found
            with suppress(RedisError):
                self._give_back(attempt)  # it may stand in the queue still, or was served untold
            attempt = replace(attempt, id=f"{attempt.id}+")

    def _wait(
        self, attempt: Attempt, began: float, max_wait: float, priority: int
    ) -> Reservation | Refused | NoRoom | None:
        """Wait in Redis' queue; None where its turn was promised by a Redis that was lost since."""
        plan = attempt.plan
        fields = [subjects_of(plan.key(n)).group for n in range(len(plan.packed))]
        ticket = Ticket(attempt.id, plan.shard, dict(zip(fields, plan.groups, strict=True)))
        channel = self._room.enter(ticket)
        calls = self._calls(plan.shard)
        try:
            turn = None
            while turn is None:
                left = max(0.001, began + max_wait - time.monotonic())
                outcome = self._queue_up(attempt, Patience(round(left * 1000), priority, channel))
                if not isinstance(outcome, Waits):
                    return outcome
                turn = self._room.wait(ticket, left)
                turn = turn or limiter_calls.leave(calls, plan.shard, attempt.id)
                if turn is None and not ticket.lost:
                    return self._last_look(attempt)
                ticket.lost = False
            sleep(turn.delay_seconds)
        except RedisError:
            raise  # the server forgets whoever waits there, or their time is over
        except BaseException:
            self._give_back(attempt)
            raise
        finally:
            self._room.exit(ticket)
        clock = self._clocks[plan.shard.tag]
        lost_at = self._desk(plan.shard).outage.trouble_since
        if turn.delay_seconds > 0 and clock.local(turn.now_ms) <= lost_at <= clock.local(
            turn.at_ms
        ):
            return None
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

    def _last_look(self, attempt: Attempt) -> Reservation | NoRoom:
        """Who waited in vain learns what is full, and when it opens."""
        outcome = self._reserve(attempt, NO_PATIENCE)
        assert not isinstance(outcome, Waits), "it was not asked to wait"
        return outcome

    def settle(
        self, reservation: Reservation, end: End, also: Sequence[ScriptCall] = ()
    ) -> list[Any]:
        """Settle, with further scripts in the same round trip. Returns their results.

        While Redis is away it is told when it is back; the results of the others are errors.
        """
        desk = self._desk(reservation.shard)
        own = desk.outage.own
        if desk.outage.state is not State.UP:
            # What a provider says is used holds what other routers have yet to tell Redis.
            end = replace(end, quotas=())
            desk.local.settled(reservation, end)
            if own.is_untold(reservation.id) or desk.outage.away is not None:
                own.settle_later(reservation, end, time.monotonic())
                return self._others(desk, also)
        call = self._settlement(reservation, end)
        try:
            settled, *others = run_pipeline(desk.calls, [call, *also])
        except RedisError as error:
            settled, others = error, [error] * len(also)
        if isinstance(settled, StateLost) or (
            isinstance(settled, RedisError) and out_of_service(settled)
        ):
            own.settle_later(reservation, replace(end, quotas=()), time.monotonic())
            desk.local.settled(reservation, end)
            return others
        if isinstance(settled, RedisError):
            raise settled
        own.settled(reservation, end, time.monotonic())
        self._knows_settle.add(reservation.shard.tag)
        self._learn(reservation, end, limiter_calls.read_settled(settled))
        return others

    def settle_soon(self, reservation: Reservation, end: End) -> None:
        """Settle without waiting for Redis's word.

        If it turns out that Redis may not have heard, it is told with the next beat. The first one
        is waited for: a server that has never seen the script takes nothing by its digest.
        """
        desk = self._desk(reservation.shard)
        if desk.outage.state is not State.UP or reservation.shard.tag not in self._knows_settle:
            self.settle(reservation, end)
            return
        desk.outage.own.settled(reservation, end, time.monotonic())
        command = self._settlement(reservation, end).command
        try:
            desk.calls.tell(command, partial(self._heard, desk, reservation, end))
        except RedisError:
            self.settle(reservation, end)
        except BaseException:  # the caller was interrupted: perhaps it was sent, perhaps not
            self._settle_again(desk, reservation, end)
            raise

    def _heard(self, desk: _Desk, reservation: Reservation, end: End, settled: Any) -> None:
        """What came of a settlement that nobody waited for."""
        if not isinstance(settled, Exception):
            self._learn(reservation, end, limiter_calls.read_settled(settled))
        elif isinstance(settled, ResponseError) and not may_pass(settled):
            request_id = reservation.id.rpartition(".")[0]
            emit(SettleFailed(request_id, reservation.key.key_id, str(settled)))
        else:
            self._knows_settle.discard(reservation.shard.tag)
            self._settle_again(desk, reservation, end)

    def _settle_again(self, desk: _Desk, reservation: Reservation, end: End) -> None:
        """Have the next beat tell Redis, which changes nothing of what was settled."""
        desk.outage.own.settle_later(reservation, replace(end, quotas=()), time.monotonic())
        desk.local.settled(reservation, end)
        self._heart.wake.set()

    def _learn(self, reservation: Reservation, end: End, outcome: Settled) -> None:
        if outcome.ratio is not None:
            self._ratios[reservation.key.model_name] = outcome.ratio
        if outcome.key_opened or outcome.service_opened:
            self._tell_opened(reservation, end, outcome)

    def _tell_opened(self, reservation: Reservation, end: End, outcome: Settled) -> None:
        subjects = subjects_of(reservation.key)
        opened = (outcome.key_opened, subjects.key), (outcome.service_opened, subjects.service)
        request_id = reservation.id.rpartition(".")[0]
        for is_open, subject in opened:
            if is_open:
                provider, why = reservation.key.provider, end.life_sign.why
                emit(CircuitOpened(provider, subject.partition(":")[2], why, request_id))

    def _others(self, desk: _Desk, also: Sequence[ScriptCall]) -> list[Any]:
        """Run what goes along with a settlement that is to be made later."""
        try:
            return run_pipeline(desk.calls, also) if also else []
        except RedisError as error:
            return [error] * len(also)

    def ratio_of(self, model: str) -> float:
        """A model's real input tokens for each estimated one, as this process saw it last."""
        return self._ratios.get(model, 1.0)

    def refresh_ratios(self, shard: Shard) -> None:
        """See every model's ratio as Redis has it now."""
        self._ratios.update(limiter_calls.ratios(self._calls(shard), shard))

    def explain(self, plan: Plan, need: Need) -> tuple[int, list[Explanation]]:
        """Why each of the plan's keys would be chosen or passed over; changes nothing."""
        return limiter_calls.explain(
            self._calls(plan.shard),
            self._geometry,
            plan.shard,
            groups=plan.groups,
            weights=self.weights(plan, need),
            candidates=plan.rows,
        )

    def weights(self, plan: Plan, need: Need) -> list[Weights]:
        """What a request would add under each of the plan's policies."""
        return [weigh(policy, need, self._day_ends(policy.day_zone)) for policy in plan.policies]

    def outage(self, shard: Shard) -> Outage:
        """Whether Redis can be relied on for a shard."""
        return self._desk(shard).outage

    def outages(self) -> list[Outage]:
        """The same for each shard that was used."""
        return [desk.outage for desk in list(self._desks.values())]

    def calls(self, shard: Shard) -> WatchedCalls:
        """The commands of a shard, which fail at once while Redis is known to be away."""
        return self._calls(shard)

    def close(self) -> None:
        """End the threads."""
        self._heart.close()
        self._room.close()

    # -- inside --------------------------------------------------------------------------------

    def _reserve(self, attempt: Attempt, patience: Patience) -> Reservation | NoRoom | Waits:
        plan = attempt.plan
        desk = self._desk(plan.shard)
        weights = self.weights(plan, attempt.need)
        before = time.monotonic()
        answer = limiter_calls.reserve(
            desk.calls,
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
            epoch=desk.outage.epoch,
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
        reservation = Reservation(
            id=attempt.id,
            key=plan.key(index),
            need=attempt.need,
            weights=self.weights(plan, attempt.need)[plan.packed[index].policy],
            shard=plan.shard,
            ready_at=self._clocks[plan.shard.tag].local(turn.at_ms),
            waited=waited,
            lease_seconds=attempt.lease_seconds,
            secret_version=self._runtime.version_of(plan.key(index)) if self._runtime else 0,
        )
        self._desk(plan.shard).outage.note(reservation)
        return reservation

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
                life_sign=end.life_sign,
                rules=self._rules,
                secret_version=reservation.secret_version,
            ),
        )

    def _give_back(self, attempt: Attempt) -> None:
        """Whoever waited is interrupted: leave the queue, and give back what was reserved."""
        turn = limiter_calls.leave(self._calls(attempt.plan.shard), attempt.plan.shard, attempt.id)
        if turn is not None:
            unsent = End(charge_unsent(), answered=False, life_sign=LifeSign(Pulse.UNKNOWN))
            self.settle(self._reservation(attempt, turn), unsent)

    def _wake(self, shard: Shard, group: GroupKeys) -> None:
        limiter_calls.wake(self._calls(shard), self._geometry, shard, group)

    def _calls(self, shard: Shard) -> WatchedCalls:
        return self._desk(shard).calls

    def _desk(self, shard: Shard) -> _Desk:
        desk = self._desks.get(shard.tag)
        return desk if desk is not None else self._open_desk(shard)

    def _open_desk(self, shard: Shard) -> _Desk:
        with self._desks_lock:
            desk = self._desks.get(shard.tag)
            if desk is not None:
                return desk
            where = self._redis.description
            if self._redis.clustered:
                where = f"{where}, for {shard.tag}"
            outage = Outage(
                self._redis.calls,
                where,
                self._places,
                self._geometry,
                shard,
                admits=self._admits_locally,
                keys=self._keys,
                settlement=self._settlement,
                disturb=self._room.disturb,
                due=self._heart.wake,
            )
            scripts = frozenset(load(name).sha for name in WATCHED_SCRIPTS)
            calls = WatchedCalls(self._redis, outage, scripts)
            local = LocalAdmission(outage, self._confirm, self._weights_of)
            desk = self._desks[shard.tag] = _Desk(outage, calls, local)
            self._heart.add(outage)
            return desk

    def _weights_of(self, attempt: Attempt) -> list[Weights]:
        return self.weights(attempt.plan, attempt.need)

    def _confirm(self, attempt: Attempt, index: int) -> Reservation | NoRoom:
        """Reserve on one of the plan's keys."""
        outcome = self._reserve(replace(attempt, plan=attempt.plan.only(index)), NO_PATIENCE)
        assert not isinstance(outcome, Waits), "it was not asked to wait"
        return outcome
