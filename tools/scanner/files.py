"""Opens files: small ones at once, and sparse ones without their holes, so that none is a trap."""

from __future__ import annotations

import errno
import io
import os
from typing import BinaryIO, cast

SMALL = 2**20
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


def open_file(path: str, size: int) -> BinaryIO:
    """The file at `path` of about `size` bytes; what is sparse is read without its holes."""
    descriptor = os.open(path, _FLAGS)
    if size <= SMALL:
        try:
            data = _at_once(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        if data is not None:
            os.close(descriptor)
            return io.BytesIO(data)
    file = os.fdopen(descriptor, "rb", buffering=0)
    file.seek(0)
    status = os.fstat(descriptor)
    holes = hasattr(os, "SEEK_DATA") and status.st_size - status.st_blocks * 512 > 2**20
    return cast(BinaryIO, io.BufferedReader(_WithoutHoles(file) if holes else file, 2**16))


def _at_once(descriptor: int, size: int) -> bytes | None:
    """All there is to read, if that is little; a file may have grown or have holes."""
    data = part = os.read(descriptor, size + 1)
    while part and len(data) <= SMALL:
        part = os.read(descriptor, 2**16)
        data += part
    return None if part else data


class _WithoutHoles(io.RawIOBase):
    def __init__(self, file: io.FileIO) -> None:
        self._file, self._at, self._until = file, 0, 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        if self._at >= self._until and not self._next():
            return 0
        size = min(len(view), self._until - self._at)
        part = os.pread(self._file.fileno(), size, self._at)
        self._at = self._at + len(part) if part else self._until
        view[: len(part)] = part
        return len(part)

    def _next(self) -> bool:
        number = self._file.fileno()
        try:
            self._at = os.lseek(number, self._at, os.SEEK_DATA)
            self._until = os.lseek(number, self._at, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False  # only holes are left
            raise
        return self._until > self._at
