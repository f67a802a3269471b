"""Synchronous code that waits as a task does, so that one piece of logic serves threads and tasks.

What decides over Redis (the manager, the limiter, the stores) is written once, as plain functions.
A task runs such a function with `on_task`: it runs at once and without a thread, in a greenlet, and
where it has to wait, the functions below hand an awaitable out to the task and go on with what came
of it. Called from a thread they simply wait. Cancelling the task raises CancelledError where the
function waits.

The greenlets are kept and used again: on Python 3.11 a new one costs ten times a switch.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

P = ParamSpec("P")
T = TypeVar("T")


async def on_task(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a synchronous function on this task; where it waits, other tasks go on.

    Example:
        >>> asyncio.run(on_task(sleep, 0.001)) is None
        True
    """
    idle = _idle.workers
    worker = idle.pop() if idle else _Worker(_serve)
    task = getcurrent()
    if worker.parent is not task:
        worker.parent = task
    worker.gr_context = task.gr_context
    handed = worker.switch((function, args, kwargs))
    while type(handed) is not _Outcome:
        try:
            result = await handed
        except BaseException:  # noqa: BLE001 - it is the function's to handle
            handed = worker.throw(*sys.exc_info())
        else:
            handed = worker.switch(result)
    idle.append(worker)
    if handed.error is not None:
        try:
            raise handed.error
        finally:
            del handed  # the exception's traceback would hold it in a cycle
    value: T = handed.value
    return value


def on_a_task() -> bool:
    """Whether this code was called through `on_task`."""
    return type(getcurrent()) is _Worker


def wait_for(awaitable: Awaitable[T]) -> T:
    """What comes of an awaitable; only where `on_a_task`."""
    parent = getcurrent().parent
    assert parent is not None
    result: T = parent.switch(awaitable)
    return result


def sleep(seconds: float) -> None:
    """Wait so long."""
    if on_a_task():
        wait_for(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def aside(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call what blocks and cannot be awaited: for a task it is done by a thread."""
    if on_a_task():
        return wait_for(asyncio.to_thread(function, *args, **kwargs))
    return function(*args, **kwargs)


class Bell:
    """As a threading.Event for one who waits; any thread may ring it.

    Example:
        >>> bell = Bell()
        >>> bell.set()
        >>> bell.wait(1.0)
        True
    """

    def __init__(self) -> None:
        self._rung = threading.Event()
        self._lock = threading.Lock()
        self._waiting: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def set(self) -> None:
        """Ring: whoever waits goes on, and whoever comes does not wait."""
        with self._lock:
            self._rung.set()
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            loop, future = waiting
            try:
                loop.call_soon_threadsafe(_end, future)
            except RuntimeError:
                return  # the loop is closed, and with it whoever waited

    def clear(self) -> None:
        """Let the next one wait."""
        self._rung.clear()

    def wait(self, seconds: float) -> bool:
        """Wait for it, at most so long. Returns whether it was rung."""
        if not on_a_task():
            return self._rung.wait(seconds)
        wait_for(self._hear(seconds))
        return self._rung.is_set()

    async def _hear(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._rung.is_set():
                return
            future = loop.create_future()
            self._waiting = loop, future
        try:
            await asyncio.wait((future,), timeout=seconds)
        finally:
            with self._lock:
                self._waiting = None


class _Outcome:
    """What a function gave or raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any, error: BaseException | None) -> None:
        self.value = value
        self.error = error


class _Worker(greenlet):
    """Runs one function after the other."""


class _Idle(threading.local):
    def __init__(self) -> None:
        self.workers: list[_Worker] = []


_idle = _Idle()


def _serve(work: Any) -> None:
    while True:
        outcome = _run(*work)
        work = None
        parent = getcurrent().parent
        assert parent is not None
        work = parent.switch(outcome)


def _run(function: Callable[..., Any], args: Any, kwargs: Any) -> _Outcome:
    try:
        return _Outcome(function(*args, **kwargs), None)
    except BaseException as error:  # noqa: BLE001 - raised again on the task
        return _Outcome(None, error)


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
