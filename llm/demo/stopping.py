"""Ctrl-C and SIGTERM that wait for a safe place."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LOOK_SECONDS = 0.1


class Stopping:
    """A context manager that turns both signals into a KeyboardInterrupt at the next `check`.

    An interrupt just anywhere may come in the middle of an import, and CPython then leaves the
    import lock held: a thread that imports (`WarmUp`) hangs for good. It may also come while the
    stage is being cleared, and leave half of it behind.
    """

    def __init__(self) -> None:
        self._asked = False
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        self._before = [signal.signal(number, self._note) for number in _SIGNALS]
        return self

    def __exit__(self, *exception: object) -> None:
        for number, before in zip(_SIGNALS, self._before, strict=True):
            signal.signal(number, before)

    def check(self) -> None:
        """A safe place to stop.

        Raises:
            KeyboardInterrupt: a signal came.
        """
        if self._asked:
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Sleep, and check."""
        time.sleep(seconds)
        self.check()

    def join(self, thread: threading.Thread) -> None:
        """Wait for a thread to end, and check meanwhile."""
        while thread.is_alive():
            thread.join(_LOOK_SECONDS)
            self.check()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
