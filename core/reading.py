"""Reads single values of a caller's dicts; each refusal says where, what, and what to write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from core.errors import InvalidRequest

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What every provider takes as the name of a tool or of a schema."""


def sendable(value: Any, where: str) -> Any:
    """The value itself, if it can be sent as JSON.

    Raises:
        InvalidRequest: it cannot.
    """
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidRequest(
            f"{where} holds half a character, which cannot be sent; decode its source as UTF-8 "
            "or UTF-16"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{where} is no JSON: {error}") from None
    return value


def a_mapping(value: object, where: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    """A dict without any field that is not known."""
    if not isinstance(value, Mapping):
        raise wrong(where, value, "a dict with " + ", ".join(known))
    for name in value:
        if name not in known and value[name] is not None:
            raise InvalidRequest(f"{where}: unknown field {name!r}; known are {', '.join(known)}")
    return value


def a_schema(value: object, where: str) -> Mapping[str, Any]:
    """A JSON Schema, as far as it is a dict that can be sent."""
    if not isinstance(value, Mapping):
        raise wrong(where, value, "a JSON Schema as a dict")
    schema: Mapping[str, Any] = sendable(dict(value), where)
    return schema


def a_name(value: object, where: str) -> str:
    """The name of a tool or a schema."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise wrong(where, value, "1 to 64 letters, digits, _ or -")
    return value


def a_flag(value: object, where: str) -> bool | None:
    """True, False or None."""
    if value is not None and not isinstance(value, bool):
        raise wrong(where, value, "True or False")
    return value


def a_text(value: object, where: str) -> str:
    """A text that can be sent."""
    if not isinstance(value, str):
        raise wrong(where, value, "a text")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{where} holds half a character at position {error.start}, which cannot be sent; "
            "decode its source as UTF-8 or UTF-16"
        ) from None
    return value


def wrong(where: str, value: object, write: str) -> InvalidRequest:
    """The refusal of a value; `write` says what to write instead."""
    shown = repr(value)
    return InvalidRequest(f"{where} is {shown[:80]}; write {write}")
