"""What a scan finds, and what it could not read. A secret is held here and never shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

HIDDEN = "****"
_LENGTH_THAT_MAY_SHOW_ITS_END = 20


class Refused(ValueError):
    """What was asked for cannot be done; the message says why."""


class Rule(NamedTuple):
    """What a kind of credential is called in reports."""

    id: str
    description: str


class Match(NamedTuple):
    """A credential at `start` to `end` of one text; `line` and `column` count from 1."""

    rule: Rule
    start: int
    end: int
    secret: bytes
    confidence: float
    prefix: str = ""
    name: str = ""
    line: int = 1
    column: int = 1
    layers: tuple[str, ...] = ()
    allowed: bool = False

    def __repr__(self) -> str:
        return f"Match({self.rule.id}, {self.start}, {self.end})"


class Finding(NamedTuple):
    """A credential in a file. `shown` is all that may ever be printed of it."""

    rule: Rule
    path: str
    line: int
    column: int
    length: int
    secret: str
    shown: str
    confidence: float
    name: str = ""
    layers: tuple[str, ...] = ()
    commit: str = ""
    fingerprint: str = ""

    def __repr__(self) -> str:
        return f"Finding({self.rule.id}, {self.path}:{self.line}, {self.shown})"


class Unread(NamedTuple):
    """Something that was not scanned, or not wholly, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class Outcome:
    """What one target, or a whole run, came to."""

    findings: list[Finding] = field(default_factory=list)
    errors: list[Unread] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    allowed: int = 0

    def add(self, other: Outcome) -> None:
        self.findings += other.findings
        self.errors += other.errors
        self.files += other.files
        self.bytes += other.bytes
        self.allowed += other.allowed


def shown(secret: str, prefix: str = "") -> str:
    """`secret` as reports show it: its public prefix and its last four characters at most.

    >>> shown("sk-ant-api03-" + "q" * 91 + "wxyz", "sk-ant-api03-")
    'sk-ant-api03-****wxyz'
    >>> shown("hunter2hunter2")
    '****'
    """
    hidden = len(secret) - len(prefix)
    if not secret.startswith(prefix) or hidden < 12:
        return HIDDEN
    last = secret[-4:] if len(secret) >= _LENGTH_THAT_MAY_SHOW_ITS_END else ""
    return prefix + HIDDEN + (last if last.isascii() and last.isprintable() else "")


class Redactor:
    """Takes every known secret out of text that is about to be shown."""

    def __init__(self, secrets: Iterable[tuple[str, str]]) -> None:
        self._shown = {secret: shown for secret, shown in secrets if secret}
        self._shortest = min(map(len, self._shown), default=0)
        self._beginnings: dict[str, list[str]] = {}
        for secret in sorted(self._shown, key=len, reverse=True):
            self._beginnings.setdefault(secret[: self._shortest], []).append(secret)
        self._done: dict[str, str] = {}

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Redactor:
        return cls((part, f.shown) for f in findings for part in (f.secret, *f.secret.split("\n")))

    def __call__(self, text: str) -> str:
        if text not in self._done:
            self._done[text] = "".join(self._parts(text))
        return self._done[text]

    def _parts(self, text: str) -> Iterator[str]:
        # Looked up by how they begin: a regex of thousands of secrets takes seconds.
        at = kept = 0
        while self._shortest and at <= len(text) - self._shortest:
            longest_first = self._beginnings.get(text[at : at + self._shortest], ())
            secret = next((s for s in longest_first if text.startswith(s, at)), None)
            if secret is None:
                at += 1
                continue
            yield text[kept:at]
            yield self._shown[secret]
            at = kept = at + len(secret)
        yield text[kept:]
