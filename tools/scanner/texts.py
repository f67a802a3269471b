"""Turns the bytes of a file into text that can be scanned: encodings, binaries, windows."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Readable(Protocol):
    """Anything with bytes to read; it gives fewer than it is asked for only at its end."""

    def read(self, size: int, /) -> bytes: ...


WINDOW = 4 * 2**20
OVERLAP = 32 * 2**10
CONTEXT = 2 * 2**10
# What no text holds becomes an end of line: strings in binaries stand on lines of their own.
_STRINGS = bytes(c if 32 <= c < 127 or c in b"\t\n\r" else 10 for c in range(256))
_WIDE = bytes(
    ord("a") if 32 <= c < 127 or c in b"\t\r\n" else ord(" ") if c else ord("0") for c in range(256)
)
_BEGINS_WIDE = b"a0" * 8
_WIDE_STRING = re.compile(rb"(?:[\x20-\x7e\t\r\n]\x00){8,}")
LARGEST_STRUCTURE = 64 * 2**20
SQLITE = b"SQLite format 3\0"
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")


class Window(NamedTuple):
    """A part of a file. Of what is found in `data`, only what begins in `begin` to `end` counts."""

    data: bytes
    begin: int
    end: int
    line: int
    glued: bool = False
    raw: bytes = b""


def windows(stream: Readable, head: bytes, glued: bool) -> Iterator[Window]:
    """`head` and the rest of `stream` in overlapping parts, none over some megabytes."""
    carried, context, line = head, 0, 1
    while True:
        chunk = stream.read(WINDOW - len(carried)) if len(carried) < WINDOW else b""
        data = carried + chunk
        final = len(data) < WINDOW
        end = len(data) if final else max(context, len(data) - OVERLAP)
        shown = data.translate(_STRINGS) if glued else data
        if data:
            yield Window(shown, context, end, line, glued, data if glued else b"")
        if final:
            return
        keep = max(0, end - CONTEXT)
        line += data.count(b"\n", 0, keep)
        carried, context = data[keep:], end - keep


def encoding_of(head: bytes) -> str:
    """ "utf-16" of either order, "utf-32", "binary", or "" for anything that reads as it is."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith(codecs.BOM_UTF16_LE):
        return "utf-16-le"
    if head.startswith(codecs.BOM_UTF16_BE):
        return "utf-16-be"
    if b"\0" not in head:
        return ""
    sample = head[: len(head) // 2 * 2]
    even, odd = sample[::2], sample[1::2]
    for zeros, others, name in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if (
            len(zeros)
            and zeros.count(0) > 0.7 * len(zeros)
            and others.count(0) <= 0.02 * len(others)
        ):
            return name
    return "binary"


class Transcoded:
    """A stream of UTF-16 or UTF-32, read as UTF-8."""

    def __init__(self, stream: Readable, head: bytes, encoding: str) -> None:
        self._stream, self._head = stream, head
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
        self._ready = b""

    def read(self, size: int) -> bytes:
        while len(self._ready) < size:
            raw = self._head or self._stream.read(2**18)
            self._head = b""
            text = self._decoder.decode(raw, final=not raw).lstrip("\ufeff")
            self._ready += text.encode("utf-8", "replace")
            if not raw:
                break
        ready, self._ready = self._ready[:size], self._ready[size:]
        return ready


def wide_strings(data: bytes) -> bytes:
    """The strings that a binary holds in UTF-16, each on a line."""
    flat = data.translate(_WIDE)
    strings, at = [], flat.find(_BEGINS_WIDE)
    while at >= 0:
        found = _WIDE_STRING.match(data, at)
        end = found.end() if found else at + 1
        strings.append(data[at:end:2])
        at = flat.find(_BEGINS_WIDE, end)
    return b"\n".join(strings)


def is_structured(head: bytes) -> bool:
    return head.startswith(SQLITE) or (head[:1] == b"\x80" and head[1:2] in _PICKLE_PROTOCOLS)
