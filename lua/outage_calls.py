"""The calls by which routers tell that they are there, and what a server does not know of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from core.redis_calls import Calls
from core.redis_watch import StateLost
from lua.limiter_types import Geometry, GroupKeys, Shard
from lua.loader import load

Presence = Literal["here", "asking", "leaving"]


@dataclass(frozen=True, slots=True)
class KnownUse:
    """What all routers together had used of a group; `day_end_ms` is 0 where no day was counted."""

    requests: int
    tokens: int
    input: int
    output: int
    in_flight: int
    day_end_ms: int
    requests_today: int
    tokens_today: int


def most_of(uses: Sequence[KnownUse]) -> KnownUse:
    """The largest of each number; of the days the last one's.

    Example:
        >>> one, other = KnownUse(3, 9, 0, 0, 1, 0, 0, 0), KnownUse(5, 7, 0, 0, 0, 0, 0, 0)
        >>> most_of([one, other]).requests, most_of([one, other]).tokens
        (5, 9)
    """
    last = uses[-1]
    return KnownUse(
        requests=max(use.requests for use in uses),
        tokens=max(use.tokens for use in uses),
        input=max(use.input for use in uses),
        output=max(use.output for use in uses),
        in_flight=max(use.in_flight for use in uses),
        day_end_ms=last.day_end_ms,
        requests_today=last.requests_today,
        tokens_today=last.tokens_today,
    )


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a beat told.

    Args:
        epoch: changes when the server may have lost what was charged last.
        empty: whether the epoch began on a server that knew nothing.
        routers: how many share the limits, this one included if it is counted.
        rank: this one's place among them, from 0.
        heard: how many of them were heard since the time that was asked for.
        marks: what is passed over, and for how many ms more (-1: until somebody acts).
        uses: for each group that was asked for.
    """

    now_ms: int
    epoch: str
    empty: bool
    routers: int
    rank: int
    heard: int
    marks: tuple[tuple[str, int], ...]
    uses: tuple[KnownUse, ...]


@dataclass(frozen=True, slots=True)
class DayUse:
    """What is added to a group's day; `day_end_ms` 0 for a group whose days are not counted."""

    day_end_ms: int = 0
    requests: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One reservation that the server may not know of.

    Args:
        group: its group's index.
        age_ms: since it was reserved; negative for one that is promised ahead of time.
        tokens, input, held: what was reserved.
        more_age_ms: since it was settled.
        more_requests, more_tokens, more_input: what it was charged beyond; negative: given back.
        output: the output tokens that it was charged.
        lease_ms: how long what it holds is held if its client dies: 0 it holds nothing, -1 it is
            settled.
        life_ms: how long it is remembered.
    """

    id: str
    key: str
    group: int
    age_ms: int
    tokens: int
    input: int
    held: int
    lease_ms: int
    life_ms: int
    more_age_ms: int = 0
    more_requests: int = 0
    more_tokens: int = 0
    more_input: int = 0
    output: int = 0

    def of_group(self, index: int) -> Entry:
        """The same, of a group by its index."""
        return replace(self, group=index)

    @property
    def packed(self) -> str:
        numbers = (
            self.group + 1, self.age_ms, self.tokens, self.input, self.more_age_ms,
            self.more_requests, self.more_tokens, self.more_input, self.output,
            self.held, self.lease_ms, self.life_ms,
        )  # fmt: skip
        return "|".join(map(str, numbers)) + f"|{self.id}"


def beat(
    redis: Calls,
    geometry: Geometry,
    shard: Shard,
    *,
    router_id: str,
    silence_ms: int,
    new_epoch: str,
    presence: Presence,
    since_ms: int = 0,
    epoch: str = "",
    groups: Sequence[GroupKeys] = (),
    now_ms: int | None = None,
) -> Pulse:
    """Tell that a router is there, and learn how many there are and what is used.

    Args:
        silence_ms: after so long without a beat a router counts no more.
        presence: "here" counts this one, unless the server is in another `epoch`.
        since_ms: since when (Redis ms) the routers that were `heard` are counted.
    """
    answer = load("beat").run(
        redis,
        [
            shard.routers,
            shard.waiters,
            shard.deadlines,
            shard.health,
            *(key for g in groups for key in (g.ring, g.leases)),
        ],
        [
            "" if now_ms is None else now_ms,
            *geometry.args,
            router_id,
            silence_ms,
            new_epoch,
            presence,
            since_ms,
            epoch,
        ],
    )
    now, epoch, empty, routers, rank, heard, count, *rest = answer
    marks = rest[: 2 * count]
    numbers = rest[2 * count :]
    return Pulse(
        now_ms=now,
        epoch=epoch,
        empty=bool(empty),
        routers=routers,
        rank=rank,
        heard=heard,
        marks=tuple(zip(marks[::2], marks[1::2], strict=True)),
        uses=tuple(KnownUse(*numbers[at : at + 8]) for at in range(0, len(numbers), 8)),
    )


def restore(
    redis: Calls,
    geometry: Geometry,
    shard: Shard,
    *,
    epoch: str,
    groups: Sequence[GroupKeys],
    days: Sequence[DayUse],
    entries: Sequence[Entry],
    ahead_ms: int = 0,
    now_ms: int | None = None,
) -> int:
    """Charge the entries of which the server has no record, and return how many they were.

    Args:
        days: for each group what is added to its day, beside the entries.
        ahead_ms: how far ahead of time the entries were promised at most.

    Raises:
        StateLost: the server is in another epoch; nothing was charged.
    """
    answer = load("restore").run(
        redis,
        [
            shard.waiters,
            *(key for g in groups for key in (g.ring, g.leases)),
            *(entry.key for entry in entries),
        ],
        [
            "" if now_ms is None else now_ms,
            *geometry.args,
            epoch,
            ahead_ms,
            len(groups),
            *(f"{day.day_end_ms}|{day.requests}|{day.tokens}" for day in days),
            *(entry.packed for entry in entries),
        ],
    )
    if answer[0] == 3:
        raise StateLost("the server was restarted, replaced or emptied once more")
    return int(answer[2])
