"""What a scan finds, and what it could not read. A secret is held here and never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

HIDDEN = "****"
_LENGTH_THAT_MAY_SHOW_ITS_END = 20


@dataclass(frozen=True, slots=True)
class Rule:
    """What a kind of credential is called in reports."""

    id: str
    description: str


@dataclass(frozen=True, slots=True)
class Match:
    """A credential at `start` to `end` of one text; `line` and `column` count from 1."""

    rule: Rule
    start: int
    end: int
    secret: bytes = field(repr=False)
    confidence: float
    prefix: str = ""
    name: str = ""
    line: int = 1
    column: int = 1
    layers: tuple[str, ...] = ()
    allowed: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """A credential in a file. `shown` is all that may ever be printed of it."""

    rule: Rule
    path: str
    line: int
    column: int
    length: int
    secret: str = field(repr=False)
    shown: str
    confidence: float
    name: str = ""
    layers: tuple[str, ...] = ()
    commit: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
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
        known = sorted({s for s in secrets if s[0]}, key=lambda s: -len(s[0]))
        self._shown = dict(reversed(known))
        self._pattern = re.compile("|".join(re.escape(s) for s, _ in known)) if known else None

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Redactor:
        return cls((part, f.shown) for f in findings for part in (f.secret, *f.secret.split("\n")))

    def __call__(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._shown[match[0]], text)
