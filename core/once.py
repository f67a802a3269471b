"""One value a process, made at first use, however many threads ask first."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class _Once(Generic[T]):
    def __init__(self, make: Callable[[], T]) -> None:
        functools.update_wrapper(self, make)
        self._make = make
        self._lock = threading.RLock()
        self._made: list[T] = []

    def __call__(self) -> T:
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]

    def cache_clear(self) -> None:
        """Make it anew at the next use."""
        with self._lock:
            self._made.clear()

    def forget(self, value: T) -> None:
        """Make it anew at the next use, if it is this very value that would be given again."""
        with self._lock:
            if self._made and self._made[0] is value:
                self._made.clear()


def once(make: Callable[[], T]) -> _Once[T]:
    """Call a function without arguments once, and give its value again ever after.

    A call that raises is tried again by the next.

    Example:
        >>> once(lambda: [])() is once(lambda: [])()
        False
    """
    return _Once(make)
