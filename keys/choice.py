"""The choice of a key: pool after pool is asked, and where all are full the request waits."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Sequence
from dataclasses import replace

from redis.exceptions import RedisError

from keys.border import storage
from keys.limiter import Limiter
from keys.outage import State
from keys.planner import Planner
from keys.policies import Need
from keys.pool import Pool
from keys.reservations import Attempt, Refused, Reservation, refused
from keys.runtime import RuntimeKeys
from keys.selection import Selection
from lua import limiter_calls
from lua.limiter_types import NoRoom, Refusal, Shard


class Choice:
    """Chooses a key and reserves on it. Safe under threads."""

    def __init__(self, limiter: Limiter, planner: Planner, runtime: RuntimeKeys) -> None:
        self._limiter = limiter
        self._planner = planner
        self._runtime = runtime
        self._round = itertools.count(int.from_bytes(os.urandom(2), "big"))

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
        """See `KeyManager.reserve`."""
        self._runtime.begin()
        version = self._runtime.generation
        pools = self._planner.rounds_for(selection, avoid, ask=True).in_order(next(self._round))
        # Several shards, or a larger pool, are searched first: the queue is for when all is full.
        patience = max_wait if len(pools) == 1 and not pools[0].large else 0.0
        tried: list[tuple[Attempt, NoRoom]] = []
        away: dict[Shard, RedisError] = {}
        with storage("reserve a key"):
            for pool in pools:
                if pool.shard in away:
                    continue
                try:
                    for plan in pool.plans():
                        attempt = Attempt(plan, need, reservation_id, lease_seconds)
                        outcome = self._try(attempt, patience, priority)
                        if not isinstance(outcome, NoRoom):
                            return outcome
                        tried.append((attempt, outcome))
                        self._learn(pool, attempt, outcome)
                except RedisError as error:
                    away[pool.shard] = error  # a cluster's other nodes may answer
            soonest = _soonest([refusal for _, refusal in tried])
            if soonest is not None and max_wait > patience:
                attempt, _ = tried[soonest]
                outcome = self._try(attempt, max_wait, priority)
                if not isinstance(outcome, NoRoom):
                    return outcome
                tried[soonest] = attempt, outcome
            if away and soonest is None:
                raise next(iter(away.values()))
        if self._runtime.generation != version:
            # Redis told of keys that were registered or revoked since these were chosen.
            return self.reserve(
                need,
                selection,
                reservation_id=reservation_id,
                lease_seconds=lease_seconds,
                avoid=avoid,
                max_wait=max_wait,
                priority=priority,
            )
        return self._explained(refused([refusal for _, refusal in tried], need))

    def _try(
        self, attempt: Attempt, max_wait: float, priority: int
    ) -> Reservation | Refused | NoRoom:
        if max_wait > 0:
            return self._limiter.reserve_or_wait(attempt, max_wait, priority)
        return self._limiter.reserve(attempt)

    def _explained(self, refusal: Refused) -> Refused:
        """A refusal tells that it is Redis that is missing, and not only room."""
        troubles = [o.describe() for o in self._limiter.outages() if o.state is not State.UP]
        if not troubles:
            return refusal
        return replace(refusal, reason=f"{refusal.reason} ({'; '.join(troubles)})")

    def _learn(self, pool: Pool, attempt: Attempt, outcome: NoRoom) -> None:
        if not pool.large:
            return
        pool.learn(attempt.plan, outcome.passed_over, outcome.now_ms)
        cooling = [p for p in outcome.passed_over if p.why is Refusal.COOLING]
        away = self._limiter.outage(attempt.plan.shard).away is not None
        if 2 * len(cooling) > len(attempt.plan.packed) and not away:
            # Where so many are passed over, one look at all marks saves many calls.
            pool.learn_marks(
                limiter_calls.blocked(self._limiter.calls(attempt.plan.shard), attempt.plan.shard)
            )


def _soonest(refusals: Sequence[NoRoom]) -> int | None:
    """Which of them opens first, by the clock of its own server; None if nobody knows."""
    waits = [(r.wait_seconds, at) for at, r in enumerate(refusals)]
    return min(((wait, at) for wait, at in waits if wait is not None), default=(0.0, None))[1]
