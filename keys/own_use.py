"""What this process itself used of late, so that a Redis that lost it can be told.

Two writes to a dict a request, and nothing else on its way; a beat throws away what is too old.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from keys.local_ring import Amounts
from keys.places import Places
from keys.policies import charge_unknown
from keys.reservations import End, Reservation
from lua.limiter_types import Charge, Geometry
from lua.outage_calls import DayUse, Entry

RECORD_SECONDS = 30.0
"""How much longer than its lease a reservation is remembered in Redis once it was told."""

Settled = tuple[Reservation, Charge, float, float]


@dataclass(frozen=True, slots=True)
class Use:
    """One request of this process.

    Args:
        charge: what it was settled with; None while it is under way.
        settled_at: when, in monotonic seconds.
        late: seconds from its reservation to its sending, as far as is known.
    """

    reservation: Reservation
    charge: Charge | None = None
    settled_at: float = 0.0
    late: float = 0.0

    @property
    def sent_at(self) -> float:
        """The monotonic second at which the provider counted it."""
        return self.reservation.ready_at + self.late

    @property
    def lease_end(self) -> float:
        """The monotonic second at which what it holds is reclaimed."""
        return _lease_end(self.reservation)

    @property
    def amounts(self) -> Amounts:
        """What it counts for in its window, as far as is known."""
        weights = self.reservation.weights
        if self.charge is None:
            return Amounts(1, weights.tokens, weights.input)
        return Amounts(*_fields(self.charge))


class OwnUse:
    """Every reservation of the last window, and those that are not settled. Safe under threads."""

    def __init__(self, places: Places, geometry: Geometry) -> None:
        self._places = places
        self._geometry = geometry
        self._seconds = geometry.counted * geometry.slot_ms / 1000
        self._uses: dict[str, Reservation | Settled] = {}
        self._untold: set[str] = set()
        self._pending: dict[str, tuple[Reservation, End]] = {}
        self._days: dict[tuple[str, int], tuple[int, int]] = {}
        self._untold_days: dict[tuple[str, int], tuple[int, int]] = {}

    # -- on the way of a request ---------------------------------------------------------------

    def note(self, reservation: Reservation) -> None:
        """Redis reserved it."""
        self._uses[reservation.id] = reservation

    def note_local(self, reservation: Reservation) -> None:
        """It was reserved while Redis was away."""
        self._untold.add(reservation.id)
        self._uses[reservation.id] = reservation

    def settled(self, reservation: Reservation, end: End, now: float) -> None:
        """Redis was told its end."""
        self._uses[reservation.id] = reservation, end.charge, now, end.late

    def settle_later(self, reservation: Reservation, end: End, now: float) -> None:
        """Redis is to be told its end when it is back."""
        self._pending[reservation.id] = reservation, end
        self._uses[reservation.id] = reservation, end.charge, now, end.late

    # -- for a beat ----------------------------------------------------------------------------

    @property
    def anything_untold(self) -> bool:
        """Whether Redis is to be told of anything."""
        return bool(self._untold or self._pending)

    def uses(self) -> Iterator[Use]:
        """All of them, the oldest first."""
        for kept in self._uses.copy().values():
            yield Use(*kept) if isinstance(kept, tuple) else Use(kept)

    def use(self, reservation: Reservation) -> Use:
        """A reservation as it stands."""
        kept = self._uses.get(reservation.id, reservation)
        return Use(*kept) if isinstance(kept, tuple) else Use(kept)

    def is_untold(self, reservation_id: str) -> bool:
        """Whether Redis does not know a reservation."""
        return reservation_id in self._untold

    def forget_the_old(self, now: float) -> None:
        """Throw away what no window holds any more; what it used of a day is kept in sums."""
        for reservation_id in list(self._uses):
            kept = self._uses[reservation_id]
            reservation = kept[0] if isinstance(kept, tuple) else kept
            if now - reservation.ready_at <= self._seconds:
                return  # those that follow are younger, or nearly so
            if not isinstance(kept, tuple):
                if _lease_end(reservation) > now:
                    continue
                kept = reservation, charge_unknown(reservation.weights), now, 0.0
            elif now - kept[2] <= self._seconds:
                continue  # what it used beyond was charged later
            self._count_day(reservation_id, kept)
            del self._uses[reservation_id]
            self._untold.discard(reservation_id)
            self._pending.pop(reservation_id, None)

    def untold(self, now: float, *, everything: bool) -> list[tuple[Reservation, Entry]]:
        """What Redis is to be told; `everything` where it may have lost what it knew.

        The entries' `group` is left at 0.
        """
        found = []
        for use in self.uses():
            reservation = use.reservation
            if everything or reservation.id in self._untold:
                found.append((reservation, self._entry(use, now)))
        return found

    def told(self, reservation_ids: list[str]) -> None:
        """Redis knows them now."""
        self._untold.difference_update(reservation_ids)

    def pending(self) -> list[tuple[Reservation, End]]:
        """The settlements that Redis is to be told, in their order."""
        return list(self._pending.values())

    def pending_told(self, reservation_id: str) -> None:
        """Redis knows it now."""
        self._pending.pop(reservation_id, None)

    def days(self, *, everything: bool) -> dict[str, DayUse]:
        """What the groups' days are to be given, beside the entries: what is too old for these."""
        found: dict[str, DayUse] = {}
        for (ring, end), (requests, tokens) in (
            self._days if everything else self._untold_days
        ).items():
            if ring not in found or found[ring].day_end_ms < end:
                found[ring] = DayUse(end, requests, tokens)
        return found

    def days_told(self) -> None:
        """Redis knows them now."""
        self._untold_days.clear()

    # -- inside --------------------------------------------------------------------------------

    def _count_day(self, reservation_id: str, kept: Settled) -> None:
        reservation, charge, _, _ = kept
        key = reservation.key
        if key.rpd is None and key.tpd is None:
            return
        place = self._places.group(key).ring, reservation.weights.day_end_ms
        sums = [self._days]
        if reservation_id in self._untold:
            sums.append(self._untold_days)
        for days in sums:
            for old in [p for p in days if p[0] == place[0] and p[1] < place[1]]:
                del days[old]
            requests, tokens = days.get(place, (0, 0))
            days[place] = requests + charge.requests, tokens + charge.tokens

    def _entry(self, use: Use, now: float) -> Entry:
        reservation, weights = use.reservation, use.reservation.weights
        key = reservation.key
        pending = reservation.id in self._pending
        charge = None if pending else use.charge
        holds = key.otpm is not None or key.max_parallel is not None
        left = max(1, round((_lease_end(reservation) - now) * 1000))
        # A slot younger than it was: it must not age before the provider's count does.
        # One that was promised ahead of time is younger than nothing.
        age = round((now - use.sent_at) * 1000)
        age = max(min(age, 0), round(age - self._geometry.slot_ms))
        life = 2 * self._geometry.window_ms + round(RECORD_SECONDS * 1000)
        entry = Entry(
            id=reservation.id,
            key=self._places.reservation(reservation.shard, reservation.id),
            group=0,
            age_ms=age,
            tokens=weights.tokens,
            input=weights.input,
            held=weights.output,
            lease_ms=left if holds else 0,
            life_ms=life + left,
        )
        if charge is None:
            return entry
        more_age = max(0, round((now - use.settled_at) * 1000))
        return Entry(
            id=entry.id,
            key=entry.key,
            group=0,
            age_ms=age,
            tokens=weights.tokens,
            input=weights.input,
            held=0,
            lease_ms=-1,
            life_ms=life,
            more_age_ms=max(0, min(age, more_age)),
            more_requests=charge.requests - 1,
            more_tokens=charge.tokens - weights.tokens,
            more_input=charge.input - weights.input,
            output=charge.output,
        )


def _lease_end(reservation: Reservation) -> float:
    return reservation.ready_at + reservation.lease_seconds


def _fields(charge: Charge) -> tuple[int, int, int, int]:
    return charge.requests, charge.tokens, charge.input, charge.output
