"""Finds private keys: PEM in any indentation or escaping, PuTTY files and JSON Web Keys."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from .findings import Match, Rule
from .shapes import entropy, has_pattern

PEM = Rule("private-key", "Private key")
JWK = Rule("jwk-private-key", "Private JSON Web Key")

_BEGIN = re.compile(
    rb"-----BEGIN[ +_](?:[A-Z0-9]{1,12}[ +_]){0,3}PRIVATE[ +_]KEY(?:[ +_]BLOCK)?-----"
)
_END = b"-----END"
_LONGEST = 16_000
_BASE64 = re.compile(rb"[A-Za-z0-9+/=]{16,}")
_PUTTY = re.compile(rb"Private-Lines:[ ]\d{1,3}\r?\n((?:[A-Za-z0-9+/=]{4,80}\r?\n){1,200})")
_JWK = re.compile(rb"\\{0,3}\"(?:d|k)\\{0,3}\"\s{0,4}:\s{0,4}\\{0,3}\"([\w-]{21,700})\\{0,3}\"")
_PEM, _PUTTY_LINES, _KTY = b"-----begin", b"private-lines:", b'"kty'
LITERALS = (_PEM, _PUTTY_LINES, _KTY)


def private_keys(data: bytes, present: Collection[bytes]) -> Iterator[Match]:
    """Private keys with a body; a header alone, or dots in the place of one, is none."""
    at = data.find(b"-----BEGIN") if _PEM in present else -1
    while at >= 0:
        begin = _BEGIN.match(data, at)
        if begin:
            limit = min(len(data), at + _LONGEST)
            end = data.find(_END, begin.end(), limit)
            other = data.find(b"-----BEGIN", begin.end(), limit)
            stop = min(e for e in (end, other, limit) if e >= 0)
            body = _unescaped(data[begin.end() : stop])
            if _is_key(body):
                dashes = data.find(b"-----", stop + 5, stop + 60) if stop == end else -1
                stop = dashes + 5 if dashes >= 0 else stop
                yield Match(PEM, at, stop, data[at:stop], 0.98)
        at = data.find(b"-----BEGIN", at + 10)
    at = data.find(b"Private-Lines:") if _PUTTY_LINES in present else -1
    while at >= 0:
        found = _PUTTY.match(data, at)
        if found and _is_key(found[1]):
            yield Match(PEM, at, found.end(), found[0], 0.98)
        at = data.find(b"Private-Lines:", at + 10)
    if _KTY in present:
        yield from _json_web_keys(data)


def _unescaped(body: bytes) -> bytes:
    body = re.sub(rb"\\{1,4}[nr]|%0[AaDd]|&\#10;", b"\n", body)
    return re.sub(rb"%2[Bb]", b"+", re.sub(rb"%2[Ff]|\\{1,4}/", b"/", body))


def _is_key(body: bytes) -> bool:
    packed = b"".join(_BASE64.findall(body))
    if len(packed) < 40 or b"..." in body:
        return False
    text = packed.decode()
    return entropy(text[:2000]) >= 4.0 and not has_pattern(text[len(text) // 4 :][:300])


def _json_web_keys(data: bytes) -> Iterator[Match]:
    at = data.find(_KTY)
    while at >= 0:
        start = max(data.rfind(b"{", max(0, at - 3000), at), 0)
        end = data.find(b"}", at, at + 3000)
        end = end if end >= 0 else at + 3000
        for found in _JWK.finditer(data, start, end):
            if entropy(found[1].decode()) >= 3.5:
                yield Match(JWK, *found.span(1), found[1], 0.9)
        at = data.find(_KTY, end)
