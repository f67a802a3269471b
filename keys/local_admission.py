"""Requests while Redis cannot decide alone: threads that reserve in this process's share, or wait.

While Redis is away the share alone decides. While it recovers, what the share allows is reserved in
Redis as well, and what Redis has no room for is given back.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from redis.exceptions import RedisError

from core.bridge import Bell, sleep
from core.events import AdmittedLocally, emit
from core.redis_watch import StateLost
from keys.local_limiter import Wish
from keys.local_queue import Waiter
from keys.outage import Outage, State
from keys.reservations import Attempt, End, Refused, Reservation
from lua.limiter_types import NEVER, NoRoom, Weights

LOOK_AGAIN_MS = 500
"""The first of those who wait looks at least so often, whatever it was told."""

APART_SECONDS = 0.002
"""Those who waited go back to Redis one after the other, in their order, so far apart."""


@dataclass(frozen=True, slots=True)
class RedisDecides:
    """Redis can be relied on again: ask there."""


REDIS_DECIDES = RedisDecides()


class LocalAdmission:
    """Reserves on one shard while its outage lasts. Safe under threads.

    Args:
        confirm: reserves on one of an attempt's keys in Redis, for which the share has room.
    """

    def __init__(
        self,
        outage: Outage,
        confirm: Callable[[Attempt, int], Reservation | NoRoom],
        weights: Callable[[Attempt], list[Weights]],
    ) -> None:
        self._outage = outage
        self._confirm = confirm
        self._weights = weights
        self._numbers = itertools.count()

    def reserve(self, attempt: Attempt) -> Reservation | NoRoom | RedisDecides:
        """Choose one of the plan's keys and reserve on it.

        Raises:
            RedisError: requests are to be refused now.
        """
        outage, wish = self._outage, self._wish(attempt)
        for _ in range(len(attempt.plan.packed) + 1):
            with outage.lock:
                if outage.state is State.UP:
                    return REDIS_DECIDES
                now_ms = outage.now_ms()
                if len(outage.queue):
                    outage.queue.serve(outage.local, now_ms)
                found = outage.local.reserve(wish, now_ms, outage.queue.held)
            outcome = found if isinstance(found, NoRoom) else self._agreed(attempt, wish, found)
            if not isinstance(outcome, NoRoom) or outcome is found:
                return outcome
        return outcome

    def reserve_or_wait(
        self, attempt: Attempt, arrived: float, max_wait: float, priority: int
    ) -> Reservation | Refused | NoRoom | RedisDecides:
        """The same, but wait for room in the order of arrival.

        Args:
            arrived: the monotonic time (s) from which on it waits.
        """
        outage, told = self._outage, Bell()
        order = (-priority, arrived, next(self._numbers))
        until_ms = int((arrived + max_wait) * 1000)
        waiter = Waiter(order, self._wish(attempt), told.set)
        try:
            with outage.lock:
                outage.queue.join(waiter)
            while True:
                with outage.lock:
                    if outage.state is State.UP:
                        break
                    now_ms = outage.now_ms()
                    outage.queue.serve(outage.local, now_ms)
                    index, waiter.served = waiter.served, None
                    look_ms = outage.queue.look_at_ms if outage.queue.first is waiter else -1
                if index is not None:
                    outcome = self._agreed(attempt, waiter.wish, index)
                    if not isinstance(outcome, NoRoom):
                        waited = time.monotonic() - arrived
                        return replace(outcome, waited=waited)
                    with outage.lock:
                        outage.queue.join(waiter)
                elif waiter.answer is not None and waiter.answer.when_ms == NEVER:
                    return waiter.answer
                elif now_ms >= until_ms:
                    return Refused(None, f"no key had room within max_wait of {max_wait:g} s")
                else:
                    end_ms = min(until_ms, now_ms + LOOK_AGAIN_MS)
                    end_ms = min(end_ms, look_ms) if look_ms > 0 else end_ms
                    told.wait(max(0.001, (end_ms - now_ms) / 1000))
                    told.clear()
        finally:
            self._leave(waiter)
        sleep(APART_SECONDS * waiter.place)
        return REDIS_DECIDES

    def settled(self, reservation: Reservation, end: End) -> None:
        """Charge locally what a reservation really used, and pass over what it marked."""
        outage = self._outage
        with outage.lock:
            now_ms, local = outage.now_ms(), outage.counting
            if local is None:
                return
            local.settle(reservation.id, end.charge, now_ms)
            for mark in end.marks:
                until_ms = -1 if mark.milliseconds < 0 else now_ms + mark.milliseconds
                local.mark(mark.field, until_ms)
            if len(outage.queue):
                outage.queue.serve(local, now_ms)

    # -- inside --------------------------------------------------------------------------------

    def _wish(self, attempt: Attempt) -> Wish:
        return Wish(
            id=attempt.id,
            plan=attempt.plan,
            weights=self._weights(attempt),
            lease_ms=round(attempt.lease_seconds * 1000),
            rotation=next(self._numbers),
        )

    def _agreed(self, attempt: Attempt, wish: Wish, index: int) -> Reservation | NoRoom:
        """What the share allows, reserved in Redis as well if it is there."""
        outage = self._outage
        with outage.lock:
            if outage.state is State.AWAY:
                return self._reserved_here(attempt, wish, index)
        try:
            outcome = self._confirm(attempt, index)
        except RedisError as error:
            with outage.lock:
                if outage.covers(error) and outage.away is not None and outage.admits:
                    return self._reserved_here(attempt, wish, index)
                self._withdraw(wish)
            if not isinstance(error, StateLost):
                raise
            return NoRoom(0, 0, ())
        with outage.lock:
            if outage.state is State.UP:
                return outcome
            if isinstance(outcome, NoRoom):
                self._withdraw(wish)
                wait_ms = outcome.when_ms - outcome.now_ms if outcome.when_ms > 0 else LOOK_AGAIN_MS
                ring = wish.plan.groups[index].ring
                outage.local.shut(ring, outage.now_ms() + max(1, wait_ms))
        return outcome

    def _reserved_here(self, attempt: Attempt, wish: Wish, index: int) -> Reservation:
        key = attempt.plan.key(index)
        own_id = f"{attempt.id}~"  # Redis may know the other from a call whose answer was lost
        self._outage.local.rename(wish.id, own_id)
        reservation = Reservation(
            id=own_id,
            key=key,
            need=attempt.need,
            weights=wish.weights[attempt.plan.packed[index].policy],
            shard=attempt.plan.shard,
            ready_at=time.monotonic(),
            lease_seconds=attempt.lease_seconds,
        )
        self._outage.own.note_local(reservation)
        self._outage.admitted_locally += 1
        emit(AdmittedLocally(key.key_id, key.provider))
        return reservation

    def _withdraw(self, wish: Wish) -> None:
        local = self._outage.counting
        if local is not None:
            local.withdraw(wish.id, self._outage.now_ms())

    def _leave(self, waiter: Waiter) -> None:
        """Wait no longer; what was reserved meanwhile and not taken is given back."""
        outage = self._outage
        with outage.lock:
            outage.queue.leave(waiter)
            if waiter.served is not None:
                self._withdraw(waiter.wish)
            first = outage.queue.first
        if first is not None:
            first.tell()
