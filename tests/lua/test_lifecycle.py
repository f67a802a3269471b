"""Keys registered, rotated and revoked in Redis, and how all processes learn of it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from lua.lifecycle_calls import (
    Changed,
    Known,
    Outcome,
    change_call,
    known_commands,
    read_changed,
    read_known,
    touch_call,
)
from lua.limiter_types import Mark, NoRoom, Reserved, Waits
from tests.lua.conftest import Bench


def change(bench: Bench, act: Any, name: str = "a", *, known: bool = True, **more: Any) -> Changed:
    call = change_call(
        bench.shard,
        bench.logs(name).key,
        act,
        name,
        known=known,
        who="bo",
        why="",
        now_ms=bench.now,
        **more,
    )
    return read_changed(call.run(bench.calls))


def known(bench: Bench) -> Known:
    return read_known(*bench.calls.call_many(known_commands(bench.shard)))


def test_a_registered_key_is_known_without_any_secret(bench: Bench) -> None:
    assert known(bench) == Known(0, {}, {}, {})
    assert change(bench, "register", known=False, spec='{"x": 1}').outcome is Outcome.DONE
    found = known(bench)
    assert (found.specs, found.changes) == ({"a": '{"x": 1}'}, bench.now)


def test_what_is_known_already_is_not_registered_again(bench: Bench) -> None:
    assert change(bench, "register", known=True).outcome is Outcome.KNOWN_ALREADY
    change(bench, "register", known=False, spec="{}")
    assert change(bench, "register", known=False, spec="{2}").outcome is Outcome.KNOWN_ALREADY
    assert known(bench).specs == {"a": "{}"}


@pytest.mark.parametrize("act", ["rotate", "revoke", "disable", "enable"])
def test_a_key_that_nobody_knows_is_not_changed(bench: Bench, act: str) -> None:
    assert change(bench, act, known=False).outcome is Outcome.UNKNOWN
    assert known(bench) == Known(0, {}, {}, {})


@pytest.mark.parametrize("act", ["register", "rotate", "disable", "enable"])
def test_a_revoked_key_never_comes_back(bench: Bench, act: str) -> None:
    change(bench, "register", known=False, spec="{}")
    assert change(bench, "revoke").outcome is Outcome.DONE
    assert change(bench, "revoke").outcome is Outcome.WAS_SO
    assert change(bench, act, known=False, spec="{}").outcome is Outcome.REVOKED
    found = known(bench)
    assert (found.specs, list(found.revoked)) == ({}, ["a"])
    assert isinstance(bench.reserve(bench.candidate("a"))[1], NoRoom)


def test_a_rotation_makes_an_invalid_key_available_and_keeps_its_counters(bench: Bench) -> None:
    for _ in range(3):
        reservation, _ = bench.reserve(bench.candidate("a", rpm=10))
        bench.settle(reservation, "a")
    bench.mark(Mark("k:a", "invalid", -1, "401"))
    changed = change(bench, "rotate")
    assert (changed.before, changed.after, changed.version) == ("invalid", "available", 1)
    assert change(bench, "rotate").version == 2
    assert bench.use("a")[0].requests == 3
    assert known(bench).versions == {"a": 2}


def test_a_disabled_key_is_rotated_and_stays_disabled(bench: Bench) -> None:
    change(bench, "disable")
    reason = bench.use("a")[0].reason
    assert change(bench, "rotate").after == "disabled"
    assert bench.use("a")[0].reason == reason
    assert isinstance(bench.reserve(bench.candidate("a"))[1], NoRoom)


def test_a_401_of_the_old_secret_says_nothing_of_the_new_one(bench: Bench) -> None:
    old, _ = bench.reserve(bench.candidate("a"))
    change(bench, "rotate")
    new, _ = bench.reserve(bench.candidate("a"))
    mark = Mark("k:a", "invalid", -1, "401")
    bench.settle(old, "a", answered=False, marks=(mark,), secret_version=0)
    assert bench.use("a")[0].state == "available"
    bench.settle(new, "a", answered=False, marks=(mark,), secret_version=1)
    assert bench.use("a")[0].state == "invalid"


def test_every_answer_of_a_reservation_tells_of_changes(bench: Bench) -> None:
    candidate = bench.candidate("a", rpm=1)

    def told(**more: Any) -> int:
        answer = bench.reserve(candidate, **more)[1]
        assert isinstance(answer, expected)
        return answer.changes

    expected: Any = Reserved
    assert told() == 0
    change(bench, "disable", "z")
    change(bench, "enable", "z")
    number = known(bench).changes
    assert number > bench.now, "two changes within a millisecond are two"
    expected = NoRoom
    assert told() == number
    expected = Waits
    assert told(wait_ms=70_000) == number


def test_a_change_of_another_shard_can_be_told_here(bench: Bench) -> None:
    before = known(bench).changes
    touch_call(bench.shard).run(bench.calls)
    assert known(bench).changes > before


def test_of_two_who_register_the_same_key_one_does(bench: Bench) -> None:
    outcomes: list[Outcome] = []
    ready = threading.Barrier(8)

    def register(n: int) -> None:
        ready.wait()
        outcomes.append(change(bench, "register", known=False, spec=str(n)).outcome)

    threads = [threading.Thread(target=register, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [Outcome.KNOWN_ALREADY] * 7 + [Outcome.DONE]
