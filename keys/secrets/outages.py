"""Whether a secret store is down: told once when it begins, once when it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable

from core.events import SecretStoreFailing, SecretStoreRestored, emit


class Outages:
    """Remembers that a store is down, and lets one fetch at a time ask whether it is back.

    Args:
        store: what events call the store.
        stale_seconds: how long cached secrets are served beyond their time.
        pause_seconds: between two fetches while it is down.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, store: str, stale_seconds: float, pause_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._stale_seconds = stale_seconds
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._since: float | None = None
        self._next = 0.0
        self.reason = ""
        self.start()

    def start(self) -> None:
        """Begin, or go on in a forked child."""
        self._lock = threading.Lock()

    def may_fetch(self) -> bool:
        """Whether to ask the store; while it is down, one caller in a pause may."""
        if self._since is None:
            return True
        with self._lock:
            now = self._clock()
            if self._since is None:
                return True
            if now < self._next:
                return False
            self._next = now + self._pause_seconds
            return True

    def note_failure(self, reason: str) -> None:
        """The store did not answer."""
        with self._lock:
            now = self._clock()
            begins, self.reason = self._since is None, reason
            self._since = now if self._since is None else self._since
            self._next = now + self._pause_seconds
        if begins:
            emit(SecretStoreFailing(self._store, reason, self._stale_seconds))

    def note_answer(self) -> None:
        """The store answered, be it to refuse."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
            now = self._clock()
        if since is not None:
            emit(SecretStoreRestored(self._store, now - since))

    def told(self) -> str | None:
        """The outage in a sentence, or None."""
        since = self._since
        if since is None:
            return None
        left = max(0.0, since + self._stale_seconds - self._clock())
        return (
            f"{self.reason}; down for {self._clock() - since:.0f} s, cached secrets are served for "
            f"at least {left:.0f} s more"
        )
