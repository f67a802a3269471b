"""The table of states, as Redis enforces it, and the log of what changed."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.redis_connection import RedisConnection
from lua.lifecycle_calls import Outcome, change_call, read_changed, read_logs
from lua.limiter_types import CLEAR, IS_DISABLED, Mark, NoRoom, Reserved
from lua.loader import load
from lua.states import ALLOWED, KeyState
from tests.lua.conftest import Bench

A, T, E = KeyState.AVAILABLE, KeyState.THROTTLED, KeyState.EXHAUSTED
R, D, INV = KeyState.RECOVERING, KeyState.DISABLED, KeyState.INVALID


def change(bench: Bench, act: str, name: str = "a", why: str = "") -> Outcome:
    call = change_call(
        bench.shard,
        bench.logs(name).key,
        act,  # type: ignore[arg-type]
        name,
        known=True,
        who="bo",
        why=why,
        now_ms=bench.now,
    )
    return read_changed(call.run(bench.calls)).outcome


def put(bench: Bench, state: KeyState) -> None:
    """Bring the key "a" into a state."""
    if state is D:
        assert change(bench, "disable") is Outcome.DONE
    elif state is R:
        bench.mark(Mark("k:a", T, 1000, "429"))
        bench.now += 1000
    elif state is not A:
        bench.mark(Mark("k:a", state, 60_000 if state in (T, E) else -1, "why"))
    assert bench.use("a")[0].state == state


def test_the_scripts_include_the_table_itself() -> None:
    source = load("settle").source
    assert all(f" {a}>{b} " in source for a, others in ALLOWED.items() for b in others)


def test_every_state_has_its_row() -> None:
    assert set(ALLOWED) == set(KeyState)
    assert all(state not in others for state, others in ALLOWED.items())


@pytest.mark.parametrize(
    ("before", "after"),
    list(itertools.product(KeyState, [T, E, INV])),
    ids=lambda state: str(state),
)
def test_a_request_changes_a_state_only_as_the_table_allows(
    bench: Bench, before: KeyState, after: KeyState
) -> None:
    put(bench, before)
    bench.mark(Mark("k:a", after, 120_000, "a request"))
    allowed = before == after or after in ALLOWED[before]
    assert bench.use("a")[0].state == (after if allowed else before)
    logged = ("k:a", before, after) in bench.history("a")
    assert logged == (allowed and before != after)


@pytest.mark.parametrize("before", KeyState)
def test_no_mark_is_ended_that_somebody_set_on_purpose(bench: Bench, before: KeyState) -> None:
    put(bench, before)
    (until,) = bench.mark(Mark("k:a", "", CLEAR, "mended"))
    assert until == (IS_DISABLED if before is D else 0)
    assert bench.use("a")[0].state == (D if before is D else A)


@pytest.mark.parametrize("before", KeyState)
def test_any_key_can_be_disabled_and_enabled(bench: Bench, before: KeyState) -> None:
    put(bench, before)
    assert change(bench, "disable") is (Outcome.WAS_SO if before is D else Outcome.DONE)
    assert isinstance(bench.reserve(bench.candidate("a"))[1], NoRoom)
    assert change(bench, "enable") is Outcome.DONE
    assert change(bench, "enable") is Outcome.WAS_SO
    assert isinstance(bench.reserve(bench.candidate("a"))[1], Reserved)


def test_a_late_401_cannot_take_a_disabled_key_out_of_its_hands(bench: Bench) -> None:
    reservation, _ = bench.reserve(bench.candidate("a"))
    change(bench, "disable")
    bench.settle(reservation, "a", answered=False, marks=(Mark("k:a", INV, -1, "401"),))
    assert bench.use("a")[0].state == D
    change(bench, "enable")
    assert bench.use("a")[0].state == A


def test_each_change_is_logged_once_with_who_and_why_and_its_request(bench: Bench) -> None:
    candidate = bench.candidate("a")
    late = [bench.reserve(candidate, id=f"req-{n}.1")[0] for n in range(8)]
    for reservation in late:
        mark = Mark("g:p/a", T, 20_000, "rate_limited: 429")
        bench.settle(reservation, "a", answered=False, marks=(mark,))
    bench.now += 20_000
    probe, _ = bench.reserve(candidate, id="req-9.2")
    bench.settle(probe, "a")
    bench.now += 1
    change(bench, "disable", why="leaked")
    entries = read_logs(bench.calls, bench.logs("a"), 100)
    told = [(e.subject, e.before, e.after, e.who, e.why, e.request_id) for e in entries]
    assert told == [
        ("g:p/a", A, T, "request", "rate_limited: 429", "req-0"),
        ("g:p/a", T, R, "request", "its probe was answered", "req-9"),
        ("k:a", A, D, "bo", "disable: leaked", ""),
    ], "eight refusals at once are one change"
    assert [e.until_ms for e in entries] == [
        entries[0].at_ms + 20_000,
        entries[1].at_ms + 30_000,
        -1,
    ]


def test_a_log_is_bounded(bench: Bench) -> None:
    for _ in range(500):
        change(bench, "disable")
        change(bench, "enable")
    assert bench.calls.call("XLEN", bench.logs("a").key) <= 700
    assert len(read_logs(bench.calls, bench.logs("a"), 20)) == 20


def test_a_log_outlives_its_key_by_some_months(bench: Bench) -> None:
    change(bench, "revoke")
    days = bench.calls.call("PTTL", bench.logs("a").key) / 86_400_000
    assert 89 < days <= 90


# -- a 429 without a time ----------------------------------------------------------------------


def throttle(bench: Bench, longest: int = 900_000) -> int:
    """Settle a 429 without a time, and return for how long the group is passed over (ms)."""
    reservation, answer = bench.reserve(bench.candidate("a"))
    assert isinstance(answer, Reserved)
    mark = Mark("g:p/a", T, 60_000, "429", longest)
    bench.settle(reservation, "a", answered=False, marks=(mark,))
    return bench.use("a")[0].blocked_until_ms - bench.now


def test_cooldowns_that_follow_each_other_grow(bench: Bench) -> None:
    seconds = []
    for _ in range(6):
        waited = throttle(bench)
        seconds.append(waited // 1000)
        bench.now += waited
    assert seconds == [60, 120, 240, 480, 900, 900]


def test_refusals_at_once_grow_no_cooldown(bench: Bench) -> None:
    late = [bench.reserve(bench.candidate("a"))[0] for _ in range(8)]
    for reservation in late:
        mark = Mark("g:p/a", T, 60_000, "429", 900_000)
        bench.settle(reservation, "a", answered=False, marks=(mark,))
    assert bench.use("a")[0].blocked_until_ms == bench.now + 60_000


def test_an_answer_and_its_ramp_end_the_growth(bench: Bench) -> None:
    for _ in range(3):
        bench.now += throttle(bench)
    probe, _ = bench.reserve(bench.candidate("a"))
    bench.settle(probe, "a")
    bench.now += 30_000
    assert throttle(bench) == 60_000


def test_a_refusal_while_it_ramps_goes_on_growing(bench: Bench) -> None:
    bench.now += throttle(bench)
    probe, _ = bench.reserve(bench.candidate("a"))
    bench.settle(probe, "a")
    bench.now += 10_000
    assert throttle(bench) == 120_000


def test_a_time_that_the_provider_names_is_kept_to(bench: Bench) -> None:
    bench.now += throttle(bench)
    bench.now += throttle(bench)
    assert throttle(bench, longest=0) == 60_000


def test_what_is_spent_comes_back_with_one_probe(bench: Bench) -> None:
    bench.mark(Mark("g:p/a", E, 5000, "spent"))
    bench.now += 5000
    assert bench.use("a")[0].state == R
    assert isinstance(bench.reserve(bench.candidate("a"))[1], Reserved)
    assert isinstance(bench.reserve(bench.candidate("a"))[1], NoRoom)


def test_the_docs_have_the_same_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "failures.md").read_text(encoding="utf-8")
    rows = text.partition("## States")[2].partition("The table is")[0].splitlines()
    told = {}
    for row in rows:
        cells = [cell.strip().lower() for cell in row.strip("|").split("|")]
        if len(cells) == 3 and cells[0] in set(KeyState):
            others = cells[2].replace(" by `enable` alone", "").strip(" ,").split(",")
            told[KeyState(cells[0])] = {KeyState(other.strip()) for other in others}
    assert told == {state: set(others) for state, others in ALLOWED.items()}


ACTS = ["throttle", "spend", "refuse", "clear", "disable", "enable", "rotate", "wait", "serve",
        "fail"]  # fmt: skip


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=st.lists(st.sampled_from(ACTS), min_size=5, max_size=40))
def test_whatever_happens_only_allowed_changes_are_made(
    redis_server: RedisConnection, redis: object, acts: list[str]
) -> None:
    redis_server.client.flushall()
    bench = Bench(redis_server)
    marks = {"throttle": (T, 3000), "spend": (E, 5000), "refuse": (INV, -1)}
    for act in acts:
        if act in marks:
            state, milliseconds = marks[act]
            bench.mark(Mark("k:a", state, milliseconds, act))
        elif act == "clear":
            bench.mark(Mark("k:a", "", CLEAR, act))
        elif act == "wait":
            bench.now += 4000
        elif act in ("serve", "fail"):
            reservation, answer = bench.reserve(bench.candidate("a"))
            assert isinstance(answer, Reserved) or bench.use("a")[0].state != A
            if isinstance(answer, Reserved):
                bench.settle(reservation, "a", answered=act == "serve")
        else:
            change(bench, act)
    entries = [e for e in bench.history("a") if e[0] == "k:a"]
    for _, before, after in entries:
        assert before == after or KeyState(after) in ALLOWED[KeyState(before)]
    disabled = [1 for _, before, after in entries if before != D and after == D]
    came_back = [1 for _, before, after in entries if before == D and after == A]
    assert len(disabled) - len(came_back) == (1 if bench.use("a")[0].state == D else 0)
