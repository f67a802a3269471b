"""reserve.lua, settle.lua, mark.lua and status.lua, case by case, with the time injected."""

from __future__ import annotations

import pytest

from lua.limiter_types import (
    CLEAR,
    NEVER,
    UNTIL_SOMEBODY_ACTS,
    Geometry,
    Mark,
    NoRoom,
    Refusal,
    Reserved,
)
from tests.lua.conftest import START, Bench

MINUTE = 60_000
SPAN = 61_000
"""A window, one slot for its phase and one for the way to the provider."""


def test_requests_are_admitted_up_to_the_limit_and_again_when_the_first_has_aged(
    bench: Bench,
) -> None:
    key = bench.candidate("a", rpm=3)
    for _ in range(3):
        assert isinstance(bench.reserve(key)[1], Reserved)
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == START + SPAN
    bench.now = refused.when_ms - 1
    assert isinstance(bench.reserve(key)[1], NoRoom)
    bench.now = refused.when_ms
    assert isinstance(bench.reserve(key)[1], Reserved)


def test_the_weight_is_added_before_the_limit_is_tested(bench: Bench) -> None:
    key = bench.candidate("a", tpm=1000)
    assert isinstance(bench.reserve(key, tokens=999)[1], Reserved)
    assert isinstance(bench.reserve(key, tokens=2)[1], NoRoom)
    assert isinstance(bench.reserve(key, tokens=1)[1], Reserved)


def test_what_could_never_be_admitted_is_said_to_be_too_large(bench: Bench) -> None:
    refused = bench.reserve(
        bench.candidate("a", tpm=1000), bench.candidate("b", tpd=900), tokens=1001
    )[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == NEVER
    assert {p.why for p in refused.passed_over} == {Refusal.TOO_LARGE}


def test_of_two_that_are_more_than_half_full_the_one_with_most_room_is_chosen(
    bench: Bench,
) -> None:
    fuller, emptier = bench.candidate("a", rpm=10), bench.candidate("b", rpm=100)
    for _ in range(8):
        bench.reserve(fuller)
    for _ in range(60):
        bench.reserve(emptier)
    chosen = [bench.reserve(fuller, emptier, rotation=n)[1] for n in range(29)]
    assert [c.candidate for c in chosen if isinstance(c, Reserved)] == [1] * 29


def test_one_that_has_half_its_room_is_taken_in_turn_without_a_look_at_the_rest(
    bench: Bench,
) -> None:
    fuller, emptier = bench.candidate("a", rpm=10), bench.candidate("b", rpm=100)
    chosen = [bench.reserve(fuller, emptier, rotation=n)[1] for n in range(8)]
    assert [c.candidate for c in chosen if isinstance(c, Reserved)] == [0, 1] * 4


def test_every_limit_of_the_pool_can_be_used_up(bench: Bench) -> None:
    keys = [bench.candidate(name, rpm=rpm) for name, rpm in (("a", 3), ("b", 17), ("c", 80))]
    answers = [bench.reserve(*keys, rotation=n)[1] for n in range(101)]
    assert [isinstance(a, Reserved) for a in answers] == [True] * 100 + [False]


def test_equal_keys_take_turns(bench: Bench) -> None:
    keys = [bench.candidate(name, rpm=10) for name in "abc"]
    chosen = [bench.reserve(*keys, rotation=n)[1] for n in range(6)]
    assert sorted(c.candidate for c in chosen if isinstance(c, Reserved)) == [0, 0, 1, 1, 2, 2]


def test_a_later_tier_serves_only_when_the_first_is_full(bench: Bench) -> None:
    first, second = bench.candidate("a", rpm=1), bench.candidate("b", tier=1, rpm=100)
    answers = [bench.reserve(first, second)[1] for _ in range(3)]
    assert [a.candidate for a in answers if isinstance(a, Reserved)] == [0, 1, 1]


def test_keys_of_one_group_share_its_counters(bench: Bench) -> None:
    one = bench.candidate("a", group="team", rpm=2)
    two = bench.candidate("b", group="team", rpm=2)
    assert isinstance(bench.reserve(one)[1], Reserved)
    assert isinstance(bench.reserve(two)[1], Reserved)
    assert isinstance(bench.reserve(one, two)[1], NoRoom)


def test_the_same_id_gets_the_same_answer_and_is_charged_once(bench: Bench) -> None:
    key = bench.candidate("a", rpm=10, tpm=1000)
    first = bench.reserve(key, tokens=100, id="same")[1]
    bench.now += 3000
    again = bench.reserve(key, tokens=100, id="same")[1]
    assert isinstance(first, Reserved)
    assert isinstance(again, Reserved)
    assert (again.candidate, again.slot) == (first.candidate, first.slot)
    assert bench.use("a")[0].requests == 1


def test_less_used_is_given_back_to_the_slot_that_was_charged(bench: Bench) -> None:
    key = bench.candidate("a", tpm=1000)
    early, _ = bench.reserve(key, tokens=600)
    bench.now += 30_000
    bench.reserve(key, tokens=400)
    assert bench.settle(early, "a", tokens=100)
    assert bench.use("a")[0].tokens == 500
    bench.now = START + SPAN
    assert bench.use("a")[0].tokens == 400


def test_more_used_is_charged_now(bench: Bench) -> None:
    key = bench.candidate("a", tpm=1000)
    early, _ = bench.reserve(key, tokens=100)
    bench.now += 30_000
    bench.settle(early, "a", tokens=700)
    bench.now = START + SPAN
    assert bench.use("a")[0].tokens == 600


def test_a_settlement_counts_once(bench: Bench) -> None:
    key = bench.candidate("a", tpm=1000)
    reservation, _ = bench.reserve(key, tokens=600)
    assert bench.settle(reservation, "a", tokens=100)
    assert not bench.settle(reservation, "a", tokens=100)
    assert bench.use("a")[0].tokens == 100


def test_a_settlement_after_the_window_gives_nothing_back(bench: Bench) -> None:
    key = bench.candidate("a", tpm=1000)
    reservation, _ = bench.reserve(key, tokens=600, lease_ms=10 * MINUTE)
    bench.now += 2 * MINUTE
    bench.reserve(key, tokens=300)
    bench.settle(reservation, "a", tokens=100)
    assert bench.use("a")[0].tokens == 300


def test_without_its_record_the_whole_use_is_charged(bench: Bench) -> None:
    assert bench.settle("never-seen", "a", tokens=250, given=200)
    use = bench.use("a")[0]
    assert (use.requests, use.tokens, use.input) == (1, 250, 200)


def test_what_was_never_sent_is_given_back_whole(bench: Bench) -> None:
    key = bench.candidate("a", rpm=1, tpm=100, rpd=5)
    reservation, _ = bench.reserve(key, tokens=100)
    bench.settle(reservation, "a", requests=0)
    use = bench.use("a")[0]
    assert (use.requests, use.tokens, use.requests_today) == (0, 0, 0)
    assert isinstance(bench.reserve(key, tokens=100)[1], Reserved)


def test_input_and_output_tokens_are_limited_apart(bench: Bench) -> None:
    key = bench.candidate("a", itpm=1000, otpm=500)
    held, _ = bench.reserve(key, given=900, output=400)
    assert isinstance(bench.reserve(key, given=101, output=1)[1], NoRoom)
    assert isinstance(bench.reserve(key, given=1, output=101)[1], NoRoom)
    bench.settle(held, "a", given=900, output=50)
    assert isinstance(bench.reserve(key, given=100, output=450)[1], Reserved)


def test_held_output_does_not_age_and_counts_from_when_it_was_produced(bench: Bench) -> None:
    key = bench.candidate("a", otpm=500)
    held, _ = bench.reserve(key, output=400, lease_ms=10 * MINUTE)
    bench.now += 3 * MINUTE
    assert isinstance(bench.reserve(key, output=200)[1], NoRoom)
    bench.settle(held, "a", output=300)
    refused = bench.reserve(key, output=300)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == bench.now + SPAN


def test_a_dead_clients_hold_ends_with_its_lease(bench: Bench) -> None:
    key = bench.candidate("a", otpm=500, max_parallel=1)
    bench.reserve(key, output=400, lease_ms=90_000)
    refused = bench.reserve(key, output=200)[1]
    assert isinstance(refused, NoRoom)
    assert refused.passed_over[0].why is Refusal.IN_FLIGHT
    assert refused.when_ms == START + 90_000
    bench.now = START + 90_000
    assert isinstance(bench.reserve(key, output=500)[1], Reserved)
    assert bench.use("a")[0].held_output == 500


def test_what_is_held_stays_in_redis_as_long_as_its_lease(bench: Bench) -> None:
    key = bench.candidate("a", otpm=500)
    bench.reserve(key, output=400, lease_ms=10 * MINUTE)
    short, _ = bench.reserve(key, output=50, lease_ms=MINUTE)
    bench.settle(short, "a", output=10)
    assert bench.calls.call("PTTL", bench.group("a").ring) > 10 * MINUTE


def test_held_output_ends_with_the_last_lease_though_its_record_is_gone(bench: Bench) -> None:
    key = bench.candidate("a", otpm=500)
    bench.reserve(key, output=400, lease_ms=MINUTE)
    bench.calls.call("DEL", bench.group("a").leases)
    assert bench.use("a")[0].held_output == 0
    assert isinstance(bench.reserve(key, output=500)[1], Reserved)


def test_parallel_calls_are_limited_until_they_are_settled(bench: Bench) -> None:
    key = bench.candidate("a", max_parallel=2)
    first, _ = bench.reserve(key)
    bench.reserve(key)
    assert isinstance(bench.reserve(key)[1], NoRoom)
    bench.settle(first, "a")
    assert isinstance(bench.reserve(key)[1], Reserved)


def test_a_days_requests_end_at_the_providers_reset(bench: Bench) -> None:
    key = bench.candidate("a", rpd=2)
    bench.reserve(key)
    bench.reserve(key)
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == bench.day_end
    bench.now = bench.day_end
    bench.day_end += 24 * 3_600_000
    assert isinstance(bench.reserve(key)[1], Reserved)
    assert bench.use("a")[0].requests_today == 1


def test_yesterdays_reservation_gives_nothing_back_to_today(bench: Bench) -> None:
    key = bench.candidate("a", tpd=1000)
    bench.now = bench.day_end - 1000
    yesterdays, _ = bench.reserve(key, tokens=600)
    bench.now = bench.day_end + 1000
    bench.day_end += 24 * 3_600_000
    bench.reserve(key, tokens=700)
    bench.settle(yesterdays, "a", tokens=100)
    assert bench.use("a")[0].tokens_today == 700


def test_a_client_whose_clock_is_days_ahead_makes_no_long_day(bench: Bench) -> None:
    key = bench.candidate("a", rpd=1)
    true_end, bench.day_end = bench.day_end, bench.day_end + 5 * 24 * 3_600_000
    assert isinstance(bench.reserve(key)[1], Reserved)
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == true_end


def test_a_client_whose_clock_is_behind_does_not_end_the_day_twice(bench: Bench) -> None:
    key = bench.candidate("a", rpd=1)
    bench.now = bench.day_end + 5
    assert isinstance(bench.reserve(key)[1], Reserved)
    bench.now += 10_000
    assert isinstance(bench.reserve(key)[1], NoRoom)


def test_a_burst_cap_spreads_requests_within_the_minute(bench: Bench) -> None:
    # 60 a minute, over 10 s: 10 requests in any 10 s (20 slots, and one for the phase).
    key = bench.candidate("a", rpm=60, burst_slots=21, burst=10)
    for _ in range(10):
        assert isinstance(bench.reserve(key)[1], Reserved)
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == START + 10_500
    bench.now = refused.when_ms
    assert isinstance(bench.reserve(key)[1], Reserved)


def test_a_marked_key_is_passed_over_with_its_end(bench: Bench) -> None:
    first, second = bench.candidate("a", rpm=10), bench.candidate("b", tier=1, rpm=10)
    bench.mark(Mark("k:a", "throttled", 5000, "429"))
    answer = bench.reserve(first, second)[1]
    assert isinstance(answer, Reserved)
    assert answer.candidate == 1
    assert [(p.candidate, p.why, p.until_ms) for p in answer.passed_over] == [
        (0, Refusal.COOLING, START + 5000)
    ]
    bench.now += 5000
    after = bench.reserve(first, second)[1]
    assert isinstance(after, Reserved)
    assert after.candidate == 0


def test_a_short_cooldown_never_shortens_a_longer_one(bench: Bench) -> None:
    assert bench.mark(Mark("k:a", "throttled", 60_000, "long")) == [START + 60_000]
    assert bench.mark(Mark("k:a", "throttled", 1_000, "short")) == [START + 60_000]
    assert bench.mark(Mark("k:a", "invalid", UNTIL_SOMEBODY_ACTS, "401")) == [-1]
    assert bench.mark(Mark("k:a", "throttled", 90_000, "later")) == [-1]
    assert bench.use("a")[0].state == "invalid"
    assert bench.mark(Mark("k:a", "", CLEAR, "")) == [0]
    assert bench.use("a")[0].blocked_until_ms == 0


@pytest.mark.parametrize("field", ["k:a", "g:p/a", "p:p"])
def test_key_group_and_provider_can_be_marked(bench: Bench, field: str) -> None:
    bench.mark(Mark(field, "exhausted", UNTIL_SOMEBODY_ACTS, "no credit"))
    answer = bench.reserve(bench.candidate("a", rpm=10))[1]
    assert isinstance(answer, NoRoom)
    assert answer.when_ms == UNTIL_SOMEBODY_ACTS


def test_a_settlement_marks_in_the_same_call(bench: Bench) -> None:
    key = bench.candidate("a", rpm=10)
    reservation, _ = bench.reserve(key)
    bench.settle(reservation, "a", marks=(Mark("g:p/a", "throttled", 9000, "429"),))
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == START + 9000
    assert bench.use("a")[0].reason == "429"


def test_a_clock_that_goes_backwards_stays_at_the_head(bench: Bench) -> None:
    key = bench.candidate("a", rpm=2)
    bench.reserve(key)
    bench.now -= 30_000
    bench.reserve(key)
    assert isinstance(bench.reserve(key)[1], NoRoom)
    bench.now = START + SPAN - 1
    assert isinstance(bench.reserve(key)[1], NoRoom)


def test_a_long_idle_time_empties_the_ring(bench: Bench) -> None:
    key = bench.candidate("a", rpm=5)
    for _ in range(5):
        bench.reserve(key)
        bench.now += 7000
    bench.now += 3_600_000
    for _ in range(5):
        assert isinstance(bench.reserve(key)[1], Reserved)
    assert isinstance(bench.reserve(key)[1], NoRoom)


def test_another_window_length_keeps_what_was_counted(bench: Bench) -> None:
    key = bench.candidate("a", rpm=5, tpm=1000)
    bench.reserve(key, tokens=700)
    bench.geometry = Geometry(window_ms=30_000)
    assert isinstance(bench.reserve(key, tokens=400)[1], NoRoom)
    assert isinstance(bench.reserve(key, tokens=300)[1], Reserved)
    assert bench.use("a")[0].tokens == 1000


def test_no_limit_at_all_admits_everything(bench: Bench) -> None:
    key = bench.candidate("a")
    for _ in range(50):
        assert isinstance(bench.reserve(key, tokens=10**9)[1], Reserved)


def test_counters_leave_redis_when_nothing_uses_them(bench: Bench, calls: object) -> None:
    bench.reserve(bench.candidate("a", rpm=5, max_parallel=2), lease_ms=1000)
    for name in (
        bench.group("a").ring,
        bench.group("a").leases,
        bench.places.reservation(bench.shard, "r1"),
    ):
        assert bench.calls.call("PTTL", name) > 0, name
