"""Keeps secrets out of what providers say: a 401 may echo the key, whole or in part."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import SecretStr


LONGEST_MESSAGE = 500
REDACTED = "[redacted]"

_TOKEN = re.compile(r"""[^\s"'`,;:(){}\[\]<>]+""")
_MASK = re.compile(r"\*{2,}|\.{2,}|…|•+")
_TELLTALE = 8
_SHOWN_PREFIX = 3


def redact(text: str, secret: SecretStr) -> str:
    """`text` on one line, at most 500 characters, without anything that tells of the secret.

    A word is replaced if it shares eight characters in a row with the secret, or if it looks like
    a masked echo of a key: `sk-ab***yz`, or `sk-ab...yz` where the secret begins with `sk-ab`.

    Example:
        >>> from pydantic import SecretStr
        >>> redact("no such key: sk-abc***xyz", SecretStr("another"))
        'no such key: [redacted]'
    """
    value = secret.get_secret_value()
    if value:
        text = text.replace(value, REDACTED)
    text = text[: 4 * LONGEST_MESSAGE]

    def replace(found: re.Match[str]) -> str:
        return REDACTED if _tells(found.group(), value) else found.group()

    visible = "".join(each if each.isprintable() else " " for each in _TOKEN.sub(replace, text))
    line = " ".join(visible.split())
    return line if len(line) <= LONGEST_MESSAGE else line[: LONGEST_MESSAGE - 1] + "…"


def _tells(word: str, secret: str) -> bool:
    if "***" in word:
        return True
    pieces = _MASK.split(word)
    if len(pieces) > 1 and len(pieces[0]) >= _SHOWN_PREFIX and secret.startswith(pieces[0]):
        return True
    if len(word) < _TELLTALE or len(secret) < _TELLTALE:
        return False
    return any(
        secret[start : start + _TELLTALE] in word for start in range(len(secret) - _TELLTALE + 1)
    )
