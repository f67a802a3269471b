"""Three ways in which providers count: sliding log, fixed window, token bucket.

Each takes the time from its caller (`now`, in seconds), so that tests need not sleep. A window is
half open: what was admitted at `t` no longer counts at `t + seconds`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal, Protocol
from zoneinfo import ZoneInfo

Kind = Literal["sliding", "fixed", "bucket"]
NextEdge = Callable[[float], float]

# A bucket is filled with fractions: without slack, waiting exactly long enough could fall short.
_SLACK = 1e-6


class Window(Protocol):
    """A limit on amounts over time. `fits` asks, `add` charges (even beyond the limit)."""

    limit: int

    def used(self, now: float) -> float:
        """What counts against the limit at `now`."""

    def fits(self, amount: int, now: float) -> bool:
        """Whether `amount` may be charged at `now`."""

    def add(self, amount: int, now: float) -> None:
        """Charge `amount`, whether it fits or not."""

    def wait(self, amount: int, now: float) -> float:
        """Seconds until `amount` fits: 0 if it does, infinity if it never will."""

    def reset(self, now: float) -> float:
        """Seconds until nothing counts any more, if nothing else comes."""


class SlidingLog:
    """Amounts of the last `seconds`, each with its time, and the highest sum ever seen.

    >>> log = SlidingLog(60.0)
    >>> log.add(3, now=0.0); log.add(4, now=59.0); log.add(5, now=60.0)
    >>> log.total(now=60.0), log.peak
    (9, 9)
    """

    __slots__ = ("_total", "entries", "peak", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.entries: deque[tuple[float, int]] = deque()
        self.peak = 0
        self._total = 0

    def add(self, amount: int, now: float) -> None:
        if amount == 0:
            return
        self.entries.append((now, amount))
        self._total += amount
        self.peak = max(self.peak, self.total(now))

    def total(self, now: float) -> int:
        entries, seconds = self.entries, self.seconds
        while entries and entries[0][0] + seconds <= now:
            self._total -= entries.popleft()[1]
        return self._total


class SlidingWindow:
    """Exact: never more than `limit` in any window of `seconds`, wherever it starts."""

    __slots__ = ("limit", "log")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.log = SlidingLog(seconds)

    def used(self, now: float) -> float:
        return self.log.total(now)

    def fits(self, amount: int, now: float) -> bool:
        return self.log.total(now) + amount <= self.limit

    def add(self, amount: int, now: float) -> None:
        self.log.add(amount, now)

    def wait(self, amount: int, now: float) -> float:
        if amount > self.limit:
            return math.inf
        excess = self.log.total(now) + amount - self.limit
        if excess <= 0:
            return 0.0
        for admitted, charged in self.log.entries:
            excess -= charged
            if excess <= 0:
                return admitted + self.log.seconds - now
        return math.inf

    def reset(self, now: float) -> float:
        if not self.log.total(now):
            return 0.0
        return self.log.entries[-1][0] + self.log.seconds - now


class FixedWindow:
    """A counter that starts anew at each edge; `next_edge` says when, given the time."""

    __slots__ = ("_count", "_end", "_next_edge", "limit")

    def __init__(self, limit: int, next_edge: NextEdge) -> None:
        self.limit = limit
        self._next_edge = next_edge
        self._count = 0
        self._end = -math.inf

    def used(self, now: float) -> float:
        if now >= self._end:
            self._count = 0
            self._end = self._next_edge(now)
        return self._count

    def fits(self, amount: int, now: float) -> bool:
        return self.used(now) + amount <= self.limit

    def add(self, amount: int, now: float) -> None:
        self.used(now)
        self._count += amount

    def wait(self, amount: int, now: float) -> float:
        if amount > self.limit:
            return math.inf
        return 0.0 if self.fits(amount, now) else self._end - now

    def reset(self, now: float) -> float:
        return self._end - now if self.used(now) else 0.0


class TokenBucket:
    """Holds at most `limit`, starts full, and refills by `limit / seconds` each second."""

    __slots__ = ("_last", "_level", "_rate", "limit")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self._rate = limit / seconds
        self._level = float(limit)
        self._last = -math.inf

    def used(self, now: float) -> float:
        if now > self._last:
            self._level = min(float(self.limit), self._level + (now - self._last) * self._rate)
            self._last = now
        return self.limit - self._level

    def fits(self, amount: int, now: float) -> bool:
        return self.used(now) + amount <= self.limit + _SLACK

    def add(self, amount: int, now: float) -> None:
        self.used(now)
        self._level -= amount

    def wait(self, amount: int, now: float) -> float:
        if self.fits(amount, now):
            return 0.0
        return math.inf if amount > self.limit else (amount - self._level) / self._rate

    def reset(self, now: float) -> float:
        used = self.used(now)
        return used / self._rate if used else 0.0


def left(window: Window, now: float) -> int:
    """What remains of a limit, as providers tell it: a whole number, never negative."""
    return max(0, math.floor(window.limit - window.used(now) + _SLACK))


def aligned(seconds: float) -> NextEdge:
    """Edges at whole multiples of `seconds` since the epoch."""

    def next_edge(now: float) -> float:
        edge = (math.floor(now / seconds) + 1) * seconds
        return edge if edge > now else edge + seconds  # rounding can land on `now` itself

    return next_edge


def pacific_midnight(now: float) -> float:
    """The next midnight in California, daylight saving included: how Gemini counts a day."""
    midnight = datetime.fromtimestamp(now, ZoneInfo("America/Los_Angeles")).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    return (midnight + timedelta(days=1)).timestamp()


def make_window(kind: Kind, limit: int, seconds: float) -> Window:
    """The window of that kind: `limit` in `seconds`.

    >>> make_window("fixed", 10, 60.0).fits(11, now=0.0)
    False
    """
    if kind == "sliding":
        return SlidingWindow(limit, seconds)
    if kind == "fixed":
        return FixedWindow(limit, aligned(seconds))
    return TokenBucket(limit, seconds)
