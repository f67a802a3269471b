"""One value for each event loop: what holds sockets belongs to the loop that opened them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Makes its value at the first use in a loop. That of a loop that was closed is dropped.

    A program may call `asyncio.run` several times, each with a loop of its own.

    Args:
        make: makes the value, called on the loop.

    Example:
        >>> async def twice(values):
        ...     return values() is values()
        >>> asyncio.run(twice(PerLoop(list)))
        True
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: list[tuple[asyncio.AbstractEventLoop, T]] = []

    def __call__(self) -> T:
        """The value of the running loop.

        Raises:
            RuntimeError: no loop is running.
        """
        loop = asyncio.get_running_loop()
        for owner, value in self._values:
            if owner is loop:
                return value
        made = self._make()
        kept = [(owner, value) for owner, value in self._values if not owner.is_closed()]
        self._values = [*kept, (loop, made)]
        return made

    def take(self) -> T | None:
        """The running loop's value, if it has one; from now on it has none."""
        loop = asyncio.get_running_loop()
        found = [value for owner, value in self._values if owner is loop]
        self._values = [pair for pair in self._values if pair[0] is not loop]
        return found[0] if found else None
