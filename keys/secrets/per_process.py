"""One value a process: a client whose sockets a forked child must not share."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Makes a value at its first use in each process, once however many threads ask.

    Example:
        >>> clients = PerProcess(lambda: object())
        >>> clients.get() is clients.get()
        True
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._start()
        restart = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (again := restart()) and again())

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._made: list[T] = []

    def get(self) -> T:
        """The value of this process. What `make` raises is raised; the next call tries again."""
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]

    def drop(self) -> T | None:
        """Forget the value, and give it back to be closed; None where there is none."""
        with self._lock:
            return self._made.pop() if self._made else None
