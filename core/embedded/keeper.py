"""The keeper: a small process that runs the embedded server for as long as somebody uses it.

It is started by its file path, `python -I -S keeper.py DATA SOCKET BINARY LOCK GRACE`, imports the
standard library alone, and goes when the last user has gone. What holds it all together are locks
of the kernel, which free themselves when a process ends in any way:

    users.lock    shared: every process that uses the server; exclusive: the keeper, to stop it
    keeper.lock   the one keeper; inherited from the user that started it
    server.lock   the one server; inherited from the keeper, and held until the server is gone

If the keeper is killed, the kernel kills the server too (Linux), and a user's next command starts
both again. Elsewhere the server lives on, and the next keeper takes it over.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

if sys.platform != "win32":
    import fcntl

_TICK_SECONDS = 0.5
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
_TAKE_OVER_SECONDS = 1.0
_PAUSE_SECONDS = 0.005
_LOG_BYTES = 1_000_000
_CRASHES, _CRASHES_SECONDS = 5, 60.0
_PR_SET_PDEATHSIG = 1


class Server:
    """The server's process: a child of this keeper, or one that a killed keeper left behind."""

    def __init__(self, folder: str, socket_path: str, binary: str) -> None:
        self._folder = folder
        self._socket = socket_path
        self._binary = binary
        self._lock = os.path.join(folder, "server.lock")
        self._child: subprocess.Popen[bytes] | None = None
        self._left: int | None = None

    def start(self) -> bool:
        """Start the server, or take over a running one; False if it does not come to listen."""
        deadline = time.monotonic() + _TAKE_OVER_SECONDS  # one that is dying needs far less
        while not self._spawn():
            time.sleep(_PAUSE_SECONDS)
            if time.monotonic() >= deadline:
                self._take_over()
                if self.reachable():
                    return True
                self.stop()
        deadline = time.monotonic() + _START_SECONDS
        while not self.reachable():
            if not self.alive() or time.monotonic() >= deadline:
                return False
            time.sleep(_PAUSE_SECONDS)
        return True

    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return self._left is not None and _is_locked(self._left)

    def reachable(self) -> bool:
        """Whether the socket is in its place."""
        try:
            return stat.S_ISSOCK(os.lstat(self._socket).st_mode)
        except FileNotFoundError:
            return False

    def stop(self) -> None:
        """End the server, its data on the disk and its socket gone; by force if it takes long."""
        self._end(signal.SIGTERM)
        if self.alive():
            self.kill()
        self._remove_socket()

    def kill(self) -> None:
        """End the server at once."""
        self._end(signal.SIGKILL)

    def gave_up(self) -> bool:
        """Whether the server ended of itself because it cannot run; its log says why."""
        return self._child is not None and (self._child.poll() or 0) > 0

    def _spawn(self) -> bool:
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _take(lock):
                return False
            self._remove_socket()
            self._child = subprocess.Popen(
                [self._binary, *_options(self._socket)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                pass_fds=(lock,),
                preexec_fn=_prepare(lock),
            )
        finally:
            os.close(lock)
        return True

    def _take_over(self) -> None:
        if self._left is None:
            self._child = None
            self._left = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)

    def _remove_socket(self) -> None:
        if self.reachable():  # never anything else that is in its place
            os.unlink(self._socket)

    def _end(self, how: signal.Signals) -> None:
        if self._child is not None:
            self._child.send_signal(how)
        elif self._left is not None and _is_locked(self._left):
            pid = os.pread(self._left, 20, 0).strip()
            if pid.isdigit():
                os.kill(int(pid), how)
        deadline = time.monotonic() + _STOP_SECONDS
        while self.alive() and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)


class Keeper:
    """Runs `server` until nobody has held the users' lock for `grace` seconds."""

    def __init__(self, folder: str, server: Server, grace: float) -> None:
        self._server = server
        self._grace = grace
        self._log = os.path.join(folder, "server.log")
        self._users_path = os.path.join(folder, "users.lock")
        self._users = os.open(self._users_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._idle_since: float | None = None
        self._crashes: list[float] = []

    def run(self, signals: int) -> None:
        """Keep the server until it is not needed, or cannot be kept.

        Args:
            signals: a descriptor that gets the number of each signal that arrives, as a byte.
        """
        running = self._server.start()
        tick = min(_TICK_SECONDS, max(self._grace / 4, 0.02))
        while running:
            arrived, _, _ = select.select([signals], [], [], tick)
            if arrived and signal.SIGTERM in os.read(signals, 64):
                return self._server.stop()
            if self._data_deleted():
                return self._server.kill()
            if self._unused():
                return self._server.stop()
            self._bound_log()
            running = self._keep_running()
        return self._server.stop()

    def _keep_running(self) -> bool:
        if self._server.alive() and self._server.reachable():
            return True
        if self._server.gave_up():
            return False
        now = time.monotonic()
        self._crashes = [at for at in self._crashes if now - at < _CRASHES_SECONDS] + [now]
        if len(self._crashes) > _CRASHES:
            _say(f"the server ended {_CRASHES} times in {_CRASHES_SECONDS:.0f} s: giving up")
            return False
        _say("the server is gone: starting it again")
        self._server.stop()
        return self._server.start()

    def _unused(self) -> bool:
        """Whether nobody used the server for the grace; then the users' lock stays ours."""
        if not _take(self._users):
            self._idle_since = None
            return False
        now = time.monotonic()
        if self._idle_since is None:
            self._idle_since = now
        if now - self._idle_since >= self._grace:
            return True
        fcntl.flock(self._users, fcntl.LOCK_UN)
        return False

    def _data_deleted(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._users), os.stat(self._users_path))
        except FileNotFoundError:
            return True

    def _bound_log(self) -> None:
        with suppress(FileNotFoundError):
            if os.path.getsize(self._log) > _LOG_BYTES:
                os.replace(self._log, self._log + ".1")  # the server opens it for each line


def main(arguments: list[str]) -> None:
    """Detach from the user that started us, then keep the server."""
    folder, socket_path, binary, keeper_lock, grace = arguments
    if os.fork():
        os._exit(0)  # so that the user can wait for us and nobody has to later
    os.umask(0o077)
    signals, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        Keeper(folder, Server(folder, socket_path, binary), float(grace)).run(signals)
    finally:
        # Before the users' lock, which goes with us: who gets that one must find this one free.
        os.close(int(keeper_lock))


def _options(socket_path: str) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": socket_path,
        "unixsocketperm": "600",
        "protected-mode": "yes",
        "daemonize": "no",
        "logfile": "server.log",
        "save": "",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory": "0",
        "maxmemory-policy": "noeviction",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _prepare(lock: int) -> Callable[[], None]:
    """What the server's process does before it becomes the server."""
    keeper = os.getpid()
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None

    def prepare() -> None:
        with suppress(OSError):  # a full disk; only a later keeper would have a use for it
            os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
        if prctl is not None:
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
            if os.getppid() != keeper:
                os._exit(1)

    return prepare


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_locked(descriptor: int) -> bool:
    if not _take(descriptor):
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _say(what: str) -> None:
    with suppress(OSError):  # a full disk must not end the server
        os.write(2, f"keeper: {what}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1:])
