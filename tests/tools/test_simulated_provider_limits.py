"""The three ways to count, as pure units: time is an argument, nothing sleeps."""

from __future__ import annotations

import doctest
import math
from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.simulation import accounts, calls, embeddings, faults, formats, latency, limits
from tools.simulation.latency import parse_latency
from tools.simulation.limits import (
    FixedWindow,
    Kind,
    SlidingWindow,
    TokenBucket,
    Window,
    make_window,
    pacific_midnight,
)

KINDS: tuple[Kind, ...] = ("sliding", "fixed", "bucket")
START = 1_700_000_000.0

steps = st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 6)), min_size=1, max_size=120)


def admitted(window: Window, traffic: list[tuple[int, int]]) -> list[tuple[float, int]]:
    """Sends `(milliseconds since the last, amount)` and returns what was let through, and when."""
    now, through = START, []
    for gap, amount in traffic:
        now += gap / 1000
        if window.fits(amount, now):
            window.add(amount, now)
            through.append((now, amount))
    return through


@given(steps, st.integers(1, 12))
def test_a_sliding_window_never_holds_more_than_its_limit(
    traffic: list[tuple[int, int]], limit: int
) -> None:
    seconds = 5.0
    through = admitted(SlidingWindow(limit, seconds), traffic)
    for last, _ in through:
        inside = sum(n for at, n in through if at <= last < at + seconds)
        assert inside <= limit


@given(steps, st.integers(1, 12))
def test_a_fixed_window_holds_its_limit_between_edges(
    traffic: list[tuple[int, int]], limit: int
) -> None:
    seconds = 5.0
    sums: dict[int, int] = {}
    for at, amount in admitted(make_window("fixed", limit, seconds), traffic):
        index = math.floor(at / seconds)
        sums[index] = sums.get(index, 0) + amount
    assert all(total <= limit for total in sums.values())


@given(steps, st.integers(1, 12))
def test_a_bucket_gives_its_capacity_and_what_refilled_since(
    traffic: list[tuple[int, int]], limit: int
) -> None:
    seconds = 5.0
    through = admitted(TokenBucket(limit, seconds), traffic)
    for first in range(len(through)):
        total = 0
        for at, amount in through[first:]:
            total += amount
            refilled = (at - through[first][0]) * limit / seconds
            assert total <= limit + refilled + 1e-3


@pytest.mark.parametrize("kind", KINDS)
@given(traffic=steps, limit=st.integers(6, 12), amount=st.integers(1, 6))
def test_what_waits_as_told_then_fits(
    kind: Kind, traffic: list[tuple[int, int]], limit: int, amount: int
) -> None:
    window = make_window(kind, limit, 5.0)
    admitted(window, traffic)
    now = START + sum(gap for gap, _ in traffic) / 1000
    wait = window.wait(amount, now)
    assert (wait == 0) == window.fits(amount, now)
    assert window.fits(amount, now + wait + 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_exactly_its_limit_at_once(kind: Kind) -> None:
    window = make_window(kind, 10, 60.0)
    assert sum(amount for _, amount in admitted(window, [(0, 1)] * 25)) == 10
    assert window.used(START) == 10


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_larger_than_the_limit_never_fits(kind: Kind) -> None:
    window = make_window(kind, 10, 60.0)
    assert not window.fits(11, START)
    assert window.wait(11, START) == math.inf


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_reset_nothing_counts(kind: Kind) -> None:
    window = make_window(kind, 10, 60.0)
    assert window.reset(START) == 0
    window.add(7, START)
    reset = window.reset(START)
    assert 0 < reset <= 60
    assert window.used(START + reset - 0.5) > 0
    assert window.used(START + reset + 1e-3) == pytest.approx(0)


def test_a_sliding_window_frees_each_amount_when_it_ages_out() -> None:
    window = SlidingWindow(10, 60.0)
    window.add(6, 0.0)
    window.add(4, 10.0)
    assert window.wait(6, 20.0) == 40.0
    assert window.wait(7, 20.0) == 50.0
    assert not window.fits(1, 59.999)
    assert window.fits(6, 60.0)
    assert not window.fits(7, 60.0)


def test_a_fixed_window_starts_anew_at_the_edge() -> None:
    window = make_window("fixed", 5, 60.0)
    window.add(5, 119.0)
    assert window.wait(1, 119.0) == 1.0
    assert window.fits(5, 120.0)


def test_a_bucket_refills_evenly_and_no_further_than_its_capacity() -> None:
    bucket = TokenBucket(60, 60.0)
    bucket.add(60, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(1.0)
    assert bucket.fits(30, 30.0)
    assert not bucket.fits(31, 30.0)
    assert not bucket.fits(61, 10_000.0)


@pytest.mark.parametrize("kind", KINDS)
def test_output_may_go_beyond_the_limit_and_is_then_owed(kind: Kind) -> None:
    window = make_window(kind, 10, 60.0)
    window.add(15, START)
    assert window.used(START) == 15
    assert not window.fits(1, START)
    assert 0 < window.wait(1, START) <= 60


@pytest.mark.parametrize(
    ("now", "midnight"),
    [
        ("2026-07-01T12:00:00", "2026-07-02T07:00:00"),
        ("2026-12-01T12:00:00", "2026-12-02T08:00:00"),
        ("2026-03-08T08:30:00", "2026-03-09T07:00:00"),  # clocks go forward on that day
        ("2026-11-01T07:30:00", "2026-11-02T08:00:00"),  # and back on this one
    ],
)
def test_geminis_day_ends_at_midnight_pacific(now: str, midnight: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC).timestamp()
    expected = datetime.fromisoformat(midnight).replace(tzinfo=UTC).timestamp()
    assert pacific_midnight(moment) == expected
    window = FixedWindow(1, pacific_midnight)
    window.add(1, moment)
    assert window.wait(1, moment) == expected - moment


@pytest.mark.parametrize("spec", ["fast", "uniform:1", "-1", "lognormal:0:1", "exponential:0", ""])
def test_a_latency_that_means_nothing_is_refused(spec: str) -> None:
    with pytest.raises(ValueError, match="latency"):
        parse_latency(spec)


@pytest.mark.parametrize(
    "spec", [0.2, "0.2", "uniform:0.1:0.3", "exponential:0.2", "lognormal:0.2:0.1"]
)
def test_latencies_are_drawn_around_what_they_say(spec: float | str) -> None:
    draw = parse_latency(spec)
    assert draw is not None
    random = Random(0)
    assert sum(draw(random) for _ in range(4_000)) / 4_000 == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize(
    "module",
    [accounts, calls, embeddings, faults, formats, latency, limits],
    ids=lambda m: m.__name__,
)
def test_the_examples_in_the_docstrings_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.failed == 0
