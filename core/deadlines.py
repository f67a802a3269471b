"""How long this thread may wait for Redis: the end of the request that it serves."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Patience(threading.local):
    end: float = math.inf


_patience = _Patience()


@contextmanager
def no_later_than(end: float) -> Iterator[None]:
    """Let no exchange of this thread outlive a time; one that begins later has a twentieth second.

    Args:
        end: monotonic seconds.
    """
    before, _patience.end = _patience.end, end
    try:
        yield
    finally:
        _patience.end = before


def end_of_patience() -> float:
    """The time (monotonic seconds) that no exchange of this thread may outlive."""
    return _patience.end
