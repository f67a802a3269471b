"""Opens compressed files and archives, within bounds of depth, size and ratio."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, BinaryIO, cast

from .containers import FREE, RATIO, Budget, TooLarge

_MEMBERS = 200_000
_SPOOLED = 16 * 2**20
_DAMAGED = (
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    tarfile.TarError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
)

Report = Callable[[str, str], None]


class Counted(io.RawIOBase):
    """A stream whose bytes are paid for from a budget; damage ends it and is remembered."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self._stream, self._budget = stream, budget
        self.damage = ""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self.damage:
            return b""
        parts, missing = [], size if size >= 0 else FREE
        while missing > 0:
            try:
                part = self._stream.read(min(missing, 2**20))
                self._budget.spend(len(part))
            except TooLarge as error:
                self.damage = str(error)
                break
            except _DAMAGED as error:
                self.damage = f"cannot be decompressed: {error or type(error).__name__}"
                break
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def members(
    kind: str, stream: BinaryIO, path: str, budget: Budget, report: Report
) -> Iterator[tuple[str, Counted]]:
    """The path and the content of each member, valid until the next one is asked for."""
    try:
        if kind == "tar":
            yield from _of_tar(stream, path, budget, report)
        elif kind == "zip":
            yield from _of_zip(stream, path, budget, report)
        else:
            opened = _decompressed(kind, stream)
            yield from _watched(path, opened, budget, report)
    except TooLarge as error:
        report(path, str(error))
    except _DAMAGED as error:
        report(path, f"cannot be opened as {kind}: {error or type(error).__name__}")


def _decompressed(kind: str, stream: BinaryIO) -> IO[bytes]:
    if kind == "gzip":
        return cast(IO[bytes], gzip.GzipFile(fileobj=stream))
    if kind == "bzip2":
        return bz2.BZ2File(stream)
    if kind == "xz":
        return lzma.LZMAFile(stream)
    return cast(IO[bytes], _Inflated(stream))


class _Inflated(io.RawIOBase):
    """A bare zlib stream, as Git's loose objects are."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._inflate = stream, zlib.decompressobj()

    def read(self, size: int = -1) -> bytes:
        while not self._inflate.eof:
            raw = self._inflate.unconsumed_tail or self._stream.read(2**16)
            out = self._inflate.decompress(raw, max(size, 1))
            if out or not raw:
                return out
        return b""


def _watched(
    path: str, stream: IO[bytes], budget: Budget, report: Report
) -> Iterator[tuple[str, Counted]]:
    counted = Counted(stream, budget)
    yield path, counted
    if counted.damage:
        report(path, counted.damage)


def _of_zip(
    stream: BinaryIO, path: str, budget: Budget, report: Report
) -> Iterator[tuple[str, Counted]]:
    with _seekable(stream, budget) as file, zipfile.ZipFile(file) as archive:
        for number, info in enumerate(archive.infolist()):
            if number >= _MEMBERS:
                report(path, f"has more than {_MEMBERS:,} members; the rest was not scanned")
                return
            if info.is_dir():
                continue
            inside = f"{path}!{info.filename}"
            if info.flag_bits & 1:
                report(inside, "is encrypted")
                continue
            try:
                opened = archive.open(info)
            except _DAMAGED as error:
                report(inside, f"cannot be opened: {error or type(error).__name__}")
                continue
            with opened:
                yield from _watched(inside, opened, budget, report)
            if budget.spent > FREE and budget.spent > RATIO * budget.size:
                return


def _of_tar(
    stream: BinaryIO, path: str, budget: Budget, report: Report
) -> Iterator[tuple[str, Counted]]:
    with tarfile.open(fileobj=stream, mode="r|", bufsize=2**16) as archive:
        for number, info in enumerate(archive):
            if number >= _MEMBERS:
                report(path, f"has more than {_MEMBERS:,} members; the rest was not scanned")
                return
            if not info.isfile():
                continue  # links and devices are named, never followed
            opened = archive.extractfile(info)
            if opened:
                yield from _watched(f"{path}!{info.name}", opened, budget, report)


def _seekable(stream: BinaryIO, budget: Budget) -> IO[bytes]:
    if stream.seekable():
        return _Kept(stream)
    spooled = SpooledTemporaryFile(max_size=_SPOOLED)  # noqa: SIM115 - the archive closes it
    while part := stream.read(2**20):
        spooled.write(part)
    spooled.seek(0)
    return cast(IO[bytes], spooled)


class _Kept(io.BufferedReader):
    """A seekable stream that its reader does not close."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__(cast(io.RawIOBase, stream))

    def close(self) -> None:
        self.detach()
