"""The thread that tells Redis that this router is there, and probes it while it is away."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref

from keys.outage import Outage

_log = logging.getLogger(__name__)

_hearts: weakref.WeakSet[Heartbeat] = weakref.WeakSet()


class Heartbeat:
    """Ticks every outage when it is due, from `start` to `close`."""

    def __init__(self) -> None:
        self._outages: list[tuple[Outage, float]] = []
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._starting = threading.Lock()
        _hearts.add(self)

    @property
    def wake(self) -> threading.Event:
        """Set it when something is due at once."""
        return self._wake

    def add(self, outage: Outage) -> None:
        """Tick an outage from now on."""
        self._outages = [*self._outages, (outage, 0.0)]
        self._wake.set()

    def start(self) -> None:
        """Begin to beat; in a child of this process, which has none of its threads, once more."""
        if self._thread is not None or self._closed:
            return
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=_run,
                    args=(weakref.ref(self), self._wake),
                    name="llm-router heartbeat",
                    daemon=True,
                )
                self._thread.start()

    def beat(self, *, at_once: bool) -> float:
        """Tick those that are due, or all. Returns after how many seconds the next is."""
        now = time.monotonic()
        due = []
        for outage, at in self._outages:
            if at_once or at <= now:
                try:
                    at = time.monotonic() + outage.tick()
                except Exception:  # noqa: BLE001 - whatever it is, the next beat may do
                    _log.exception("a beat failed")
                    at = now + 1.0
            due.append((outage, at))
        known = {outage for outage, _ in due}
        self._outages = due + [entry for entry in self._outages if entry[0] not in known]
        return min((at for _, at in self._outages), default=now + 1.0) - time.monotonic()

    def close(self) -> None:
        """End the thread, and tell Redis that this router is gone."""
        self._closed = True
        self._wake.set()
        thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=2.0)
            for outage, _ in self._outages:
                outage.leave()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def after_fork(self) -> None:
        """Begin anew in a child."""
        self._thread, self._wake, self._starting = None, threading.Event(), threading.Lock()
        for outage, _ in self._outages:
            outage.begin_anew(self._wake)


def _run(heart: weakref.ref[Heartbeat], wake: threading.Event) -> None:
    at_once = True
    while True:
        beating = heart()
        if beating is None or beating.closed:
            return
        wake.clear()
        seconds = beating.beat(at_once=at_once)
        del beating  # so that a limiter that nobody uses any more can go
        at_once = wake.wait(max(0.01, seconds))


def _after_fork() -> None:
    for heart in list(_hearts):
        heart.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
