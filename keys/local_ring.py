"""The ring of sub-buckets of one quota group, kept in memory: the twin of `lua/includes/ring.lua`.

No clock, no lock: the time is an argument, in whole milliseconds of any clock that goes forwards.
"""

from __future__ import annotations

from typing import NamedTuple

from lua.limiter_types import Geometry


class Amounts(NamedTuple):
    """Requests, tokens, input tokens and output tokens.

    Example:
        >>> Amounts(1, 10).plus(Amounts(tokens=5)).tokens
        15
    """

    requests: int = 0
    tokens: int = 0
    input: int = 0
    output: int = 0

    def plus(self, other: Amounts) -> Amounts:
        """The sums, one by one."""
        return Amounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


NOTHING = Amounts()


class LocalRing:
    """What one group was charged in the last window, and when room opens again.

    Example:
        >>> ring = LocalRing(Geometry(window_ms=60_000), now_ms=1_000)
        >>> slot = ring.add(1_000, Amounts(requests=1))
        >>> ring.advance(61_000).requests, ring.advance(62_500).requests
        (1, 0)
    """

    def __init__(self, geometry: Geometry, now_ms: int) -> None:
        self._geometry = geometry
        self._slots: dict[int, Amounts] = {}
        self._head = self._oldest = self._slot(now_ms)
        self._sums = NOTHING

    def advance(self, now_ms: int) -> Amounts:
        """Let what is too old age out, and return the sums. Time that goes backwards stays."""
        self._head = max(self._head, self._slot(now_ms))
        last_aged = self._head - self._geometry.counted
        if self._slots and self._oldest <= last_aged:
            for slot in [slot for slot in self._slots if slot <= last_aged]:
                self._sums = self._sums.plus(_negated(self._slots.pop(slot)))
            self._oldest = min(self._slots, default=self._head)
        return self._sums

    def add(self, at_ms: int, amounts: Amounts) -> int:
        """Charge at a time, at the latest now; what is too old to count is left out.

        Returns:
            The slot that was charged.
        """
        slot = min(self._slot(at_ms), self._head)
        self.correct(slot, amounts)
        return slot

    def correct(self, slot: int, amounts: Amounts) -> None:
        """Add to a slot, or with negative amounts give back at most what it holds."""
        if slot > self._head or self._head - slot >= self._geometry.counted:
            return
        old = self._slots.get(slot, NOTHING)
        new = Amounts(*(max(0, value) for value in old.plus(amounts)))
        self._oldest = min(self._oldest, slot) if self._slots else slot
        self._slots[slot] = new
        self._sums = self._sums.plus(new).plus(_negated(old))

    def opening(self, missing: Amounts) -> int:
        """The first ms at which ageing alone has brought each sum down by what is missing; -1 if
        that never happens."""
        left = missing
        for slot in sorted(self._slots):
            left = left.plus(_negated(self._slots[slot]))
            if max(left) <= 0:
                return self._start(slot + self._geometry.counted)
        return -1

    def burst(self, slots: int, limit: int) -> tuple[int, int]:
        """Requests in the newest `slots` slots, and the ms at which one more fits `limit`."""
        first = self._head - min(slots, self._geometry.counted) + 1
        held = [(slot, self._slots[slot].requests) for slot in sorted(self._slots) if slot >= first]
        found = sum(requests for _, requests in held)
        missing, opens = found + 1 - limit, 0
        for slot, requests in held:
            if missing > 0:
                missing -= requests
                opens = self._start(slot + slots)
        return found, opens

    def _slot(self, ms: int) -> int:
        return ms * self._geometry.slots // self._geometry.window_ms

    def _start(self, slot: int) -> int:
        return -(-slot * self._geometry.window_ms // self._geometry.slots)


def _negated(amounts: Amounts) -> Amounts:
    return Amounts(*(-value for value in amounts))
