"""Finds what is written in another alphabet, and reads it: base64, hex, percent and escapes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from .rows import Hint, Row

_PRINTABLE = re.compile(rb"[\x09\x0a\x0d\x20-\x7e\x80-\xff]*")
_PACKED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\xff\xfe", b"\xfe\xff")
_HEX = re.compile(rb"(?:[2-7][0-9A-Fa-f]|0[9aAdD])+")
_BASE64_LINES = re.compile(
    rb"[A-Za-z0-9+/_-]*(?:(?:\\n|\r?\n[ \t\"'#]{0,40})[A-Za-z0-9+/_-]{16,400}(?![\w.:(]))*={0,2}"
)
_BASE64_LAST_LINE = re.compile(
    rb"(?:\\n|\r?\n[ \t\"'#]{0,40})[A-Za-z0-9+/_-]{2,400}={0,2}(?![\w.:(])"
)
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")
_ESCAPED = re.compile(rb"\\(?:/|u00[2-7][0-9A-Fa-f]|x[2-7][0-9A-Fa-f])")
_PERCENT = re.compile(rb"%[2-7][0-9A-Fa-f]")
_AROUND = 400
_SECRET_MANIFEST = re.compile(
    rb"kind\\{0,3}[\"']?\s{0,4}:\s{0,4}\\{0,3}[\"']?Secret\\{0,3}[\"']?\s{0,4}[,\r\n}\\]"
)
_ENTRY = re.compile(
    rb"(?:\n[ \t]{1,20}|[{,]\s{0,40})\\{0,3}[\"']?([\w.\-]{1,100})\\{0,3}[\"']?:[ \t]{0,8}"
    rb"(?:[|>]-?[ \t]{0,4}\r?\n[ \t]{1,20})?\\{0,3}[\"']?"
    rb"([A-Za-z0-9+/]{4,200000}={0,2})"
)
_MANIFEST = 300_000
_KIND = b"kind"
_QUOTED = b"quoted-printable"
_PERCENT_SIGNS = tuple(b"%%%d" % nibble for nibble in range(2, 8))
_ESCAPES = (rb"\/", rb"\u00", rb"\x")
LITERALS = (_KIND, _QUOTED, *_PERCENT_SIGNS, *_ESCAPES)
_HEADERS = 20_000


class Piece(NamedTuple):
    """Text that `start` to `end` of another text says in the encoding `layer`."""

    start: int
    end: int
    layer: str
    text: bytes


def pieces(
    data: bytes, lower: bytes, long_rows: list[Row], present: Collection[bytes]
) -> Iterator[Piece]:
    """Everything in `data` that can be read in the clear."""
    if _KIND in present and _KIND in lower:
        yield from _manifests(data)
    yield from _in_rows(data, long_rows)
    if any(map(present.__contains__, _PERCENT_SIGNS)):
        yield from _percent(data)
    if any(map(present.__contains__, _ESCAPES)):
        yield from _escapes(data)
    if _QUOTED in present and lower.find(_QUOTED, 0, _HEADERS) >= 0:
        import quopri

        yield Piece(0, len(data), "quoted-printable", quopri.decodestring(data))


def _in_rows(data: bytes, long_rows: list[Row]) -> Iterator[Piece]:
    done, refused = 0, -1
    for start, end, is_number in long_rows:
        if start < done:
            continue
        # Nearly every row is a word or a number, so the first characters decide cheaply.
        if data[start] in _HIGH_NIBBLES and end - start >= 40 and _HEX.fullmatch(data, start, end):
            if (end - start) % 2 == 0:
                yield Piece(start, end, "hex", binascii.unhexlify(data[start:end]))
                done = end
            continue
        if is_number:
            continue
        before = data[start - 1 : start]
        if before == b"\\":
            start += 1
        elif before in (b"+", b"/"):
            begin = max(0, start - _FARTHEST)
            bare = len(data[begin:start].rstrip(_ALPHABET))
            if begin and not bare:
                continue  # begins too far before
            start = begin + bare
        if start == refused or not _TEXT_BEGINS.match(data, start):
            continue
        refused = start
        head = data[start : start + 20].translate(_STANDARD)
        raw = binascii.a2b_base64(head.rstrip(b"=") + b"====")
        if (raw.isascii() and _PRINTABLE.fullmatch(raw)) or raw.startswith(_PACKED):
            piece = _base64(data, start, end)
            if piece:
                yield piece
                done = piece.end


def _base64(data: bytes, start: int, end: int) -> Piece | None:
    lines = _BASE64_LINES.match(data, end)
    stop = lines.end() if lines else end
    # A short line below may be the last of it, or something else.
    last = _BASE64_LAST_LINE.match(data, stop) if b"=" not in data[stop - 1 : stop] else None
    for until in (last.end(), stop) if last else (stop,):
        whole = data[start:until].translate(_STANDARD)
        packed = _NOT_BASE64.sub(b"", whole.replace(b"\\n", b""))
        packed = packed[: len(packed) - 1] if len(packed) % 4 == 1 else packed
        text = binascii.a2b_base64(packed + b"=" * (-len(packed) % 4))
        if text.startswith(_PACKED) or _PRINTABLE.fullmatch(text):
            return Piece(start, until, "base64", text)
    return None


_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
# Six bits of readable text begin with few of the signs of base64, the next six with some others
# and the next with half of them. Archives begin alike.
_FIRST = rb"[CDI-Za-f]"
_SECOND = rb"[ACDEFGHQSTUVWXgijklmnwyz0123]"
_THIRD = rb"[ABEFIJMNQRUVYZcdghklopstwx014589]"
_OF_TEXT = _FIRST + _SECOND + _THIRD
_TEXT_BEGINS = re.compile(rb"(?:%b.){5}|H4sI|UEsD|Qlpo|[/_](?:Td6|/4|v8)" % _OF_TEXT, re.S)
_FARTHEST = 400
_HIGH_NIBBLES = frozenset(b"234567")
_STANDARD = bytes.maketrans(b"-_", b"+/")


_OF_BASE64 = rb"[A-Za-z0-9+/_-]"
HINTS = (Hint(rb"(?:H4sI|UEsD|Qlpo|[/_](?:Td6|/4|v8))%b{8}" % _OF_BASE64, 12, _FARTHEST),)
# What only the letters tell of that stand behind others.
HINTS_BY_ALPHABET = (
    Hint(rb"(?:\A|[^A-Za-z0-9_-])(?:[2-7][0-9A-Fa-f]|0[9aAdD]){8}", 17, 0),
    # Behind an escape's letter the last sign may be the one that ends the row.
    Hint(
        rb"(?:\A|[^A-Za-z0-9+/]|\\%b)(?:%b%b){4}%b." % (_OF_BASE64, _OF_TEXT, _OF_BASE64, _OF_TEXT),
        22,
        _FARTHEST,
    ),
)


def _segments(data: bytes, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, int]]:
    """The stretches around each `pattern`, to the ends of their lines or some way off."""
    start, stop = 0, -1
    for found in pattern.finditer(data):
        at = found.start()
        if at - _AROUND < stop and (at <= stop or data.find(b"\n", stop, at) < 0):
            stop = max(stop, _stop(data, found.end()))
            continue
        if stop >= 0:
            yield start, stop
        start = max(data.rfind(b"\n", max(0, at - _AROUND), at) + 1, at - _AROUND, stop, 0)
        stop = _stop(data, found.end())
    if stop >= 0:
        yield start, stop


def _stop(data: bytes, at: int) -> int:
    newline = data.find(b"\n", at, at + _AROUND)
    return newline if newline >= 0 else min(at + _AROUND, len(data))


def _percent(data: bytes) -> Iterator[Piece]:
    if b"%" not in data:
        return
    for start, end in _segments(data, _PERCENT):
        yield Piece(start, end, "percent", unquote_to_bytes(data[start:end]))


def _escapes(data: bytes) -> Iterator[Piece]:
    if b"\\" not in data:
        return
    for start, end in _segments(data, _ESCAPED):
        yield Piece(start, end, "escape", _ESCAPED.sub(_unescape, data[start:end]))


def _unescape(found: re.Match[bytes]) -> bytes:
    return b"/" if found[0] == b"\\/" else bytes([int(found[0][-2:], 16)])


def _manifests(data: bytes) -> Iterator[Piece]:
    """The entries of Kubernetes Secrets, each as `secret.NAME=value`."""
    done = 0
    for found in _SECRET_MANIFEST.finditer(data):
        if found.start() < done:
            continue
        start = data.rfind(b"\n---", max(done, found.start() - _MANIFEST), found.start())
        start = max(start, found.start() - _MANIFEST, done)
        end = data.find(b"\n---", found.end(), found.end() + _MANIFEST)
        end = end if end >= 0 else min(len(data), found.end() + _MANIFEST)
        for entry in _ENTRY.finditer(data, start, end):
            packed = entry[2]
            try:
                text = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
            except binascii.Error:
                continue
            if len(text) >= 3 and _PRINTABLE.fullmatch(text):
                named = b"secret." + entry[1] + b"=" + text
                yield Piece(*entry.span(2), "base64", text if b"\n" in text.strip() else named)
        done = end
