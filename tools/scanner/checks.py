"""Checks that tell a credential from something of the same shape."""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib

from .shapes import looks_random, wordiness, wordy

# A telling prefix leaves little room for chance, so only clear words speak against a token.
_CERTAIN = 0.66
_PREFIX = re.compile("[a-z]{2,8}[_-](?:[a-z]{2,8}[_-])?")
_GITHUB = re.compile(rb"gh[pousr]_[A-Za-z0-9]{36}")
_JWT = re.compile(rb"eyJ[\w-]+\.[\w-]+\.")
# The first digits of their SHA-256: the keys themselves would be found in this file.
_DOCUMENTED = {"ac9265e56c79b234"}  # of the page on API keys at cloud.google.com
_BASE62 = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def github_checksum(token: bytes) -> bytes:
    """The six characters that end a classic GitHub token: the CRC32 of what precedes them."""
    number, digits = zlib.crc32(token), bytearray()
    while number:
        number, digit = divmod(number, 62)
        digits.append(_BASE62[digit])
    return bytes(reversed(digits)).rjust(6, b"0")


def is_github_token(token: bytes) -> bool:
    body = token[4:]
    return github_checksum(body[:-6]) == body[-6:]


def is_documented(token: bytes) -> bool:
    """An example of a provider's own documentation that says nowhere that it is one."""
    import hashlib

    return hashlib.sha256(token).hexdigest()[:16] in _DOCUMENTED


def is_varied(token: bytes) -> bool:
    """Of many different characters; for shapes that nothing else has."""
    return len(set(token)) >= 8


def ends_random(token: bytes) -> bool:
    """The last part of a path looks drawn."""
    return is_not_a_word(token.rpartition(b"/")[2])


def contradicted(value: str) -> bool:
    """In the form of a credential that can be checked, and is none."""
    if not value.startswith(("gh", "eyJ", "AIza")):
        return False
    raw = value.encode("utf-8", "replace")
    if is_documented(raw):
        return True
    if _GITHUB.fullmatch(raw):
        return not is_github_token(raw)
    return bool(_JWT.match(raw)) and not is_bearer_jwt(raw)


def is_random_tail(token: bytes) -> bool:
    return looks_random(token.decode("latin-1").partition("_")[2])


def is_not_a_word(token: bytes) -> bool:
    text = _PREFIX.sub("", token.decode("latin-1"))
    return len(set(text)) >= 10 and not (wordy(text) and wordiness(text) >= _CERTAIN)


def part_of_jwt(part: bytes) -> object:
    try:
        return json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, binascii.Error):
        return None


def is_bearer_jwt(token: bytes) -> bool:
    """A signed token that opens something: no public `anon` key, no documented example."""
    parts = token.split(b".")
    header, claims = part_of_jwt(parts[0]), part_of_jwt(parts[1])
    if not isinstance(header, dict) or not ({"alg", "enc", "typ"} & header.keys()):
        return False
    if not isinstance(claims, dict):
        return len(parts) == 3
    documented = claims.get("sub") == "1234567890" and claims.get("name") == "John Doe"
    return claims.get("role") != "anon" and not documented
