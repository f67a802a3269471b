"""The calls by which routers tell that they are there, and what a server does not know of."""

from __future__ import annotations

from typing import Any

import pytest

from core.redis_watch import StateLost
from lua import limiter_calls
from lua.limiter_types import Patience, Reserved, Weights
from lua.outage_calls import DayUse, Entry, Pulse, beat, restore
from tests.lua.conftest import Bench

SLOT = 500


def tell(bench: Bench, router: str = "one", presence: Any = "here", **more: Any) -> Pulse:
    groups = [bench.group(name) for name in more.pop("groups", ())]
    return beat(
        bench.calls,
        bench.geometry,
        bench.shard,
        router_id=router,
        silence_ms=10_000,
        new_epoch=more.pop("new_epoch", "e1"),
        presence=presence,
        groups=groups,
        now_ms=bench.now,
        **more,
    )


def entry(bench: Bench, name: str = "x", **fields: Any) -> Entry:
    defaults = {"group": 0, "age_ms": 0, "tokens": 0, "input": 0, "held": 0}
    given = {"lease_ms": 0, "life_ms": 200_000, **defaults, **fields}
    return Entry(id=name, key=bench.places.reservation(bench.shard, name), **given)


def charge(bench: Bench, *entries: Entry, epoch: str = "e1", days: Any = None, **more: Any) -> int:
    return restore(
        bench.calls,
        bench.geometry,
        bench.shard,
        epoch=epoch,
        groups=[bench.group("g")],
        days=[days or DayUse()],
        entries=entries,
        now_ms=bench.now,
        **more,
    )


# -- beats -------------------------------------------------------------------------------------


def test_routers_are_counted_and_ranked_until_they_are_silent_or_leave(bench: Bench) -> None:
    assert tell(bench, "b").routers == 1
    first = tell(bench, "a")
    assert (first.routers, first.rank) == (2, 0)
    assert tell(bench, "b").rank == 1
    assert tell(bench, "c", "asking").routers == 2
    bench.now += 9_000
    assert tell(bench, "b").routers == 2
    bench.now += 2_000
    assert tell(bench, "b").routers == 1, "a was silent for too long"
    assert tell(bench, "b", "leaving").routers == 0


def test_those_heard_since_are_counted(bench: Bench) -> None:
    tell(bench, "a")
    bench.now += 100
    assert tell(bench, "b", since_ms=bench.now).heard == 1
    assert tell(bench, "a", since_ms=bench.now).heard == 2


def test_an_epoch_lasts_until_the_server_forgets(bench: Bench, flush: Any) -> None:
    first = tell(bench)
    assert (first.epoch, first.empty) == ("e1", True)
    assert tell(bench, new_epoch="e2").epoch == "e1"
    flush()
    again = tell(bench, new_epoch="e3", epoch="e1")
    assert (again.epoch, again.empty) == ("e3", True)
    assert again.routers == 0, "who believes to be in another epoch is not counted"


def test_another_server_with_the_data_begins_an_epoch_and_forgets_who_waits(bench: Bench) -> None:
    tell(bench)
    one = bench.candidate("g", rpm=1)
    bench.reserve(one)
    bench.reserve(one, id="waits", wait_ms=90_000)
    assert bench.calls.call("HEXISTS", bench.shard.waiters, "waits")
    bench.calls.call("HSET", bench.shard.waiters, "#run", "another")
    if not _tells_run_id(bench):
        pytest.skip("this server tells no run id to a script")
    pulse = tell(bench, new_epoch="e2", groups=["g"])
    assert (pulse.epoch, pulse.empty) == ("e2", False)
    assert not bench.calls.call("HEXISTS", bench.shard.waiters, "waits")
    assert pulse.uses[0].requests == 1


def test_a_beat_tells_use_and_marks(bench: Bench) -> None:
    bench.reserve(bench.candidate("g", rpm=9, rpd=9, max_parallel=3), tokens=7, given=5)
    bench.mark(*[limiter_calls.Mark("k:a", "throttled", 4_000, "429")])
    pulse = tell(bench, groups=["g", "unused"])
    assert pulse.marks == (("k:a", 4_000),)
    use, unused = pulse.uses
    assert (use.requests, use.tokens, use.input, use.in_flight) == (1, 7, 5, 1)
    assert (use.day_end_ms, use.requests_today, use.tokens_today) == (bench.day_end, 1, 7)
    assert unused.requests == unused.day_end_ms == 0


def _tells_run_id(bench: Bench) -> bool:
    """fakeredis does not."""
    return bool(getattr(bench.calls, "kind", "") != "in-process")


# -- the epoch of a reservation ----------------------------------------------------------------


def reserve_in(bench: Bench, epoch: str) -> Any:
    one = bench.candidate("g", rpm=9)
    return limiter_calls.reserve(
        bench.calls,
        bench.geometry,
        bench.shard,
        reservation_key=bench.places.reservation(bench.shard, f"in-{epoch}"),
        reservation_id=f"in-{epoch}",
        group_keys=bench.group("g"),
        weights=[Weights(0, 0, 0, bench.day_end)],
        candidates=[one[2]],
        tiers="1",
        lease_ms=1_000,
        rotation=0,
        patience=Patience(0, 0, ""),
        epoch=epoch,
        now_ms=bench.now,
    )


def test_nothing_is_reserved_in_another_epoch(bench: Bench) -> None:
    tell(bench)
    assert isinstance(reserve_in(bench, "e1"), Reserved)
    with pytest.raises(StateLost):
        reserve_in(bench, "e0")
    assert isinstance(reserve_in(bench, ""), Reserved), "who knows of none is not asked"
    assert bench.use("g")[0].requests == 2


# -- restoring ---------------------------------------------------------------------------------


def test_what_is_unknown_is_charged_at_its_time_and_once(bench: Bench) -> None:
    tell(bench)
    told = (entry(bench, "x", age_ms=30_000, tokens=9, input=4), entry(bench, "y", age_ms=100))
    assert charge(bench, *told) == 2
    assert charge(bench, *told) == 0
    (use,) = bench.use("g")
    assert (use.requests, use.tokens, use.input) == (2, 9, 4)
    bench.now += 30_000 + 3 * SLOT
    assert bench.use("g")[0].requests == 1, "the older one has aged"


def test_what_the_server_knows_is_not_charged_again(bench: Bench) -> None:
    tell(bench)
    reservation, _ = bench.reserve(bench.candidate("g", rpm=9), tokens=5)
    assert charge(bench, entry(bench, reservation, tokens=5)) == 0
    bench.settle(reservation, "g", tokens=3)
    assert charge(bench, entry(bench, reservation, tokens=5)) == 0
    assert bench.use("g")[0].tokens == 3


def test_what_is_under_way_is_settled_as_ever(bench: Bench) -> None:
    tell(bench)
    charge(bench, entry(bench, "x", tokens=50, held=20, lease_ms=5_000))
    (use,) = bench.use("g")
    assert (use.tokens, use.held_output, use.in_flight) == (50, 20, 1)
    assert bench.settle("x", "g", tokens=30, output=8)
    (use,) = bench.use("g")
    assert (use.requests, use.tokens, use.output) == (1, 30, 8)
    assert (use.held_output, use.in_flight) == (0, 0)
    assert not bench.settle("x", "g", tokens=30)


def test_what_was_settled_is_charged_as_it_was(bench: Bench) -> None:
    tell(bench)
    less = {"more_tokens": -20, "more_age_ms": 1_000, "lease_ms": -1}
    more = {"more_tokens": 20, "more_age_ms": 1_000, "lease_ms": -1, "output": 7}
    unsent = {"more_requests": -1, "more_tokens": -50, "lease_ms": -1}
    charge(
        bench,
        entry(bench, "less", age_ms=30_000, tokens=50, **less),
        entry(bench, "more", age_ms=30_000, tokens=50, **more),
        entry(bench, "unsent", age_ms=30_000, tokens=50, **unsent),
    )
    (use,) = bench.use("g")
    assert (use.requests, use.tokens, use.output) == (2, 100, 7)
    bench.now += 32_000
    (use,) = bench.use("g")
    assert (use.requests, use.tokens, use.output) == (0, 20, 7), "more was charged later"
    assert not bench.settle("more", "g", tokens=1)


def test_what_is_too_old_is_remembered_and_charges_nothing(bench: Bench) -> None:
    tell(bench)
    assert charge(bench, entry(bench, "x", age_ms=62_000, tokens=9)) == 1
    assert bench.use("g")[0].requests == 0


def test_what_was_promised_ahead_of_time_ages_from_then_on(bench: Bench) -> None:
    tell(bench)
    charge(bench, entry(bench, "x", age_ms=-4_000), ahead_ms=4_000)
    bench.now += 62_000
    assert bench.use("g")[0].requests == 1
    bench.now += 4_000
    assert bench.use("g")[0].requests == 0


def test_days_are_given_what_they_lost(bench: Bench) -> None:
    tell(bench)
    charge(bench, entry(bench, "x", tokens=5), days=DayUse(bench.day_end, 10, 100))
    (use,) = bench.use("g")
    assert (use.requests_today, use.tokens_today) == (11, 105)
    assert use.requests == 1


def test_nothing_is_restored_in_another_epoch(bench: Bench) -> None:
    tell(bench)
    with pytest.raises(StateLost):
        charge(bench, entry(bench, "x"), epoch="e0")
    assert bench.use("g")[0].requests == 0
