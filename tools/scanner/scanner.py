"""Scans a file, whatever it is: text, binary, archive, or an archive within one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from .allowlists import Allowlists
from .containers import Budget, kind_of
from .engine import Context, Engine
from .findings import Finding, Match, Outcome, Unread, shown
from .rows import rows
from .texts import (
    LARGEST_STRUCTURE,
    Readable,
    Transcoded,
    encoding_of,
    is_structured,
    wide_strings,
    windows,
)

_HEAD = 64 * 2**10


@dataclass(slots=True)
class Scanner:
    """Scans streams with one set of rules and limits."""

    engine: Engine = field(default_factory=Engine)
    archive_depth: int = 5
    min_confidence: float = 0.5
    largest: int = 0
    enabled: frozenset[str] = frozenset()
    disabled: frozenset[str] = frozenset()
    allowlists: Allowlists = field(default_factory=Allowlists)
    # Where alone a rule of the user's own applies.
    paths: Mapping[str, re.Pattern[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine.unpack = _unpacked

    def scan(self, stream: BinaryIO, path: str, size: int = 0, commit: str = "") -> Outcome:
        """What `stream`, of `size` bytes where that is known, holds; errors are in the outcome."""
        outcome = Outcome(files=1)
        job = _Job(self, outcome, commit)
        job.name(path)
        if self.allowlists.allows_path(path, commit):
            return outcome
        if self.largest and size > self.largest:
            limit = self.largest // 2**20
            outcome.errors.append(Unread(path, f"is larger than {limit} MB; not scanned"))
            return outcome
        job.run(stream, path, Budget(max(size, 1)), 0, ())
        return outcome

    def scan_bytes(self, data: bytes, path: str, commit: str = "") -> Outcome:
        return self.scan(io.BytesIO(data), path, len(data), commit)


@dataclass(slots=True)
class _Job:
    scanner: Scanner
    outcome: Outcome
    commit: str
    seen: set[tuple[str, int, str]] = field(default_factory=set)

    def name(self, path: str) -> None:
        """Looks for tokens in a path itself; nearly none has a row long enough to be one."""
        raw = path.encode("utf-8", "replace")
        if rows(raw):
            for match in self.scanner.engine.scan(raw):
                self.keep(match._replace(line=1), path, ("path",), b"")

    def run(
        self, stream: Readable, path: str, budget: Budget, depth: int, layers: tuple[str, ...]
    ) -> None:
        head = stream.read(_HEAD)
        kind = kind_of(head, path)
        if kind:
            if depth >= self.scanner.archive_depth:
                reason = f"lies deeper than {depth} archives; not scanned (--max-archive-depth)"
                self._failed(path, reason)
                return
            from .archives import members

            whole = io.BufferedReader(_Rejoined(head, stream), 2**16)
            for inside, member in members(kind, whole, path, budget, self._failed):
                if inside != path:
                    self.name(inside)
                if not self.scanner.allowlists.allows_path(inside, self.commit):
                    self.run(member, inside, budget, depth + 1, (*layers, kind))
            return
        self._text(stream, head, path, layers)

    def _text(self, stream: Readable, head: bytes, path: str, layers: tuple[str, ...]) -> None:
        encoding = encoding_of(head)
        if encoding.startswith("utf"):
            stream, head, layers = Transcoded(stream, head, encoding), b"", (*layers, encoding)
        elif is_structured(head):
            from .structures import structured

            head += stream.read(LARGEST_STRUCTURE)
            for layer, text in structured(head):
                self._elsewhere(text, path, (*layers, layer))
        context = Context()
        for window in windows(stream, head, encoding == "binary"):
            self.outcome.bytes += window.end - window.begin
            for match in self.scanner.engine.scan(window.data, window.glued, context):
                if window.begin <= match.start < window.end:
                    placed = match._replace(line=match.line + window.line - 1)
                    self.keep(placed, path, layers, _line(window.data, match))
            if window.raw:
                self._elsewhere(wide_strings(window.raw), path, (*layers, "utf-16"))

    def _elsewhere(self, text: bytes, path: str, layers: tuple[str, ...]) -> None:
        """Text that has no lines in the file it was taken from."""
        for match in self.scanner.engine.scan(text):
            self.keep(match._replace(line=1, column=1), path, layers, b"")

    def keep(self, match: Match, path: str, layers: tuple[str, ...], line: bytes) -> None:
        scanner = self.scanner
        rule = match.rule.id
        if match.confidence < scanner.min_confidence or rule in scanner.disabled:
            return
        if scanner.enabled and rule not in scanner.enabled:
            return
        if rule in scanner.paths and not scanner.paths[rule].search(path):
            return
        secret = match.secret.decode("utf-8", "replace")
        if match.allowed or scanner.allowlists.allows(rule, secret, line, path, self.commit):
            self.outcome.allowed += 1
            return
        finding = Finding(
            match.rule, path, match.line, match.column, match.end - match.start, secret,
            shown(secret, match.prefix), match.confidence, match.name, (*layers, *match.layers),
            self.commit,
        )  # fmt: skip
        place = (path, finding.line, secret)
        if finding.layers[:1] == ("path",) or place not in self.seen:
            self.seen.add(place)
            self.outcome.findings.append(finding)

    def _failed(self, path: str, reason: str) -> None:
        self.outcome.errors.append(Unread(path, reason))


def _line(data: bytes, match: Match) -> bytes:
    begin = data.rfind(b"\n", max(0, match.start - 1000), match.start) + 1
    end = data.find(b"\n", match.end, match.end + 1000)
    return data[begin or max(0, match.start - 1000) : end if end >= 0 else match.end + 1000]


def _unpacked(text: bytes) -> Iterable[bytes]:
    """A decoded text, decompressed or turned into UTF-8 where it needs to be."""
    kind = kind_of(text, "")
    if kind:
        from .archives import members

        failed: list[str] = []
        budget = Budget(max(len(text), 2**20))
        opened = members(kind, io.BytesIO(text), "", budget, lambda path, _: failed.append(path))
        return [member.read(16 * 2**20) for _, member in opened]
    encoding = encoding_of(text)
    if encoding.startswith("utf"):
        return [Transcoded(io.BytesIO(b""), text, encoding).read(len(text) * 2)]
    return [text]


class _Rejoined(io.RawIOBase):
    """A stream with the head that was read from it put back; seeks where the stream can."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head, self._stream = head, stream
        seekable = getattr(stream, "seekable", None)
        self._seeks = bool(seekable and seekable())
        if self._seeks:
            stream.seek(0)  # type: ignore[attr-defined]
            self._head = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._seeks

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._stream.seek(offset, whence))  # type: ignore[attr-defined]

    def tell(self) -> int:
        return int(self._stream.tell())  # type: ignore[attr-defined]

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        part = self._head[: len(view)] or self._stream.read(len(view))
        self._head = self._head[len(part) :] if self._head else b""
        view[: len(part)] = part
        return len(part)
