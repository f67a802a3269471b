"""No 60 s window ever holds more than a limit: the scripts against an exact log as oracle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, assume, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lua.limiter_types import NoRoom, Reserved
from tests.lua.conftest import Bench

WINDOW = 60_000
SLOT = 500


@dataclass
class Log:
    """What one group was charged, exactly: [time, requests, tokens] that settlements correct.

    `head` is the latest time at which the group was written: a clock that goes back stays there.
    A refusal writes nothing, so a clock that goes back after one is believed.
    """

    rpm: int
    tpm: int
    entries: list[list[int]] = field(default_factory=list)
    head: int = 0

    def within(self, now: int, span: int, *, written: bool = True) -> tuple[int, int]:
        latest = max(self.head, now)
        if written:
            self.head = latest
        kept = [entry for entry in self.entries if latest - entry[0] <= span]
        return sum(entry[1] for entry in kept), sum(entry[2] for entry in kept)

    def counts(self, entry: list[int], now: int) -> bool:
        """Whether a charge is certainly still counted, so that a settlement can correct it."""
        self.head = max(self.head, now)
        return self.head - entry[0] < WINDOW


class Windows(RuleBasedStateMachine):
    """Random groups, weights, gaps, settlements, backward clocks and long idles."""

    calls: Any
    runs = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(self.calls, prefix=f"run{next(self.runs)}")
        self.logs: dict[str, Log] = {}
        self.open: list[tuple[str, str, list[int]]] = []
        self.furthest = self.bench.now

    @rule(rpm=st.integers(1, 8), tpm=st.integers(50, 400))
    @precondition(lambda self: len(self.logs) < 3)
    def add_group(self, rpm: int, tpm: int) -> None:
        self.logs[f"g{len(self.logs)}"] = Log(rpm, tpm)

    @rule(ms=st.one_of(st.integers(0, 1200), st.integers(0, 70_000), st.just(10_000_000)))
    def wait(self, ms: int) -> None:
        self.bench.now = max(self.bench.now, self.furthest) + ms
        self.furthest = self.bench.now

    @rule(ms=st.integers(1, 5_000))
    def clock_goes_back(self, ms: int) -> None:
        self.bench.now -= ms

    @rule(tokens=st.integers(0, 200))
    @precondition(lambda self: self.logs)
    def reserve(self, tokens: int) -> None:
        names = list(self.logs)
        rows = [
            self.bench.candidate(name, rpm=log.rpm, tpm=log.tpm) for name, log in self.logs.items()
        ]
        reservation, answer = self.bench.reserve(*rows, tokens=tokens)
        now = self.bench.now
        if isinstance(answer, Reserved):
            name = names[answer.candidate]
            log = self.logs[name]
            log.within(now, WINDOW)
            entry = [log.head, 1, tokens]
            log.entries.append(entry)
            self.open.append((reservation, name, entry))
            requests, used = log.within(now, WINDOW)
            assert requests <= log.rpm
            assert used <= log.tpm
            return
        assert isinstance(answer, NoRoom)
        for log in self.logs.values():
            requests, used = log.within(now, WINDOW + 2 * SLOT, written=False)
            assert requests + 1 > log.rpm or used + tokens > log.tpm, "refused with room"

    @rule(choice=st.randoms(use_true_random=False), used=st.integers(0, 200))
    @precondition(lambda self: self.open)
    def settle_with_less(self, choice: Any, used: int) -> None:
        reservation, name, entry = self.open.pop(choice.randrange(len(self.open)))
        used = min(used, entry[2])
        self.bench.settle(reservation, name, tokens=used)
        if self.logs[name].counts(entry, self.bench.now):
            entry[2] = used

    @rule(choice=st.randoms(use_true_random=False))
    @precondition(lambda self: self.open)
    def settle_as_unsent(self, choice: Any) -> None:
        reservation, name, entry = self.open.pop(choice.randrange(len(self.open)))
        self.bench.settle(reservation, name, requests=0)
        if self.logs[name].counts(entry, self.bench.now):
            entry[1] = entry[2] = 0

    @rule(tokens=st.integers(0, 200))
    @precondition(lambda self: self.logs)
    def the_promised_opening_is_exact(self, tokens: int) -> None:
        rows = [
            self.bench.candidate(name, rpm=log.rpm, tpm=log.tpm) for name, log in self.logs.items()
        ]
        self.bench.now = self.furthest
        reservation, answer = self.bench.reserve(*rows, tokens=tokens)
        if isinstance(answer, Reserved):
            self._undo(reservation, answer)
            return
        assume(answer.when_ms > 0)
        self.bench.now = answer.when_ms - 1
        assert isinstance(self.bench.reserve(*rows, tokens=tokens)[1], NoRoom)
        self.bench.now = answer.when_ms
        reservation, answer = self.bench.reserve(*rows, tokens=tokens)
        assert isinstance(answer, Reserved)
        self._undo(reservation, answer)
        self.furthest = self.bench.now

    def _undo(self, reservation: str, answer: Reserved) -> None:
        name = list(self.logs)[answer.candidate]
        self.bench.settle(reservation, name, requests=0)
        self.logs[name].within(self.bench.now, WINDOW)

    @invariant()
    def sums_agree_with_the_slots(self) -> None:
        for name in self.logs:
            key = self.bench.group(name).ring
            header = self.calls.call("HGET", key, "m")
            if header is None:
                continue
            fields = self.calls.call("HGETALL", key)
            flat = dict(zip(fields[::2], fields[1::2], strict=True))
            slots = [v.split(":") for k, v in flat.items() if k.startswith("s")]
            parts = header.split("|")
            assert [sum(int(s[n]) for s in slots) for n in range(4)] == [
                int(part) for part in parts[2:6]
            ]


def test_no_window_is_ever_above_a_limit(calls: Any) -> None:
    real = calls.kind != "in-process"
    machine = type("WindowsHere", (Windows,), {"calls": calls})
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60 if real else 15,
            stateful_step_count=40 if real else 20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
