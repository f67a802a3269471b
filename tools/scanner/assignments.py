"""Finds values under telling names, in whatever way a file writes "name is value"."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple

from .findings import Match
from .judgement import judge
from .mentions import KEYWORDS, beginning, mentions
from .names import GENERIC, PASSWORD, Meaning, meaning, provider
from .shapes import digit_borders, wordiness, wordy
from .syntax import VALUE_BEFORE, is_labelled, value_end, values_after

IDENTIFIED = b"identified by"
LITERALS = (*KEYWORDS, IDENTIFIED)

_IDENTIFIED = re.compile(rb"[ ]{1,3}(?:PASSWORD[ ])?(\\{0,3}[\"'])", re.I)
_WORDS_BEFORE = re.compile(rb"(?:[A-Za-z]{2,20}[ \-]){1,3}\Z")
# As far as any regex looks around a name.
_BEFORE, _BEYOND = 640, 1792
_REMEMBERED = 4
_SHORTEST = 6
_PLAIN = re.compile(rb"\d+|[^0-9A-Z%\x80-\xff]+|[^0-9a-z%\x80-\xff]+")
_NUMBER = re.compile(rb"(?<![A-Za-z])[0-9]+(?![A-Za-z])")
_TELLS = re.compile(rb".{0,5}[:=]|.{0,3} is", re.S)


class Assignment(NamedTuple):
    """A name and the value it is given, at `start` to `end`."""

    name: str
    start: int
    end: int
    quoted: bool
    means: Meaning


def assignments(data: bytes, lower: bytes, present: Collection[bytes]) -> Iterator[Match]:
    """Credentials in `data` that a name or a header gives away; `lower` is `data.lower()`."""
    seen: set[int] = set()
    names: set[int] = set()
    for keyword in KEYWORDS:
        if keyword not in present:
            continue
        # Text that repeats itself holds no more the second time.
        barren: tuple[bytes, ...] = ()
        for mention in mentions(lower, keyword):
            at = mention.start()
            if at >= _BEFORE and data.startswith(barren, at - _BEFORE):
                continue
            end = mention.end()
            if end in names:
                continue  # another word of the same name led here
            names.add(end)
            start = beginning(data, at)
            means = _meaning(data[start:end])
            if not means.kind:
                continue
            match = _first(data, _named(data, start, end, means), seen)
            if match:
                yield match
            elif at >= _BEFORE:
                barren = (data[at - _BEFORE : end + _BEYOND], *barren[: _REMEMBERED - 1])
    if IDENTIFIED in present:
        at = lower.find(IDENTIFIED)
        while at >= 0:
            at += len(IDENTIFIED)
            match = _first(data, _identified(data, at), seen)
            if match:
                yield match
            at = lower.find(IDENTIFIED, at)


def _first(data: bytes, found: Iterator[Assignment], seen: set[int]) -> Match | None:
    for assignment in found:
        if assignment.start not in seen:
            match = _judged(data, assignment)
            if match:
                seen.add(assignment.start)
                return match
    return None


def _identified(data: bytes, after: int) -> Iterator[Assignment]:
    found = _IDENTIFIED.match(data, after)
    if found:
        end = value_end(data, after, found.end(), found[1])
        yield Assignment("identified by", found.end(), end, True, Meaning("password", PASSWORD))


def _named(data: bytes, start: int, end: int, means: Meaning) -> Iterator[Assignment]:
    """The values of the name from `start` to `end`."""
    if data[end] in b"\r\n" and not is_labelled(data, start):
        return
    name = data[start:end]
    if means.kind == "key" and data[start - 1 : start] == b" " and _TELLS.match(data, end):
        words = _WORDS_BEFORE.search(data, max(0, start - 40), start)
        if words:
            name = words[0] + name
            means = _meaning(name)
    if not means.kind or (
        data[start - 1 : start] == b":" and b"arn:" in data[max(0, start - 80) : start]
    ):
        return
    shown = name.decode("latin-1")
    for value, quote, strict in values_after(data, start, end, means.kind == "key"):
        stop = value_end(data, start, value, quote)
        if stop - value < _SHORTEST or _is_plain(data[value:stop]):
            continue
        if not strict or _stands_alone(data, value, stop, quote):
            yield Assignment(shown, value, stop, bool(quote), means)
    before = data[max(0, start - 40) : start].rstrip(b" \t\"'\\:=").lower()
    if before.endswith((b"name", b"key")):
        found = VALUE_BEFORE.search(data, max(0, start - 500), start)
        if found:
            yield Assignment(shown, *found.span("value"), True, means)


@lru_cache(8192)
def _meaning(name: bytes) -> Meaning:
    # Names that only a number tells apart mean the same.
    return meaning(_NUMBER.sub(b"_", name).decode("latin-1"))


def _is_plain(text: bytes) -> bool:
    """A number, or letters of one case, or a word, as most values are: a cheap way to pass on."""
    if _PLAIN.fullmatch(text):
        return True
    bare = text.replace(b"_", b"").replace(b".", b"")
    return bare.isalpha() and (len(text) < 12 or bare != text)


def _stands_alone(data: bytes, start: int, end: int, quote: bytes | None) -> bool:
    """In a strict place the value must look drawn; without quotes it must be a word of its own."""
    text = data[start:end]
    shown = text.decode("latin-1")
    if wordy(shown) or (digit_borders(shown) < 3 and wordiness(shown) >= 0.5):
        return False
    if quote:
        return True
    return (
        any(48 <= c <= 57 for c in text)
        and any(65 <= c <= 90 or 97 <= c <= 122 for c in text)
        and b"=" not in text.rstrip(b"=")
        and data[end : end + 1] in b"\r\n \t,|`"
    )


def _judged(data: bytes, found: Assignment) -> Match | None:
    secret = data[found.start : found.end]
    confidence = judge(secret.decode("latin-1"), found.means, found.quoted)
    if not confidence:
        return None
    rule = found.means.rule
    if rule is GENERIC:
        around = data[max(0, found.start - 160) : found.start] + data[found.end : found.end + 80]
        rule = provider(around.decode("latin-1")) or rule
    return Match(rule, found.start, found.end, secret, confidence, name=found.name)
