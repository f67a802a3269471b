"""Tells compressed files and archives by how they begin, and bounds what may come out of them."""

from __future__ import annotations

from dataclasses import dataclass

FREE = 64 * 2**20
RATIO = 200


_BEGINNINGS = frozenset((b"\x1f", b"B", b"\xfd", b"\x5d", b"P", b"\x78"))


class TooLarge(Exception):
    """What came out of an archive is out of all proportion to it."""


@dataclass(slots=True)
class Budget:
    """How much may come out of one file on disk of `size` bytes, however it is nested."""

    size: int
    spent: int = 0

    def spend(self, amount: int) -> None:
        self.spent += amount
        if self.spent > FREE and self.spent > RATIO * self.size:
            raise TooLarge(
                f"expands to more than {RATIO} times its size: a bomb? It was read in part"
            )


def kind_of(head: bytes, name: str) -> str:
    """ "gzip", "bzip2", "xz", "zlib", "zip", "tar" or ""."""
    if head[:1] not in _BEGINNINGS and head[257:262] != b"ustar" and not name.endswith(".tar"):
        return ""  # as nearly every file
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] == b"\x31\x41\x59\x26\x53\x59":
        return "bzip2"
    if head.startswith(b"\xfd7zXZ\0") or (head.startswith(b"\x5d\0\0") and name.endswith(".lzma")):
        return "xz"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if head[257:262] == b"ustar" or (name.endswith(".tar") and _is_tar(head)):
        return "tar"
    if head[:2] in (b"\x78\x01", b"\x78\x9c", b"\x78\xda", b"\x78\x5e") and b"\0" in head[:512]:
        return "zlib"
    return ""


def _is_tar(head: bytes) -> bool:
    import tarfile

    try:
        tarfile.TarInfo.frombuf(head[:512], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True
