"""The format of `keys.json`: its text becomes KeySpecs, and the JSON Schema that editors use."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from operator import itemgetter
from typing import Any

from core.errors import ConfigurationError
from keys.leaks import holds_a_secret, show
from keys.spec import KeySpec, build, unknown_field

NO_KEYS = (
    "there are no keys yet. Either set OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY and run "
    "`python -m keys init`, or copy keys_example.json to keys.json and edit it"
)
_MOST_SHOWN = 50
_DEEPEST = 20
_TOP_FIELDS = ("keys", "$schema")
_TOKEN = re.compile(
    r"""[ \t\r\n]*(?:
    ([{}\[\],:])
    |("[^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*")
    |(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)(?![\w.+-])
    |(true|false|null)\b
    |(\Z))""",
    re.VERBOSE,
)
_PUNCTUATION, _TEXT, _NUMBER, _WORD = 1, 2, 3, 4
_WORDS = {"true": True, "false": False, "null": None}
_HINTS = (
    (r"//|/\*|#", "JSON knows no comments; remove this one"),
    (r"'|\u2018|\u2019|\u201c|\u201d", 'write straight double quotes (")'),
    (r'"', "this text has no closing quote on its line, or a backslash that JSON does not know"),
    (r"-?(NaN|Infinity)\b", "NaN and Infinity are no numbers of JSON; leave the field out"),
    (r"(?i:true|false|none|null)\b", "write true, false or null, in small letters"),
    (r"[-+.0-9]", "write a plain number, such as 10 or 0.5"),
    (r"\w", "put names and texts into double quotes"),
)


def parse_keys(text: str, *, path: str) -> tuple[KeySpec, ...]:
    """Read what `keys.json` holds.

    Args:
        text: the whole file; a byte order mark is ignored.
        path: the file's name, for messages.

    Raises:
        ConfigurationError: every problem on a line of its own, as `keys.json:12: keys[3]
            'gemini-flash-01': rpm is -5; write a whole number of 1 or more, or leave it out`.

    Example:
        >>> parse_keys('{"keys": [{"key_id": "a", "model_name": "m", "provider": "openai"}]}',
        ...            path="keys.json")[0].key_id
        'a'
    """
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise ConfigurationError(f"{path} is empty: {NO_KEYS}")
    reader = _Reader(text)
    try:
        root = reader.document()
    except _Broken as broken:
        problem = f"{path}:{reader.place(broken.at)}: this is not JSON: {broken}"
    else:
        specs, found = _check(root)
        if not found:
            return specs
        found = sorted(found, key=itemgetter(0))
        lines = [f"{path}:{reader.line(at)}: {what}" for at, what in found[:_MOST_SHOWN]]
        if len(found) > _MOST_SHOWN:
            lines.append(f"{path}: and {len(found) - _MOST_SHOWN} more problems")
        problem = "\n".join(lines)
    raise ConfigurationError(problem)


def conflicts(specs: Sequence[KeySpec]) -> list[tuple[int, int, str, str]]:
    """Keys that cannot stand beside each other.

    Returns:
        The index of the key, of the earlier one that it clashes with, the field, and the reason.
    """
    found: list[tuple[int, int, str, str]] = []
    ids: dict[str, int] = {}
    variables: dict[str, int] = {}
    groups: dict[str, int] = {}
    for index, spec in enumerate(specs):
        first = ids.setdefault(spec.key_id, index)
        if first != index:
            found.append((index, first, "key_id", "key_id is already taken; write another"))
            continue
        for variable in spec.secret_variables:
            other = variables.setdefault(variable, index)
            if other != index:
                reason = f"key_id leads to the same secret, {variable}; write a clearer name"
                found.append((index, other, "key_id", reason))
                break
        first = groups.setdefault(spec.group, index)
        if specs[first].provider != spec.provider:
            reason = (
                f"quota_group {spec.group!r} belongs to {specs[first].provider}, and this key to "
                f"{spec.provider}; write a group of its own"
            )
            found.append((index, first, "quota_group", reason))
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of `keys.json`; `keys/keys.schema.json` holds it for editors."""
    entry = KeySpec.model_json_schema()
    for part in (entry, *entry["properties"].values()):
        part.pop("title", None)
    entry["properties"]["tags"]["additionalProperties"] = False  # names that no pattern fits
    entry["description"] = "One key: where it may be used, and the provider's limits for it."
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "keys.json of the multi-key LLM router",
        "description": "The keys that the router may use. Secrets never live here.",
        "type": "object",
        "additionalProperties": False,
        "required": ["keys"],
        "properties": {
            "$schema": {"type": "string", "description": "Where editors find this schema."},
            "keys": {"type": "array", "minItems": 1, "items": entry},
        },
    }


def _check(root: Any) -> tuple[tuple[KeySpec, ...], list[tuple[int, str]]]:
    if not isinstance(root, _Object):
        return (), [(0, 'write {"keys": [...]} around the keys')]
    found = [(at, f"{show(name)} is written twice; keep one") for name, at in root.twice]
    for name in root:
        if holds_a_secret(name) or (name != "keys" and holds_a_secret(root[name])):
            found.append((root.at[name], "a secret never lives in this file; remove it"))
        elif name not in _TOP_FIELDS:
            found.append((root.at[name], unknown_field(name, _TOP_FIELDS)))
    entries = root.get("keys")
    if not isinstance(entries, _List):
        return (), [*found, (root.at.get("keys", 0), '"keys" is no list; write "keys": [...]')]
    if not entries:
        found.append((root.at["keys"], NO_KEYS))
    specs: list[KeySpec] = []
    places: list[tuple[str, Any, int]] = []
    for index, entry in enumerate(entries):
        label, start = f"keys[{index}]", entries.at[index]
        if not isinstance(entry, _Object):
            found.append((start, f"{label} is {show(entry)}; write an object in braces"))
            continue
        label += _id_for_messages(entry)
        found += [(at, f"{label}: {show(n)} is written twice; keep one") for n, at in entry.twice]
        spec, wrong = build(entry)
        found += [(entry.at.get(name, start), f"{label}: {what}") for name, what in wrong.items()]
        if spec is not None:
            specs.append(spec)
            places.append((label, entry, start))
    for index, other, field, reason in conflicts(specs):
        label, entry, start = places[index]
        found.append((entry.at.get(field, start), f"{label}: {reason} (see {places[other][0]})"))
    return tuple(specs), found


def _id_for_messages(entry: _Object) -> str:
    shown = show(entry.get("key_id"))
    return f" '{shown[1:-1]}'" if shown.startswith('"') else ""


class _Broken(Exception):
    def __init__(self, at: int, hint: str) -> None:
        super().__init__(hint)
        self.at = at


class _Object(dict[str, Any]):
    """A JSON object that knows where its fields stand, and which are written twice."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, int] = {}
        self.twice: list[tuple[str, int]] = []


class _List(list[Any]):
    """A JSON list that knows where its items stand."""

    def __init__(self) -> None:
        super().__init__()
        self.at: list[int] = []


class _Reader:
    """Reads JSON strictly. The standard library's reader forgets where each value stood."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._end = 0

    def document(self) -> Any:
        value = self._value(self._next(), 0)
        after = self._next()
        if after.lastindex is not None and after.lastindex <= _WORD:
            raise _Broken(after.start(after.lastindex), "the file goes on after its last bracket")
        return value

    def line(self, at: int) -> int:
        return bisect_right(self._line_starts, at)

    def place(self, at: int) -> str:
        line = self.line(at)
        return f"{line}:{at - self._line_starts[line - 1] + 1}"

    @cached_property
    def _line_starts(self) -> list[int]:
        lines = self._text.split("\n")
        return [0, *accumulate(len(line) + 1 for line in lines[:-1])]

    def _next(self) -> re.Match[str]:
        token = _TOKEN.match(self._text, self._end)
        if token is None:
            raise self._unreadable()
        self._end = token.end()
        return token

    def _value(self, token: re.Match[str], depth: int) -> Any:
        kind, found = token.lastindex, token[token.lastindex or 0]
        if kind == _TEXT:
            return json.loads(found) if "\\" in found else found[1:-1]
        if kind == _NUMBER:
            whole = found.lstrip("-").isdigit() and len(found) < 100
            return int(found) if whole else float(found)
        if kind == _WORD:
            return _WORDS[found]
        if found not in ("{", "["):
            raise self._unexpected(token, "a value is missing here")
        if depth == _DEEPEST:
            raise _Broken(token.start(1), "this is nested too deeply")
        return self._object(depth + 1) if found == "{" else self._list(depth + 1)

    def _object(self, depth: int) -> _Object:
        result = _Object()
        token = self._next()
        while token[1] != "}":
            if token.lastindex != _TEXT:
                raise self._unexpected(token, "write a field's name in double quotes here")
            name, at = self._value(token, depth), token.start(_TEXT)
            token = self._next()
            if token[1] != ":":
                raise self._unexpected(token, "a colon is missing before this")
            value = self._value(self._next(), depth)
            if name in result:
                result.twice.append((name, at))
            else:
                result[name] = value
                result.at[name] = at
            token = self._after_item("}")
        return result

    def _list(self, depth: int) -> _List:
        result = _List()
        token = self._next()
        while token[1] != "]":
            result.at.append(token.start(token.lastindex or 0))
            result.append(self._value(token, depth))
            token = self._after_item("]")
        return result

    def _after_item(self, closing: str) -> re.Match[str]:
        token = self._next()
        if token[1] == closing:
            return token
        if token[1] != ",":
            raise self._unexpected(token, f"a comma or {closing} is missing before this")
        comma = token.start(1)
        token = self._next()
        if token[1] == closing:
            raise _Broken(comma, f"this comma before {closing} is one too many; remove it")
        return token

    def _unexpected(self, token: re.Match[str], hint: str) -> _Broken:
        if token.lastindex is None or token.lastindex > _WORD:
            hint = "the file ends too early; close every brace and bracket"
        return _Broken(token.start(token.lastindex or 0), hint)

    def _unreadable(self) -> _Broken:
        rest = self._text[self._end :].lstrip(" \t\r\n")
        at = len(self._text) - len(rest)
        for pattern, hint in _HINTS:
            if re.match(pattern, rest):
                return _Broken(at, hint)
        return _Broken(at, "this character has no meaning here")
