"""Other processes that use an embedded server, and a look at what runs for its folder."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.embedded import EmbeddedServer
from core.embedded.folder import socket_path
from core.redis_connection import RedisConnection, open_redis
from core.settings import Settings

GRACE = 0.1
WAIT = 10.0
folders: set[Path] = set()
"""The data folders that were used, so that the end of the tests can look what is left."""

_FORK = multiprocessing.get_context("fork")


def open_embedded(folder: Path, **options: Any) -> RedisConnection:
    """A connection to the embedded server of `folder`, with a short grace."""
    folders.add(folder)
    server = EmbeddedServer(folder, grace_seconds=GRACE, **options)
    return open_redis(Settings(_env_file=None, redis_url=None), embedded=server)


class User:
    """A process of its own that uses the embedded server of `folder`.

    It opens the server when `start` is called, so that many can be made ready before.
    """

    def __init__(self, folder: Path) -> None:
        folders.add(folder)
        self._pipe, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_serve, args=(folder, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def start(self) -> User:
        self.ask("open")
        self.answer()
        return self

    def call(self, *args: Any) -> Any:
        """Run a command there and return the reply, or raise what it raised."""
        self.ask(*args)
        return self.answer()

    def ask(self, *args: Any) -> None:
        self._pipe.send(args)

    def answer(self) -> Any:
        assert self._pipe.poll(WAIT), "the other process does not answer"
        reply = self._pipe.recv()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def leave(self) -> None:
        """End the process in the ordinary way."""
        self._pipe.send(None)  # closing would not do: processes forked later hold the pipe too
        self._process.join(WAIT)

    def kill(self) -> None:
        """End the process as a crash would."""
        self._process.kill()
        self._process.join(WAIT)


def _serve(folder: Path, pipe: Any) -> None:
    connection: RedisConnection | None = None
    while True:
        args = pipe.recv()
        if args is None:
            return
        try:
            if args == ("open",):
                connection = open_embedded(folder)
                pipe.send("open")
            else:
                assert connection is not None
                pipe.send(connection.call(*args))
        except Exception as error:  # noqa: BLE001 - the asking process raises it
            pipe.send(error)


def running(folder: Path) -> list[int]:
    """The ids of the keeper and the server of `folder`."""
    listing = subprocess.run(
        ["ps", "-axww", "-o", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout
    return [
        int(line.split()[0])
        for line in listing.splitlines()
        if str(socket_path(folder)) in line and ("keeper.py" in line or "-server" in line)
    ]


def server_pid(connection: RedisConnection) -> int:
    return int(connection.client.info("server")["process_id"])


def keeper_pid(connection: RedisConnection) -> int:
    """The server's parent."""
    pid = str(server_pid(connection))
    listing = subprocess.run(
        ["ps", "-o", "ppid=", "-p", pid], capture_output=True, text=True, check=True
    )
    return int(listing.stdout)


def alive(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def wait_for(what: Callable[[], bool], seconds: float = WAIT) -> bool:
    """Whether `what` comes true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)
    return True
