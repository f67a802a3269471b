"""What may name a conversation, a user or a request, and what metadata may hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from unicodedata import category

from core.errors import InvalidRequest

MAX_IDENTIFIER_BYTES = 512
MAX_METADATA_BYTES = 65_536


def check_identifier(value: object, what: str) -> str:
    """Return `value` if it can name something: a str of 1 to 512 bytes without control characters.

    Args:
        what: how the message calls it, for example "conv_id".

    Raises:
        InvalidRequest: it cannot; the message says why.

    Example:
        >>> check_identifier("user_123_session", "conv_id")
        'user_123_session'
    """
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{what} must be a non-empty str, not {value!r}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} has a lone surrogate: {value!r}") from None
    if size > MAX_IDENTIFIER_BYTES:
        raise InvalidRequest(f"{what} has {size} bytes; at most {MAX_IDENTIFIER_BYTES} are allowed")
    if any(category(character) == "Cc" for character in value):
        raise InvalidRequest(f"{what} has a control character: {value!r}")
    return value


def check_system_prompt(value: object) -> str:
    """Return `value` if it is a str.

    Raises:
        InvalidRequest: it is not.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"system_prompt must be a str, not {value!r}")
    return value


def encode_metadata(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """The JSON text of each entry of a caller's metadata.

    Raises:
        InvalidRequest: a name is no identifier, a value is not JSON, or all are above 64 KiB.

    Example:
        >>> encode_metadata({"topic": "tea"})
        {'topic': '"tea"'}
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        raise InvalidRequest(f"metadata must be a dict, not {metadata!r}")
    encoded = {}
    for name, value in (metadata or {}).items():
        check_identifier(name, "a metadata name")
        try:
            encoded[name] = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"metadata {name!r} is not JSON: {error}") from None
    size = sum(len(name.encode()) + len(text) for name, text in encoded.items())
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(f"metadata has {size} bytes; at most {MAX_METADATA_BYTES} are allowed")
    return encoded
