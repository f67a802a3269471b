"""Finds where a telling name stands before what may be its value.

Words like "key" and "token" fill whole sources, and nearly all of them are given no value. A regex
tells before Python has to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# Each with how a word goes on that only begins like it, or that a name ends in which holds none.
_WORDS = {
    b"key": b"word|board|error",
    b"token": b"iz|is|s(?![a-z0-9_.\\-])",
    b"secret": b"ary",
    b"pass": b"ed|es|ing|ive|age|enger|port|thr",
    b"pwd": b"",
    b"auth": b"or(?!i[sz])",
    b"cred": b"it|ib",
}
KEYWORDS = tuple(_WORDS)

_LONGEST_NAME = 48
NAME_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_OF_NAMES = frozenset(NAME_CHARACTERS)
_HEX_PAIR = re.compile(rb"[2-7][0-9A-Fa-f]")
_NO_SENTENCE_ENDS = rb"(?<!\.)"
_NO_LIST = rb"(?!, )"
# What a name with such an end holds is no secret: see `names`.
_SAYS_ABOUT_IT = (
    rb"(?!s?[_-](?:ids?|names?|types?|count|len|length|size|url|uri|path|file|index|format|at"
    rb"|error|arn|hash|class|fields?|columns?|prefix)(?![a-z0-9_.\-]))"
)
# A count, as in `tokens_used=51`.
_NO_NUMBER = rb"(?!\\{0,3}[\"']?[ \t]?[:=][ \t]?[0-9]{1,9}[\s,;})\]&])"
# Another word follows, unless it says what the value "is" or a sign stands further on.
_NO_PROSE = rb"(?! (?!(?:is|was|to|or) )[a-z]{1,11} (?![^=:]{0,34}[=:]))"


def _mention(keyword: bytes) -> re.Pattern[bytes]:
    # A bracket makes it a call, but for `auth=(`user, password`)`.
    bracket = b"(" if keyword == b"auth" else b""
    may_follow = b"(?=[\"'`%b*=:> \\t\\r\\n,|\\\\&%%<?\\]])" % bracket
    goes_on = b"(?!%b)" % _WORDS[keyword] if _WORDS[keyword] else b""
    rest_of_name = b"[a-z0-9_.\\-]{0,%d}+" % (_LONGEST_NAME - 1)
    none = _NO_SENTENCE_ENDS + _NO_LIST + _NO_NUMBER + _NO_PROSE
    return re.compile(keyword + goes_on + _SAYS_ABOUT_IT + rest_of_name + may_follow + none)


_MENTIONS = {keyword: _mention(keyword) for keyword in KEYWORDS}


def mentions(lower: bytes, keyword: bytes) -> Iterator[re.Match[bytes]]:
    """Each `keyword` with the rest of the name that it is a part of."""
    return _MENTIONS[keyword].finditer(lower)


def beginning(data: bytes, at: int) -> int:
    """Where the name begins that holds a keyword at `at`."""
    if not at or data[at - 1] not in _OF_NAMES:
        return at
    head = data[max(0, at - _LONGEST_NAME) : at]
    start = at - len(head) + len(head.rstrip(NAME_CHARACTERS))
    if data[start - 1 : start] == b"%" and _HEX_PAIR.match(data, start, at):
        start += 2  # a sign that a URL encodes, as %22
    return start
