"""How files write that a name has a value: where the value begins, and where it ends."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .mentions import ARGUMENT
from .values import LONGEST

_QUOTE = rb"(?:[bruf@$]{0,2}\\{0,7}(?:\"\"\"|'''|[\"'`])|&quot;|&\#34;|&apos;|%2[27])"
_CLOSED = rb"(?:\\{0,7}[\"'`\])*]|&quot;|&\#34;|%2[27]){0,4}"
_ANNOTATED = (
    rb"(?:[ \t]{0,2}:?[ \t]{1,4}[\w\[\].|*&<>?]{2,30}(?:[ ]\|[ ][\w\[\].]{2,30}){0,2}"
    rb"(?=[ \t]{0,4}=))?"
)
_OPERATOR = (
    rb"(?:[ \t]{0,30}(?:=>|:=|\?=|\|\|=|={1,3}|:-|:{1,2}|->|\|\||\?\?|\|)(?:\*{2})?"
    rb"|%3[Dd]|%3[Aa]|\\u003[Dd]|[ \t]or(?=[ \t]))"
)
_BLOCK = rb"(?:<<[-~]?[\"']?\w{2,12}[\"']?\r?\n[ \t]{0,40}|[|>][+-]?[ \t]{0,4}\r?\n[ \t]{0,40})?"
_WRAPPED = (
    rb"(?:(?:new[ ])?[\w.:\[\]&!]{0,40}\([ \t\r\n]{0,20}%b(?=[bruf@$]{0,2}\\{0,7}[\"'`])){0,2}"
    % ARGUMENT
)
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
VALUE_BEFORE = re.compile(
    rb"\b(?:value|Value|val)\\{0,7}[\"']?[ \t]{0,8}[:=]\s{0,20}\\{0,7}[\"']"
    rb"(?P<value>[^\"'\n\\]{6,400})"
    rb"\\{0,7}[\"']\s{0,20},\s{0,40}\\{0,7}[\"']?(?:name|key|Name|Key)\\{0,7}[\"']?\s{0,8}[:=]"
    rb"\s{0,8}\\{0,7}[\"']?\Z"
)
_OPENS = re.compile(rb"[\"']?[ \t]{0,8}(?:[:=][ \t]{0,8}(?:\{|\r?\n)|\{)")
_PAIR = re.compile(
    rb"[ \t]{0,3}=?[ \t]{0,3}\(\s{0,20}[\"'][^\"'\n]{1,64}[\"'],\s{0,20}(?P<quote>[\"'])"
)
# What stands before a name where its value is told of elsewhere, as in `name: API_KEY`.
LABELS = tuple(
    b"name key variable field header env label parameter id secret setting option var".split()
)
_SPACED = re.compile(b"[\"'*]{0,2}[ \\t]{1,40}(?:(?:is|was|to)[ :]{1,3}|-p[ ]?)?(%b)?" % _QUOTE)


_UNQUOTED = re.compile(rb"[^\s\"'`<>]{6,%d}" % LONGEST)
_CUT = re.compile(rb"[,;)\]}|&\\(\[{]|%2[267]|%7[Dd]")
# What ends a value in text that a URL carries: a quote, a brace or another parameter.
_ENCODED_END = re.compile(rb"%2[267]|%7[Dd]")
_SETS_A_LINE = re.compile(
    rb"[+\- \t]{0,40}(?:(?:export|set|setx|SET|ENV|ARG|env|declare|-e|--env|environment=)"
    rb"[ \t\"']{1,3}"
    rb"(?:-x[ ])?)?[\w.\-/]{0,60}"
)
# A weak name needs a quote near behind it.
quote_soon = re.compile(rb"[^\"'`&%]{0,29}+[\"'`&%]").match


def values_after(
    data: bytes, start: int, end: int, weak: bool, labelled: bool
) -> Iterator[tuple[int, bytes | None, bool]]:
    """Where the value of the name at `start` to `end` may begin, its quote, and whether strict.

    A strict place is one that much else than values stand in.
    """
    found = _ASSIGNED.match(data, end)
    if found and (found[1] or not weak):
        yield found.end(), found[1], False
    if weak:
        return
    following = data[end : end + 90]
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
    if opens or labelled:
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


def value_end(data: bytes, name_start: int, value: int, quote: bytes | None) -> int:
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
