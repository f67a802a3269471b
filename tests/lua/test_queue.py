"""The queue of those who wait: reserve.lua, wake.lua, settle.lua and leave.lua, time injected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lua.limiter_types import Mark, NoRoom, Reserved, Waits
from tests.lua.conftest import START, Bench

SPAN = 61_000
HOUR = 3_600_000


class Ear:
    """Hears what is told on the channel "here"."""

    def __init__(self, pubsub: Any, channels: tuple[str, ...] = ("here",)) -> None:
        self._pubsub = pubsub
        for channel in channels:
            pubsub.subscribe(channel)
            assert pubsub.get_message(timeout=2.0)["type"] == "subscribe"

    def messages(self) -> list[list[str]]:
        found = []
        while message := self._pubsub.get_message(timeout=0.05):
            found.append(message["data"].split("#"))
        return found

    def turns(self) -> list[tuple[str, int]]:
        """Who is served, and when (ms)."""
        return [(m[1], int(m[3])) for m in self.messages() if m[0] == "G"]


@pytest.fixture
def ear(bench: Bench) -> Iterator[Ear]:
    pubsub = bench.calls.pubsub()
    yield Ear(pubsub)
    pubsub.close()


def fill(bench: Bench, key: Any, times: int, **more: Any) -> list[str]:
    names = []
    for _ in range(times):
        name, answer = bench.reserve(key, **more)
        assert isinstance(answer, Reserved)
        names.append(name)
    return names


def queue(bench: Bench, key: Any, *names: str, **more: Any) -> None:
    for name in names:
        assert isinstance(bench.reserve(key, id=name, wait_ms=HOUR, **more)[1], Waits)


def test_the_first_to_wait_is_told_when_to_look(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=1)
    fill(bench, key, 1)
    first = bench.reserve(key, id="w1", wait_ms=HOUR)[1]
    second = bench.reserve(key, id="w2", wait_ms=HOUR)[1]
    assert isinstance(first, Waits)
    assert first.looks == ((0, START + SPAN),)
    assert isinstance(second, Waits)
    assert second.looks == (), "somebody looks already"


def test_those_who_wait_are_served_in_their_order(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=3)
    fill(bench, key, 3)
    queue(bench, key, "w1", "w2", "w3")
    bench.now = START + SPAN
    bench.wake("a")
    assert ear.turns() == [(name, START + SPAN) for name in ("w1", "w2", "w3")]


def test_higher_priority_goes_first(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=3)
    fill(bench, key, 3)
    queue(bench, key, "w1", "w2")
    queue(bench, key, "urgent", priority=5)
    queue(bench, key, "later", priority=-1)
    bench.now = START + SPAN
    bench.wake("a")
    assert [name for name, _ in ear.turns()][:3] == ["urgent", "w1", "w2"]


def test_a_settlement_serves_the_next_with_what_it_gives_back(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", tpm=1000)
    (busy,) = fill(bench, key, 1, tokens=900)
    queue(bench, key, "w1", tokens=400)
    bench.now += 2000
    bench.settle(busy, "a", tokens=500)
    assert ear.turns() == [("w1", START + 2000)]
    assert bench.use("a")[0].tokens == 900


def test_a_parallel_slot_goes_to_the_first_who_waits(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", max_parallel=1)
    (busy,) = fill(bench, key, 1)
    queue(bench, key, "w1", "w2")
    bench.settle(busy, "a")
    assert [name for name, _ in ear.turns()] == ["w1"]
    bench.settle("w1", "a")
    assert [name for name, _ in ear.turns()] == ["w2"]


def test_the_next_are_promised_their_exact_time_ahead(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=6)
    for _ in range(6):
        fill(bench, key, 1)
        bench.now += 2000
    queue(bench, key, *(f"w{n}" for n in range(1, 7)))
    bench.now = START + SPAN
    bench.wake("a")
    assert ear.turns() == [(f"w{n}", START + SPAN + 2000 * (n - 1)) for n in range(1, 5)]
    bench.now += 6000
    bench.wake("a")
    assert ear.turns() == [(f"w{n}", START + SPAN + 2000 * (n - 1)) for n in range(5, 7)]


def test_nobody_passes_those_who_were_promised(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=2)
    fill(bench, key, 1)
    bench.now += 2000
    fill(bench, key, 1)
    queue(bench, key, "w1", "w2")
    bench.now = START + SPAN
    bench.wake("a")
    promised = dict(ear.turns())
    assert promised["w2"] == START + SPAN + 2000
    refused = bench.reserve(key)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms >= promised["w2"]


def test_a_newcomer_does_not_pass_the_queue(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=2)
    fill(bench, key, 2)
    queue(bench, key, "w1")
    bench.now = START + SPAN
    newcomer = bench.reserve(key)[1]
    assert [name for name, _ in ear.turns()] == ["w1"], "the newcomer's call served it"
    assert isinstance(newcomer, Reserved), "and there was room for both"
    assert isinstance(bench.reserve(key)[1], NoRoom)


def test_a_large_request_is_not_starved_by_small_ones(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", tpm=1000)
    for _ in range(10):
        fill(bench, key, 1, tokens=100)
        bench.now += 3000
    queue(bench, key, "large", tokens=800)
    for n in range(30):
        bench.reserve(key, id=f"s{n}", wait_ms=HOUR, tokens=100)
    served: list[str] = []
    for _ in range(40):
        bench.now += 2000
        bench.wake("a")
        served += [name for name, _ in ear.turns()]
    assert served == ["large", "s0", "s1"], "only two small ones had room left after it"


def test_a_small_request_may_use_a_group_that_a_large_one_does_not_hold(
    bench: Bench, ear: Ear
) -> None:
    one, two = bench.candidate("a", tpm=1000), bench.candidate("b", tpm=1000)
    fill(bench, one, 1, tokens=900)
    bench.now += 10_000
    fill(bench, two, 1, tokens=900)
    assert isinstance(bench.reserve(one, two, id="large", wait_ms=HOUR, tokens=500)[1], Waits)
    assert isinstance(bench.reserve(one, two, id="small", wait_ms=HOUR, tokens=100)[1], Waits)
    assert ear.turns() == [("small", bench.now)]
    assert bench.use("a", "b")[1].requests == 2, "a opens first for the large one, so a is held"


def test_one_who_waits_for_several_groups_is_served_once(bench: Bench, ear: Ear) -> None:
    keys = [bench.candidate(name, rpm=1) for name in "ab"]
    for key in keys:
        fill(bench, key, 1)
    assert isinstance(bench.reserve(*keys, id="w1", wait_ms=HOUR)[1], Waits)
    bench.now = START + SPAN
    bench.wake("a")
    bench.wake("b")
    assert [name for name, _ in ear.turns()] == ["w1"]
    assert sum(use.requests for use in bench.use("a", "b")) == 1


def test_one_who_left_blocks_nobody(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=1)
    fill(bench, key, 1)
    queue(bench, key, "w1", "w2")
    assert bench.leave("w1") is None
    bench.now = START + SPAN
    bench.wake("a")
    assert [name for name, _ in ear.turns()] == ["w2"]


def test_leaving_after_the_turn_came_tells_it(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=1, tpm=100)
    fill(bench, key, 1)
    queue(bench, key, "w1", tokens=60)
    bench.now = START + SPAN
    bench.wake("a")
    turn = bench.leave("w1")
    assert turn is not None
    assert turn.key_field == "k:a"
    assert bench.settle("w1", "a", requests=0)
    assert not bench.settle("w1", "a", requests=0)
    assert bench.use("a")[0].requests == 0


def test_those_whose_time_is_over_are_forgotten(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", max_parallel=1)
    (busy,) = fill(bench, key, 1)
    assert isinstance(bench.reserve(key, id="w1", wait_ms=500)[1], Waits)
    bench.now += 600
    bench.settle(busy, "a")
    assert ear.turns() == []
    assert isinstance(bench.reserve(key)[1], Reserved)


def test_a_dead_process_is_passed_and_nothing_is_reserved_for_it(bench: Bench, ear: Ear) -> None:
    if bench.calls.clustered:
        pytest.skip("a cluster's node does not know who listens at the others")
    key = bench.candidate("a", rpm=1)
    fill(bench, key, 1)
    queue(bench, key, "dead1", "dead2", channel="nobody-listens")
    queue(bench, key, "w1")
    bench.now = START + SPAN
    bench.wake("a")
    assert [name for name, _ in ear.turns()] == ["w1"]
    assert bench.use("a")[0].requests == 1


def test_it_is_not_queued_where_no_opening_comes_in_time(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=1)
    fill(bench, key, 1)
    refused = bench.reserve(key, wait_ms=SPAN - 1)[1]
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == START + SPAN


def test_the_same_call_sent_twice_waits_once(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=1)
    fill(bench, key, 1)
    queue(bench, key, "w1", "w1", "w2")
    bench.now = START + SPAN
    bench.wake("a")
    bench.now += SPAN
    bench.wake("a")
    assert [name for name, _ in ear.turns()] == ["w1", "w2"]


def test_after_a_cooldown_those_who_wait_are_served(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", rpm=5)
    bench.mark(Mark("g:p/a", "throttled", 8000, "429"))
    waits = bench.reserve(key, id="w1", wait_ms=HOUR)[1]
    assert isinstance(waits, Waits)
    assert waits.looks == ((0, START + 8000),)
    bench.now += 8000
    bench.wake("a")
    assert [name for name, _ in ear.turns()] == ["w1"]


def test_whoever_cannot_be_served_yet_is_told_to_look_again(bench: Bench, ear: Ear) -> None:
    key = bench.candidate("a", max_parallel=1, rpm=10)
    fill(bench, key, 1, lease_ms=30_000)
    queue(bench, key, "w1", lease_ms=30_000)
    bench.wake("a")
    (told,) = ear.messages()
    assert told[:3] == ["T", "g:p/a", str(START + 30_000)]
