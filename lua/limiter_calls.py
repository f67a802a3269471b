"""One typed Python function for each script of the limiter: it packs, runs and unpacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from core.redis_calls import Calls
from lua.loader import ScriptCall, load

SLOTS = 120
"""Sub-buckets a window. More make the window tighter and a refusal dearer."""

COUNTED_SLOTS = SLOTS + 2
"""One slot more than a window, so that every window of any phase is covered, and one for the time
that a request needs from its reservation to the provider."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The ring's measures. All processes that share a Redis use the same.

    Example:
        >>> Geometry(window_ms=60_000).slot_ms
        500.0
    """

    window_ms: int = 60_000
    slots: int = SLOTS
    counted: int = COUNTED_SLOTS

    @property
    def slot_ms(self) -> float:
        return self.window_ms / self.slots

    @property
    def args(self) -> tuple[int, int, int]:
        return self.window_ms, self.slots, self.counted


class Refusal(IntEnum):
    """Why a candidate was passed over; the numbers are those of candidates.lua."""

    COOLING = 1
    TOO_LARGE = 2
    FULL = 3
    IN_FLIGHT = 4
    QUEUED = 5


NEVER = -2
UNTIL_SOMEBODY_ACTS = -1
CLEAR = -2


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A candidate (its index from 0) that could not serve, and until when (Redis ms, -1 open)."""

    candidate: int
    why: Refusal
    until_ms: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """A key was chosen and charged: the candidate's index from 0 and the slot of the charge."""

    now_ms: int
    candidate: int
    slot: int
    passed_over: tuple[PassedOver, ...]


@dataclass(frozen=True, slots=True)
class NoRoom:
    """No candidate has room. `when_ms` is the next opening, -1 unknown, NEVER for none."""

    now_ms: int
    when_ms: int
    passed_over: tuple[PassedOver, ...]

    @property
    def wait_seconds(self) -> float | None:
        """Seconds until the next opening, by the clock of Redis; None if it is not known."""
        return None if self.when_ms < 0 else max(0, self.when_ms - self.now_ms) / 1000


@dataclass(frozen=True, slots=True)
class Waits:
    """The request stands in the queue. `looks` are the candidates (from 0) for which nobody else
    will call `wake`, each with the Redis ms at which to do it."""

    now_ms: int
    looks: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class GroupKeys:
    """The Redis keys of one quota group."""

    ring: str
    leases: str
    queue: str


@dataclass(frozen=True, slots=True)
class Shard:
    """The Redis keys that the groups of one shard share.

    Args:
        hears_all: whether PUBLISH tells the number of all listeners; not so on a cluster.
    """

    tag: str
    health: str
    waiters: str
    deadlines: str
    ratios: str
    hears_all: bool = True


@dataclass(frozen=True, slots=True)
class Patience:
    """How a request may wait: how long (ms), with what priority, and where it is told its turn."""

    max_wait_ms: int
    priority: int
    channel: str


NO_PATIENCE = Patience(0, 0, "")


@dataclass(frozen=True, slots=True)
class Weights:
    """What one request would add under one provider's policy, in tokens; `day_end_ms` is when the
    provider's day ends (Unix ms)."""

    tokens: int
    input: int
    output: int
    day_end_ms: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a settled request is to be charged in all: requests (0 or 1) and tokens."""

    requests: int
    tokens: int
    input: int
    output: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Pass a subject over for so many ms, for a reason.

    Args:
        field: "k:<key id>", "g:<provider>/<group>" or "p:<provider>".
        milliseconds: UNTIL_SOMEBODY_ACTS, or CLEAR to end it.
    """

    field: str
    state: str
    milliseconds: int
    reason: str

    @property
    def args(self) -> tuple[str, str, int, str]:
        return self.field, self.state, self.milliseconds, self.reason


def reserve(
    redis: Calls,
    geometry: Geometry,
    shard: Shard,
    *,
    reservation_key: str,
    reservation_id: str,
    groups: Sequence[GroupKeys],
    weights: Sequence[Weights],
    candidates: Sequence[str],
    tiers: str,
    lease_ms: int,
    rotation: int,
    patience: Patience = NO_PATIENCE,
    now_ms: int | None = None,
) -> Reserved | NoRoom | Waits:
    """Choose among candidates and reserve, or join the queue, in one round trip.

    Args:
        groups: each candidate's, in the candidates' order.
        candidates: "<weights 1..W>|<row>", as candidates.lua describes them, the best tier first.
        tiers: how many candidates each tier has, "3,2".
        lease_ms: how long what does not age is held for a client that died.
    """
    answer = load("reserve").run(
        redis,
        [
            reservation_key,
            shard.health,
            shard.waiters,
            shard.deadlines,
            *(key for g in groups for key in (g.ring, g.leases, g.queue)),
        ],
        [
            "" if now_ms is None else now_ms,
            *geometry.args,
            _record_ms(geometry, lease_ms),
            lease_ms,
            rotation,
            reservation_id,
            patience.max_wait_ms,
            patience.priority,
            patience.channel,
            int(shard.hears_all),
            len(weights),
            tiers,
            *_packed(weights),
            *candidates,
        ],
    )
    if answer[0] == 1:
        return Reserved(answer[1], answer[2] - 1, answer[3], _passed_over(answer[4:]))
    if answer[0] == 2:
        pairs = zip(answer[2::2], answer[3::2], strict=True)
        return Waits(answer[1], tuple((candidate - 1, at) for candidate, at in pairs))
    return NoRoom(answer[1], answer[2], _passed_over(answer[3:]))


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider's headers said is used of each limit, whoever used it; -1 untold."""

    requests: int = -1
    tokens: int = -1
    input: int = -1
    output: int = -1


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an answer teaches of a model's estimates: the input tokens estimated before any
    correction, and the real ones."""

    model: str
    estimated: int = 0
    real: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one attempt.

    Args:
        charge: what it is charged in all.
        subjects: the key's, "p:<provider>|k:<key id>|g:<provider>/<group>".
        answered: whether the provider answered as hoped.
        late_ms: from the reservation to the sending.
        marks: who is passed over from now on.
    """

    charge: Charge
    subjects: str
    lesson: Lesson
    answered: bool = True
    late_ms: int = 0
    told: Told = Told()
    marks: tuple[Mark, ...] = ()


def settle_call(
    geometry: Geometry,
    shard: Shard,
    *,
    reservation_key: str,
    reservation_id: str,
    group: GroupKeys,
    settlement: Settlement,
    now_ms: int | None = None,
) -> ScriptCall:
    """The settlement of a reservation, to be run alone or in a pipeline; see `settled_ratio`."""
    charge, told, lesson = settlement.charge, settlement.told, settlement.lesson
    return ScriptCall(
        load("settle"),
        (
            reservation_key,
            shard.health,
            shard.waiters,
            shard.deadlines,
            group.ring,
            group.leases,
            group.queue,
            shard.ratios,
        ),
        (
            "" if now_ms is None else now_ms,
            *geometry.args,
            2 * geometry.window_ms,
            reservation_id,
            charge.requests,
            charge.tokens,
            charge.input,
            charge.output,
            int(shard.hears_all),
            settlement.late_ms,
            int(settlement.answered),
            settlement.subjects,
            f"{told.requests}|{told.tokens}|{told.input}|{told.output}",
            lesson.model,
            lesson.estimated,
            lesson.real,
            *(arg for mark in settlement.marks for arg in mark.args),
        ),
    )


def settled_ratio(answer: Sequence[int]) -> float | None:
    """The model's ratio of real to estimated input tokens that a settlement returned, or None if
    it had been settled before."""
    return answer[2] / 1000 if answer[0] == 1 else None


def wake(
    redis: Calls,
    geometry: Geometry,
    shard: Shard,
    group: GroupKeys,
    *,
    now_ms: int | None = None,
) -> int:
    """Serve those who wait for a group, as far as there is room. Returns the time of Redis."""
    answer = load("wake").run(
        redis,
        [shard.health, shard.waiters, shard.deadlines, group.ring, group.leases, group.queue],
        [
            "" if now_ms is None else now_ms,
            *geometry.args,
            _record_ms(geometry, geometry.window_ms),
            int(shard.hears_all),
        ],
    )
    return int(answer[0])


@dataclass(frozen=True, slots=True)
class Turn:
    """A waiting request is reserved on the key of this field ("k:<key id>") from `at_ms` on."""

    key_field: str
    at_ms: int
    now_ms: int

    @property
    def delay_seconds(self) -> float:
        """Seconds from when this was told until the request may be sent."""
        return max(0, self.at_ms - self.now_ms) / 1000


def leave(
    redis: Calls, shard: Shard, reservation_id: str, *, now_ms: int | None = None
) -> Turn | None:
    """Wait no longer. Returns the turn if it came meanwhile: then it is reserved."""
    answer = load("leave").run(
        redis, [shard.waiters, shard.deadlines], ["" if now_ms is None else now_ms, reservation_id]
    )
    return Turn(answer[1], answer[2], answer[0]) if len(answer) > 1 else None


def mark(
    redis: Calls, shard: Shard, marks: Sequence[Mark], *, now_ms: int | None = None
) -> list[int]:
    """Pass keys over, or clear that (milliseconds CLEAR).

    Returns:
        For each mark until when it holds (Redis ms; -1 open, 0 cleared).
    """
    args = ["" if now_ms is None else now_ms, *(arg for m in marks for arg in m.args)]
    answer = load("mark").run(redis, [shard.health], args)
    return [int(until) for until in answer[1:]]


def _record_ms(geometry: Geometry, lease_ms: int) -> int:
    return lease_ms + 2 * geometry.window_ms


@dataclass(frozen=True, slots=True)
class GroupUse:
    """What a key's quota group has used in the last window and today."""

    requests: int
    tokens: int
    input: int
    output: int
    held_output: int
    in_flight: int
    requests_today: int
    tokens_today: int
    blocked_until_ms: int
    state: str
    reason: str


def status(
    redis: Calls,
    geometry: Geometry,
    shard: Shard,
    *,
    groups: Sequence[GroupKeys],
    fields: Sequence[str],
    now_ms: int | None = None,
) -> tuple[int, list[GroupUse]]:
    """What keys have used; changes nothing.

    Args:
        fields: for each key "p:<provider>|k:<key id>|g:<provider>/<group>".

    Returns:
        The time of Redis (ms), and a GroupUse for each key.
    """
    answer = load("status").run(
        redis,
        [shard.health, *(key for g in groups for key in (g.ring, g.leases))],
        ["" if now_ms is None else now_ms, *geometry.args, *fields],
    )
    return answer[0], [_use(answer[at : at + 9]) for at in range(1, len(answer), 9)]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why reserve.lua would choose a candidate or pass it over.

    Args:
        why: None where it has room now.
        until_ms: when it would be free (Redis ms); -1 nobody knows, NEVER, 0 now.
        room: the share of its scarcest limit that would be left.
        share: the part of its limits that it may use after a cooldown.
        waiting: requests that wait for its group.
    """

    why: Refusal | None
    until_ms: int
    room: float
    share: float
    waiting: int
    use: GroupUse


def explain(
    redis: Calls,
    geometry: Geometry,
    shard: Shard,
    *,
    groups: Sequence[GroupKeys],
    weights: Sequence[Weights],
    candidates: Sequence[str],
    now_ms: int | None = None,
) -> tuple[int, list[Explanation]]:
    """Why each candidate would be chosen or passed over; changes nothing.

    Returns:
        The time of Redis (ms), and an Explanation for each candidate.
    """
    answer = load("explain").run(
        redis,
        [shard.health, *(key for g in groups for key in (g.ring, g.leases, g.queue))],
        [
            "" if now_ms is None else now_ms,
            *geometry.args,
            len(weights),
            *_packed(weights),
            *candidates,
        ],
    )
    found = []
    for at in range(1, len(answer), 14):
        why, until, room, share, waiting, *uses = answer[at : at + 14]
        found.append(
            Explanation(
                why=Refusal(why) if why else None,
                until_ms=until,
                room=room / 1000,
                share=share / 1000,
                waiting=waiting,
                use=_use(uses),
            )
        )
    return answer[0], found


def _packed(weights: Sequence[Weights]) -> list[str]:
    return [f"{w.tokens}|{w.input}|{w.output}|{w.day_end_ms}" for w in weights]


def _use(values: Sequence[Any]) -> GroupUse:
    r, t, i, o, held, in_flight, r_today, t_today, text = values
    return GroupUse(r, t, i, o, held, in_flight, r_today, t_today, *_mark(text))


def _mark(text: str) -> tuple[int, str, str]:
    if not text:
        return 0, "available", ""
    until, state, reason = text.split("|", 2)
    return int(until), state, reason


def _passed_over(flat: Sequence[int]) -> tuple[PassedOver, ...]:
    return tuple(
        PassedOver(flat[at] - 1, Refusal(flat[at + 1]), flat[at + 2])
        for at in range(0, len(flat), 3)
    )
