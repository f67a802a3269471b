"""A few threads that fetch, so that nobody has to wait for a fetch longer than it wants to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Workers:
    """Runs functions on daemon threads, so many at a time; a thread without work ends.

    Daemons, because a store that hangs must not keep the program from ending.

    Args:
        most: threads at a time; what comes beyond waits its turn.
        name: what the threads are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Have `work` done soon. It must not raise.

        Raises:
            RuntimeError: the machine, or an ending interpreter, has no thread to give.
        """
        with self._lock:
            self._waiting.append(work)
            if self._threads >= self._most:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._threads -= 1
                if work in self._waiting:
                    self._waiting.remove(work)
            raise

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._threads -= 1
                    return
                work = self._waiting.popleft()
            work()
