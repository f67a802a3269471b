"""The users' limits of one process while Redis is away."""

from __future__ import annotations

from collections import Counter

from core.redis_connection import RedisConnection
from keys.local_buckets import MOST_USERS, LocalBuckets
from lua import user_limit_calls
from lua.names import Names
from lua.user_limit_calls import Allowance, Empty, Whose

MINUTE = 60_000
NAMES = Names("buckets")


def test_a_user_has_one_request_and_then_a_share_of_the_rate() -> None:
    buckets = LocalBuckets(Allowance(rpm=60, burst=8), None, MINUTE)
    assert buckets.take("bo", routers=4, now_ms=0) is None
    assert buckets.take("bo", routers=4, now_ms=0) == Empty(Whose.USERS_OWN, 4_000)
    assert buckets.take("bo", routers=4, now_ms=3_999) is not None
    assert buckets.take("bo", routers=4, now_ms=4_000) is None
    assert buckets.take("al", routers=4, now_ms=4_000) is None
    taken = [buckets.take("bo", routers=4, now_ms=1_000_000) for _ in range(3)]
    assert [one is None for one in taken] == [True, True, False], "a share of the burst"


def test_all_users_together_have_a_bucket_and_both_or_none_is_taken() -> None:
    buckets = LocalBuckets(Allowance(60, 5), Allowance(6, 1), MINUTE)
    assert buckets.take("bo", 1, 0) is None
    assert buckets.take("al", 1, 0) == Empty(Whose.ALL_USERS, 10_000)
    assert buckets.taken() == Counter({"bo": 1, None: 1})
    assert not buckets.anything_taken


def test_only_so_many_users_are_remembered() -> None:
    buckets = LocalBuckets(Allowance(1, 1), None, MINUTE)
    for n in range(MOST_USERS + 5):
        assert buckets.take(f"u{n}", 1, 0) is None
    assert buckets.take(f"u{MOST_USERS}", 1, 0) is not None
    assert buckets.take("u0", 1, 0) is None, "forgotten"


def test_what_was_taken_is_charged_to_the_buckets_in_redis(
    redis_server: RedisConnection, redis: object
) -> None:
    each, everybody = Allowance(rpm=60, burst=3), Allowance(rpm=600, burst=100)
    limits = {"each_user": each, "all_users": everybody}
    user_limit_calls.charge(redis_server, NAMES, {"bo": 2, None: 2}, now_ms=1_000, **limits)
    take = user_limit_calls.take_call(NAMES, "bo", now_ms=1_000, **limits)
    answers = [user_limit_calls.taken(take.run(redis_server)) for _ in range(2)]
    assert answers == [None, Empty(Whose.USERS_OWN, 1_000)]
    user_limit_calls.charge(redis_server, NAMES, {"bo": 4}, now_ms=1_000, **limits)
    answer = user_limit_calls.taken(take.run(redis_server))
    assert answer is not None, "the burst is overdrawn"
