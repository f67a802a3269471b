"""Finds the rows of letters and digits in a text that are long enough to hold a credential.

Such rows are rare, and a search for twenty equal bytes finds them at the speed of `bytes.find`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LENGTH = 20
_FLAT = bytes(
    ord("a") if chr(i).isascii() and (chr(i).isalnum() or chr(i) in "_-") else ord(" ")
    for i in range(256)
)
_A_ROW = b"a" * _LENGTH
_WORDS = b"abcdefghijklmnopqrstuvwxyz_-"
_HEX = b"0123456789abcdef"
_SPACE, _DOT = b" ."
_ENDS_BEARER = frozenset(b"rR")
_HIGH_NIBBLES = frozenset(b"234567")
_A_KEY, _A_TEXT = 32, 40
_OF_ROWS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_REST = re.compile(rb"[\w-]*+")
_STEP = 64

# Where a row begins and ends, and whether it is a number in base 16, as most rows in logs are.
Row = tuple[int, int, bool]
Stretch = tuple[int, int]


class Hint(NamedTuple):
    """What tells hyperscan of a row that a detector has to look at.

    The row begins no more than `reach` bytes behind the end of `pattern`, of at most `width` bytes.
    """

    pattern: bytes
    width: int
    reach: int


def rows(data: bytes, stretches: Iterable[Stretch] | None = None) -> list[Row]:
    """Where twenty or more of letters, digits, `_` and `-` stand in a row.

    Lower case alone is left out: chance makes no key without a digit or a capital. So are numbers
    in base 16 that are neither as long as a key, nor text in disguise, nor what a dot or "Bearer"
    stands before: logs are full of them. Given `stretches`, only those that begin in one.
    """
    found: list[Row] = []
    for begin, stop in ((0, len(data)),) if stretches is None else _whole_rows(data, stretches):
        part = data[begin:stop]
        find = part.translate(_FLAT).find
        start = find(_A_ROW)
        while start >= 0:
            end = find(b" ", start + _LENGTH)
            if end < 0:
                end = stop - begin
            row = part[start:end]
            if row.strip(_HEX):
                if row.strip(_WORDS):
                    found.append((begin + start, begin + end, False))
            else:
                length, at = end - start, begin + start
                before = data[at - 1]
                if (
                    length == _A_KEY
                    or (length >= _A_TEXT and data[at] in _HIGH_NIBBLES)
                    or before == _DOT
                    or (before == _SPACE and data[at - 2] in _ENDS_BEARER)
                ) and row.strip(_WORDS):
                    found.append((at, begin + end, True))
            start = find(_A_ROW, end)
    return found


def _whole_rows(data: bytes, stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """The stretches in order, none twice, each from the beginning of a row to the end of one."""
    done, length = 0, len(data)
    for begin, stop in sorted(stretches):
        if stop > done and begin < length:
            begin = max(begin, done)
            step, full = _STEP, True
            while full and begin > done:
                head = data[max(done, begin - step) : begin]
                bare = len(head.rstrip(_OF_ROWS))
                begin, full, step = begin - len(head) + bare, not bare, 4 * step
            rest = _REST.match(data, stop)
            done = rest.end() if rest else stop
            yield begin, done
