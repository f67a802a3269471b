"""Finds credentials that their own shape gives away.

Every one holds a long row of letters and digits; only in and before rows are anchors looked for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache

from .checks import is_documented
from .findings import Match, Rule
from .judgement import judge
from .mentions import NAME_CHARACTERS
from .names import PROVIDER_WORDS, PROVIDERS_BY_WORD, Meaning, meaning, provider
from .providers import LLM_TOKENS
from .rows import Hint, Row, Stretch
from .services import SERVICE_TOKENS
from .shapes import classes, is_hex, looks_random
from .token_rule import TokenRule
from .values import stands_for_a_secret, stands_in_token

RULES: tuple[TokenRule, ...] = (*LLM_TOKENS, *SERVICE_TOKENS)

_SECRET_ACCESS_KEY = PROVIDERS_BY_WORD[b"aws"]
_WORDS_FOR_AWS = frozenset(
    word for word, rule in PROVIDERS_BY_WORD.items() if rule == _SECRET_ACCESS_KEY
)
# What follows these anchors may have no long row in it, so they are searched for by themselves.
_SEARCHED = (b"ABSK", b"hooks.slack.com/", b"/api/webhooks/")
LITERALS = (*(literal.lower() for literal in _SEARCHED), *PROVIDER_WORDS)
_BEFORE_ROW = 12
_BEGINNING = 3
_MAY_BELONG_TO_A_ROW = frozenset(b"\\%.:[;")
_ENDS_AN_ESCAPE = frozenset(b"\\%")
# Mangled names of C++ and Rust, which fill whole binaries.
_LENGTH_OF_NUMBERS = 32
_SYMBOLS = (b"_Z", b"_R", b"ZN")
_DOT, _COLON = b".:"
_ENDS_OF_ANCHORS = frozenset(
    (b"vs.", b"vb.", b"vr.", b"SG.", b"AQ.", b"29.", b"pt.", b"st.", b"ct.", b"sa.", b"im.", b"v1.")
)
# Inside a row, not at its beginning.
_INNER_ANCHORS = (b"JQQJ9", b"-us")
_LENGTH_OF_INNER_ANCHORS = 35
_FORTY = re.compile(rb"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_NEARBY = 300
_NAMED_BEFORE = re.compile(rb"([\w.\-]{1,40})[\"'\]\s]{0,4}[:=]\s{0,2}[bruf@$]{0,2}[\"']?\Z")
_BEFORE_VALUES = frozenset(b"\"'=:( \t\r\n\f\v")
_LENGTHS_BY_CONTEXT = {24, 32, 40, 43}
_NEAR, _CONTEXT = 64, 160
# A Vault token of the old form begins so far before its row.
_AHEAD = len("s.")
_SPACE, _NEWLINE = 32, 10
_BEARER = re.compile(rb"[\w.~+/-]{20,4000}={0,2}")
BEARER = Rule("bearer-token", "Bearer token")


def _table(length: int | None) -> dict[bytes, list[TokenRule]]:
    table: dict[bytes, list[TokenRule]] = {}
    for rule in RULES:
        table.setdefault(rule.anchor[:length], []).append(rule)
    return table


_RULES_OF = _table(None)
_RULES_BY_BEGINNING = _table(_BEGINNING)
_ANCHORS = re.compile(
    b"|".join(re.escape(a) for a in sorted(_RULES_OF, key=len, reverse=True) if a not in _SEARCHED)
)

HINTS = (
    *(
        Hint(re.escape(anchor), len(anchor), _BEFORE_ROW)
        for anchor in _RULES_OF
        if anchor not in _SEARCHED
    ),
    Hint(rb"[Bb][Ee][Aa][Rr][Ee][Rr] [\w-]{20}", 27, 0),
)


def told_of(lower: bytes, present: Collection[bytes]) -> Iterator[Stretch]:
    """Where rows may begin that are keys by what is said before them."""
    words = PROVIDERS_BY_WORD.keys() & present
    if not words:
        return
    if not words.isdisjoint(_WORDS_FOR_AWS):
        # They alone tell of nothing.
        words = (words - _WORDS_FOR_AWS) | {b"secret"}
    for word in words:
        at = lower.find(word)
        while at >= 0:
            last = lower.rfind(word, at, at + _CONTEXT)
            yield at, last + _CONTEXT + _AHEAD
            at = lower.find(word, last + 1)


def tokens(
    data: bytes,
    lower: bytes,
    long_rows: list[Row],
    glued: bool,
    present: Collection[bytes],
) -> Iterator[Match]:
    """Credentials of a known shape in `data`, whose rows the caller has found."""
    providers: bool | None = None
    for start, end, is_number in long_rows:
        before = data[start - 1] if start else _NEWLINE
        if before == _SPACE and data[start - 7 : start - 1].lower() == b"bearer":
            yield from _bearer(data, start)
        length = end - start
        only_a_number = is_number and before != _DOT
        if length in _LENGTHS_BY_CONTEXT and (
            length == _LENGTH_OF_NUMBERS if only_a_number else _may_be_a_key(data, start, end)
        ):
            if providers is None:
                providers = any(word in present for word in PROVIDER_WORDS)
            match = _by_context(data, start, end) if providers else None
            if match:
                yield match
        elif length >= _LENGTH_OF_INNER_ANCHORS and not only_a_number:
            for inner in _INNER_ANCHORS:
                at = data.find(inner, start, end)
                if at >= 0:
                    yield from _around(data, _RULES_OF[inner], at, glued)
        if only_a_number:
            continue  # there is no anchor in one
        if (glued and data[start : start + 2] not in _SYMBOLS) or (
            before in _MAY_BELONG_TO_A_ROW and _belongs(data, before, start)
        ):
            # The anchor stands before the row, or an escape ends in the row's first letters.
            for anchor in _ANCHORS.finditer(data, max(0, start - _BEFORE_ROW), end):
                yield from _around(data, _RULES_OF[anchor[0]], anchor.start(), glued)
        else:
            rules = _RULES_BY_BEGINNING.get(data[start : start + _BEGINNING])
            if rules:
                yield from _around(data, rules, start, glued)
    for literal in _SEARCHED:
        at = data.find(literal) if literal.lower() in present else -1
        while at >= 0:
            yield from _around(data, _RULES_OF[literal], at, glued)
            at = data.find(literal, at + len(literal))


def _belongs(data: bytes, before: int, start: int) -> bool:
    """Whether an anchor may stand before the row, or an escape end in it."""
    if before == _DOT:
        return data[start - 3 : start] in _ENDS_OF_ANCHORS or data[start - 7 : start - 6] == b"."
    if before == _COLON:
        return data.startswith(b"AA", start)
    return before in _ENDS_AN_ESCAPE or data[start : start + 1].isdigit()


def _bearer(data: bytes, start: int) -> Iterator[Match]:
    found = _BEARER.match(data, start)
    if found:
        before = data[max(0, start - _CONTEXT) : start].decode("latin-1")
        rule = provider(before) or BEARER
        confidence = judge(found[0].decode(), Meaning("secret", rule), True)
        if confidence:
            yield Match(rule, *found.span(), found[0], confidence, name="Authorization")


def _around(data: bytes, rules: list[TokenRule], at: int, glued: bool) -> Iterator[Match]:
    for token_rule in rules:
        span = token_rule.match(data, at, glued)
        if not span:
            continue
        secret = data[span[0] : span[1]]
        if stands_in_token(secret.decode("latin-1").removeprefix(token_rule.prefix)):
            continue
        if is_documented(secret):
            continue
        yield Match(token_rule.rule, *span, secret, token_rule.confidence, prefix=token_rule.prefix)
        if token_rule.rule.id == "aws-access-key-id":
            yield from _secret_access_key(data, *span)
        return


def _secret_access_key(data: bytes, start: int, end: int) -> Iterator[Match]:
    for found in _FORTY.finditer(data, max(0, start - _NEARBY), end + _NEARBY):
        text = found[0].decode()
        if classes(text) >= 3 and looks_random(text) and not stands_for_a_secret(text):
            yield Match(_SECRET_ACCESS_KEY, *found.span(), found[0], 0.9)


def _may_be_a_key(data: bytes, start: int, end: int) -> bool:
    """A cheap look that nearly every identifier of this length fails."""
    length = end - start
    if length == 24:
        return data[start - 2 : start] == b"s."
    if length == 43:
        return data[end : end + 1] == b"="
    row = data[start:end]
    return row.isalnum() and not row.isalpha()


@lru_cache(4096)
def _tells_nothing(name: bytes) -> bool:
    shown = name.decode("latin-1")
    return not meaning(shown).kind and not provider(shown)


def _names_no_key(before: bytes) -> bool:
    """Whether a value behind `before` has a name that tells of no key."""
    name = before.rstrip(b" \t\"':=")
    signs = before[len(name) :]
    return (
        (b"=" in signs or b":" in signs)
        and name[-1:].isalnum()
        and _tells_nothing(name[len(name.rstrip(NAME_CHARACTERS)) :])
    )


_word_names_no_key = lru_cache(4096)(_names_no_key)


def _by_context(data: bytes, start: int, end: int) -> Match | None:
    """A key without a prefix, where its provider is named shortly before."""
    length = end - start
    if length == 24:
        start -= _AHEAD
    if start and data[start - 1] not in _BEFORE_VALUES:
        return None
    near = data[max(0, start - _NEAR) : start]
    # Its last word alone is nearly always the same, as in `span_id=`.
    if _word_names_no_key(near[near.rfind(b" ") + 1 :]) or _names_no_key(near):
        return None
    before = data[max(0, start - _CONTEXT) : start]
    rule = provider(before.decode("latin-1"))
    if rule is None or data[end : end + 1] in (b"+", b"/"):
        return None
    if rule == _SECRET_ACCESS_KEY and b"secret" not in before.lower():
        return None
    if length == 24 and rule.id != "vault-token":
        return None
    secret = data[start:end]
    text = secret.decode()
    if length == 43:
        if rule.id != "fernet-key":
            return None
        end += 1  # the sign that such a key ends in
        secret = data[start:end]
    elif not text.replace(".", "").isalnum() or (length == 40 and is_hex(text)):
        return None
    named = _NAMED_BEFORE.search(before)
    if (named and _tells_nothing(named[1])) or not looks_random(text):
        return None
    return None if stands_for_a_secret(text) else Match(rule, start, end, secret, 0.6)
