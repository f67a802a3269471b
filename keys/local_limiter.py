"""The limiter of one process while Redis is away: its share of every limit, exact in any window.

**Never over, all processes together.** What a process may have used within any window is, for each
limit, at most its share (the limit divided by the number of routers). For the first window after
Redis was lost that is not enough: another process may have used more than its share just before.
Until then a process may have used no more than what it had used when Redis was lost, and its part
of the room that Redis had when it was seen last. The first is what is its own in what Redis had
admitted, so that all of them together never exceed it.

No clock, no lock, no input or output: the time is an argument, in ms of a clock that goes forwards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from keys.local_ring import NOTHING, Amounts, LocalRing
from keys.pool import Plan, burst_of
from keys.selection import subjects_of
from keys.spec import KeySpec
from lua.limiter_types import NEVER, Charge, Geometry, NoRoom, PassedOver, Refusal, Weights
from lua.outage_calls import KnownUse

DOUBTED = 4
"""Of a room that Redis told a while ago, this part of the limit (a quarter) is not believed: other
routers may have taken it since."""

TAKEN_AT_ONCE = 0.5
"""A candidate with so much of its share left is taken at once, so that equal ones take turns."""


@dataclass(frozen=True, slots=True)
class Share:
    """One router's part of every limit. The shares of all ranks add up to the limit.

    Example:
        >>> [Share(routers=3, rank=rank).of(10) for rank in range(3)]
        [4, 3, 3]
    """

    routers: int
    rank: int

    def of(self, limit: int) -> int:
        """This router's part of a limit."""
        return limit // self.routers + (self.rank < limit % self.routers)


@dataclass(frozen=True, slots=True)
class Seen:
    """What all routers had used of a group when Redis told it last.

    Args:
        at_ms: when that was, by the limiter's clock.
    """

    at_ms: int
    use: KnownUse


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request wants: one of the plan's keys, for what its weights say.

    Args:
        weights: for each of the plan's policies.
        lease_ms: how long at most it holds what does not age.
    """

    id: str
    plan: Plan
    weights: Sequence[Weights]
    lease_ms: int
    rotation: int = 0


@dataclass(slots=True)
class _Entry:
    """A request that is reserved here and not settled."""

    group: _Group
    slot: int
    charged: Amounts
    held: int
    till_ms: int
    day_end_ms: int


@dataclass(slots=True)
class _Group:
    ring: LocalRing
    before: Amounts = NOTHING
    in_flight_before: int = 0
    held_before: int = 0
    since_seen: Amounts = NOTHING
    seen: Seen | None = None
    open: dict[str, _Entry] = field(default_factory=dict)
    day_end_ms: int = 0
    today: Amounts = NOTHING
    shut_until_ms: int = 0


class LocalLimiter:
    """Reserves and settles within a share.

    Args:
        share: this router's part.
        began_ms: when Redis was lost.
        seen: by the name of a group's ring, what Redis told of it last.
    """

    def __init__(
        self, geometry: Geometry, share: Share, began_ms: int, seen: Mapping[str, Seen]
    ) -> None:
        self.share = share
        self.geometry = geometry
        self.began_ms = began_ms
        self.early_until_ms = began_ms + round(geometry.counted * geometry.slot_ms)
        self._seen = seen
        self._groups: dict[str, _Group] = {}
        self._entries: dict[str, _Entry] = {}
        self._marks: dict[str, int] = {}
        self._counted: set[str] = set()

    def early(self, now_ms: int) -> bool:
        """Whether what Redis admitted may still count in a window."""
        return now_ms < self.early_until_ms

    # -- what was before -----------------------------------------------------------------------

    def count_before(
        self,
        reservation_id: str,
        ring: str,
        key: KeySpec,
        at_ms: int,
        amounts: Amounts,
        *,
        held: int = 0,
        till_ms: int = 0,
    ) -> None:
        """Count what this process had used before Redis was lost; a second time does nothing.

        Args:
            amounts: what it is charged.
            held: the output tokens that it holds.
            till_ms: until when it holds what does not age; 0 for one that is settled.
        """
        if reservation_id in self._counted:
            return
        self._counted.add(reservation_id)
        group = self._group(ring, self.began_ms)
        counted = group.ring.advance(at_ms)  # a turn may have been promised ahead of time
        slot = group.ring.add(at_ms, amounts)
        if group.ring.advance(at_ms) != counted:  # else it is too old, and gives no right to more
            group.before = group.before.plus(amounts)
        if group.seen is not None and at_ms >= group.seen.at_ms:
            group.since_seen = group.since_seen.plus(amounts)
        if till_ms == 0:
            return
        entry = _Entry(group, slot, amounts, held, till_ms, 0)
        self._entries[reservation_id] = entry
        if _holds(key):
            group.open[reservation_id] = entry
            group.in_flight_before += 1
            group.held_before += held

    def mark(self, subject: str, until_ms: int) -> None:
        """Pass a key, group or provider over; -1 until Redis is back. The later end wins."""
        old = self._marks.get(subject, 0)
        if old != -1 and (until_ms == -1 or until_ms > old):
            self._marks[subject] = until_ms

    def shut(self, ring: str, until_ms: int) -> None:
        """Admit nothing in a group until then: Redis, asked too, has no room."""
        group = self._groups.get(ring)
        if group is not None:
            group.shut_until_ms = max(group.shut_until_ms, until_ms)

    # -- one request ---------------------------------------------------------------------------

    def reserve(self, wish: Wish, now_ms: int, held: Collection[str] = ()) -> int | NoRoom:
        """Choose one of the plan's keys and reserve on it; its index, or why there is none.

        Args:
            held: rings whose room belongs to somebody who waits.
        """
        plan = wish.plan
        refused: list[PassedOver] = []
        start = 0
        for size in map(int, plan.tiers.split(",")):
            best, best_room = -1, -1.0
            for n in range(size):
                index = start + (wish.rotation + n) % size
                found = self._examine(wish, index, now_ms, held)
                if isinstance(found, PassedOver):
                    refused.append(found)
                elif found > best_room:
                    best, best_room = index, found
                    if found >= TAKEN_AT_ONCE:
                        break
            if best >= 0:
                self._charge(wish, best, now_ms)
                return best
            start += size
        return NoRoom(now_ms, _soonest(refused), tuple(refused))

    def settle(self, reservation_id: str, charge: Charge, now_ms: int) -> None:
        """Charge what was really used: less is given back where it was charged, more now."""
        entry = self._entries.pop(reservation_id, None)
        if entry is None:
            return
        group = entry.group
        group.open.pop(reservation_id, None)
        group.ring.advance(now_ms)
        used = Amounts(charge.requests, charge.tokens, charge.input)
        change = used.plus(Amounts(*(-value for value in entry.charged)))
        back = Amounts(*(min(0, value) for value in change))
        more = Amounts(*(max(0, value) for value in change))
        group.ring.correct(entry.slot, back)
        group.ring.add(now_ms, more.plus(Amounts(output=charge.output)))
        if entry.day_end_ms and entry.day_end_ms == group.day_end_ms:
            group.today = group.today.plus(Amounts(change.requests, change.tokens))

    def rename(self, old_id: str, new_id: str) -> None:
        """The reservation has another id now."""
        entry = self._entries.pop(old_id, None)
        if entry is not None:
            self._entries[new_id] = entry
            if entry.group.open.pop(old_id, None) is not None:
                entry.group.open[new_id] = entry

    def withdraw(self, reservation_id: str, now_ms: int) -> None:
        """Forget a reservation that was not used."""
        self.settle(reservation_id, Charge(0, 0, 0, 0), now_ms)

    def tidy(self, now_ms: int) -> None:
        """Forget requests whose client never settled them, once their lease is over."""
        for reservation_id in [i for i, e in self._entries.items() if e.till_ms <= now_ms]:
            self._entries.pop(reservation_id).group.open.pop(reservation_id, None)
        self._counted &= self._entries.keys()

    # -- inside --------------------------------------------------------------------------------

    def _group(self, ring: str, now_ms: int) -> _Group:
        group = self._groups.get(ring)
        if group is None:
            group = self._groups[ring] = _Group(LocalRing(self.geometry, now_ms))
            group.seen = self._seen.get(ring)
        return group

    def _examine(
        self, wish: Wish, index: int, now_ms: int, held: Collection[str]
    ) -> float | PassedOver:
        """The share of room that would be left, or why the candidate is passed over."""
        packed = wish.plan.packed[index]
        key, ring = packed.candidate.key, packed.group.ring
        weights = wish.weights[packed.policy]
        until = self._marked_until(key, now_ms)
        if until:
            return PassedOver(index, Refusal.COOLING, until)
        if _too_large(key, weights):
            return PassedOver(index, Refusal.TOO_LARGE, NEVER)
        group = self._group(ring, now_ms)
        if group.shut_until_ms > now_ms:
            return PassedOver(index, Refusal.FULL, group.shut_until_ms)
        view = _View(self, group, key, weights, now_ms)
        room = view.room()
        if room < 0:
            return PassedOver(index, *view.opening())
        if ring in held:
            return PassedOver(index, Refusal.QUEUED, now_ms + 1)
        return room

    def _marked_until(self, key: KeySpec, now_ms: int) -> int:
        if not self._marks:
            return 0
        ends = [self._marks.get(subject, 0) for subject in subjects_of(key)]
        latest = -1 if -1 in ends else max(ends)
        return latest if latest == -1 or latest > now_ms else 0

    def _charge(self, wish: Wish, index: int, now_ms: int) -> None:
        packed = wish.plan.packed[index]
        key, weights = packed.candidate.key, wish.weights[packed.policy]
        group = self._group(packed.group.ring, now_ms)
        amounts = Amounts(1, weights.tokens, weights.input)
        group.ring.advance(now_ms)
        slot = group.ring.add(now_ms, amounts)
        day_end = 0
        if _counts_days(key):
            day_end = weights.day_end_ms
            group.today = group.today.plus(amounts)
        till_ms = now_ms + wish.lease_ms
        entry = _Entry(group, slot, amounts, weights.output, till_ms, day_end)
        self._entries[wish.id] = entry
        self._counted.add(wish.id)
        if _holds(key):
            group.open[wish.id] = entry


@dataclass(frozen=True, slots=True)
class _Row:
    """One limit a minute and what stands against it; `place` is its index in `Amounts`.

    Args:
        before: what this process had used when Redis was lost.
        known: what all of them had, or more.
    """

    place: int
    limit: int
    used: int
    added: int
    before: int
    known: int


class _View:
    """One candidate's group, as one request sees it now."""

    def __init__(
        self, limiter: LocalLimiter, group: _Group, key: KeySpec, weights: Weights, now_ms: int
    ) -> None:
        self._limiter, self._group, self._key = limiter, group, key
        self._weights, self._now, self._share = weights, now_ms, limiter.share
        self._early = limiter.early(now_ms)
        in_flight = [entry for entry in group.open.values() if entry.till_ms > now_ms]
        self._held = sum(entry.held for entry in in_flight)
        self._in_flight = len(in_flight)
        if _counts_days(key) and group.day_end_ms != weights.day_end_ms:
            group.day_end_ms, group.today = weights.day_end_ms, NOTHING
        slots, burst = burst_of(key, limiter.geometry)
        self._burst = (slots, self._share.of(burst)) if burst else None
        self._minute = self._rows(group.ring.advance(now_ms))

    def room(self) -> float:
        """The share of the scarcest limit that would be left; negative where it does not fit."""
        rooms = [
            _left(self._allowed(row, self._early), row.used + row.added) for row in self._minute
        ]
        rooms += [_left(budget, used + added) for budget, used, added in self._day()]
        if self._key.max_parallel is not None:
            rooms.append(_left(self._parallel(self._early), self._in_flight + 1))
        if self._burst is not None:
            slots, burst = self._burst
            rooms.append(_left(burst, self._group.ring.burst(slots, burst)[0] + 1))
        return min(rooms, default=1.0)

    def opening(self) -> tuple[Refusal, int]:
        """Why it is full, and the ms at which it has room; -1 where nobody knows."""
        if any(used + added > budget for budget, used, added in self._day()):
            return Refusal.FULL, -1
        ends = [self._opens(self._early)]
        if self._early:
            later = self._opens(early=False)
            ends.append(max(later, self._limiter.early_until_ms) if later != -1 else -1)
        known = [end for end in ends if end != -1]
        if not known or min(known) > self._now:
            return Refusal.FULL, min(known, default=-1)
        leases = [entry.till_ms for entry in self._group.open.values()]
        return Refusal.IN_FLIGHT, max(min(leases, default=0), self._now + 1)

    def _opens(self, early: bool) -> int:
        """When ageing alone makes room: now if only calls under way stand in the way, -1 never."""
        wanted, opens = [0, 0, 0, 0], self._now
        for row in self._minute:
            allowed = self._allowed(row, early)
            if row.added > allowed:
                return -1
            wanted[row.place] = max(0, row.used + row.added - allowed)
        if self._key.max_parallel is not None and self._parallel(early) < 1:
            return -1
        if any(wanted):
            at = self._group.ring.opening(Amounts(*wanted))
            if at == -1 and not self._held:
                return -1
            opens = max(opens, at)
        if self._burst is not None:
            slots, burst = self._burst
            if burst < 1:
                return -1
            opens = max(opens, self._group.ring.burst(slots, burst)[1])
        return opens

    def _rows(self, used: Amounts) -> list[_Row]:
        key, w, group = self._key, self._weights, self._group
        limits = (key.rpm, key.tpm, key.itpm, key.otpm)
        added = (1, w.tokens, w.input, w.output)
        before = group.before.plus(Amounts(output=group.held_before))
        uses = used.plus(Amounts(output=self._held))
        seen = group.seen.use if group.seen is not None else None
        rows = []
        for place, limit in enumerate(limits):
            if limit is not None:
                total = limit
                if seen is not None:
                    total = (seen.requests, seen.tokens, seen.input, seen.output)[place]
                known = total + group.since_seen[place]
                rows.append(_Row(place, limit, uses[place], added[place], before[place], known))
        return rows

    def _allowed(self, row: _Row, early: bool) -> int:
        share = self._share.of(row.limit)
        return min(share, row.before + self._part(row.limit, row.known)) if early else share

    def _parallel(self, early: bool) -> int:
        limit, group = self._key.max_parallel or 0, self._group
        share = self._share.of(limit)
        if not early:
            return share
        seen = limit if group.seen is None else group.seen.use.in_flight
        room = self._part(limit, seen + group.since_seen.requests)
        return min(share, group.in_flight_before + room)

    def _part(self, limit: int, known: int) -> int:
        """This process's part of a room that was seen a while before Redis was lost."""
        seen, room = self._group.seen, limit - known
        if seen is None:
            return 0
        if self._share.routers > 1:
            age = self._limiter.began_ms - seen.at_ms
            fresh = max(0.0, 1.0 - age / self._limiter.geometry.window_ms)
            room = int((room - -(-limit // DOUBTED)) * fresh)
        return self._share.of(max(0, room))

    def _day(self) -> list[tuple[int, int, int]]:
        """For each limit a day: this process's part of what was left of it, what it used of that
        since, and what is added."""
        key, seen, today = self._key, self._group.seen, self._group.today
        rows = []
        for limit, name, used, added in (
            (key.rpd, "requests_today", today.requests, 1),
            (key.tpd, "tokens_today", today.tokens, self._weights.tokens),
        ):
            if limit is None:
                continue
            left = 0
            if seen is not None:
                another_day = seen.use.day_end_ms not in (0, self._weights.day_end_ms)
                left = limit
                if not another_day:
                    left -= getattr(seen.use, name)
                    left -= getattr(self._group.since_seen, name.removesuffix("_today"))
            rows.append((self._share.of(max(0, left)), used, added))
        return rows


def _left(allowed: int, used: int) -> float:
    return (allowed - used) / allowed if allowed > 0 else -1.0


def _holds(key: KeySpec) -> bool:
    return key.otpm is not None or key.max_parallel is not None


def _counts_days(key: KeySpec) -> bool:
    return key.rpd is not None or key.tpd is not None


def _too_large(key: KeySpec, weights: Weights) -> bool:
    return any(
        limit is not None and weight > limit
        for limit, weight in (
            (key.tpm, weights.tokens),
            (key.itpm, weights.input),
            (key.otpm, weights.output),
            (key.tpd, weights.tokens),
        )
    )


def _soonest(refused: Sequence[PassedOver]) -> int:
    """When the first of them opens: -1 unknown, NEVER."""
    times = [passed.until_ms for passed in refused if passed.until_ms > 0]
    if times:
        return min(times)
    return -1 if any(passed.until_ms == -1 for passed in refused) else NEVER
