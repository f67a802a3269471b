"""Times several things side by side: one round of each in turn, so that noise hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True)
class Timing:
    """Microseconds of one thing over all rounds."""

    median: float
    p90: float


def side_by_side(
    things: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 50
) -> dict[str, Timing]:
    """Run every thing once a round, and time each.

    Args:
        things: what to time, by name.
        rounds: how often each is run and timed.
        warm_up: rounds before that are not timed.
    """
    samples: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(warm_up):
        for thing in things.values():
            thing()
    for _ in range(rounds):
        for name, thing in things.items():
            began = time.perf_counter()
            thing()
            samples[name].append((time.perf_counter() - began) * 1e6)
    return {
        name: Timing(statistics.median(times), statistics.quantiles(times, n=10)[-1])
        for name, times in samples.items()
    }


def timings_table(timings: Mapping[str, Timing], rounds: int) -> Table:
    """The medians, and how many PINGs each is; one of the things must be "PING"."""
    ping = timings["PING"].median
    table = Table(title=f"{rounds:,} rounds, one of each in turn", title_justify="left")
    table.add_column("what")
    for heading in ("median", "90 %", "in PINGs"):
        table.add_column(heading, justify="right")
    for name, timing in timings.items():
        table.add_row(
            name,
            f"{timing.median:,.0f} µs",
            f"{timing.p90:,.0f} µs",
            f"{timing.median / ping:.2f} x",
        )
    return table


@dataclass(frozen=True)
class Promise:
    """What was measured, and how much of it there may be at most or has to be at least."""

    what: str
    measured: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def kept(self) -> bool:
        enough = self.least is None or self.measured >= self.least
        return enough and (self.most is None or self.measured <= self.most)

    @property
    def bound(self) -> str:
        words = f"at most {self.most:g}" if self.most is not None else f"at least {self.least:g}"
        return f"{words} {self.unit}".strip()


def promises_table(promises: Sequence[Promise]) -> tuple[bool, Table]:
    """Whether all are kept, and a table of them."""
    table = Table(title="Promises", title_justify="left")
    for heading in ("what", "measured", "promised", ""):
        table.add_column(heading, justify="left" if heading in ("what", "") else "right")
    for promise in promises:
        verdict = "[green]kept[/]" if promise.kept else "[red]not kept[/]"
        measured = f"{promise.measured:.2f} {promise.unit}".strip()
        table.add_row(promise.what, measured, promise.bound, verdict)
    return all(promise.kept for promise in promises), table
