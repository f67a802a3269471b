"""Finds the rows of letters and digits in a text that are long enough to hold a credential.

Such rows are rare, and a search for twenty equal bytes finds them at the speed of `bytes.find`.
"""

from __future__ import annotations

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

# Where a row begins and ends, and whether it is a number in base 16, as most rows in logs are.
Row = tuple[int, int, bool]


def rows(data: bytes) -> list[Row]:
    """Where twenty or more of letters, digits, `_` and `-` stand in a row.

    Lower case alone is left out: chance makes no key without a digit or a capital. So are numbers
    in base 16 that are neither as long as a key, nor text in disguise, nor what a dot or "Bearer"
    stands before: logs are full of them.
    """
    flat = data.translate(_FLAT) + b" "
    find, index = flat.find, flat.index
    found: list[Row] = []
    start = find(_A_ROW)
    while start >= 0:
        end = index(b" ", start + _LENGTH)
        row = data[start:end]
        if row.strip(_HEX):
            if row.strip(_WORDS):
                found.append((start, end, False))
        else:
            length, before = end - start, data[start - 1]
            if (
                length == _A_KEY
                or (length >= _A_TEXT and data[start] in _HIGH_NIBBLES)
                or before == _DOT
                or (before == _SPACE and data[start - 2] in _ENDS_BEARER)
            ) and row.strip(_WORDS):
                found.append((start, end, True))
        start = find(_A_ROW, end)
    return found
