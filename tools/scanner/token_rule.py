"""A credential that its own shape gives away: a literal to search for, and a pattern around it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from .findings import Rule

_EDGE = re.compile(rb"[A-Za-z0-9_-]")
# An escape before a token ends in letters or digits that are no part of it: \n, %3D, ESC[31m
_ESCAPE_BEFORE = re.compile(
    rb"(?:\\[0abefnrtv]|\\x[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|%(?:25)?[0-9A-Fa-f]{2}|\[[\d;]{0,8}m)\Z"
)
_ESCAPE_LENGTH = 12


class TokenRule(NamedTuple):
    """`pattern` matches where `anchor` stands, or begins `before` bytes ahead of it.

    `prefix` is public and may be shown. A `fixed` length must not be followed by more of the same;
    `distinct` prefixes cannot be the end of a word, so that binaries may glue text to them.
    """

    rule: Rule
    anchor: bytes
    pattern: bytes
    prefix: str
    before: int = 0
    fixed: bool = True
    distinct: bool = False
    confidence: float = 0.95
    check: Callable[[bytes], bool] | None = None

    def match(self, data: bytes, at: int, glued: bool) -> tuple[int, int] | None:
        """Where the credential around the anchor at `at` begins and ends.

        `glued` text (strings out of a binary) has no reliable boundaries.
        """
        if self.before:
            found = _compiled(self.pattern).search(data, max(0, at - self.before), at + 400)
            if not found or not found.start() <= at < found.end():
                return None
        else:
            found = _compiled(self.pattern).match(data, at)
            if not found:
                return None
        start, end = found.span()
        if not (glued and self.distinct) and not begins_a_token(data, start):
            return None
        if self.fixed and not glued and _EDGE.match(data, end):
            return None
        if self.check and not self.check(found[0]):
            return None
        return start, end


@lru_cache(None)
def _compiled(pattern: bytes) -> re.Pattern[bytes]:
    """Only when its anchor is met: nearly no run needs more than a few of a hundred."""
    return re.compile(pattern)


def begins_a_token(data: bytes, start: int) -> bool:
    if not start or not _EDGE.match(data, start - 1):
        return True
    return bool(_ESCAPE_BEFORE.search(data, max(0, start - _ESCAPE_LENGTH), start))


def token(
    id: str,
    description: str,
    pattern: str,
    *,
    anchor: str = "",
    prefix: str | None = None,
    before: int = 0,
    fixed: bool = True,
    confidence: float = 0.95,
    check: Callable[[bytes], bool] | None = None,
) -> TokenRule:
    """A rule from the literal that its pattern begins with, or from `anchor` within it."""
    literal = anchor or re.match(r"[\w-]+", pattern)[0]  # type: ignore[index]
    public = literal if prefix is None else prefix
    return TokenRule(
        Rule(id, description),
        literal.encode(),
        pattern.encode(),
        public,
        before,
        fixed,
        len(literal) >= 5,
        confidence,
        check,
    )
