"""No input crashes the scanner, prints a secret, or takes more than linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.scanner.credentials import KINDS, Fake
from tools.scanner.engine import Engine
from tools.scanner.findings import HIDDEN, shown
from tools.scanner.scanner import Scanner

_PIECES = [
    b"api_key=",
    b'"password": "',
    b"<password>",
    b"://a:",
    b"@",
    b"sk-ant-api03-",
    b"eyJ",
    b".eyJ",
    b"AKIA",
    b"-----BEGIN PRIVATE KEY-----",
    b"insert into t (password) values (",
    b"'",
    b'"',
    b"\\",
    b"%41",
    b"\\u0041",
    b"kind: Secret\ndata:\n a: ",
    b"\0",
    b"\n",
    b"\xff\xfe",
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"a" * 25,
    b"=",
    b"{",
    b"Basic ",
    b"curl -u ",
    b"name,password\n",
    b'"kty":"d":"',
    b"SQLite format 3\0",
    b"\x80\x04",
    b"ustar",
]
_CHUNK = 2**17


@given(st.lists(st.sampled_from(_PIECES) | st.binary(max_size=40), max_size=40))
@settings(max_examples=150, deadline=None)
def test_no_input_crashes(parts: list[bytes]) -> None:
    for finding in Scanner().scan_bytes(b"".join(parts), "x").findings:
        assert finding.line >= 1
        assert finding.column >= 1


@given(st.sampled_from(KINDS), st.integers(0, 10**6))
@settings(max_examples=200, deadline=None)
def test_prefix_and_last_four_are_all_that_is_shown(kind: object, seed: int) -> None:
    secret = kind.make(Fake(seed))  # type: ignore[attr-defined]
    for finding in Scanner().scan_bytes(f"{kind.variable} = '{secret}'".encode(), "x").findings:  # type: ignore[attr-defined]
        prefix, _, last = finding.shown.partition(HIDDEN)
        assert len(last) <= 4
        assert finding.secret.startswith(prefix)
        assert len(finding.secret) - len(prefix) - len(last) >= 4
        assert secret not in repr(finding)


def test_short_secrets_show_nothing() -> None:
    assert shown("abcdefgh") == HIDDEN
    assert shown("prefix-abcdefgh", "prefix-") == HIDDEN


@pytest.mark.parametrize(
    "unit",
    [
        b"a",
        b"a ",
        b"key=",
        b"password ",
        b'password: "',
        b"password=" + b"a1b2" * 2 + b" ",
        b"<password",
        b"<password>a",
        b"://",
        b"://a:b",
        b"a@",
        b"://a:b@",
        b"%41",
        b"\\u0041",
        b"\\/",
        b"eyJ",
        b"eyJaaaaaaaaaaaaaaaaaaaa.",
        b"AKIA234567ABCDEFGHIJ ",
        b"-----BEGIN PRIVATE KEY-----",
        b"insert into t (password) values ('",
        b"(",
        b"'",
        b"auth=(",
        b'"name": "token", "',
        b"name: token\n",
        b"kind: Secret\n",
        b"\n",
        b"curl ",
        b'"kty" ',
        b"Bearer ",
        b"aws secret 4aA/" + b"b1C+" * 9 + b" ",
        b"sk-",
        b"sk-proj-",
        b"T3BlbkFJ",
        b"hooks.slack.com/",
        b"a,b\n",
        b"password,b\n",
        b"api-key-",
        b"QUJD" * 5 + b"\n",
        b"61626364",
        b"&sig=a%",
        b"copy t (a) from stdin",
        b"token {",
        b"token: {\n",
        b"key-" * 9 + b"\n",
        b"a.b:c@tcp(",
        b" login -p ",
    ],
)
def test_anything_repeated_takes_linear_time(unit: bytes) -> None:
    """A quadratic regex would take 64 times as long for eight times as much."""
    engine = Engine()

    def seconds(size: int) -> float:
        began = time.process_time()
        engine.scan(unit * (size // len(unit)))
        return time.process_time() - began

    small = min(seconds(_CHUNK // 8) for _ in range(2))
    large = seconds(_CHUNK)
    assert large < 8 * small * 3 + 0.2, f"{small:.3f} s, then {large:.3f} s for eight times as much"


@pytest.mark.parametrize("unit", [b"a", b"a ", b"\n", b"eyJ", b"sk-", b"(", b"a,b\n", b"\0"])
def test_ten_megabytes_on_a_line(unit: bytes) -> None:
    began = time.process_time()
    assert Scanner().scan_bytes(unit * (10 * 2**20 // len(unit)), "x").findings == []
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    "unit", [b"password=", b"password= ", b'api_key="', b"token=secret=", b'"password": "', b"key="]
)
def test_repeated_assignments_cost_little_more_than_other_text(unit: bytes) -> None:
    """Side by side, so that a busy machine slows both: 40 times as slow is 2 MB/s or less."""
    engine = Engine()

    def seconds(text: bytes) -> float:
        began = time.process_time()
        engine.scan(text)
        return time.process_time() - began

    words = b"a few words. "
    texts = [words * (2 * _CHUNK // len(words)), unit * (2 * _CHUNK // len(unit))]
    rounds = [[seconds(text) for text in texts] for _ in range(6)]
    plain, dense = (min(times) for times in zip(*rounds, strict=True))
    assert dense < 40 * plain


@pytest.mark.parametrize(
    "line",
    [
        'NAME_{0}_TOKEN = "{1}-{0}"\n',
        "  password_{0}: {1}/{0}\n",
        'SERVICE_{0}_API_KEY="{1}{0}x{0}"\n',
        "secret{0} {1} {0}\n",
    ],
)
def test_assignments_that_all_differ_take_linear_time(line: str) -> None:
    """Twice as many take twice as long: what is remembered of values must not grow into it."""
    engine = Engine()
    words = ("lamp", "orchard", "Violin", "7pebble")

    def seconds(count: int) -> float:
        text = "".join(line.format(n, words[n % 4]) for n in range(count)).encode()
        began = time.process_time()
        engine.scan(text)
        return time.process_time() - began

    rounds = [(seconds(3_000), seconds(6_000)) for _ in range(4)]
    once, twice = (min(times) for times in zip(*rounds, strict=True))
    assert twice < 3 * once


def test_repetition_hides_nothing_that_differs() -> None:
    """What is left out as a repetition is the same on both sides, as far as a name can see."""
    secret = Fake("among").alnum(32).encode()
    filler = b'api_key="" ' * 2000
    for text in (
        filler + b'api_key="' + secret + b'" ' + filler,
        filler + b'api_key="' + secret + b'"',
        b'api_key="' + secret + b'" ' + filler,
    ):
        assert [m.secret for m in Engine().scan(text)] == [secret]
