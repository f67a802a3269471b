"""Scans one text: runs every detector, reads what is encoded, and settles overlaps."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from .addresses import LITERALS as OF_ADDRESSES
from .addresses import addresses
from .assignments import LITERALS as OF_ASSIGNMENTS
from .assignments import assignments
from .custom import CustomRule
from .decoding import LITERALS as OF_ENCODINGS
from .decoding import pieces
from .findings import Match
from .prefilter import Prefilter, without
from .private_keys import LITERALS as OF_KEYS
from .private_keys import private_keys
from .tables import LITERALS as OF_TABLES
from .tables import Columns, csv_header, csv_rows, sql_rows
from .tokens import LITERALS as OF_TOKENS
from .tokens import tokens

_ALLOW = re.compile(rb"(?:secret-scanner|gitleaks):[ ]?allow\b|pragma:[ ]?allowlist[ ]secret", re.I)
_PERCENT = re.compile(rb"%[2-7][0-9A-Fa-f]")
_ALLOW_WITHIN = 400
_MUCH_BETTER = 0.05

# Everything that a prefilter may search for in advance.
LITERALS = tuple(
    dict.fromkeys((*OF_ASSIGNMENTS, *OF_ADDRESSES, *OF_KEYS, *OF_TABLES, *OF_TOKENS, *OF_ENCODINGS))
)

Unpack = Callable[[bytes], Iterable[bytes]]


@dataclass(slots=True)
class Context:
    """What the texts of one file share: the header of a table, once it was seen."""

    first: bool = True
    columns: Columns | None = None


@dataclass(slots=True)
class Engine:
    """Finds credentials in texts that are wholly in memory."""

    decode_depth: int = 3
    custom: tuple[CustomRule, ...] = ()
    unpack: Unpack | None = None
    prefilter: Prefilter = field(default_factory=lambda: without(LITERALS))

    def scan(self, data: bytes, glued: bool = False, context: Context | None = None) -> list[Match]:
        """The credentials in `data`, in order of place, with lines and columns.

        `glued` text are strings out of a binary, whose boundaries say nothing.
        """
        return _placed(data, self._scan(data, glued, context or Context(), self.decode_depth))

    def _scan(self, data: bytes, glued: bool, context: Context, depth: int) -> list[Match]:
        lower = data.lower()
        leads = self.prefilter(data, lower)
        present, long_rows = leads.present, leads.rows
        found = list(tokens(data, lower, long_rows, glued, present))
        found += private_keys(data, present)
        found += addresses(data, lower, present)
        found += assignments(data, lower, leads.mentions, present)
        found += sql_rows(data, lower, present)
        found += _in_table(data, context)
        for rule in self.custom:
            found += rule.matches(data, lower)
        kept = _without_overlaps(found)
        if not depth:
            return kept
        inner: list[Match] = []
        for piece in pieces(data, lower, long_rows, present):
            for text in self._texts(piece.text):
                inner += [
                    m._replace(start=piece.start, end=piece.end, layers=(piece.layer, *m.layers))
                    for m in self._scan(text, glued, Context(first=False), depth - 1)
                ]
        return _joined(kept, inner) if inner else kept

    def _texts(self, text: bytes) -> Iterable[bytes]:
        return self.unpack(text) if self.unpack else (text,)


def _in_table(data: bytes, context: Context) -> Iterable[Match]:
    start = 0
    if context.first:
        context.first = False
        header = csv_header(data)
        if header:
            context.columns, start = header
    return csv_rows(data, context.columns, start) if context.columns else ()


def _without_overlaps(found: list[Match]) -> list[Match]:
    """The surest of those that overlap."""
    kept: list[Match] = []
    starts: list[int] = []
    for match in sorted(found, key=lambda m: (-m.confidence, m.start - m.end, m.start)):
        at = bisect_left(starts, match.start)
        if (at < len(kept) and kept[at].start < match.end) or (
            at and kept[at - 1].end > match.start
        ):
            continue
        starts.insert(at, match.start)
        kept.insert(at, match)
    return kept


def _joined(outer: list[Match], inner: list[Match]) -> list[Match]:
    """Both readings of a text, without saying twice what both found."""
    kept = list(outer)
    seen = {(m.start, m.secret) for m in outer}
    for match in sorted(inner, key=lambda m: -m.confidence):
        if (match.start, match.secret) in seen:
            continue
        seen.add((match.start, match.secret))
        same = [
            m
            for m in kept
            if m.start < match.end and match.start < m.end and _says_the_same(m, match)
        ]
        if not same:
            kept.append(match)
        elif all(
            match.confidence > m.confidence + _MUCH_BETTER or _is_encoded(m, match) for m in same
        ):
            kept = [m for m in kept if m not in same]
            kept.append(match)
    return sorted(kept, key=lambda m: (m.start, m.end))


def _says_the_same(outer: Match, inner: Match) -> bool:
    secret = inner.secret
    readings = (outer.secret, outer.secret.replace(b"\\/", b"/"), *_decoded(outer.secret))
    return any(
        secret in reading or (len(reading) >= 6 and reading in secret) for reading in readings
    )


def _decoded(secret: bytes) -> Iterator[bytes]:
    if _PERCENT.search(secret):
        yield unquote_to_bytes(secret)
    with contextlib.suppress(binascii.Error):
        yield base64.b64decode(secret + b"=" * (-len(secret) % 4))


def _is_encoded(outer: Match, inner: Match) -> bool:
    """Only a name tells of `outer`, and its value is another spelling of `inner`."""
    return (
        bool(outer.name)
        and not outer.layers
        and any(inner.secret in reading for reading in _decoded(outer.secret))
    )


def _placed(data: bytes, found: list[Match]) -> list[Match]:
    if not found:
        return found
    placed, line, counted = [], 1, 0
    for match in sorted(found, key=lambda m: m.start):
        line += data.count(b"\n", counted, match.start)
        counted = match.start
        column = match.start - data.rfind(b"\n", 0, match.start)
        begin = data.rfind(b"\n", max(0, match.start - _ALLOW_WITHIN), match.start)
        end = data.find(b"\n", match.end, match.end + _ALLOW_WITHIN)
        allowed = _ALLOW.search(
            data,
            begin if begin >= 0 else max(0, match.start - _ALLOW_WITHIN),
            end if end >= 0 else match.end + _ALLOW_WITHIN,
        )
        placed.append(match._replace(line=line, column=column, allowed=allowed is not None))
    return placed
