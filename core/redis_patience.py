"""The error of a command that was given up because its request had no time left."""

from __future__ import annotations

import redis


class OutOfTime(redis.TimeoutError):
    """The request's time was over, not Redis's: it says nothing of Redis."""
