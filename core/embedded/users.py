"""Who uses the embedded server: every process that holds a shared lock on `users.lock`.

The kernel frees the lock when a process ends in any way. A forked child holds it along with its
parent, because the two share the open file: so nobody ever unlocks it, they only close it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from core.errors import StorageError

if sys.platform != "win32":
    import fcntl

_PAUSE = 0.005

guard = threading.RLock()
"""Held while locks are taken or handed on, and by a fork: a child never inherits one half-taken."""

_descriptors: dict[Path, int] = {}
_users: dict[Path, int] = {}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=guard.acquire, after_in_parent=guard.release, after_in_child=guard.release
    )


def join(lock: Path, deadline: float) -> None:
    """Count one more user in this process; the first takes the shared lock.

    Args:
        lock: the path of the lock file.
        deadline: by `time.monotonic()`; a keeper that is just stopping its server lets us wait.

    Raises:
        StorageError: the lock was not to be had in time.
    """
    with guard:
        if lock not in _descriptors:
            _descriptors[lock] = _take(lock, deadline)
        _users[lock] = _users.get(lock, 0) + 1


def leave(lock: Path) -> None:
    """Count one user less; the last one of this process gives the lock back."""
    with guard:
        _users[lock] -= 1
        if _users[lock] == 0:
            del _users[lock]
            os.close(_descriptors.pop(lock))


def renew(lock: Path, deadline: float) -> None:
    """Take the lock anew if its file was deleted or replaced since this process took it.

    Raises:
        StorageError: as `join`.
    """
    with guard:
        held = _descriptors[lock]
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(held), lock.stat()):
                return
        _descriptors[lock] = _take(lock, deadline)
        os.close(held)


def _take(lock: Path, deadline: float) -> int:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise StorageError(f"{lock} stayed locked by a stopping server") from None
            time.sleep(_PAUSE)
    except BaseException:
        os.close(descriptor)
        raise
