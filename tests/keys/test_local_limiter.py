"""The local limiter against an exact log: no window ever holds more than the shares allow, and all
processes together never more than the limit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keys.local_limiter import LocalLimiter, Seen, Share, Wish
from keys.local_queue import LocalQueue, Waiter
from keys.local_ring import Amounts
from keys.places import Places
from keys.pool import Plan, Pool
from keys.selection import Candidate
from keys.spec import KeySpec
from lua.limiter_types import NEVER, Charge, Geometry, NoRoom, Refusal, Weights
from lua.names import Names
from lua.outage_calls import KnownUse
from tests.keys.fakes import spec

WINDOW = 60_000
SLOT = 500
START = 10_000_000
GEOMETRY = Geometry(window_ms=WINDOW)
PLACES = Places(Names("t"))
_ids = itertools.count()


def plan_of(*keys: KeySpec) -> Plan:
    return next(Pool([Candidate(key, key.priority) for key in keys], PLACES, GEOMETRY).plans())


def ring_of(key: KeySpec) -> str:
    return PLACES.group(key).ring


def nothing_used(at_ms: int = START, **use: int) -> Seen:
    fields = ("requests", "tokens", "input", "output", "in_flight", "day_end_ms")
    known = {name: use.get(name, 0) for name in fields}
    today = {f"{name}_today": use.get(f"{name}_today", 0) for name in ("requests", "tokens")}
    return Seen(at_ms, KnownUse(**known, **today))


def wish(*keys: KeySpec, tokens: int = 0, output: int = 0, day_end: int = 0) -> Wish:
    weights = [Weights(tokens, tokens, output, day_end)]
    return Wish(f"w{next(_ids)}", plan_of(*keys), weights, lease_ms=30_000)


def limiter(*keys: KeySpec, routers: int = 1, rank: int = 0, **use: int) -> LocalLimiter:
    seen = {ring_of(key): nothing_used(**use) for key in keys}
    return LocalLimiter(GEOMETRY, Share(routers, rank), START, seen)


# -- properties --------------------------------------------------------------------------------


@dataclass
class Process:
    """One router: its local limiter, and what it used exactly: [ms, requests, tokens]."""

    limiter: LocalLimiter
    log: list[list[int]] = field(default_factory=list)
    open: list[tuple[str, list[int]]] = field(default_factory=list)

    def within(self, now: int, span: int = WINDOW) -> tuple[int, int]:
        kept = [entry for entry in self.log if 0 <= now - entry[0] <= span]
        return sum(e[1] for e in kept), sum(e[2] for e in kept)


class Outages(RuleBasedStateMachine):
    """Some routers used a key through Redis, unevenly; then it is gone, and each goes on alone."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[Process] = []
        self.now = START

    @precondition(lambda self: not self.processes)
    @rule(
        rpm=st.one_of(st.integers(1, 4), st.integers(1, 12)),
        tpm=st.integers(60, 600),
        routers=st.integers(1, 4),
        history=st.lists(
            st.tuples(
                st.one_of(st.integers(0, 70_000), st.integers(50_000, 65_000)),
                st.integers(0, 3),
                st.integers(0, 100),
            ),
            max_size=16,
        ),
        seen_before=st.one_of(st.just(0), st.integers(0, 3_000)),
        old=st.lists(st.integers(0, 3), max_size=6),
        busy=st.one_of(st.none(), st.integers(0, 3)),
    )
    def lose_redis(
        self,
        rpm: int,
        tpm: int,
        routers: int,
        history: list[tuple[int, int, int]],
        seen_before: int,
        old: list[int],
        busy: int | None,
    ) -> None:
        self.rpm, self.tpm = rpm, tpm
        self.key = spec("k", rpm=rpm, tpm=tpm)
        logs: list[list[list[int]]] = [[] for _ in range(routers)]
        if busy is not None:  # one router has used all that there is, the others long ago
            history = [(62_500 + n, who, 1) for n, who in enumerate(old)][:rpm]
            history += [(600 + n, busy, 1) for n in range(rpm)]
            seen_before = min(seen_before, 600)
        for age, who, tokens in sorted(history, reverse=True):
            at = START - age
            every = [entry for log in logs for entry in log if at - entry[0] <= WINDOW + 2 * SLOT]
            fits = sum(e[2] for e in every) + tokens <= tpm and len(every) < rpm
            if fits and age >= seen_before:
                logs[who % routers].append([at, 1, tokens])
        for rank, log in enumerate(logs):
            at = START - seen_before
            all_of_them = [e for own in logs for e in own if at - e[0] <= WINDOW + 2 * SLOT]
            seen = nothing_used(
                at, requests=len(all_of_them), tokens=sum(e[2] for e in all_of_them)
            )
            local = LocalLimiter(GEOMETRY, Share(routers, rank), START, {ring_of(self.key): seen})
            for entry in log:
                amounts = Amounts(1, entry[2], entry[2])
                name = f"before{next(_ids)}"
                local.count_before(name, ring_of(self.key), self.key, entry[0], amounts)
            self.processes.append(Process(local, log))

    @precondition(lambda self: self.processes)
    @rule(ms=st.one_of(st.integers(0, 1_200), st.integers(0, 40_000), st.just(300_000)))
    def wait(self, ms: int) -> None:
        self.now += ms

    @precondition(lambda self: self.processes)
    @rule(who=st.integers(0, 3), tokens=st.integers(0, 120))
    def reserve(self, who: int, tokens: int) -> None:
        process = self.processes[who % len(self.processes)]
        asked = wish(self.key, tokens=tokens)
        outcome = process.limiter.reserve(asked, self.now)
        if isinstance(outcome, NoRoom):
            return
        entry = [self.now, 1, tokens]
        process.log.append(entry)
        process.open.append((asked.id, entry))

    @precondition(lambda self: any(process.open for process in self.processes))
    @rule(choice=st.randoms(use_true_random=False), less=st.integers(0, 120), sent=st.booleans())
    def settle(self, choice: Any, less: int, sent: bool) -> None:
        process = choice.choice([process for process in self.processes if process.open])
        name, entry = process.open.pop(choice.randrange(len(process.open)))
        used = max(0, entry[2] - less) if sent else 0
        process.limiter.settle(name, Charge(int(sent), used, used, 0), self.now)
        if self.now - entry[0] < WINDOW:
            entry[1], entry[2] = int(sent), used

    @precondition(lambda self: self.processes)
    @rule(who=st.integers(0, 3), tokens=st.integers(0, 120))
    def the_promised_opening_is_exact(self, who: int, tokens: int) -> None:
        process = self.processes[who % len(self.processes)]
        refused = process.limiter.reserve(asked := wish(self.key, tokens=tokens), self.now)
        if not isinstance(refused, NoRoom):
            process.limiter.withdraw(asked.id, self.now)
            return
        if refused.when_ms <= self.now:
            return
        before = wish(self.key, tokens=tokens)
        assert isinstance(process.limiter.reserve(before, refused.when_ms - 1), NoRoom)
        then = wish(self.key, tokens=tokens)
        self.now = refused.when_ms
        assert process.limiter.reserve(then, self.now) == 0
        process.limiter.withdraw(then.id, self.now)

    @invariant()
    def no_window_holds_more_than_the_limit(self) -> None:
        used = [process.within(self.now) for process in self.processes]
        if used:
            assert sum(requests for requests, _ in used) <= self.rpm
            assert sum(tokens for _, tokens in used) <= self.tpm


TestOutages = Outages.TestCase
TestOutages.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


# -- shares ------------------------------------------------------------------------------------


def test_shares_add_up_to_the_limit() -> None:
    for limit, routers in itertools.product((0, 1, 7, 100), (1, 2, 3, 8)):
        assert sum(Share(routers, rank).of(limit) for rank in range(routers)) == limit


def test_an_idle_key_serves_a_share_at_once() -> None:
    key = spec("a", rpm=12)
    local = limiter(key, routers=3)
    assert [local.reserve(wish(key), START) for _ in range(3)] == [0, 0, 0], "three quarters of it"
    refused = local.reserve(wish(key), START)
    assert isinstance(refused, NoRoom)
    assert refused.passed_over[0].why is Refusal.FULL
    assert refused.when_ms == local.early_until_ms


def test_what_is_older_than_a_window_gives_no_right_to_more() -> None:
    key = spec("a", rpm=4)
    local = limiter(key, routers=2, requests=4)
    local.count_before("old", ring_of(key), key, START - WINDOW - 3 * SLOT, Amounts(1))
    assert isinstance(local.reserve(wish(key), START), NoRoom)


def test_nothing_is_known_of_a_key_that_was_never_seen_until_a_window_is_over() -> None:
    key = spec("a", rpm=9)
    local = LocalLimiter(GEOMETRY, Share(1, 0), START, {})
    refused = local.reserve(wish(key), START)
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == local.early_until_ms
    assert local.reserve(wish(key), refused.when_ms) == 0


def test_a_request_larger_than_the_share_has_no_time_and_larger_than_the_limit_never_any() -> None:
    key = spec("a", tpm=100)
    local = limiter(key, routers=2)
    refused = local.reserve(wish(key, tokens=60), START)
    assert isinstance(refused, NoRoom)
    assert (refused.when_ms, refused.passed_over[0].why) == (-1, Refusal.FULL)
    refused = local.reserve(wish(key, tokens=101), START)
    assert isinstance(refused, NoRoom)
    assert (refused.when_ms, refused.passed_over[0].why) == (NEVER, Refusal.TOO_LARGE)


def test_parallel_slots_are_shared_and_come_back_when_settled_or_after_their_lease() -> None:
    key = spec("a", max_parallel=8)
    local = limiter(key, routers=2, rank=0)
    first = wish(key)
    assert [local.reserve(one, START) for one in (first, wish(key), wish(key))] == [0, 0, 0]
    refused = local.reserve(wish(key), START)
    assert isinstance(refused, NoRoom)
    assert refused.passed_over[0].why is Refusal.IN_FLIGHT
    local.settle(first.id, Charge(1, 0, 0, 0), START)
    assert local.reserve(wish(key), START) == 0
    assert local.reserve(wish(key), START + 30_000) == 0


def test_a_day_has_a_share_of_what_was_left_of_it() -> None:
    key, day = spec("a", rpd=10), START + 5_000_000
    local = limiter(key, routers=2, day_end_ms=day, requests_today=6)
    assert [local.reserve(wish(key, day_end=day), START) for _ in range(2)] == [0, 0]
    refused = local.reserve(wish(key, day_end=day), START)
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == -1
    tomorrow = [local.reserve(wish(key, day_end=day + 86_400_000), START) for _ in range(6)]
    assert tomorrow[:5] == [0] * 5
    assert isinstance(tomorrow[5], NoRoom)


def test_keys_of_a_group_share_its_counters() -> None:
    one, other = (spec(name, rpm=3, quota_group="team") for name in "ab")
    local = limiter(one, other)
    outcomes = [local.reserve(wish(one, other), START) for _ in range(4)]
    assert sum(not isinstance(outcome, NoRoom) for outcome in outcomes) == 3


def test_output_is_held_while_it_is_produced() -> None:
    key = spec("a", otpm=100)
    local = limiter(key)
    first = wish(key, output=80)
    assert local.reserve(first, START) == 0
    assert isinstance(local.reserve(wish(key, output=80), START), NoRoom)
    local.settle(first.id, Charge(1, 0, 0, 10), START)
    assert local.reserve(wish(key, output=80), START) == 0


def test_a_key_that_is_marked_is_passed_over_for_another() -> None:
    one, other = spec("a"), spec("b")
    local = limiter(one, other)
    local.mark("k:a", START + 1_000)
    assert {local.reserve(wish(one, other), START) for _ in range(4)} == {1}
    local.mark("p:openai", -1)
    refused = local.reserve(wish(one, other), START)
    assert isinstance(refused, NoRoom)
    assert refused.when_ms == -1


# -- waiting -----------------------------------------------------------------------------------


def test_those_who_wait_are_served_in_their_order_and_newcomers_after_them() -> None:
    key = spec("a", rpm=2)
    local, queue = limiter(key), LocalQueue()
    for _ in range(2):
        local.reserve(wish(key), START)
    told: list[int] = []
    waiters = [
        Waiter((-priority, n, n), wish(key), lambda n=n: told.append(n))  # type: ignore[misc]
        for n, priority in enumerate((0, 0, 5))
    ]
    for waiter in waiters:
        queue.join(waiter)
    queue.serve(local, START)
    assert [waiter.served for waiter in waiters] == [None] * 3
    opens = queue.look_at_ms
    assert opens == START + WINDOW + 2 * SLOT
    assert isinstance(local.reserve(wish(key), opens, queue.held), NoRoom)
    queue.serve(local, opens)
    assert [waiter.served for waiter in waiters] == [0, None, 0]
    assert set(told) >= {0, 1, 2}, "the next one looks from now on"
    queue.leave(waiters[1])
    assert len(queue) == 0
    assert queue.held == set()


def test_a_large_request_that_waits_is_not_starved_by_small_ones() -> None:
    key = spec("a", tpm=100)
    local, queue = limiter(key), LocalQueue()
    local.reserve(wish(key, tokens=60), START)
    large = Waiter((0, 0.0, 0), wish(key, tokens=90), lambda: None)
    queue.join(large)
    queue.serve(local, START)
    small = local.reserve(wish(key, tokens=10), START, queue.held)
    assert isinstance(small, NoRoom)
    assert small.passed_over[0].why is Refusal.QUEUED
    queue.serve(local, queue.look_at_ms)
    assert large.served == 0
