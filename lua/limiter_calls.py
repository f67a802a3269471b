"""One typed Python function for each script of the limiter: it packs, runs and unpacks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.redis_calls import Calls
from core.redis_watch import StateLost
from lua.circuits import read_circuit
from lua.limiter_types import (
    NO_PATIENCE,
    UNTIL_SOMEBODY_ACTS,
    Explanation,
    Geometry,
    GroupKeys,
    GroupUse,
    LogKeys,
    Mark,
    NoRoom,
    PassedOver,
    Patience,
    Refusal,
    Reserved,
    Settled,
    Settlement,
    Shard,
    Turn,
    Waits,
    Weights,
)
from lua.loader import ScriptCall, load
from lua.states import KeyState


def reserve(
    redis: Calls,
    geometry: Geometry,
    shard: Shard,
    *,
    reservation_key: str,
    reservation_id: str,
    group_keys: Sequence[str],
    weights: Sequence[Weights],
    candidates: Sequence[str],
    tiers: str,
    lease_ms: int,
    rotation: int,
    patience: Patience = NO_PATIENCE,
    epoch: str = "",
    now_ms: int | None = None,
) -> Reserved | NoRoom | Waits:
    """Choose among candidates and reserve, or join the queue, in one round trip.

    Args:
        group_keys: of each candidate's group the three keys, in the candidates' order.
        candidates: their rows, as candidates.lua describes them, the best tier first.
        tiers: how many candidates each tier has, "3,2".
        lease_ms: how long what does not age is held for a client that died.
        epoch: the one in which the server is believed to be; "" for any.

    Raises:
        StateLost: the server is in another epoch; nothing was reserved.
    """
    answer = load("reserve").run(
        redis,
        [
            reservation_key,
            shard.health,
            shard.waiters,
            shard.deadlines,
            *group_keys,
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
            epoch,
            *_packed(weights),
            *candidates,
        ],
    )
    if answer[0] == 3:
        raise StateLost("the server was restarted, replaced or emptied")
    outcome, now, changes = answer[:3]
    if outcome == 1:
        return Reserved(now, answer[3] - 1, answer[4], _passed_over(answer[5:]), changes)
    if outcome == 2:
        pairs = zip(answer[3::2], answer[4::2], strict=True)
        return Waits(now, tuple((candidate - 1, at) for candidate, at in pairs), changes)
    return NoRoom(now, answer[3], _passed_over(answer[4:]), changes)


def settle_call(
    geometry: Geometry,
    shard: Shard,
    *,
    reservation_key: str,
    reservation_id: str,
    group: GroupKeys,
    logs: LogKeys,
    settlement: Settlement,
    now_ms: int | None = None,
) -> ScriptCall:
    """The settlement of a reservation, to be run alone or in a pipeline; see `read_settled`."""
    charge, told, lesson = settlement.charge, settlement.told, settlement.lesson
    life_sign = settlement.life_sign
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
            shard.keys,
            *logs,
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
            int(life_sign.pulse),
            life_sign.wait_ms,
            life_sign.why,
            settlement.rules.packed,
            settlement.secret_version,
            *(arg for mark in settlement.marks for arg in mark.args),
        ),
    )


def read_settled(answer: Sequence[int]) -> Settled:
    """What `settle_call` answered; of a reservation that was settled before, nothing."""
    if answer[0] != 1:
        return Settled()
    ratio, opened = answer[2], answer[3]
    return Settled(ratio / 1000 if ratio else None, bool(opened & 1), bool(opened & 2))


def ratios(redis: Calls, shard: Shard) -> dict[str, float]:
    """Each model's ratio of real to estimated input tokens, by its name."""
    flat = redis.call("HGETALL", shard.ratios)
    if isinstance(flat, dict):  # fakeredis answers with redis-py's own parsing
        return {model: int(ratio) / 1000 for model, ratio in flat.items()}
    return {flat[at]: int(flat[at + 1]) / 1000 for at in range(0, len(flat), 2)}


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


def leave(
    redis: Calls, shard: Shard, reservation_id: str, *, now_ms: int | None = None
) -> Turn | None:
    """Wait no longer. Returns the turn if it came meanwhile: then it is reserved."""
    answer = load("leave").run(
        redis, [shard.waiters, shard.deadlines], ["" if now_ms is None else now_ms, reservation_id]
    )
    return Turn(answer[1], answer[2], answer[0]) if len(answer) > 1 else None


def mark(
    redis: Calls,
    shard: Shard,
    marks: Sequence[Mark],
    *,
    who: str,
    logs: Sequence[str],
    now_ms: int | None = None,
) -> list[int]:
    """Pass keys over, or clear that (milliseconds CLEAR).

    Args:
        who: does it, for the log.
        logs: of each mark's subject the Redis key of its log.

    Returns:
        For each mark until when it holds (Redis ms; -1 open, 0 cleared, IS_DISABLED refused).
    """
    args = ["" if now_ms is None else now_ms, who, *(arg for m in marks for arg in m.args)]
    answer = load("mark").run(redis, [shard.health, *logs], args)
    return [int(until) for until in answer[1:]]


def blocked(redis: Calls, shard: Shard, *, now_ms: int | None = None) -> list[str]:
    """The fields of all keys, groups and providers of a shard that are passed over now."""
    answer = load("blocked").run(redis, [shard.health], ["" if now_ms is None else now_ms])
    return [str(field) for field in answer]


def _record_ms(geometry: Geometry, lease_ms: int) -> int:
    return lease_ms + 2 * geometry.window_ms


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
        fields: for each key "p:<provider>|k:<key id>|g:<provider>/<group>|s:<service>".

    Returns:
        The time of Redis (ms), and a GroupUse for each key.
    """
    answer = load("status").run(
        redis,
        [shard.health, *(key for g in groups for key in (g.ring, g.leases))],
        ["" if now_ms is None else now_ms, *geometry.args, *fields],
    )
    now = answer[0]
    return now, [_use(answer[at : at + _USE], now) for at in range(1, len(answer), _USE)]


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
        [shard.health, *(key for group in groups for key in group)],
        [
            "" if now_ms is None else now_ms,
            *geometry.args,
            len(weights),
            *_packed(weights),
            *candidates,
        ],
    )
    found = []
    for at in range(1, len(answer), 5 + _USE):
        why, until, room, share, waiting, *uses = answer[at : at + 5 + _USE]
        found.append(
            Explanation(
                why=Refusal(why) if why else None,
                until_ms=until,
                room=room / 1000,
                share=share / 1000,
                waiting=waiting,
                use=_use(uses, answer[0]),
            )
        )
    return answer[0], found


def _packed(weights: Sequence[Weights]) -> list[str]:
    return [f"{w.tokens}|{w.input}|{w.output}|{w.day_end_ms}" for w in weights]


_USE = 11
"""So many values tell the use of a group; see includes/use.lua."""


def _use(values: Sequence[Any], now_ms: int) -> GroupUse:
    r, t, i, o, held, in_flight, r_today, t_today, mark, key, service = values
    return GroupUse(
        r, t, i, o, held, in_flight, r_today, t_today, *_mark(mark, now_ms),
        read_circuit(key, now_ms), read_circuit(service, now_ms),
    )  # fmt: skip


def _mark(text: str, now_ms: int) -> tuple[int, str, str]:
    """Until when a mark holds, the state by the table of states, and why."""
    if not text:
        return 0, KeyState.AVAILABLE, ""
    end, counted, reason = text.split("|", 2)
    until, state = int(end), counted.partition(":")[0]
    over = until != UNTIL_SOMEBODY_ACTS and until <= now_ms
    if state == "ramping":
        if over:
            return 0, KeyState.AVAILABLE, ""
        return 0, KeyState.RECOVERING, "it uses a growing share of its limits"
    if state == "probing" and not over:
        return until, KeyState.RECOVERING, "a request tries whether it serves again"
    if over:
        return 0, KeyState.RECOVERING, "the next request tries whether it serves again"
    return until, KeyState(state), reason


def _passed_over(flat: Sequence[int]) -> tuple[PassedOver, ...]:
    return tuple(
        PassedOver(flat[at] - 1, Refusal(flat[at + 1]), flat[at + 2])
        for at in range(0, len(flat), 3)
    )
