"""Finds values under telling names, in whatever way a file writes "name is value"."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from .findings import Match
from .judgement import judge
from .mentions import beginning
from .names import GENERIC, PASSWORD, Meaning, meaning, provider
from .shapes import digit_borders, wordiness, wordy
from .syntax import LABELS, VALUE_BEFORE, quote_soon, value_end, values_after

IDENTIFIED = b"identified by"
LITERALS = (IDENTIFIED,)

_IDENTIFIED = re.compile(rb"[ ]{1,3}(?:PASSWORD[ ])?(\\{0,3}[\"'])", re.I)
_WORDS_BEFORE = re.compile(rb"(?:[A-Za-z]{2,20}[ \-]){1,3}\Z")
_OF_WORDS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz -"
_LABEL = 40
_BETWEEN_LABEL_AND_NAME = b" \t\"'\\:="
# A value may follow, so that words before a mere "key" may say of what it is one.
_value_may_follow = re.compile(rb".{0,5}?[=:]|.{0,3}? is", re.S).match
# As in `"value": "...", "name": "..."`.
_MAY_FOLLOW_VALUES = (b"name", b"key")
# As far as any regex looks around a name.
_BEFORE, _BEYOND = 640, 1792
_REMEMBERED = 4
_SHORTEST = 6
_PLAIN = re.compile(rb"\d+|[^0-9A-Z%\x80-\xff]+|[^0-9a-z%\x80-\xff]+")
_NUMBERS = bytes.maketrans(b"123456789", b"0" * 9)


class _Name(NamedTuple):
    """A name at `start` to `end`; one that is `labelled` stands after `name:` or its like."""

    shown: str
    start: int
    end: int
    means: Meaning
    labelled: bool


class Assignment(NamedTuple):
    """A name and the value it is given, at `start` to `end`."""

    name: str
    start: int
    end: int
    quoted: bool
    means: Meaning


def assignments(
    data: bytes, lower: bytes, ends: list[int], present: Collection[bytes]
) -> Iterator[Match]:
    """Credentials in `data` that a name or a header gives away; `ends` are where such names end.

    `lower` is `data.lower()`.
    """
    seen: set[int] = set()
    # Text that repeats itself holds no more the second time.
    barren: tuple[bytes, ...] = ()
    for end in ends:
        if barren and end >= _BEFORE and data.startswith(barren, end - _BEFORE):
            continue
        start = beginning(data, end)
        means = _meaning(data[start:end])
        if not means.kind:
            continue
        values = _named(data, start, end, means)
        if not values:
            continue
        match = _first(data, values, seen)
        if match:
            yield match
        elif end >= _BEFORE:
            barren = (data[end - _BEFORE : end + _BEYOND], *barren[: _REMEMBERED - 1])
    if IDENTIFIED in present:
        at = lower.find(IDENTIFIED)
        while at >= 0:
            at += len(IDENTIFIED)
            match = _first(data, _identified(data, at), seen)
            if match:
                yield match
            at = lower.find(IDENTIFIED, at)


def _first(data: bytes, found: Iterable[Assignment], seen: set[int]) -> Match | None:
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


def _named(data: bytes, start: int, end: int, means: Meaning) -> Iterable[Assignment]:
    """The values of the name from `start` to `end`; nearly none has any."""
    before = data[start - _LABEL if start > _LABEL else 0 : start]
    name = data[start:end]
    follows = True
    if means.kind == "key":
        if before.endswith(b" ") and _value_may_follow(data, end):
            name, means = _with_words(before[len(before.rstrip(_OF_WORDS)) :], name)
            if not means.kind:
                return ()
        follows = means.kind != "key" or quote_soon(data, end) is not None
    label = before.rstrip(_BETWEEN_LABEL_AND_NAME)
    if not follows and before[len(label) :].isspace():
        return ()
    label = label.lower()
    precedes = label.endswith(_MAY_FOLLOW_VALUES)
    if not follows and not precedes:
        return ()
    labelled = precedes or label.endswith(LABELS)
    if (data[end] in b"\r\n" and not labelled) or (
        before.endswith(b":") and b"arn:" in data[max(0, start - 80) : start]
    ):
        return ()
    named = _Name(name.decode("latin-1"), start, end, means, labelled)
    after = _after(data, named) if follows else ()
    return chain(after, _before(data, named)) if precedes else after


def _after(data: bytes, name: _Name) -> Iterator[Assignment]:
    weak = name.means.kind == "key"
    for value, quote, strict in values_after(data, name.start, name.end, weak, name.labelled):
        stop = value_end(data, name.start, value, quote)
        if stop - value < _SHORTEST or _is_plain(data[value:stop]):
            continue
        if not strict or _stands_alone(data, value, stop, quote):
            yield Assignment(name.shown, value, stop, bool(quote), name.means)


def _before(data: bytes, name: _Name) -> Iterator[Assignment]:
    found = VALUE_BEFORE.search(data, max(0, name.start - 500), name.start)
    if found:
        yield Assignment(name.shown, *found.span("value"), True, name.means)


@lru_cache(4096)
def _with_words(before: bytes, name: bytes) -> tuple[bytes, Meaning]:
    """What stands before says of what a "key" is one."""
    words = _WORDS_BEFORE.search(before)
    if words:
        name = words[0] + name
    return name, _meaning(name)


@lru_cache(8192)
def _meaning(name: bytes) -> Meaning:
    # Names that only a number tells apart mean the same.
    return meaning(name.translate(_NUMBERS).decode("latin-1"))


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
