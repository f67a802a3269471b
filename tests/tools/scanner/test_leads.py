"""Where hyperscan tells the scanner to look, the standard library would have found the same."""

from __future__ import annotations

import base64
import pickle
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.tools.scanner.credentials import KINDS, Fake
from tools.scanner import hyperscan_search
from tools.scanner.engine import LITERALS, Engine
from tools.scanner.hyperscan_search import with_hyperscan
from tools.scanner.prefilter import InTime, Prefilter, best, without
from tools.scanner.rows import Row, Stretch, rows

_WORDS = [
    *(b"key", b"keys", b"token", b"tokens", b"secret", b"pass", b"pwd", b"auth", b"cred"),
    *(b"word", b"or", b"iz", b"it", b"ary", b"ing", b"age", b"_", b"-", b".", b"id", b"ids"),
    *(b" ", b"  ", b"\t", b"=", b": ", b"'", b'"', b",", b"\n", b"(", b"{", b"\\", b"\\n", b"%3D"),
    *(b"is ", b"to ", b"for ", b"str ", b"name", b"value", b"env ", b"Bearer ", b"12", b"1" * 12),
    *(b"azure ", b"aws ", b"mistral=", b"secret_access", b"s.", b"hvs.", b"/", b"+", b"<", b">"),
]
# Short texts are searched in another way.
_PADDING = b" " * 600


def _drawn(fake: Fake) -> bytes:
    secret = str(fake.choice(KINDS).make(fake)).encode()
    return fake.choice(
        (
            secret,
            base64.b64encode(b"api_key = '" + secret + b"'"),
            (b"password=" + secret).hex().encode(),
            fake.alnum(fake.choice((8, 20, 24, 32, 40, 43))).encode(),
            fake.hex(fake.choice((16, 32, 40, 64))).encode(),
        )
    )


_TEXTS = st.lists(
    st.sampled_from(_WORDS) | st.integers(0, 10**6).map(Fake).map(_drawn), max_size=30
).map(lambda parts: b"".join(parts) + _PADDING)


@pytest.fixture(scope="module")
def prefilters() -> tuple[Prefilter, Prefilter]:
    pytest.importorskip("hyperscan")
    return without(LITERALS), with_hyperscan(LITERALS)


@given(_TEXTS)
@example(b"passpor=" + _PADDING)
@settings(max_examples=300, deadline=None)
def test_hyperscan_sees_what_a_search_sees(
    prefilters: tuple[Prefilter, Prefilter], text: bytes
) -> None:
    searched, seen = (prefilter(text, text.lower()) for prefilter in prefilters)
    assert seen.mentions == searched.mentions
    assert set(seen.rows) <= set(searched.rows)
    assert all(literal in text.lower() for literal in seen.present)


@given(_TEXTS, st.booleans())
@settings(max_examples=300, deadline=None)
def test_findings_are_the_same(
    prefilters: tuple[Prefilter, Prefilter], text: bytes, glued: bool
) -> None:
    searched, seen = (Engine(prefilter=prefilter).scan(text, glued) for prefilter in prefilters)
    assert [tuple(match) for match in seen] == [tuple(match) for match in searched]


def test_encoded_text_may_end_right_behind_its_last_sign(
    prefilters: tuple[Prefilter, Prefilter],
) -> None:
    """Of the twenty characters behind an escape that tell of it the last is none of its own."""
    packed = base64.b64encode(b"pwd='" + Fake("escaped").alnum(8).encode() + b"'")
    text = b'x = "\\n' + packed + b'"' + _PADDING
    for prefilter in prefilters:
        (match,) = Engine(prefilter=prefilter).scan(text)
        assert match.layers == ("base64",)


@given(_TEXTS, st.lists(st.tuples(st.integers(-20, 900), st.integers(0, 300)), max_size=8))
def test_rows_near_a_place_are_rows_of_the_whole(
    text: bytes, places: list[tuple[int, int]]
) -> None:
    stretches = [(begin, begin + length) for begin, length in places]
    every = rows(text)
    near = rows(text, stretches)
    assert near == sorted(set(near))
    assert set(near) <= set(every)
    for row in every:
        if any(begin < row[1] and row[0] < stop for begin, stop in stretches):
            assert row in near


def test_a_hyperscan_that_does_not_work_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    hyperscan = pytest.importorskip("hyperscan")

    class Refusing:
        def compile(self, **_: object) -> None:
            raise hyperscan.error("this processor lacks SSSE3")

    monkeypatch.setattr(hyperscan, "Database", Refusing)
    text = b"api_key = '" + Fake(1).alnum(32).encode() + b"'" + _PADDING
    assert best(LITERALS)(text, text.lower()).mentions == without(LITERALS)(text, text).mentions


def test_hyperscan_starts_where_enough_is_known_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Sequence[bytes]] = []

    def counted(literals: Sequence[bytes]) -> Prefilter:
        started.append(literals)
        return without(literals)

    monkeypatch.setattr("tools.scanner.prefilter.best", counted)
    quarter = b"\n" * 2**19
    little, much = InTime(LITERALS), InTime(LITERALS, 2**30)
    for _ in range(4):
        little(quarter, quarter)
    assert started == []
    little(quarter, quarter)
    much(b"a", b"a")
    assert started == [LITERALS] * 2
    # Other processes have to start it for themselves, and know as much of what will come.
    for leads, starts in ((little, 2), (much, 3)):
        pickle.loads(pickle.dumps(leads))(b"a", b"a")
        assert len(started) == starts


def test_a_row_as_long_as_the_text_is_read_once() -> None:
    text = b"sk-" * 400_000
    stretches = [(at, at + 12) for at in range(0, len(text), 3)]
    assert rows(text, stretches) == rows(text)


@pytest.mark.parametrize(
    "unit",
    [
        b"aGE-",
        b"sk-",
        b"azure",
        b"mistral secret ",
        b" " + b"61" * 8,
        b"." + b"aGFs" * 5 + b"." * 20,
        b"/H4sIAAAAAAAA" + b"." * 20,
    ],
)
def test_hints_in_a_row_tell_of_one_stretch(
    prefilters: tuple[Prefilter, Prefilter], monkeypatch: pytest.MonkeyPatch, unit: bytes
) -> None:
    """Otherwise megabytes of them would fill a hundred times as much memory."""
    told: list[Stretch] = []

    def listed(data: bytes, stretches: list[Stretch]) -> list[Row]:
        told.extend(stretches)
        return rows(data, stretches)

    monkeypatch.setattr(hyperscan_search, "rows", listed)
    text = unit * 5_000
    prefilters[1](text, text)
    assert 0 < len(told) < len(text) / 50
    assert max(stop for _, stop in told) >= len(text)
