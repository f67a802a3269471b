"""Secret stores and clocks that do what a test tells them."""

from __future__ import annotations

import io
import logging
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pydantic import SecretStr

from core.errors import SecretStoreDown
from core.events import Event, subscribe
from keys.spec import KeySpec

Answer = str | Exception


class Told:
    """Gives what `answer` says at the time, counts, and can be made to hang."""

    name = "the store"

    def __init__(self, answer: Answer = "one") -> None:
        self.answer = answer
        self.fetched: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.begun = threading.Semaphore(0)

    def fetch(self, key: KeySpec) -> SecretStr:
        answer = self.answer  # as a server that reads, then is slow to tell
        self.fetched.append(key.key_id)
        self.begun.release()
        assert self.open.wait(20), "nobody opened the store again"
        if isinstance(answer, Exception):
            raise answer
        return SecretStr(answer)

    def begins(self) -> None:
        """Wait until a fetch has begun that was not waited for yet."""
        assert self.begun.acquire(timeout=10), "no fetch began"

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self.open.clear()
        try:
            yield
        finally:
            self.open.set()

    @property
    def fetches(self) -> int:
        return len(self.fetched)


def down() -> SecretStoreDown:
    return SecretStoreDown("the store is down")


@contextmanager
def events_of(*kinds: type[Event]) -> Iterator[list[Event]]:
    seen: list[Event] = []
    stop = subscribe(lambda event: seen.append(event) if isinstance(event, kinds) else None)
    try:
        yield seen
    finally:
        stop()


def in_thread(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run `work` on a thread; the list gets what it gave or raised."""
    got: list[object] = []

    def run() -> None:
        try:
            got.append(work())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            got.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, got


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """All that any logger says, from DEBUG on; a test may print into it too."""
    root, written = logging.getLogger(), io.StringIO()
    handler = logging.StreamHandler(written)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def local_variables(error: BaseException) -> str:
    """All that an error tracker could take from the frames of our own code."""
    frames = [
        frame.f_locals
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_globals["__name__"].startswith(("keys.", "core."))
    ]
    assert frames
    return repr([frames, error.__context__, error.__cause__])
