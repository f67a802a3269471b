"""What goes wrong, for whom, and how often.

A fault is either a named error of `errors.TABLE` or one of these:

    latency      answers `seconds` later
    hang         never answers (or after `seconds`)
    drop         closes the connection before answering; the request was counted
    drop_midway  closes it after half of the body, or half of the stream
    stall        stops in the middle, for good (or for `seconds`)
    garbage      status 200 with a body that is not JSON
    empty        status 200 with no body
    html         status 502 with a page, as a proxy in between would
    flap         `period` answers, then as many errors, and so on (`error` names them)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from random import Random
from typing import Any

from tools.simulation.errors import TABLE
from tools.simulation.latency import parse_latency

TRANSPORT = frozenset({"hang", "drop", "drop_midway", "stall", "garbage", "empty", "html"})
KINDS = TRANSPORT | {"latency", "flap"}

_OUTAGE = {
    "openai": "service_unavailable",
    "anthropic": "overloaded_error",
    "gemini": "UNAVAILABLE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong. A field that is left out matches everything.

    Args:
        kind: a named error, or one of the kinds at the top of this module.
        key: the name or the secret of a key.
        protocol: `openai`, `anthropic` or `gemini`.
        model: a model's name.
        probability: of each matching request, from 0 to 1.
        times: strikes this often, then is spent (by requests that a limit refuses as well).
        seconds: for `latency` a number or a distribution (see `latency.FORMS`); for `hang` and
            `stall` how long, where they should end.
        error: for `flap`, the named error (default: the protocol's "overloaded").
        period: for `flap`, the length of each phase in requests.
        retry_after: seconds to tell instead of the row's own, or where the row tells none.
        midway: a named error arrives inside a stream that began well.

    Raises:
        ValueError: for names, numbers or combinations that mean nothing.

    Example:
        Fault(kind="overloaded_error", times=2)
    """

    kind: str
    key: str | None = None
    protocol: str | None = None
    model: str | None = None
    probability: float = 1.0
    times: int | None = None
    seconds: float | str | None = None
    error: str | None = None
    period: int = 1
    retry_after: float | None = None
    midway: bool = False

    def __post_init__(self) -> None:
        if self.protocol is not None and self.protocol not in TABLE:
            raise ValueError(f"protocol {self.protocol!r} is none of {', '.join(TABLE)}")
        for name, others in ((self.kind, KINDS), (self.error, TRANSPORT)):
            if name is not None and name not in others and not self._known(name):
                raise ValueError(f"there is no fault or error {name!r}; see --list-errors")
        if self.error is not None and self.kind != "flap":
            raise ValueError("error is for a flap; any other fault names its error in kind")
        if self.kind == "latency":
            if self.seconds is None:
                raise ValueError("a latency needs seconds")
            parse_latency(self.seconds)
        elif isinstance(self.seconds, str):
            raise ValueError(f"seconds of {self.kind!r} must be a number, not {self.seconds!r}")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability {self.probability} is not between 0 and 1")
        if self.period < 1 or (self.times is not None and self.times < 1):
            raise ValueError("period and times must be at least 1")

    def _known(self, name: str) -> bool:
        return any(name in rows for p, rows in TABLE.items() if self.protocol in (None, p))

    def concerns(self, protocol: str) -> bool:
        """Whether a request in that protocol can meet this fault."""
        if self.protocol is not None and self.protocol != protocol:
            return False
        named = self.error if self.kind == "flap" and self.error else self.kind
        return named in KINDS or named in TABLE[protocol]

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Fault:
        """A fault from JSON; an unknown field is an error, not a surprise."""
        known = {field.name for field in fields(cls)}
        if unknown := set(data) - known:
            raise ValueError(f"unknown fields {sorted(unknown)}; a fault has {sorted(known)}")
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Strike:
    """What one request meets: seconds of delay, and at most one fault, by its final name."""

    delay: float = 0.0
    name: str = ""
    fault: Fault | None = None


NO_STRIKE = Strike()


class FaultBook:
    """The faults in force. `strike` says what the next request meets.

    >>> book = FaultBook(Random(0))
    >>> book.add(Fault(kind="server_error", times=1))
    >>> [book.strike("openai", "gpt", ("key-1",)).name for _ in range(2)]
    ['server_error', '']
    """

    def __init__(self, random: Random, faults: Iterable[Fault] = ()) -> None:
        self._random = random
        self._active: list[_Active] = [_Active(fault) for fault in faults]

    def add(self, fault: Fault) -> None:
        """Puts `fault` in force, after those that are there."""
        self._active.append(_Active(fault))

    def clear(self) -> None:
        """Takes all faults out of force."""
        self._active.clear()

    def names(self) -> list[str]:
        """The kinds that are in force and not spent."""
        return [active.fault.kind for active in self._active if active.left != 0]

    def strike(self, protocol: str, model: str, key_names: tuple[str, ...]) -> Strike:
        """Counts and returns what a request of that protocol, model and key meets now.

        Latencies add up; of the other faults the first that strikes decides alone.
        """
        if not self._active:
            return NO_STRIKE
        delay = 0.0
        for active in self._active:
            fault = active.fault
            if fault.key is not None and fault.key not in key_names:
                continue
            if fault.model is not None and fault.model != model:
                continue
            if not fault.concerns(protocol) or not active.fires(self._random):
                continue
            if fault.kind == "latency":
                drawn = parse_latency(fault.seconds or 0.0)
                delay += drawn(self._random) if drawn else 0.0
            elif fault.kind == "flap":
                return Strike(delay, fault.error or _OUTAGE[protocol], fault)
            else:
                return Strike(delay, fault.kind, fault)
        return Strike(delay)


class _Active:
    """A fault and how often it was asked and may still strike."""

    __slots__ = ("asked", "fault", "left")

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.left = fault.times
        self.asked = 0

    def fires(self, random: Random) -> bool:
        if self.left == 0:
            return False
        if self.fault.kind == "flap":
            self.asked += 1
            if (self.asked - 1) // self.fault.period % 2 == 0:
                return False
        if self.fault.probability < 1 and random.random() >= self.fault.probability:
            return False
        if self.left is not None:
            self.left -= 1
        return True
