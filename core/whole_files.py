"""Files that change as a whole: a reader sees the old content or the new, never a part."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace_whole(path: Path, content: bytes, mode: int) -> None:
    """Put `content` in the place of a file, or leave it as it was. A link stays a link.

    The content is on the disk before it takes the old one's place, so that neither a full disk nor
    a power cut leaves half of it.

    Args:
        mode: the permissions of the new file, such as 0o600.

    Raises:
        OSError: it cannot be written; what was there is there still.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a device, such as /dev/null, is not replaced
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    descriptor, draft = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(draft, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
