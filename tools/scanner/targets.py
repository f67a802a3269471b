"""What there is to scan: the files under the given paths, each once, and nothing that traps."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from .findings import Unread

# Git's own folder holds what the working tree or `git` mode shows better.
_SKIPPED_FOLDERS = {".git"}
_by_name = attrgetter("name")


class Target(NamedTuple):
    """A file to scan; `size` is what it holds on disk, holes left out."""

    path: str
    name: str
    size: int


def targets(paths: Sequence[str]) -> Iterator[Target | Unread]:
    """Every regular file under `paths`. Symbolic links are followed only where they are given."""
    seen: set[tuple[int, int]] = set()
    for path in paths:
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            yield Unread(path, f"cannot be opened: {_reason(error)}")
            continue
        if stat.S_ISDIR(status.st_mode):
            yield from _under(path, seen)
        else:
            found = _file(path, display(path), status, seen)
            if found:
                yield found
            elif not stat.S_ISREG(status.st_mode):
                yield Unread(path, "is neither a file nor a folder; not scanned")


def _under(folder: str, seen: set[tuple[int, int]]) -> Iterator[Target | Unread]:
    # Said once for each folder: asking the system for each file costs more than reading it.
    shown = display(folder)
    waiting = [(folder, "" if shown == os.curdir else shown.rstrip("/") + "/")]
    while waiting:
        current, prefix = waiting.pop()
        try:
            with os.scandir(current) as listing:
                entries = sorted(listing, key=_by_name)
        except OSError as error:
            yield Unread(prefix[:-1] or shown, f"cannot be listed: {_reason(error)}")
            continue
        folders = []
        for entry in entries:
            name = prefix + entry.name
            try:
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in _SKIPPED_FOLDERS:
                        folders.append((entry.path, name + "/"))
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    found = _file(entry.path, name, status, seen)
                    if found:
                        yield found
            except OSError as error:
                yield Unread(name, f"cannot be opened: {_reason(error)}")
        waiting += reversed(folders)


def _file(
    path: str, name: str, status: os.stat_result, seen: set[tuple[int, int]]
) -> Target | None:
    identity = (status.st_dev, status.st_ino)
    if not stat.S_ISREG(status.st_mode) or identity in seen:
        return None  # no file, or a second name of the same one
    seen.add(identity)
    on_disk = getattr(status, "st_blocks", 0) * 512
    return Target(path, name, min(status.st_size, on_disk) if on_disk else status.st_size)


def display(path: str) -> str:
    """`path` as reports name it: from the current folder where it lies below it, with slashes."""
    relative = os.path.relpath(path)
    shown = path if relative.startswith("..") else relative
    return shown.replace(os.sep, "/")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
