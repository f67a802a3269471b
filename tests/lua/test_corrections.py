"""What corrects the counters: lateness, the provider's word, probes and ramps, learned ratios."""

from __future__ import annotations

import pytest

from lua import limiter_calls
from lua.limiter_types import Lesson, Mark, NoRoom, Refusal, Reserved, Told
from tests.lua.conftest import START, Bench

SPAN = 61_000


def test_a_request_sent_late_counts_from_when_it_was_sent(bench: Bench) -> None:
    key = bench.candidate("a", rpm=1)
    late, _ = bench.reserve(key)
    bench.now += 4000
    bench.settle(late, "a", late_ms=3000)
    bench.now = START + SPAN
    assert isinstance(bench.reserve(key)[1], NoRoom)
    bench.now = START + SPAN + 3000
    assert isinstance(bench.reserve(key)[1], Reserved)


def test_a_slots_lateness_is_allowed_for_already(bench: Bench) -> None:
    key = bench.candidate("a", rpm=1)
    punctual, _ = bench.reserve(key)
    bench.settle(punctual, "a", late_ms=500)
    bench.now = START + SPAN
    assert isinstance(bench.reserve(key)[1], Reserved)


def test_use_from_outside_that_the_provider_tells_is_counted(bench: Bench) -> None:
    key = bench.candidate("a", rpm=60, tpm=100_000)
    mine, _ = bench.reserve(key, tokens=500)
    bench.settle(mine, "a", tokens=500, told=Told(requests=41, tokens=30_500))
    use = bench.use("a")[0]
    assert (use.requests, use.tokens) == (41, 30_500)


def test_the_providers_word_never_lowers_a_counter(bench: Bench) -> None:
    key = bench.candidate("a", rpm=60)
    for _ in range(10):
        mine, _ = bench.reserve(key)
    bench.settle(mine, "a", told=Told(requests=2))
    assert bench.use("a")[0].requests == 10


def test_a_rounded_count_of_tokens_is_no_use_from_outside(bench: Bench) -> None:
    mine, _ = bench.reserve(bench.candidate("a", tpm=100_000), tokens=1200)
    bench.settle(mine, "a", tokens=1200, told=Told(tokens=2000))
    assert bench.use("a")[0].tokens == 1200


def cooled(bench: Bench, field: str = "g:p/a") -> None:
    bench.mark(Mark(field, "throttled", 5000, "429"))
    bench.now += 5000


@pytest.mark.parametrize("field", ["k:a", "g:p/a", "p:p"])
def test_after_a_cooldown_one_request_is_the_probe(bench: Bench, field: str) -> None:
    key = bench.candidate("a", rpm=100)
    cooled(bench, field)
    assert isinstance(bench.reserve(key)[1], Reserved)
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.passed_over[0].why is Refusal.COOLING


def test_a_probe_that_succeeds_is_followed_by_a_ramp(bench: Bench) -> None:
    key = bench.candidate("a", rpm=100)
    cooled(bench)
    probe, _ = bench.reserve(key)
    bench.settle(probe, "a")
    admitted = []
    for _ in range(4):
        count = 0
        while isinstance(bench.reserve(key)[1], Reserved):
            count += 1
        admitted.append(count)
        bench.now += 10_000
    assert admitted[0] == 9, "a tenth of the limit at first, the probe included"
    assert admitted[0] + admitted[1] + 1 == 33
    assert sum(admitted) + 1 == 100


def test_a_probe_that_fails_leaves_the_next_one_to_try(bench: Bench) -> None:
    key = bench.candidate("a", rpm=100)
    cooled(bench)
    probe, _ = bench.reserve(key)
    bench.settle(probe, "a", answered=False)
    second, answer = bench.reserve(key)
    assert isinstance(answer, Reserved)
    assert isinstance(bench.reserve(key)[1], NoRoom)
    bench.settle(second, "a", answered=False, marks=(Mark("g:p/a", "throttled", 9000, "429"),))
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == bench.now + 9000


def test_a_probe_whose_client_died_is_tried_again(bench: Bench) -> None:
    key = bench.candidate("a", rpm=100)
    cooled(bench)
    bench.reserve(key, lease_ms=4000)
    bench.now += 4000
    assert isinstance(bench.reserve(key)[1], Reserved)


def test_what_somebody_must_mend_is_not_probed(bench: Bench) -> None:
    bench.mark(Mark("k:a", "invalid", -1, "401"))
    bench.now += 10**9
    assert isinstance(bench.reserve(bench.candidate("a", rpm=1))[1], NoRoom)


def learn(bench: Bench, estimated: int, real: int) -> float:
    name, _ = bench.reserve(bench.candidate("a"))
    bench.settle(name, "a", lesson=Lesson("m", estimated, real))
    return bench.settled[2] / 1000


def test_estimates_learn_slowly_and_for_all_processes(bench: Bench) -> None:
    first = learn(bench, 100, 150)
    assert 1.0 < first < 1.1
    for _ in range(100):
        last = learn(bench, 100, 150)
    assert last == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize(("real", "bound"), [(100_000, 3.0), (0, 0.5)])
def test_a_ratio_stays_within_its_bounds(bench: Bench, real: int, bound: float) -> None:
    for _ in range(150):
        last = learn(bench, 100, real)
    assert last == pytest.approx(bound, abs=0.02)


def test_nothing_is_learned_from_nothing(bench: Bench) -> None:
    first = learn(bench, 100, 150)
    assert learn(bench, 0, 500) == 0.0
    told = limiter_calls.ratios(bench.calls, bench.shard)
    assert told == {"m": first}
    assert learn(bench, 100, 150) > first
