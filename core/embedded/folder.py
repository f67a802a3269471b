"""Where the embedded server keeps its data and its socket, and whether that place is safe."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

from core.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

_log = logging.getLogger(__name__)

USERS_LOCK = "users.lock"
KEEPER_LOCK = "keeper.lock"
LOG_FILE = "server.log"
SOCKET = "valkey.sock"
SOCKET_PATH_BYTES = 103
"""The longest path that a Unix socket may have on every system: macOS allows 104 with the NUL."""

_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


def data_folder(chosen: Path | None) -> Path:
    """The folder for the data, created where it is missing, checked, and with links resolved.

    Args:
        chosen: the user's own choice (`LLM_DATA_DIR`), or None for the usual place: the user's
            data folder, and where that cannot be used `llm-router-<uid>` in the temp folder.

    Raises:
        ConfigurationError: the folder cannot be used; the message says why and what to do.
    """
    if chosen is not None:
        return _claim(chosen.expanduser().resolve())
    try:
        usual = _usual_folder()
        return _claim(usual.resolve())
    except (ConfigurationError, OSError, RuntimeError) as error:
        place = private_temp_folder(Path(tempfile.gettempdir()))
        _log.warning("the data of the embedded server goes to %s, because %s", place, error)
        return _claim(place)


def socket_path(folder: Path) -> Path:
    """The socket's path: in `folder`, or under /tmp where that would be too long for a socket.

    Raises:
        ConfigurationError: the folder under /tmp cannot be had.
    """
    path = folder / SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    # Not TMPDIR: every process that shares the data must come to the same path.
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16] + ".sock"
    return private_temp_folder(Path("/tmp")) / name


def private_temp_folder(parent: Path) -> Path:
    """`llm-router-<uid>` in a folder that everybody may write to, 0700 and surely ours.

    Raises:
        ConfigurationError: something else is in its place, or it cannot be created.
    """
    path = parent / f"llm-router-{os.geteuid()}"
    try:
        _mkdir(path)
        found = path.lstat()  # not stat: a link there was laid by somebody else
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigurationError(
                f"{path} is not a folder of yours; remove it, or set LLM_DATA_DIR to a folder of "
                "yours with a short path"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
    except OSError as error:
        raise _unusable(path, error) from error
    return path


def _usual_folder() -> Path:
    shared = os.environ.get("XDG_DATA_HOME", "")
    if os.path.isabs(shared):
        return Path(shared) / "llm-router"
    home = Path.home()
    if home.stat().st_uid != os.geteuid():  # sudo that keeps the caller's HOME
        raise ConfigurationError(f"the home folder {home} belongs to another user")
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "llm-router"
    return home / ".local" / "share" / "llm-router"


def _claim(path: Path) -> Path:
    """Create `path` as 0700 where it is missing; check that it is ours, writable, and locks."""
    try:
        _mkdir(path)
        found = path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise ConfigurationError(f"{path} is not a folder; set LLM_DATA_DIR to one")
        if found.st_uid != os.geteuid():
            raise ConfigurationError(
                f"the folder {path} belongs to another user; set LLM_DATA_DIR to one of yours"
            )
        if found.st_mode & 0o022:
            raise ConfigurationError(
                f"others may write to the folder {path}; run: chmod go-w {path}"
            )
        _try_lock(path / USERS_LOCK)
    except OSError as error:
        raise _unusable(path, error) from error
    return path


def _mkdir(path: Path) -> None:
    if path.is_dir():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return  # another process was quicker, or it is no folder, which is checked next


def _try_lock(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    if error.errno in _NO_LOCKS:
        reason = "its file system has no file locks"
    else:
        reason = (error.strerror or str(error)).lower()
    return ConfigurationError(
        f"the folder {path} cannot be used: {reason}; set LLM_DATA_DIR to a local folder that you "
        "may write to, or REDIS_URL to a Redis of your own"
    )
