"""One subscription a process, however many routers it has: each event is told once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from core.events import Event, subscribe


class SharedSubscription:
    """Subscribes with its first follower and ends with its last.

    Example:
        >>> shared = SharedSubscription(lambda event: None)
        >>> end = shared.follow()
        >>> end()
    """

    def __init__(self, subscriber: Callable[[Event], None]) -> None:
        self._subscriber = subscriber
        self._lock = threading.Lock()
        self._followers: set[object] = set()
        self._end: Callable[[], None] | None = None

    def follow(self) -> Callable[[], None]:
        """Follow until the returned function is called; calling it again does nothing."""
        token = object()
        with self._lock:
            self._followers.add(token)
            if self._end is None:
                self._end = subscribe(self._subscriber)

        def end() -> None:
            with self._lock:
                self._followers.discard(token)
                if not self._followers and self._end is not None:
                    self._end()
                    self._end = None

        return end
