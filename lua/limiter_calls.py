"""One typed Python function for each script of the limiter: it packs, runs and unpacks."""

from __future__ import annotations

import json
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
    """Why a candidate was passed over; the numbers are those of reserve.lua."""

    COOLING = 1
    TOO_LARGE = 2
    FULL = 3
    IN_FLIGHT = 4


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
    """Pass over `field` ("k:<key id>", "g:<group>" or "p") for so many ms, for a reason."""

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
    *,
    reservation_key: str,
    reservation_id: str,
    health_keys: Sequence[str],
    group_keys: Sequence[str],
    weights: Sequence[Weights],
    candidates: Sequence[str],
    tiers: str,
    lease_ms: int,
    rotation: int,
    now_ms: int | None = None,
) -> Reserved | NoRoom:
    """Choose among candidates and reserve, in one round trip.

    Args:
        group_keys: for each candidate its group's ring and leases, in the candidates' order.
        candidates: the rows that reserve.lua describes, the best tier first.
        tiers: how many candidates each tier has, "3,2".
        lease_ms: how long what does not age is held for a client that died.
    """
    answer = load("reserve").run(
        redis,
        [reservation_key, *health_keys, *group_keys],
        [
            "" if now_ms is None else now_ms,
            *geometry.args,
            lease_ms + 2 * geometry.window_ms,
            lease_ms,
            rotation,
            reservation_id,
            len(health_keys),
            len(weights),
            tiers,
            *(f"{w.tokens}|{w.input}|{w.output}|{w.day_end_ms}" for w in weights),
            *candidates,
        ],
    )
    if answer[0] == 1:
        return Reserved(answer[1], answer[2] - 1, answer[3], _passed_over(answer[4:]))
    return NoRoom(answer[1], answer[2], _passed_over(answer[3:]))


def settle_call(
    geometry: Geometry,
    *,
    reservation_key: str,
    group_key: str,
    leases_key: str,
    health_key: str,
    reservation_id: str,
    charge: Charge,
    marks: Sequence[Mark] = (),
    now_ms: int | None = None,
) -> ScriptCall:
    """The settlement of a reservation, to be run alone or in a pipeline.

    It returns [1, now] when it settled and [0, now] when that was done before.
    """
    return ScriptCall(
        load("settle"),
        (reservation_key, group_key, leases_key, health_key),
        (
            "" if now_ms is None else now_ms,
            *geometry.args,
            2 * geometry.window_ms,
            reservation_id,
            charge.requests,
            charge.tokens,
            charge.input,
            charge.output,
            *(arg for mark in marks for arg in mark.args),
        ),
    )


def mark(
    redis: Calls, health_key: str, marks: Sequence[Mark], *, now_ms: int | None = None
) -> tuple[int, list[int]]:
    """Pass keys over, or clear that (milliseconds CLEAR).

    Returns:
        The time of Redis, and for each mark until when it holds (ms; -1 open, 0 cleared).
    """
    args = ["" if now_ms is None else now_ms, *(arg for m in marks for arg in m.args)]
    answer = load("mark").run(redis, [health_key], args)
    return answer[0], answer[1:]


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
    *,
    health_key: str,
    group_keys: Sequence[str],
    fields: Sequence[tuple[str, str]],
    now_ms: int | None = None,
) -> tuple[int, tuple[int, str, str], list[GroupUse]]:
    """What every key of one provider has used; changes nothing.

    Returns:
        The time of Redis (ms), the provider's own mark, and a GroupUse for each key.
    """
    answer = load("status").run(
        redis,
        [health_key, *group_keys],
        ["" if now_ms is None else now_ms, *geometry.args, json.dumps(fields)],
    )
    uses = []
    for at in range(2, len(answer), 9):
        r, t, i, o, held, in_flight, r_today, t_today, text = answer[at : at + 9]
        uses.append(GroupUse(r, t, i, o, held, in_flight, r_today, t_today, *_mark(text)))
    return answer[0], _mark(answer[1]), uses


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
