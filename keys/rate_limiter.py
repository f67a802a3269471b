"""RateLimiter: how often a user, and all users together, may ask. No key is touched for a refusal.

Each limit is a token bucket in Redis, shared by all processes: `burst` requests at once, then `rpm`
a minute. `lua/user_limits.lua` takes a request from both buckets, or from neither.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from core.errors import ConfigurationError, InvalidRequest, StorageError
from core.once import once
from core.redis_calls import Calls
from core.redis_connection import shared_redis
from core.settings import LARGEST_RATE, Settings, get_settings
from keys.border import storage
from keys.local_buckets import LocalBuckets
from keys.reservations import Overdrawn
from lua import user_limit_calls
from lua.loader import ScriptCall
from lua.names import Names
from lua.user_limit_calls import Allowance, Empty, Whose


class RateLimiter:
    """Admits requests of users. Safe under threads; all processes of a Redis share the limits.

    Args:
        redis: runs commands on Redis.
        names: the key names.
        each_user: what a user may ask who has no limit of their own; None for no limit.
        all_users: what all may ask together, with those who name no user; None for no limit.
        minute_seconds: the length of a minute; 60 but in demos and tests.
        routers: how many share the limits, while Redis is away and requests are admitted all the
            same; else None.

    Example:
        >>> limiter = get_rate_limiter()                           # doctest: +SKIP
        >>> limiter.set_user_limit("bo", rpm=600, burst=50)        # doctest: +SKIP
        >>> limiter.take("bo") is None                             # doctest: +SKIP
        True
    """

    def __init__(
        self,
        redis: Calls,
        names: Names,
        *,
        each_user: Allowance | None = None,
        all_users: Allowance | None = None,
        minute_seconds: float = 60.0,
        routers: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._redis = redis
        self._names = names
        self._each_user = each_user
        self._all_users = all_users
        self._minute_ms = round(minute_seconds * 1000)
        self._routers = routers
        self._local = LocalBuckets(each_user, all_users, self._minute_ms)
        self._local_lock = threading.Lock()

    def take(self, user_id: str | None) -> Overdrawn | None:
        """Take one request of a user, in one round trip, or in none where no limit is set.

        Returns:
            None if it is admitted; if not, nothing was taken from either bucket.

        Raises:
            StorageError: Redis did not answer.
        """
        call = self.take_call(user_id)
        if call is None:
            return None
        try:
            with storage("take from the users' limits"):
                if self._local.anything_taken:
                    self._tell_taken()
                return self.read_take(call.run(self._redis))
        except StorageError:
            routers = self._routers()
            if routers is None:
                raise
            with self._local_lock:
                now_ms = int(time.monotonic() * 1000)
                return _overdrawn(self._local.take(user_id, routers, now_ms))

    def _tell_taken(self) -> None:
        """Charge in Redis what was taken while it was away."""
        with self._local_lock:
            if self._routers() is not None:
                return
            taken = self._local.taken()
        if not taken:
            return
        user_limit_calls.charge(
            self._redis,
            self._names,
            taken,
            each_user=self._each_user,
            all_users=self._all_users,
            minute_ms=self._minute_ms,
        )

    def take_call(self, user_id: str | None) -> ScriptCall | None:
        """`take` for a pipeline of the caller's, whose result goes to `read_take`; None: admitted.

        A call that is sent twice takes two requests: the limit holds, and one request is lost.
        """
        if self._all_users is None and (user_id is None or self._each_user is None):
            return None
        return user_limit_calls.take_call(
            self._names,
            user_id,
            each_user=self._each_user,
            all_users=self._all_users,
            minute_ms=self._minute_ms,
        )

    def read_take(self, result: Any) -> Overdrawn | None:
        """What `take_call` did; as `take`."""
        with storage("take from the users' limits"):
            if isinstance(result, Exception):
                raise result
        return _overdrawn(user_limit_calls.taken(result))

    def set_user_limit(self, user_id: str, rpm: int, burst: int | None = None) -> None:
        """Give a user a limit of their own, in all processes and from the next request on.

        What was used of the bucket counts on.

        Args:
            rpm: requests a minute, 1 or more.
            burst: requests at once, 1 or more; by default as many as `rpm`.

        Raises:
            InvalidRequest: an argument is wrong.
            ConfigurationError: no limit is set at all, so that nobody would read this one.
            StorageError: Redis did not answer.
        """
        if self._each_user is None and self._all_users is None:
            raise ConfigurationError(
                "a user's own limit counts only where there are limits: set USER_RPM_DEFAULT or "
                "GLOBAL_RPM_MAX as well"
            )
        allowance = Allowance(_rate("rpm", rpm), _rate("burst", rpm if burst is None else burst))
        with storage("set a user's limit"):
            user_limit_calls.set_limit(self._redis, self._names, _user(user_id), allowance)

    def clear_user_limit(self, user_id: str) -> bool:
        """Let the default count for a user again. Returns whether there was a limit of their own.

        Raises:
            As `set_user_limit`.
        """
        with storage("clear a user's limit"):
            return user_limit_calls.clear_limit(self._redis, self._names, _user(user_id))

    def get_user_limit(self, user_id: str) -> Allowance | None:
        """What a user may ask: their own limit, else the default, else None.

        Raises:
            As `set_user_limit`.
        """
        with storage("read a user's limit"):
            own = user_limit_calls.get_limit(self._redis, self._names, _user(user_id))
        return own or self._each_user


@once
def get_rate_limiter() -> RateLimiter:
    """The RateLimiter of this process, made from the settings at first use.

    Raises:
        ConfigurationError: a setting is wrong.
        StorageError: the embedded server does not start.
    """
    return build_rate_limiter(get_settings(), shared_redis())


def build_rate_limiter(
    settings: Settings, redis: Calls, routers: Callable[[], int | None] = lambda: None
) -> RateLimiter:
    """A RateLimiter from settings and a connection to Redis.

    Args:
        routers: see `RateLimiter`.

    Raises:
        ConfigurationError: a burst is set without its rate.
    """
    return RateLimiter(
        redis,
        Names(settings.redis_key_prefix),
        each_user=_allowance(settings, "user_rpm_default", "user_burst_default"),
        all_users=_allowance(settings, "global_rpm_max", "global_burst_max"),
        minute_seconds=settings.rate_window_seconds,
        routers=routers,
    )


def _overdrawn(empty: Empty | None) -> Overdrawn | None:
    if empty is None:
        return None
    source = "user" if empty.whose is Whose.USERS_OWN else "all_users"
    return Overdrawn(source, empty.wait_ms / 1000)


def _allowance(settings: Settings, rate: str, size: str) -> Allowance | None:
    rpm, burst = getattr(settings, rate), getattr(settings, size)
    if rpm is None and burst is not None:
        raise ConfigurationError(f"{size.upper()} is {burst}, but {rate.upper()} is not set")
    return None if rpm is None else Allowance(rpm, rpm if burst is None else burst)


def _rate(name: str, value: object) -> int:
    if type(value) is not int or not 1 <= value <= LARGEST_RATE:
        raise InvalidRequest(
            f"{name} must be a whole number from 1 to {LARGEST_RATE}, not {value!r}"
        )
    return value


def _user(user_id: object) -> str:
    if (
        not isinstance(user_id, str)
        or not user_id
        or any("\ud800" <= c <= "\udfff" for c in user_id)
    ):
        raise InvalidRequest(f"user_id must be a non-empty str, not {user_id!r}")
    return user_id
