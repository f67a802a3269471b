"""The last word on a value under a name: it is judged in the clear where it is only encoded."""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from urllib.parse import unquote

from .addresses import password_in_address
from .names import Meaning
from .values import is_secret

_BASE64 = re.compile(r"[A-Za-z0-9+/]{8,}={0,2}|[A-Za-z0-9_-]{8,}={0,2}")
# Every fourth character says the first bits of a letter.
_TEXT_BEGINS = re.compile(r"(?:[CDI-Za-f].{3}){2}")
_PRINTABLE = re.compile(r"[\x20-\x7e\r\n\t]+")


@lru_cache(4096)
def judge(value: str, under: Meaning, quoted: bool) -> float:
    """The confidence that `value` is a credential. Encoded text is no better than what it says."""
    value = value.strip()
    if "%" in value and re.search("%[0-9A-Fa-f]{2}", value):
        value = unquote(value).strip(" \"'{}[](),:")
    clear = printable_base64(value)
    if clear is not None:
        user, colon, password = clear.strip().partition(":")
        if colon and "://" not in clear and not re.search(r"\s", password):
            return 0.9 if password_in_address(user, password) else 0.0
        if re.search(r"\s", clear.strip()) or clear[:1] in "{[<":
            return 0.0
        return is_secret(clear.strip(), under, True)
    return is_secret(value, under, quoted)


def printable_base64(value: str) -> str | None:
    """What base64 `value` says, if it is base64 of readable text; None otherwise."""
    bare = value.rstrip("=")
    if not _TEXT_BEGINS.match(value) or len(bare) % 4 == 1 or not _BASE64.fullmatch(value):
        return None
    try:
        raw = base64.b64decode(
            bare + "=" * (-len(bare) % 4), altchars=b"-_" if re.search("[-_]", bare) else None
        )
        text = raw.decode("ascii")
    except (ValueError, binascii.Error):
        return None
    return text if _PRINTABLE.fullmatch(text) else None
