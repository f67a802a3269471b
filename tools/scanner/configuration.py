"""Reads rules and allowlists of the user's own, in gitleaks' TOML."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .allowlists import Allowlist, Allowlists
from .custom import CustomRule
from .findings import Refused, Rule

_DEEPEST = 5
_POSIX = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "digit": "0-9", "lower": "a-z", "upper": "A-Z",
    "xdigit": "0-9A-Fa-f", "space": r"\s", "word": r"\w", "punct": r"!-/:-@\[-`{-~",
}  # fmt: skip
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]+))?\)")


class BadConfiguration(Refused):
    """A configuration that cannot be used; the message says where it is wrong."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a file adds to the built-in rules, and what it takes away."""

    rules: tuple[CustomRule, ...] = ()
    allowlists: Allowlists = field(default_factory=Allowlists)
    disabled: frozenset[str] = frozenset()
    defaults: bool = True


def load(path: str, depth: int = 0) -> Configuration:
    """Reads a configuration, and those that it extends.

    The built-in rules stay in force unless `[extend]` says `useDefault = false`: a file of a few
    allowlists must not silence everything.

    Raises:
        BadConfiguration: the file cannot be read or used.
    """
    if depth > _DEEPEST:
        raise BadConfiguration(f"{path}: more than {_DEEPEST} configurations extend one another")
    import tomllib

    try:
        content = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise BadConfiguration(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise BadConfiguration(f"{path} is no TOML: {error}") from error
    extend = _table(content, "extend", path)
    base = Configuration()
    if isinstance(extend.get("path"), str):
        base = load(str(Path(path).parent / extend["path"]), depth + 1)
    rules, lists = list(base.rules), list(base.allowlists.lists)
    for number, raw in enumerate(_tables(content, "rules", path), 1):
        rule, own = _rule(raw, f"{path}: rule {raw.get('id', number)!r}")
        rules += [rule] if rule else []
        lists += own
    for raw in [*_tables(content, "allowlist", path), *_tables(content, "allowlists", path)]:
        lists.append(_allowlist(raw, f"{path}: allowlist", ()))
    return Configuration(
        tuple(rules),
        Allowlists(tuple(lists)),
        base.disabled | frozenset(map(str, extend.get("disabledRules", ()))),
        base.defaults and bool(extend.get("useDefault", True)),
    )


def _rule(raw: dict[str, Any], where: str) -> tuple[CustomRule | None, list[Allowlist]]:
    id = raw.get("id")
    if not isinstance(id, str) or not id:
        raise BadConfiguration(f"{where} has no id")
    lists = [
        _allowlist(item, f"{where}: allowlist", (id,))
        for item in [*_tables(raw, "allowlist", where), *_tables(raw, "allowlists", where)]
    ]
    if "regex" not in raw and "path" not in raw:
        if not lists:
            raise BadConfiguration(f"{where} has neither regex nor path nor allowlists")
        return None, lists  # it only adds allowlists to a built-in rule
    pattern = go_regex(raw["regex"], where) if "regex" in raw else None
    try:
        group, least = int(raw.get("secretGroup", 0)), float(raw.get("entropy", 0))
    except (TypeError, ValueError) as error:
        raise BadConfiguration(f"{where}: secretGroup and entropy must be numbers") from error
    if pattern and group > pattern.groups:
        raise BadConfiguration(f"{where}: its regex has no group {group}")
    rule = CustomRule(
        Rule(id, str(raw.get("description", id))),
        re.compile(pattern.pattern.encode(), pattern.flags & ~re.UNICODE) if pattern else None,
        group,
        least,
        tuple(str(word).lower().encode() for word in raw.get("keywords", ())),
        go_regex(raw["path"], where) if "path" in raw else None,
    )
    return rule, lists


def _allowlist(raw: dict[str, Any], where: str, rules: Iterable[str]) -> Allowlist:
    condition = str(raw.get("condition", "OR")).upper()
    if condition not in {"OR", "AND", "||", "&&"}:
        raise BadConfiguration(f"{where}: condition must be OR or AND, not {condition!r}")
    target = raw.get("regexTarget", "secret")
    if target not in {"secret", "match", "line", ""}:
        raise BadConfiguration(
            f"{where}: regexTarget must be secret, match or line, not {target!r}"
        )
    return Allowlist(
        tuple(go_regex(text, where) for text in _strings(raw, "paths", where)),
        tuple(_strings(raw, "commits", where)),
        tuple(go_regex(text, where) for text in _strings(raw, "regexes", where)),
        target or "secret",
        tuple(word.lower() for word in _strings(raw, "stopwords", where)),
        frozenset([*rules, *_strings(raw, "targetRules", where)]),
        condition in {"AND", "&&"},
    )


def go_regex(text: object, where: str) -> re.Pattern[str]:
    """Compiles a regex of Go's dialect, which has flags in mid-pattern and POSIX classes."""
    if not isinstance(text, str):
        raise BadConfiguration(f"{where}: a regex must be a string, not {text!r}")
    translated = re.sub(r"\[:(\^?)(\w+):\]", lambda m: _POSIX.get(m[2], m[0]), text)
    translated = translated.replace(r"\z", r"\Z")
    try:
        return re.compile(_scoped(translated))
    except re.error as error:
        raise BadConfiguration(f"{where}: regex {text!r} cannot be used: {error}") from error


def _scoped(text: str) -> str:
    """Flags in mid-pattern, which Python refuses, become groups to the end of their own group."""
    found = next((m for m in _FLAGS.finditer(text) if not _escaped(text, m.start())), None)
    if not found:
        return text
    on, off = found[1].replace("U", ""), (found[2] or "").replace("U", "")
    rest, depth, end, in_class = text[found.end() :], 0, None, False
    for at, sign in enumerate(rest):
        if _escaped(rest, at):
            continue
        if in_class:
            in_class = sign != "]"
        elif sign == "[":
            in_class = True
        elif sign == "(":
            depth += 1
        elif sign == ")":
            if not depth:
                end = at
                break
            depth -= 1
    inner, after = (rest, "") if end is None else (rest[:end], rest[end:])
    flags = on + (f"-{off}" if off else "")
    opened = f"(?{flags}:" if flags else "(?:"
    return f"{text[: found.start()]}{opened}{_scoped(inner)}){_scoped(after)}"


def _escaped(text: str, at: int) -> bool:
    return (len(text[:at]) - len(text[:at].rstrip("\\"))) % 2 == 1


def _table(content: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    value = content.get(name, {})
    if not isinstance(value, dict):
        raise BadConfiguration(f"{where}: {name} must be a table")
    return value


def _tables(content: dict[str, Any], name: str, where: str) -> list[dict[str, Any]]:
    value = content.get(name, [])
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadConfiguration(f"{where}: {name} must be tables")
    return value


def _strings(raw: dict[str, Any], name: str, where: str) -> list[str]:
    value = raw.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadConfiguration(f"{where}: {name} must be a list of strings")
    return value
