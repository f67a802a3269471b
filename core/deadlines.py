"""How long this thread or task may wait for Redis: the end of the request that it serves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_patience: ContextVar[float] = ContextVar("end_of_patience", default=math.inf)


@contextmanager
def no_later_than(end: float) -> Iterator[None]:
    """Let no exchange of this thread or task outlive a time.

    One that begins later has a twentieth second.

    Args:
        end: monotonic seconds.
    """
    token = _patience.set(end)
    try:
        yield
    finally:
        _patience.reset(token)


def end_of_patience() -> float:
    """The time (monotonic seconds) that no exchange of this thread or task may outlive."""
    return _patience.get()
