"""The calls of the users' limits: one script that takes, and the limits that users have themselves.

Times are in milliseconds; `now_ms` replaces the clock of Redis in tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from core.redis_calls import Calls
from lua.loader import ScriptCall, load
from lua.names import Names


@dataclass(frozen=True, slots=True)
class Allowance:
    """A token bucket: `rpm` requests a minute flow into it, and it holds `burst` at most.

    Example:
        >>> Allowance(rpm=60, burst=10).burst
        10
    """

    rpm: int
    burst: int


class Whose(IntEnum):
    """Whose bucket was empty; the numbers are those of user_limits.lua."""

    USERS_OWN = 1
    ALL_USERS = 2


@dataclass(frozen=True, slots=True)
class Empty:
    """A bucket had no request left, so nothing was taken; in `wait_ms` all have one again."""

    whose: Whose
    wait_ms: int


def take_call(
    names: Names,
    user_id: str | None,
    *,
    each_user: Allowance | None,
    all_users: Allowance | None,
    minute_ms: int = 60_000,
    now_ms: int | None = None,
) -> ScriptCall:
    """Take one request from the user's bucket and that of all users. Hand the result to `taken`."""
    keys = (names.user_limits(), names.user_bucket())
    return ScriptCall(
        load("user_limits"),
        keys if user_id is None else (*keys, names.user_bucket(user_id)),
        (
            "" if now_ms is None else now_ms,
            minute_ms,
            *_numbers(all_users),
            *_numbers(each_user),
            user_id or "",
        ),
    )


def taken(result: Any) -> Empty | None:
    """What `take_call` answered; None if the request was taken."""
    whose, wait_ms = result
    return Empty(Whose(whose), wait_ms) if whose else None


def charge(
    redis: Calls,
    names: Names,
    taken: Mapping[str | None, int],
    *,
    each_user: Allowance | None,
    all_users: Allowance | None,
    minute_ms: int = 60_000,
    now_ms: int | None = None,
) -> None:
    """Charge buckets with requests that were taken while Redis was away.

    Args:
        taken: requests by user; None stands for all users.
    """
    keys, args = [names.user_limits()], list[str | int]()
    for owner, requests in taken.items():
        allowance = all_users if owner is None else each_user
        if allowance is not None:
            keys.append(names.user_bucket(owner))
            args += (allowance.rpm, owner or "", requests)
    load("charge_users").run(redis, keys, ["" if now_ms is None else now_ms, minute_ms, *args])


def set_limit(redis: Calls, names: Names, user_id: str, allowance: Allowance) -> None:
    """Give a user a limit of their own, from the next request on."""
    value = f"{allowance.rpm}:{allowance.burst}"
    redis.call("HSET", names.user_limits(), user_id, value)


def clear_limit(redis: Calls, names: Names, user_id: str) -> bool:
    """Take a user's own limit away. Returns whether there was one."""
    return bool(redis.call("HDEL", names.user_limits(), user_id))


def get_limit(redis: Calls, names: Names, user_id: str) -> Allowance | None:
    """A user's own limit, or None."""
    value = redis.call("HGET", names.user_limits(), user_id)
    if value is None:
        return None
    rpm, burst = value.split(":")
    return Allowance(int(rpm), int(burst))


def _numbers(allowance: Allowance | None) -> tuple[int, int]:
    return (0, 0) if allowance is None else (allowance.rpm, allowance.burst)
