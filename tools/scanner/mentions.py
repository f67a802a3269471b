"""Finds where a telling name stands before what may be its value.

Words like "key" and "token" fill whole sources, and nearly all of them are given no value. A regex
tells before Python has to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

KEYWORDS = (b"key", b"token", b"secret", b"pass", b"pwd", b"auth", b"cred")

_LONGEST_NAME = 48
NAME_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_OF_NAMES = frozenset(NAME_CHARACTERS)
_HEX_PAIR = re.compile(rb"[2-7][0-9A-Fa-f]")
_NO_SENTENCE_ENDS = rb"(?<!\.)"
_NO_LIST = rb"(?!, )"
# Another word follows, unless it says what the value "is" or a sign stands further on.
_NO_PROSE = rb"(?! (?!(?:is|was|to|or) )[a-z]{1,11} (?![^=:]{0,34}[=:]))"


def _mention(keyword: bytes) -> re.Pattern[bytes]:
    # A bracket makes it a call, but for `auth=(`user, password`)`.
    bracket = b"(" if keyword == b"auth" else b""
    may_follow = b"(?=[\"'`%b*=:> \\t\\r\\n,|\\\\&%%<?\\]])" % bracket
    rest_of_name = b"[a-z0-9_.\\-]{0,%d}+" % (_LONGEST_NAME - 1)
    return re.compile(
        keyword + rest_of_name + may_follow + _NO_SENTENCE_ENDS + _NO_LIST + _NO_PROSE
    )


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
