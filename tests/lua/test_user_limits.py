"""user_limits.lua, case by case, with the time injected: exact token buckets, both or none."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from core.redis_connection import open_redis
from core.settings import LARGEST_RATE, Settings
from lua import user_limit_calls
from lua.names import Names
from lua.user_limit_calls import Allowance, Empty, Whose
from tests.lua.conftest import START

MINUTE = 60_000
NAMES = Names("test")


class Gate:
    """Takes requests by hand: `now` is the server's time in ms."""

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        self.now = START
        self.each_user: Allowance | None = None
        self.all_users: Allowance | None = None
        self.minute = MINUTE

    def take(self, user: str | None = "bo") -> Empty | None:
        call = user_limit_calls.take_call(
            NAMES,
            user,
            each_user=self.each_user,
            all_users=self.all_users,
            minute_ms=self.minute,
            now_ms=self.now,
        )
        return user_limit_calls.taken(call.run(self.calls))

    def admitted(self, user: str | None = "bo") -> int:
        """How many requests it takes at this moment."""
        count = 0
        while self.take(user) is None:
            count += 1
        return count

    def own(self, user: str, rpm: int, burst: int) -> None:
        user_limit_calls.set_limit(self.calls, NAMES, user, Allowance(rpm, burst))


@pytest.fixture
def gate(calls: Any) -> Gate:
    return Gate(calls)


def test_a_burst_at_once_then_one_for_each_part_of_the_minute(gate: Gate) -> None:
    gate.each_user = Allowance(rpm=30, burst=5)
    assert gate.admitted() == 5
    assert gate.take() == Empty(Whose.USERS_OWN, 2_000)
    gate.now += 1_999
    assert gate.take() == Empty(Whose.USERS_OWN, 1)
    gate.now += 1
    assert gate.admitted() == 1
    gate.now += MINUTE
    assert gate.admitted() == 5, "it never holds more than its burst"


def test_a_minute_that_no_rate_divides_loses_nothing(gate: Gate) -> None:
    gate.each_user = Allowance(rpm=7, burst=2)
    for number in range(1, 300):
        empty = gate.take()
        if empty is not None:
            gate.now += empty.wait_ms
            assert gate.take() is None
        assert gate.now - START == max(0, -(-MINUTE * (number - 2) // 7))


def test_users_do_not_share_a_bucket(gate: Gate) -> None:
    gate.each_user = Allowance(rpm=10, burst=2)
    assert gate.admitted("bo") == 2
    assert gate.admitted("{eve}") == 2
    assert gate.admitted("all") == 2


def test_all_users_share_the_bucket_of_all(gate: Gate) -> None:
    gate.all_users = Allowance(rpm=60, burst=4)
    assert [gate.admitted("bo"), gate.take("eve"), gate.take(None)] == [
        4,
        Empty(Whose.ALL_USERS, 1_000),
        Empty(Whose.ALL_USERS, 1_000),
    ]


def test_who_names_no_user_is_limited_with_all_users_alone(gate: Gate) -> None:
    gate.each_user, gate.all_users = Allowance(60, 1), Allowance(60, 3)
    assert gate.admitted(None) == 3


@pytest.mark.parametrize(("user", "everybody"), [(2, 9), (9, 2)])
def test_a_refusal_takes_from_neither_bucket(gate: Gate, user: int, everybody: int) -> None:
    gate.each_user, gate.all_users = Allowance(60, user), Allowance(60, everybody)
    assert gate.admitted("bo") == 2
    before = gate.calls.call("GET", NAMES.user_bucket()), _bucket(gate, "bo")
    for _ in range(50):
        assert gate.take("bo")
    assert (gate.calls.call("GET", NAMES.user_bucket()), _bucket(gate, "bo")) == before
    gate.all_users = None
    assert gate.admitted("bo") == user - 2
    gate.each_user, gate.all_users = None, Allowance(60, everybody)
    assert gate.admitted("bo") == everybody - 2


def test_the_longer_wait_of_the_two_is_told(gate: Gate) -> None:
    gate.each_user, gate.all_users = Allowance(60, 1), Allowance(6, 1)
    gate.take()
    assert gate.take() == Empty(Whose.ALL_USERS, 10_000)
    gate.each_user = Allowance(1, 1)
    assert gate.take() == Empty(Whose.USERS_OWN, 60_000)


def test_a_users_own_limit_wins_over_the_default_until_it_is_cleared(gate: Gate) -> None:
    gate.each_user = Allowance(60, 2)
    gate.own("vip", 600, 20)
    assert (gate.admitted("vip"), gate.admitted("bo")) == (20, 2)
    assert gate.take("vip") == Empty(Whose.USERS_OWN, 100)
    assert user_limit_calls.get_limit(gate.calls, NAMES, "vip") == Allowance(600, 20)
    assert user_limit_calls.clear_limit(gate.calls, NAMES, "vip")
    assert not user_limit_calls.clear_limit(gate.calls, NAMES, "vip")
    assert user_limit_calls.get_limit(gate.calls, NAMES, "vip") is None
    assert gate.take("vip") == Empty(Whose.USERS_OWN, 1_000)


def test_a_limit_of_ones_own_holds_where_there_is_no_default(gate: Gate) -> None:
    gate.all_users = Allowance(6_000, 100)
    gate.own("eve", 60, 1)
    assert (gate.admitted("eve"), gate.admitted("bo")) == (1, 99)


def test_a_raised_limit_counts_what_was_used_and_a_lowered_one_waits_for_one_at_most(
    gate: Gate,
) -> None:
    gate.each_user = Allowance(60, 10)
    assert gate.admitted() == 10
    gate.own("bo", 60, 15)
    assert gate.admitted() == 5
    gate.own("bo", 60, 1)
    assert gate.take() == Empty(Whose.USERS_OWN, 1_000)


def test_a_clock_that_goes_back_admits_nothing_twice(gate: Gate) -> None:
    gate.each_user = Allowance(60, 3)
    assert gate.admitted() == 3
    gate.now -= 5_000
    assert gate.take() == Empty(Whose.USERS_OWN, 6_000)
    gate.now += 6_000
    assert gate.admitted() == 1


def test_the_largest_numbers_stay_whole(gate: Gate) -> None:
    gate.each_user, gate.minute = Allowance(LARGEST_RATE, LARGEST_RATE), 3_600_000
    assert gate.take() is None
    assert _bucket(gate, "bo") == f"3600000:{START}"
    gate.each_user = Allowance(1, LARGEST_RATE)
    assert gate.take() is None
    assert _bucket(gate, "bo") == f"7200000:{START}"
    debt = LARGEST_RATE * gate.minute
    gate.calls.call("SET", NAMES.user_bucket("bo"), f"{debt - gate.minute}:{START}")
    assert gate.take() is None
    assert _bucket(gate, "bo") == f"{debt}:{START}"
    assert gate.take() == Empty(Whose.USERS_OWN, gate.minute)


def test_a_bucket_expires_by_itself_once_it_is_full(gate: Gate) -> None:
    gate.each_user, gate.all_users = Allowance(30, 5), Allowance(6, 5)
    gate.take()
    for name, full_after in ((NAMES.user_bucket("bo"), 2_000), (NAMES.user_bucket(), 10_000)):
        left = gate.calls.call("PTTL", name)
        assert full_after + MINUTE - 5_000 < left <= full_after + MINUTE
    gate.own("bo", 30, 5)
    assert gate.calls.call("PTTL", NAMES.user_limits()) == -1


def test_one_slot_holds_all_that_the_script_touches() -> None:
    call = user_limit_calls.take_call(NAMES, "a{b}c", each_user=None, all_users=None)
    assert {name[name.index("{") : name.index("}")] for name in call.keys} == {"{users"}
    assert len(set(call.keys)) == 3


class Bucket:
    """What a token bucket is by the book, in exact fractions."""

    def __init__(self, allowance: Allowance) -> None:
        self.rate = Fraction(allowance.rpm, MINUTE)
        self.burst = allowance.burst
        self.level = Fraction(allowance.burst)
        self.at = START
        self.log: list[int] = []

    def wait(self, now: int) -> int:
        self.level = min(Fraction(self.burst), self.level + (now - self.at) * self.rate)
        self.at = now
        missing = 1 - self.level
        return max(0, -int(-missing / self.rate // 1)) if missing > 0 else 0

    def take(self, now: int) -> None:
        self.level -= 1
        self.log.append(now)

    def held(self) -> bool:
        """Whether no interval has more than the burst and what flows in during it."""
        return all(
            last - first + 1 <= self.burst + self.rate * (self.log[last] - self.log[first])
            for last in range(len(self.log))
            for first in range(last + 1)
        )


allowances = st.builds(Allowance, st.integers(1, 7_000), st.integers(1, 12))
gaps = st.one_of(
    st.just(0), st.integers(0, 30), st.integers(0, 5_000), st.sampled_from([MINUTE, 10**9])
)
steps = st.lists(
    st.tuples(gaps, st.sampled_from([None, "bo", "eve"]), st.integers(1, 6)), max_size=40
)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(user=allowances, own=allowances, everybody=allowances, steps=steps)
def test_it_is_an_exact_token_bucket(
    calls: Any,
    flush: Callable[[], Any],
    user: Allowance,
    own: Allowance,
    everybody: Allowance,
    steps: Any,
) -> None:
    flush()
    gate = Gate(calls)
    gate.each_user, gate.all_users = user, everybody
    gate.own("eve", own.rpm, own.burst)
    buckets = {None: Bucket(everybody), "bo": Bucket(user), "eve": Bucket(own)}
    for gap, name, times in steps:
        gate.now += gap
        mine = [buckets[n] for n in {None, name}]
        for _ in range(times):
            wait = max(bucket.wait(gate.now) for bucket in mine)
            empty = gate.take(name)
            assert (empty.wait_ms if empty else 0) == wait
            if empty is not None:
                gate.now += wait - 1
                assert gate.take(name), "admitted before the time that was told"
                gate.now += 1
                for bucket in mine:
                    bucket.wait(gate.now)
                assert gate.take(name) is None, "refused at the time that was told"
            for bucket in mine:
                bucket.take(gate.now)
    assert all(bucket.held() for bucket in buckets.values())


def _bucket(gate: Gate, user: str) -> Any:
    return gate.calls.call("GET", NAMES.user_bucket(user))


def _hammer(folder: Path, process: int) -> Counter[str]:
    """Eight threads of a process ask 50 times each, for one of two users."""
    user = ("bo", "eve")[process % 2]
    quiet = Settings(_env_file=None, redis_url=None, llm_data_dir=folder)  # type: ignore[call-arg]
    call = user_limit_calls.take_call(
        NAMES, user, each_user=Allowance(1, 100), all_users=Allowance(1, 150)
    )
    with open_redis(quiet) as connection, ThreadPoolExecutor(8) as pool:
        ends = pool.map(
            lambda _: user_limit_calls.taken(call.run(connection)), range(400), chunksize=1
        )
        return Counter(user for end in ends if end is None)


def test_threads_of_several_processes_never_get_more_than_the_limits(
    redis: Any, redis_folder: Path
) -> None:
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(4, mp_context=forkserver) as pool:
        ends = sum(pool.map(_hammer, [redis_folder] * 4, range(4)), Counter())
    assert ends.total() == 150
    assert max(ends.values()) <= 100
    for user, admitted in ends.items():
        debt = int(redis.get(NAMES.user_bucket(user)).split(":")[0])
        assert admitted - 1 < debt / MINUTE <= admitted, "what was refused took nothing"
