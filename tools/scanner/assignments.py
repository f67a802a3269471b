"""Finds values under telling names, in whatever way a file writes "name is value"."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from .findings import Match
from .judgement import judge
from .names import GENERIC, PASSWORD, Meaning, meaning, provider
from .shapes import digit_borders, wordiness, wordy
from .values import LONGEST

KEYWORDS = (
    b"key",
    b"token",
    b"secret",
    b"pass",
    b"pwd",
    b"auth",
    b"cred",
    b"identified by",
)

_QUOTE = rb"(?:[bruf@$]{0,2}\\{0,7}(?:\"\"\"|'''|[\"'`])|&quot;|&\#34;|&apos;|%2[27])"
_CLOSED = rb"(?:\\{0,7}[\"'`\])*]|&quot;|&\#34;|%2[27]){0,4}"
_ANNOTATED = rb"(?:[ \t]{0,2}:?[ \t]{1,4}[\w\[\].|*&<>?]{2,30}(?=[ \t]{0,4}=))?"
_OPERATOR = (
    rb"(?:[ \t]{0,30}(?:=>|:=|\?=|\|\|=|={1,3}|:-|:{1,2}|->|\|\||\?\?|\|)(?:\*{2})?"
    rb"|%3[Dd]|%3[Aa]|\\u003[Dd]|[ \t]or(?=[ \t]))"
)
_BLOCK = rb"(?:<<[-~]?[\"']?\w{2,12}[\"']?\r?\n[ \t]{0,40}|[|>][+-]?[ \t]{0,4}\r?\n[ \t]{0,40})?"
_WRAPPED = rb"(?:(?:new[ ])?[\w.:\[\]&!]{0,40}\([ \t\r\n]{0,20}(?=[bruf@$]{0,2}\\{0,7}[\"'`])){0,2}"
_SCHEME = (
    rb"(?:(?:Bearer|Basic|Token|ApiKey|Api-Key|Key|SSWS|bearer|basic|token)(?:[ +]|%20){1,2})?"
)

_ASSIGNED = re.compile(
    b"(?:%b)%b%b(?:(?:[ \\t]|%%20){0,40}|\\s{0,60}(?=\\\\{0,7}[\"']))%b%b(%b)?%b"
    % (_CLOSED, _ANNOTATED, _OPERATOR, _BLOCK, _WRAPPED, _QUOTE, _SCHEME)
)
_NEXT_ARGUMENT = re.compile(
    b"(?:%b)[ \\t]{0,4},[ \\t\\r\\n]{0,40}%b(%b)?%b" % (_CLOSED, _WRAPPED, _QUOTE, _SCHEME)
)
_ATTRIBUTE = rb"(?:\s{1,20}[\w:.-]{1,30}=[\"'][^\"'<>]{0,80}[\"']){0,3}"
_IN_VALUE_ATTRIBUTE = re.compile(
    b"[\"']%b\\s{1,20}(?:value|val|content|default|defaultValue|Value)=([\"'])" % _ATTRIBUTE
)
_IN_ELEMENT = re.compile(
    b"[\"']?%b\\s{0,4}>\\s{0,40}(?:<value>|<string>)?(?:<!\\[CDATA\\[)?()\\s{0,40}(?=[^<\\s])"
    % _ATTRIBUTE
)
_IN_NEXT_ELEMENT = re.compile(
    rb"</[\w:.-]{1,30}>\s{0,60}<[\w:.-]{1,30}>(?:<!\[CDATA\[)?()\s{0,40}(?=[^<\s])"
)
_VALUE_WORD = (
    rb"(?:value|Value|val|VALUE|default|secret_string|secretString|SecretString|string_value"
    rb"|plaintext|content|data|example)"
)
# A value that its own field tells of, in the same object or block as the name.
_BESIDE = re.compile(
    b"\\\\{0,7}[\"']?(?:[^\\n{}<>]{0,80}?|[^\\n{}<>]{0,20}\\{[^\\n{}<>]{0,80}?)(?:\\r?\\n[^\\n{}<>]{0,100}?){0,4}?(?<=[\\s\"'{\\\\])%b"
    b"\\\\{0,7}[\"']?[ \\t]{0,20}[:=][ \\t]{0,20}(%b)?" % (_VALUE_WORD, _QUOTE)
)
_VALUE_BEFORE = re.compile(
    rb"\b(?:value|Value|val)\\{0,7}[\"']?[ \t]{0,8}[:=]\s{0,20}\\{0,7}[\"']"
    rb"(?P<value>[^\"'\n\\]{6,400})"
    rb"\\{0,7}[\"']\s{0,20},\s{0,40}\\{0,7}[\"']?(?:name|key|Name|Key)\\{0,7}[\"']?\s{0,8}[:=]"
    rb"\s{0,8}\\{0,7}[\"']?\Z"
)
_OPENS = re.compile(rb"[\"']?[ \t]{0,8}(?:[:=][ \t]{0,8}(?:\{|\r?\n)|\{)")
_PAIR = re.compile(
    rb"[ \t]{0,3}=?[ \t]{0,3}\(\s{0,20}[\"'][^\"'\n]{1,64}[\"'],\s{0,20}(?P<quote>[\"'])"
)
_IS_A_NAME = tuple(
    b"name key variable field header env label parameter id secret setting option var".split()
)
_SPACED = re.compile(b"[\"'*]{0,2}[ \\t]{1,40}(?:(?:is|was|to)[ :]{1,3}|-p[ ]?)?(%b)?" % _QUOTE)
_IDENTIFIED = re.compile(rb"[ ]{1,3}(?:PASSWORD[ ])?(\\{0,3}[\"'])", re.I)
_WORDS_BEFORE = re.compile(rb"(?:[A-Za-z]{2,20}[ \-]){1,3}\Z")
_UNQUOTED = re.compile(rb"[^\s\"'`<>]{6,%d}" % LONGEST)
_CUT = re.compile(rb"[,;)\]}|&\\(\[{]|%2[267]|%7[Dd]")
# What ends a value in text that a URL carries: a quote, a brace or another parameter.
_ENCODED_END = re.compile(rb"%2[267]|%7[Dd]")
_SETS_A_LINE = re.compile(
    rb"[+\- \t]{0,40}(?:(?:export|set|setx|SET|ENV|ARG|env|declare|-e|--env|environment=)"
    rb"[ \t\"']{1,3}"
    rb"(?:-x[ ])?)?[\w.\-/]{0,60}"
)
_NAME_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
_LONGEST_NAME = 48
# As far as any regex here looks around a name.
_BEFORE, _BEYOND = 640, 1792
_REMEMBERED = 4
_COMMA, _SPACE, _BRACKET, _DOT = b", (."
_HEX_PAIR = re.compile(rb"[2-7][0-9A-Fa-f]")
_LINKS = (b"is", b"was", b"to", b"or")
_TELLS = frozenset(b":=i")
_QUOTES = (b'"', b"'", b"`", b"&", b"%")
_MAY_FOLLOW = frozenset(b"\"'`(*=:> \t\r\n,|\\&%<?]")


@dataclass(frozen=True, slots=True)
class Assignment:
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
        headers = _HEADERS.get(keyword)
        # Text that repeats itself holds no more the second time.
        barren: tuple[bytes, ...] = ()
        at = lower.find(keyword)
        while at >= 0:
            after = at + len(keyword)
            if at >= _BEFORE and data.startswith(barren, at - _BEFORE):
                at = lower.find(keyword, after)
                continue
            for found in headers(data, after) if headers else _named(data, at, after, names):
                if found.start not in seen:
                    match = _judged(data, found)
                    if match:
                        seen.add(found.start)
                        yield match
                        break
            else:
                if at >= _BEFORE:
                    barren = (data[at - _BEFORE : after + _BEYOND], *barren[: _REMEMBERED - 1])
            at = lower.find(keyword, after)


def _identified(data: bytes, after: int) -> Iterator[Assignment]:
    found = _IDENTIFIED.match(data, after)
    if found:
        end = _value_end(data, after, found.end(), found[1])
        yield Assignment("identified by", found.end(), end, True, Meaning("password", PASSWORD))


_HEADERS = {b"identified by": _identified}


def _named(data: bytes, at: int, after: int, seen: set[int]) -> Iterator[Assignment]:
    following = data[after : after + _LONGEST_NAME]
    beyond = following.lstrip(_NAME_CHARACTERS)
    if not beyond or beyond[0] not in _MAY_FOLLOW:
        return
    follows = beyond[0]
    if follows == _COMMA and beyond[1:2] == b" ":
        return  # a list in prose or code
    if follows == _BRACKET and data[after - 4 : after].lower() != b"auth":
        return  # a call
    if len(beyond) < len(following) and following[-len(beyond) - 1] == _DOT:
        return  # the end of a sentence
    head = data[max(0, at - _LONGEST_NAME) : at]
    start = at - len(head) + len(head.rstrip(_NAME_CHARACTERS))
    if data[start - 1 : start] == b"%" and _HEX_PAIR.match(data, start, at):
        start += 2  # a sign that a URL encodes, as %22
    if _is_prose(beyond) or (beyond[0] in b"\r\n" and not _is_labelled(data, start)):
        return
    end = after + len(following) - len(beyond)
    if end in seen:
        return  # another word of the same name led here
    seen.add(end)
    name = data[start:end]
    means = _meaning(name)
    if means.kind == "key" and data[start - 1 : start] == b" " and _TELLS.intersection(beyond[:6]):
        words = _WORDS_BEFORE.search(data, max(0, start - 40), start)
        if words:
            name = words[0] + name
            means = _meaning(name)
    if not means.kind or (
        data[start - 1 : start] == b":" and b"arn:" in data[max(0, start - 80) : start]
    ):
        return
    shown = name.decode("latin-1")
    for value, quote, strict in _values_after(data, start, end, means.kind == "key"):
        stop = _value_end(data, start, value, quote)
        if stop - value < 6 or _is_a_word(data[value:stop]):
            continue
        if not strict or _stands_alone(data, value, stop, quote):
            yield Assignment(shown, value, stop, bool(quote), means)
    before = data[max(0, start - 40) : start].rstrip(b" \t\"'\\:=").lower()
    if before.endswith((b"name", b"key")):
        found = _VALUE_BEFORE.search(data, max(0, start - 500), start)
        if found:
            yield Assignment(shown, *found.span("value"), True, means)


def _is_prose(beyond: bytes) -> bool:
    """Another word follows: a sentence, unless it says what the value "is"."""
    if beyond[0] != _SPACE or b"=" in beyond or b":" in beyond:
        return False
    word = beyond[1:].partition(b" ")[0]
    return word.isalpha() and len(word) < 12 and word.lower() not in _LINKS


def _is_labelled(data: bytes, start: int) -> bool:
    """Whether something like `name:` stands before, so that the value is told of elsewhere."""
    before = data[max(0, start - 40) : start].rstrip(b" \t\"'\\:=").lower()
    return before.endswith(_IS_A_NAME)


@lru_cache(8192)
def _meaning(name: bytes) -> Meaning:
    return meaning(name.decode("latin-1"))


def _values_after(
    data: bytes, start: int, end: int, weak: bool
) -> Iterator[tuple[int, bytes | None, bool]]:
    """Where the value of the name at `start` to `end` may begin, its quote, and whether strict.

    A strict place is one that much else than values stand in.
    """
    following = data[end : end + 90]
    if weak and not any(quote in following[:30] for quote in _QUOTES):
        return
    found = _ASSIGNED.match(data, end)
    if found and (found[1] or not weak):
        yield found.end(), found[1], False
    if weak:
        return
    if found is None and b"," in following:
        found = _NEXT_ARGUMENT.match(data, end)
        if found:
            yield found.end(), found[1], True
    if b">" in following or b"value=" in following or b"content=" in following:
        for pattern in (_IN_VALUE_ATTRIBUTE, _IN_NEXT_ELEMENT, _IN_ELEMENT):
            inside = pattern.match(data, end)
            if inside:
                yield inside.end(), inside[1] or b"<", False
                return
    if following.startswith(b"&gt;"):
        yield end + 4, b"&lt;", False
        return
    if b"(" in following[:6]:
        pair = _PAIR.match(data, end)
        if pair:
            yield pair.end(), pair["quote"], False
        return
    opens = (b"{" in following or b"\n" in following[:6]) and _OPENS.match(data, end)
    if opens or _is_labelled(data, start):
        beside = _BESIDE.match(data, end)
        if beside:
            yield beside.end(), beside[1], False
            return
    if found is None and (b" " in following[:3] or b"\t" in following[:3]):
        found = _SPACED.match(data, end)
        if found:
            yield found.end(), found[1], data[start : start + 1] != b"-"


def _sets_a_line(data: bytes, name_start: int) -> bool:
    line = max(data.rfind(b"\n", max(0, name_start - 100), name_start), name_start - 100, -1) + 1
    return _SETS_A_LINE.fullmatch(data, line, name_start) is not None


def _value_end(data: bytes, name_start: int, value: int, quote: bytes | None) -> int:
    if quote == b"<":
        text = data[value : _find(data, b"<", value)].rstrip().removesuffix(b"]]>")
        return value if b"\n" in text else value + len(text)
    if quote:
        mark = quote if quote[-1:] == b";" or quote[:1] == b"%" else quote[-1:]
        end = _find(data, mark, value)
        newline = data.find(b"\n", value, end)
        if newline >= 0:
            return value
        while end > value and data[end - 1 : end] == b"\\":
            end -= 1
        return end
    found = _UNQUOTED.match(data, value)
    if not found:
        return value
    if _sets_a_line(data, name_start) and b"(" not in found[0]:
        encoded = _ENCODED_END.search(data, value, found.end())
        return encoded.start() if encoded else value + len(found[0].rstrip(b",;"))
    cut = _CUT.search(data, value, found.end())
    if not cut:
        return value + len(found[0].rstrip(b".:"))
    return value if cut[0] in b"([{" else cut.start()


def _find(data: bytes, mark: bytes, start: int) -> int:
    end = data.find(mark, start, start + LONGEST + 1)
    return end if end >= 0 else start


def _is_a_word(text: bytes) -> bool:
    """Letters alone, as most values in code: a cheap way to pass over them."""
    bare = text.replace(b"_", b"").replace(b".", b"")
    return bare.isalpha() and (len(text) < 12 or text.islower() or text.isupper() or bare != text)


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
