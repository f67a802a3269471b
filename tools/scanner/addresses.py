"""Finds passwords in URLs, connection strings, Basic authorisation and command lines."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from urllib.parse import unquote

from .findings import Match, Rule
from .names import PASSWORD, Meaning
from .shapes import classes, digit_borders, looks_random, wordy
from .values import is_secret, stands_for_a_secret

URL = Rule("url-password", "Password in a URL or connection string")
COMMAND = Rule("command-password", "Password on a command line")
SAS = Rule("azure-sas-token", "Signature of an Azure shared access URL")

_CALLERS = (b"curl", b"mysql")
_LOGIN, _SIGNATURE, _SCHEME = b"login", b"&sig=", b"://"
_GO_HOSTS = (b"@tcp(", b"@unix(")
_CALLED_TO_LOGIN = b" login "
_LONGEST_USERINFO = 320
_LONGEST_COMMAND = 600
_USERINFO = re.compile(rb"([^\s:@/\"'<>\\`?#,;=]{0,100}):([^\s\"'<>\\`]{1,200})")
_TOKEN_USER = re.compile(rb"[A-Za-z0-9_-]{20,255}")
_GO_DSN = re.compile(rb"([\w.-]{1,64}):([^\s\"'<>:@/]{1,200})\Z")
_USER_OPTION = re.compile(
    rb"\s(?:-u|--user|--proxy-user|-U)[ =]{0,2}[\"']?([^\s:\"']{1,64}):([^\s\"']{4,200})"
)
_PASSWORD_OPTION = re.compile(rb"\s(?:-p|-a|-w)[ ]?[\"']?([^\s\"'$-][^\s\"']{7,100})")
_CONTINUED = re.compile(rb"(?:[^\n\\]|\\\r?\n|\\.){0,%d}" % _LONGEST_COMMAND)
_PARAMETERS = (b"password=", b"pwd=")
LITERALS = (*_CALLERS, _LOGIN, _SIGNATURE, _SCHEME, *_GO_HOSTS, *_PARAMETERS)
_PARAMETER = re.compile(rb"([^\s\"'<>`&;\\]{6,200})(?=[\s\"'<>`&;\\]|\Z)")
_OF_AN_ADDRESS = re.compile(rb"://|[?&;](?:user|uid|user[ ]id|username)=", re.I)
_NETRC = re.compile(
    rb"login[ \t]{1,20}([^\s\"']{1,100})\s{1,40}password[ \t]{1,20}([^\s\"']{6,200})(?=\s|\Z)"
)
_WORD_FOR_ONE = re.compile(
    r"^(?:s[e3]cr[e3]t|p[a4@]ssw[o0]rd|p[a4@]ss)|(?:s[e3]cr[e3]t|p[a4@]ssw[o0]rd|p[a4@]ss)$", re.I
)
_SAS = re.compile(rb"&sig=([A-Za-z0-9%+/=]{40,100})")


def addresses(data: bytes, lower: bytes, present: Collection[bytes]) -> Iterator[Match]:
    """Credentials of `user:password` kinds."""
    if _SCHEME in present:
        yield from _in_urls(data)
    if any(map(present.__contains__, _GO_HOSTS)):
        yield from _before_go_hosts(data)
    for caller in _CALLERS:
        if caller in present:
            yield from _commands(data, lower, caller)
    for name in _PARAMETERS:
        if name in present:
            yield from _parameters(data, lower, name)
    if _LOGIN in present:
        yield from _logins(data, lower)
    if _SIGNATURE in present:
        yield from _shared_access(data)


def _shared_access(data: bytes) -> Iterator[Match]:
    # The signature ends in a sign that a URL encodes.
    at = data.find(_SIGNATURE) if b"%" in data and b"&" in data else -1
    while at >= 0:
        found = _SAS.match(data, at)
        if (
            found
            and b"se=" in data[max(0, at - 300) : found.end() + 300]
            and looks_random(unquote(found[1].decode()))
        ):
            yield Match(SAS, *found.span(1), found[1], 0.85)
        at = data.find(_SIGNATURE, at + 5)


def _in_urls(data: bytes) -> Iterator[Match]:
    # Goes from one sign to the other, for a text that is full of either may have none of both.
    # One letter is found sooner than three, and most texts have no such one.
    scheme = data.find(_SCHEME) if b"@" in data else -1
    at = data.find(b"@", scheme) if scheme >= 0 else -1
    while at >= 0:
        scheme = data.rfind(_SCHEME, max(0, at - _LONGEST_USERINFO), at)
        if scheme >= 0:
            yield from _in_url(data, scheme + len(_SCHEME), at)
            at = data.find(b"@", at + 1)
        else:
            scheme = data.find(_SCHEME, at)
            at = data.find(b"@", scheme) if scheme >= 0 else -1


def _before_go_hosts(data: bytes) -> Iterator[Match]:
    # One rare letter is found sooner than two words.
    at = data.find(b"@")
    while at >= 0:
        if (
            data.startswith(_GO_HOSTS, at)
            and data.rfind(_SCHEME, max(0, at - _LONGEST_USERINFO), at) < 0
        ):
            found = _GO_DSN.search(data, max(0, at - 200), at)
            if found:
                yield from _password(found, 1, 2)
        at = data.find(b"@", at + 1)


def _in_url(data: bytes, after: int, at: int) -> Iterator[Match]:
    found = _USERINFO.fullmatch(data, after, at)
    if found:
        a_port = found[2].partition(b"/")[0].isdigit()
        if data[at + 1 : at + 2].strip(b" \t\r\n\"'") and not (a_port and b"/" in found[2]):
            yield from _password(found, 1, 2)
        return
    found = _TOKEN_USER.fullmatch(data, after, at)
    if found and b"sentry" not in data[at : at + 60]:
        text = found[0].decode()
        if classes(text) >= 3 and looks_random(text) and not stands_for_a_secret(text):
            yield Match(URL, *found.span(), found[0], 0.6)


def _password(found: re.Match[bytes], user: int, password: int) -> Iterator[Match]:
    confidence = password_in_address(
        found[user].decode("latin-1"), found[password].decode("latin-1")
    )
    if confidence:
        yield Match(URL, *found.span(password), found[password], confidence)


def _own_part(password: str) -> str:
    """`password` without a word for one, where what else it holds was drawn at random."""
    rest = _WORD_FOR_ONE.sub("", password)
    drawn = len(rest) >= 12 and digit_borders(rest) >= 3 and looks_random(rest)
    return rest if drawn else password


def password_in_address(user: str, password: str) -> float:
    """The confidence that this is a real password and no part of a documented address.

    The place gives it away, so it need not look as random as one that only a name tells of.
    """
    password = _own_part(unquote(password))
    if (
        len(password) < 6
        or ("," in password and ":" in password)
        or password.lower() == user.lower()
        or stands_for_a_secret(password)
    ):
        return 0.0
    confidence = is_secret(password, Meaning("password", PASSWORD), True)
    if confidence:
        return max(confidence, 0.85)
    if password.startswith("x-oauth") or password.isdigit():
        return 0.0
    if wordy(password) and classes(password) < 3:
        return 0.0
    if password.isalpha() and len(password) < 10:
        return 0.0
    return 0.6 if classes(password) >= 2 or looks_random(password) else 0.0


def _parameters(data: bytes, lower: bytes, name: bytes) -> Iterator[Match]:
    """Passwords among the parameters of a connection string, as laxly as before its host."""
    at = lower.find(name)
    while at >= 0:
        value = at + len(name)
        if data[at - 1 : at] in (b"?", b"&", b";"):
            found = _PARAMETER.match(data, value)
            line = max(data.rfind(b"\n", max(0, at - 300), at), at - 300, 0)
            if found and _OF_AN_ADDRESS.search(data, line, at):
                yield from _lax(URL, found, 1, "")
        at = lower.find(name, value)


def _logins(data: bytes, lower: bytes) -> Iterator[Match]:
    """Passwords in .netrc files and behind commands that log in."""
    at, done = lower.find(_LOGIN), 0
    while at >= 0:
        found = _NETRC.match(data, at)
        if found:
            yield from _lax(URL, found, 2, found[1].decode("latin-1"))
        if at > done and lower.startswith(_CALLED_TO_LOGIN, at - 1):
            done = _command_end(data, at - 1)
            yield from _in_command(data, at - 1, done)
        at = lower.find(_LOGIN, at + 5)


def _lax(rule: Rule, found: re.Match[bytes], group: int, user: str) -> Iterator[Match]:
    # Where its name tells of it too, that finding is the surer one.
    if password_in_address(user, found[group].decode("latin-1")):
        yield Match(rule, *found.span(group), found[group], 0.55)


def _commands(data: bytes, lower: bytes, caller: bytes) -> Iterator[Match]:
    at = lower.find(caller)
    while at >= 0:
        end = _command_end(data, at)
        yield from _in_command(data, at, end)
        at = lower.find(caller, max(end, at + 1))


def _command_end(data: bytes, at: int) -> int:
    line = _CONTINUED.match(data, at)
    return line.end() if line else at


def _in_command(data: bytes, at: int, end: int) -> Iterator[Match]:
    for found in _USER_OPTION.finditer(data, at, end):
        user, password = found[1].decode("latin-1"), found[2].decode("latin-1")
        if password_in_address(user, password):
            yield Match(COMMAND, *found.span(2), found[2], 0.75)
    for found in _PASSWORD_OPTION.finditer(data, at, end):
        if is_secret(found[1].decode("latin-1"), Meaning("password"), True):
            yield Match(COMMAND, *found.span(1), found[1], 0.75)
