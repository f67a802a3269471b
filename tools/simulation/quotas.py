"""A quota: the limits that one key, or one group of keys, meets together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tools.simulation.limits import (
    FixedWindow,
    SlidingLog,
    Window,
    make_window,
    pacific_midnight,
)
from tools.simulation.settings import KeySettings, SimulationSettings

LimitName = Literal["rpm", "tpm", "itpm", "otpm", "rpd", "max_parallel"]

_REAL_DAY = 86_400.0
_SHORT_WINDOW = 10.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request was not admitted. `wait` is in seconds, infinite if waiting cannot help."""

    name: LimitName
    limit: int
    used: int
    requested: int
    wait: float


class Meter:
    """One limit: the window that enforces it, and the highest use that was ever accepted.

    The peak of the limits per window is measured in an exact sliding window, whatever kind
    enforces them; the peak of the daily limit is measured in its own day.
    """

    __slots__ = ("_day_peak", "_log", "limit", "window")

    def __init__(self, window: Window | None, measured_seconds: float | None) -> None:
        self.window = window
        self.limit = window.limit if window else None
        self._log = SlidingLog(measured_seconds) if measured_seconds else None
        self._day_peak = 0

    @property
    def peak(self) -> int:
        return self._log.peak if self._log else self._day_peak

    def add(self, amount: int, now: float) -> None:
        if self._log:
            self._log.add(amount, now)
        if self.window:
            self.window.add(amount, now)
            if not self._log:
                self._day_peak = max(self._day_peak, math.ceil(self.window.used(now)))


class Quota:
    """Admits or refuses requests, and remembers what it admitted.

    Example:
        quota = Quota(KeySettings(rpm=1), SimulationSettings(), "openai")
        quota.admit(now=0.0, tokens=10, input_tokens=8)   # None: admitted
        quota.admit(now=1.0, tokens=10, input_tokens=8)   # Refusal(name="rpm", ..., wait=59.0)
    """

    def __init__(self, key: KeySettings, simulation: SimulationSettings, protocol: str) -> None:
        kind = key.kind or simulation.kind
        seconds = key.window_seconds or simulation.window_seconds
        self.seconds = seconds
        # Whole seconds, as providers tell them, would be long beside the short windows of tests.
        self.tells_thousandths = seconds < _SHORT_WINDOW
        self._in_flight = 0
        self._in_flight_peak = 0
        self._max_parallel = key.max_parallel
        self._enforce = key.enforce
        self._count_refused = simulation.count_refused

        def meter(limit: int | None) -> Meter:
            return Meter(make_window(kind, limit, seconds) if limit else None, seconds)

        self.meters: dict[LimitName, Meter] = {
            "rpm": meter(key.rpm),
            "tpm": meter(key.tpm),
            "itpm": meter(key.itpm),
            "otpm": meter(key.otpm),
        }
        if key.rpd:
            day = simulation.day_seconds
            daily: Window
            if protocol == "gemini" and day == _REAL_DAY:
                daily = FixedWindow(key.rpd, pacific_midnight)
            else:
                daily = make_window("fixed" if protocol == "gemini" else kind, key.rpd, day)
            self.meters["rpd"] = Meter(daily, None)

    def admit(self, now: float, tokens: int, input_tokens: int) -> Refusal | None:
        """Charges a request and returns None, or returns the refusal with the longest wait."""
        charges: dict[LimitName, int] = {
            "rpm": 1, "tpm": tokens, "itpm": input_tokens, "otpm": 0, "rpd": 1,
        }  # fmt: skip
        meters = self.meters
        if self._enforce:
            refusal = self._refusal(now, charges)
            if refusal is not None:
                if self._count_refused:
                    for name in ("rpm", "rpd"):
                        if name in meters and (window := meters[name].window):
                            window.add(1, now)
                return refusal
        for name, meter in meters.items():
            meter.add(charges[name], now)
        return None

    def produce(self, now: float, output_tokens: int, also_total: bool) -> None:
        """Charges output as it is produced; `also_total` where `tpm` counts output as well."""
        self.meters["otpm"].add(output_tokens, now)
        if also_total:
            self.meters["tpm"].add(output_tokens, now)

    def enter(self) -> None:
        """A request begins."""
        self._in_flight += 1
        self._in_flight_peak = max(self._in_flight_peak, self._in_flight)

    def leave(self) -> None:
        """A request ends."""
        self._in_flight -= 1

    def peaks(self) -> dict[LimitName, tuple[int | None, int]]:
        """Each limit and the most that was accepted."""
        peaks: dict[LimitName, tuple[int | None, int]] = {
            name: (meter.limit, meter.peak) for name, meter in self.meters.items()
        }
        peaks["max_parallel"] = (self._max_parallel, self._in_flight_peak)
        return peaks

    def _refusal(self, now: float, charges: dict[LimitName, int]) -> Refusal | None:
        worst: Refusal | None = None
        if self._max_parallel is not None and self._in_flight >= self._max_parallel:
            worst = Refusal("max_parallel", self._max_parallel, self._in_flight, 1, 0.0)
        for name, meter in self.meters.items():
            window = meter.window
            if window is None:
                continue
            # What is charged later still needs room for one now: a spent limit admits nothing.
            amount = charges[name] or 1
            if not window.fits(amount, now):
                wait = window.wait(amount, now)
                if worst is None or wait >= worst.wait:
                    used = math.ceil(window.used(now))
                    worst = Refusal(name, window.limit, used, amount, wait)
        return worst
