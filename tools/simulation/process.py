"""A simulation in a process of its own: for the demo and benchmarks, whose GIL it leaves alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.simulation.client import SimulationClient
from tools.simulation.settings import SimulationSettings

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 5.0


class SimulatedProviderProcess(SimulationClient):
    """A context manager that serves a simulation from a subprocess.

    The subprocess ends with this block, and with this process however that ends.

    Args:
        settings: of the simulation; its keys are sent once it runs, never on the command line.
        start_timeout: seconds that it may take to start.

    Raises:
        RuntimeError: on entry, if the subprocess does not start; its stderr says why.

    Example:
        with SimulatedProviderProcess(SimulationSettings(window_seconds=2)) as provider:
            provider.configure_key("key-1", name="first", rpm=60)
    """

    def __init__(
        self, settings: SimulationSettings | None = None, *, start_timeout: float = 20.0
    ) -> None:
        super().__init__("")
        self._settings = settings or SimulationSettings()
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id of the server."""
        if self._process is None:
            raise RuntimeError("the simulated provider has not been started")
        return self._process.pid

    def __enter__(self) -> Self:
        settings = self._settings
        paths = [str(_ROOT), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tools.simulated_provider"),
                *("--announce", "--exit-with-parent", "--config", settings.to_json()),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the caller, who may still want a report
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        try:
            self.url = self._announced(self._process)
            for secret, key in settings.keys.items():
                self._call("POST", "/_sim/keys", {"secret": secret, **asdict(key)})
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def _announced(self, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        late = threading.Timer(self._start_timeout, process.kill)
        late.start()
        try:
            line = process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            raise RuntimeError("the simulated provider did not start; its stderr says why")
        return str(json.loads(line)["url"])

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()  # tells it to end, as the death of this process would
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
