"""Checks that tell a credential from something of the same shape."""

from __future__ import annotations

import base64
import binascii
import json
import zlib

from .shapes import looks_random, wordy

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


def is_random(token: bytes) -> bool:
    """The part after the last separator of the prefix looks drawn, not written."""
    return looks_random(token.decode("latin-1"))


def is_random_tail(token: bytes) -> bool:
    return looks_random(token.decode("latin-1").partition("_")[2])


def is_not_a_word(token: bytes) -> bool:
    text = token.decode("latin-1")
    return len(set(text)) >= 10 and not wordy(text)


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
