"""The calls of a key's life: one script that changes it, what all processes know, and its log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Literal

from core.redis_calls import Calls, Command
from lua.limiter_types import Shard
from lua.loader import ScriptCall, load
from lua.states import KeyState

Act = Literal["register", "rotate", "revoke", "disable", "enable"]

MOST_ENTRIES = 500
"""So many entries of a log are kept at least, and read at most; see includes/audit.lua."""


class Outcome(IntEnum):
    """What became of a change; the numbers are those of lifecycle.lua."""

    DONE = 1
    WAS_SO = 0
    NOT_ALLOWED = -1
    UNKNOWN = -2
    KNOWN_ALREADY = -3
    REVOKED = -4


@dataclass(frozen=True, slots=True)
class Changed:
    """What `change_call` answered: the state before and after, and its secret's version."""

    outcome: Outcome
    before: KeyState
    after: KeyState
    version: int


@dataclass(frozen=True, slots=True)
class Known:
    """What all processes know of a shard's keys beside keys.json.

    Args:
        changes: moves with every change.
        specs: the registered keys' entries as JSON, by key id.
        versions: how often a key's secret was rotated, by key id.
        revoked: when (Unix ms) a key was revoked, by key id.
    """

    changes: int
    specs: Mapping[str, str]
    versions: Mapping[str, int]
    revoked: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One change of a state.

    Args:
        at_ms: when, by the clock of Redis.
        who: a person's login, or "request".
        subject: "k:<key id>", "g:<provider>/<group>", "p:<provider>"; with "c:" before it, a
            circuit.
        until_ms: until when the new state holds; -1 until somebody acts, 0 for good.
        request_id: of the request that made the change, or "".
    """

    at_ms: int
    who: str
    subject: str
    before: str
    after: str
    until_ms: int
    why: str
    request_id: str


def change_call(
    shard: Shard,
    log: str,
    act: Act,
    key_id: str,
    *,
    known: bool,
    who: str,
    why: str,
    spec: str = "",
    now_ms: int | None = None,
) -> ScriptCall:
    """Change a key's life. Hand the answer to `read_changed`.

    Args:
        log: the Redis key of the key's log.
        known: whether the caller knows the key from elsewhere, such as its keys.json.
        spec: to register, the key's entry as JSON.
    """
    now = "" if now_ms is None else now_ms
    args = (now, act, f"k:{key_id}", spec, int(known), who, why)
    return ScriptCall(load("lifecycle"), (shard.health, shard.keys, log), args)


def read_changed(answer: Sequence[Any]) -> Changed:
    """What `change_call` answered."""
    code, before, after, version = answer
    return Changed(Outcome(code), KeyState(before), KeyState(after), version)


def touch_call(shard: Shard) -> ScriptCall:
    """Tell those who use this shard that keys of another one were changed."""
    return ScriptCall(
        load("lifecycle"), (shard.health, shard.keys), ("", "touch", "", "", 0, "", "")
    )


def known_commands(shard: Shard) -> tuple[Command, Command]:
    """What is known of a shard's keys, in this order. Hand both replies to `read_known`."""
    return ("HGET", shard.health, "#changes"), ("HGETALL", shard.keys)


def read_known(changes: Any, hashed: Any) -> Known:
    """What `known_commands` answered."""
    fields = dict(_pairs(hashed))
    kinds: dict[str, dict[str, str]] = {"spec": {}, "version": {}, "revoked": {}}
    for field, value in fields.items():
        kind, _, name = field.partition(":k:")
        if kind in kinds:
            kinds[kind][name] = value
    return Known(
        changes=int(changes.split("|")[1].partition(":")[2] or 0) if changes else 0,
        specs=kinds["spec"],
        versions={name: int(value) for name, value in kinds["version"].items()},
        revoked={name: int(value) for name, value in kinds["revoked"].items()},
    )


def read_logs(redis: Calls, logs: Sequence[str], limit: int) -> list[LogEntry]:
    """The newest entries of several logs, the oldest of them first."""
    count = min(limit, MOST_ENTRIES)
    replies = redis.call_many([("XREVRANGE", log, "+", "-", "COUNT", count) for log in logs])
    found = []
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
        found += [(_entry(fields), entry_id) for entry_id, fields in reply]
    found.sort(key=lambda one: (one[0].at_ms, one[1]))
    return [entry for entry, _ in found[-limit:]]


def _entry(fields: Any) -> LogEntry:
    told = dict(_pairs(fields))
    return LogEntry(
        at_ms=int(told["at"]),
        who=told["who"],
        subject=told["subject"],
        before=told["from"],
        after=told["to"],
        until_ms=int(told["until"]),
        why=told["why"],
        request_id=told["request"],
    )


def _pairs(flat: Any) -> Iterable[tuple[str, str]]:
    if isinstance(flat, Mapping):  # fakeredis answers with redis-py's own parsing
        return flat.items()
    return zip(flat[::2], flat[1::2], strict=True)
