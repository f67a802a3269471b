"""A simulation in a thread of this process: for tests, which may give it their own clock."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tools.simulation.client import SimulationClient
from tools.simulation.server import serve_until
from tools.simulation.settings import SimulationSettings

_PATIENCE = 10.0


class SimulatedProvider(SimulationClient):
    """A context manager that serves a simulation from a thread with its own event loop.

    Args:
        settings: of the simulation; default: no limits, any free port on the loopback.
        clock: seconds since the epoch, for limits and reports. Latencies use the real clock.

    Raises:
        OSError: on entry, if the address cannot be listened on.

    Example:
        with SimulatedProvider() as provider:
            provider.configure_key("key-1", name="first", rpm=60)
            client = openai.OpenAI(api_key="key-1", base_url=provider.openai_base_url)
    """

    def __init__(
        self,
        settings: SimulationSettings | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__("")
        self._settings = settings or SimulationSettings()
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="simulated-provider", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_PATIENCE):
            raise TimeoutError(f"the simulated provider did not start in {_PATIENCE:.0f} seconds")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE)
        if self._thread.is_alive():
            raise TimeoutError(f"the simulated provider did not stop in {_PATIENCE:.0f} seconds")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
            if self._ready.is_set():
                raise
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        await serve_until(self._stop, self._settings, self._started, self._clock)

    def _started(self, url: str) -> None:
        self.url = url
        self._ready.set()
