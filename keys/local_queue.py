"""Who waits for a key while Redis is away: first come first served within this process.

No clock, no lock, no input or output. Whoever waits gives a function by which it is told that
something changed for it; it may be told from any thread, with the caller's lock held.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field

from keys.local_limiter import LocalLimiter, Wish
from lua.limiter_types import NoRoom

LOOK = 32
"""So many of those who wait are looked at in one go."""


@dataclass(order=True)
class Waiter:
    """One request that waits.

    Args:
        order: (-priority, when it arrived, a number that makes it unique).
        tell: called when it was served, or is the one to look again.

    Attributes:
        served: the index of the key that was reserved for it.
        answer: why there is no room, as it was found last.
        place: its place among those who were sent away.
    """

    order: tuple[int, float, int]
    wish: Wish = field(compare=False)
    tell: Callable[[], None] = field(compare=False)
    served: int | None = field(default=None, compare=False)
    answer: NoRoom | None = field(default=None, compare=False)
    place: int = field(default=0, compare=False)


class LocalQueue:
    """Those who wait, in their order.

    Attributes:
        look_at_ms: when somebody should call `serve` again; -1 where nobody knows.
    """

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []
        self._held: set[str] = set()
        self.look_at_ms = -1

    def __len__(self) -> int:
        return len(self._waiters)

    @property
    def held(self) -> set[str]:
        """The rings whose room belongs to somebody who waits."""
        return self._held

    @property
    def first(self) -> Waiter | None:
        """Who looks again for all."""
        return self._waiters[0] if self._waiters else None

    def join(self, waiter: Waiter) -> None:
        """Wait; call `serve` afterwards."""
        insort(self._waiters, waiter)

    def leave(self, waiter: Waiter) -> None:
        """Wait no longer; call `serve` afterwards, as it may have been the first."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if not self._waiters:
            self._held = set()

    def serve(self, limiter: LocalLimiter, now_ms: int) -> None:
        """Serve all who can be served, in their order. One who cannot holds the group that opens
        first for it: nobody who came later takes that group's room."""
        first, held, served = self.first, set[str](), list[Waiter]()
        look = -1
        for waiter in self._waiters[:LOOK]:
            outcome = limiter.reserve(waiter.wish, now_ms, held)
            if not isinstance(outcome, NoRoom):
                waiter.served = outcome
                served.append(waiter)
                continue
            waiter.answer = outcome
            opens = [p for p in outcome.passed_over if p.until_ms > now_ms + 1]
            if opens:
                soonest = min(opens, key=lambda passed: passed.until_ms)
                held.add(waiter.wish.plan.groups[soonest.candidate].ring)
                look = soonest.until_ms if look == -1 else min(look, soonest.until_ms)
        for waiter in served:
            self._waiters.remove(waiter)
            waiter.tell()
        self._held = held if self._waiters else set()
        earlier = look != -1 and (self.look_at_ms <= now_ms or look < self.look_at_ms)
        self.look_at_ms = look
        if self.first is not None and (self.first is not first or earlier):
            self.first.tell()

    def dismiss(self) -> list[Waiter]:
        """Send all away unserved, in their order."""
        gone, self._waiters, self._held = self._waiters, [], set()
        for place, waiter in enumerate(gone):
            waiter.place = place
        return gone
