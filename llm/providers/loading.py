"""Imports that take long, for tasks: in a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import importlib
import os
import threading
from concurrent.futures import Future

_TRANSPORT = ("llm.providers.async_transport", "llm.providers.streams")


class Loading:
    """The import of an SDK and its transport, done once in a process.

    Args:
        modules: the modules' names.

    Example:
        sdk = Loading("openai")
        await sdk.done()
        import openai                   # costs nothing now
    """

    def __init__(self, *modules: str) -> None:
        self._modules = (*modules, *_TRANSPORT)
        self._lock = threading.Lock()
        self._future: Future[None] | None = None
        self._pid = 0
        self._whole = False

    async def done(self) -> None:
        """Wait until the modules are imported; whoever comes first has it done.

        Raises:
            ImportError: one cannot be imported. The next call tries again.
        """
        if not self._whole:
            # Shielded: one task that is cancelled must not take the import from the others.
            imported = asyncio.wrap_future(self._started())
            imported.add_done_callback(_looked_at)
            await asyncio.shield(imported)
            self._whole = True

    def _started(self) -> Future[None]:
        with self._lock:
            begun = self._future
            # After a fork the thread that was importing is not here.
            if begun is None or self._pid != os.getpid() or begun.done():
                begun = self._future = Future()
                self._pid = os.getpid()
                threading.Thread(
                    target=self._load, args=(begun,), name="loading-sdk", daemon=True
                ).start()
            return begun

    def _load(self, future: Future[None]) -> None:
        try:
            for name in self._modules:
                importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - it is raised to who waits
            future.set_exception(error)
        else:
            future.set_result(None)


def _looked_at(imported: asyncio.Future[None]) -> None:
    """A waiter that was cancelled does not look: asyncio would complain to the terminal."""
    if not imported.cancelled():
        imported.exception()
