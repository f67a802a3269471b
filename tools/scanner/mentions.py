"""Finds where a telling name stands before what may be its value.

Words like "key" and "token" fill whole sources, and nearly all of them are given no value. A regex
tells before Python has to look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

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
_AUTH = b"auth"

_LONGEST_NAME = 48
NAME_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
# As far before a name's end as its keyword and what stands before that may begin.
_FARTHEST = 2 * _LONGEST_NAME
_HEX_PAIR = re.compile(rb"[2-7][0-9A-Fa-f]")
_PERCENT = ord("%")
_NO_SENTENCE_ENDS = rb"(?<!\.)"
_NO_LIST = rb"(?!, )"
# What a name with such an end holds is no secret: see `names`.
_SAYS_ABOUT_IT = (
    rb"(?!s?[_-](?:ids?|names?|types?|count|len|length|size|url|uri|path|file|index|format|at"
    rb"|error|arn|hash|class|fields?|columns?|prefix)(?![a-z0-9_.\-]))"
)
# A count, as in `tokens_used=51`.
_A_NUMBER = rb"[ \t]?[0-9]{1,9}[\s,;})\]&]"
# What a call may say of the value that it is given, as in `Field(default="...")`.
ARGUMENT = rb"(?:(?:default|default_value|value|initial)[ ]?=[ ]?)?"
# A plain word is its value, as `judgement` would find: no other kind is as frequent. It ends with
# the quote that it began with, or where one without quotes would end.
_WORD = rb"(?:[a-z]{1,40}+(?:[._][a-z]{1,40}+){1,4}+|[a-z]{1,11}+)"
_A_WORD = (
    rb"[:=]{0,2}[ \t]?(?:\\{0,3}(?:\"%b\\{0,3}\"|'%b\\{0,3}')"
    rb"|%b(?:[\r\n]|[,;)}\]]{1,3}(?![^\s\"'`<>])"
    rb"|\((?![ \t\r\n]{0,20}%b[bruf@$]{0,2}\\{0,7}[\"'`])))" % (_WORD, _WORD, _WORD, ARGUMENT)
)
_NO_SUCH_VALUE = rb"(?!\\{0,3}[\"']?[ \t]?[:=](?:%b|%b))" % (_A_NUMBER, _A_WORD)
# Another word follows in a sentence, unless it says what the value "is" or of what type it is.
_NO_PROSE = rb"(?! (?!(?:is|was|to|or) )[a-z]{1,11}(?: (?![ \t]{0,3}[=:])|\.(?:\s|\Z)))"


def _goes_on(keyword: bytes) -> bytes:
    return b"(?!%b)" % _WORDS[keyword] if _WORDS[keyword] else b""


def _rest(bracket: bytes = b"") -> bytes:
    """What must and must not come behind a keyword."""
    may_follow = b"(?=[\"'`%b*=:> \\t\\r\\n,|\\\\&%%<?\\]])" % bracket
    rest_of_name = b"[a-z0-9_.\\-]{0,%d}+" % (_LONGEST_NAME - 1)
    none = _NO_SENTENCE_ENDS + _NO_LIST + _NO_SUCH_VALUE + _NO_PROSE
    return _SAYS_ABOUT_IT + rest_of_name + may_follow + none


def _search(shared: bytes, *keywords: bytes) -> re.Pattern[bytes]:
    """Finds all of `keywords` by what they share: a search costs by the letters it begins with."""
    ways = []
    for keyword in keywords:
        before, _, after = keyword.partition(shared)
        begins = b"(?<=%b)" % (before + shared) if before else b""
        ways.append(begins + after + _goes_on(keyword))
    return re.compile(shared + b"(?:%b)" % b"|".join(ways) + _rest())


def _auth() -> re.Pattern[bytes]:
    # A bracket makes any other name a call, but this is `auth=(`user, password`)`.
    return re.compile(_AUTH + _goes_on(_AUTH) + _rest(bracket=b"("))


@lru_cache(None)
def _searches() -> tuple[re.Pattern[bytes], ...]:
    """Not needed where hyperscan searches."""
    return (
        _search(b"ke", b"key", b"token"),
        _search(b"cre", b"cred", b"secret"),
        _search(b"p", b"pass", b"pwd"),
        _auth(),
    )


def mentions(lower: bytes) -> list[int]:
    """Where the names end that hold one of `KEYWORDS` and may be given a value."""
    ends: set[int] = set()
    for search in _searches():
        ends.update([found.end() for found in search.finditer(lower)])
    return sorted(ends)


# Hyperscan knows no lookaround, so there what must not follow is said by what may; what it reports
# too much is refused afterwards. First where the name goes on or ends with a sign.
_VALUE = (
    rb"(?:[^0-9 \t]|[ \t](?:[^0-9]|\z)|\z"
    rb"|[ \t]?(?:[0-9]{10}|[0-9]{1,9}(?:[^0-9\s,;})\]&]|\z)))"
)
_NO_NUMBER_FOLLOWS = (
    rb"(?:[^a-z0-9_.\-:=\"']|[:=]%b|[\"'](?:[^:= \t]|[ \t](?:[^:=]|\z)|\z|[ \t]?[:=]%b))"
) % (_VALUE, _VALUE)
_MAY_FOLLOW = {
    b"key": rb"(?:[^ _\-s]|s[^ _\-]|s?[_\-](?:[^i]|i[^d]|id[a-z0-9_.\-]))",
    b"token": rb"(?:[^ is]|i[^sz]|s[a-z0-9_.\-]{1,46}%b)" % _NO_NUMBER_FOLLOWS,
    b"secret": rb"(?:[^ a]|a[^r]|ar[^y])",
    b"pass": rb"(?:[^ aeipt]|a(?:[^g]|g[^e])|e[^ds]|i(?:[^nv]|n[^g]|v[^e])"
    rb"|p(?:[^o]|o(?:[^r]|r[^t]))|t(?:[^h]|h[^r]))",
    b"pwd": b"[^ ]",
    b"auth": rb"(?:[^ o]|o[^r]|ori)",
    b"cred": rb"(?:[^ i]|i[^bt])",
}
# Then where a space follows. No two mentions end in one place, for it would report only the first.
_MAY_FOLLOW_A_SPACE = (
    rb" (?:[^a-z]|\z)",
    rb" (?:[a-z]{12}|(?:is|was|to|or) "
    rb"|[a-z]{1,11}(?:[^a-z .]|\.\S|\z| [ \t]{0,3}[=:]))",
)
HINTS = tuple(
    (keyword, keyword + (b"s?" if plural and keyword == b"key" else b"") + follows)
    for keyword in KEYWORDS
    for plural, follows in (
        (False, _MAY_FOLLOW[keyword]),
        *((True, follows) for follows in _MAY_FOLLOW_A_SPACE),
    )
)


@lru_cache(None)
def _mention(of_auth: bool) -> re.Pattern[bytes]:
    if of_auth:
        return _auth()
    ways = [keyword + _goes_on(keyword) for keyword in KEYWORDS if keyword != _AUTH]
    return re.compile(b"(?:%b)" % b"|".join(ways) + _rest())


def mentions_at(lower: bytes, keyword: bytes, starts: Iterable[int]) -> list[int]:
    """What `mentions` says of names with `keyword` at `starts`."""
    match = _mention(keyword == _AUTH).match
    return [found.end() for start in starts if (found := match(lower, start))]


def beginning(data: bytes, end: int) -> int:
    """Where the name begins that ends at `end`."""
    head = data[end - _FARTHEST if end > _FARTHEST else 0 : end]
    start = end - len(head) + len(head.rstrip(NAME_CHARACTERS))
    if start and data[start - 1] == _PERCENT and _HEX_PAIR.match(data, start, end):
        start += 2  # a sign that a URL encodes, as %22
    return start
