"""What the circuits of `lua/includes/circuit.lua` are given, and what they tell."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Pulse(IntEnum):
    """What the end of an attempt tells of the service that was asked; the numbers are Lua's."""

    ANSWERED = 1
    FAILED = -1
    UNKNOWN = 0


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """When a circuit opens, and for how long.

    Args:
        failures: so many of a key, one after the other without an answer between them, open its
            circuit; so many of several keys of a service open that of the service. 0: none opens.
        within_ms: failures that lie further apart than this do not count together.
        open_ms: how long nothing is sent at first; it doubles with each probe that fails.
        longest_ms: up to this.

    Example:
        >>> CircuitRules(failures=3).packed
        '3|60000|10000|120000'
    """

    failures: int = 5
    within_ms: int = 60_000
    open_ms: int = 10_000
    longest_ms: int = 120_000

    @property
    def packed(self) -> str:
        """As the scripts take them."""
        return f"{self.failures}|{self.within_ms}|{self.open_ms}|{self.longest_ms}"


USUAL_RULES = CircuitRules()


@dataclass(frozen=True, slots=True)
class Circuit:
    """How a circuit stands.

    Args:
        state: "closed", "open" or "half-open".
        failures: how many were counted while it is closed; else how often it opened in a row.
        until_ms: when it lets a probe through, or gives one up (Redis ms); 0 while it is closed.
    """

    state: str = "closed"
    failures: int = 0
    until_ms: int = 0
    reason: str = ""


CLOSED = Circuit()
_NAMES = {"open": "open", "trying": "half-open"}


def read_circuit(text: str, now_ms: int) -> Circuit:
    """A circuit from its field.

    Example:
        >>> read_circuit("5000|open:2|503", now_ms=6000).state
        'half-open'
    """
    if not text:
        return CLOSED
    until, counted, detail = text.split("|", 2)
    state, _, count = counted.partition(":")
    if state == "counting":
        return Circuit("closed", int(count or 0))
    over = int(until) <= now_ms
    reason = detail if state == "open" else "a request tries whether it answers"
    return Circuit("half-open" if over else _NAMES[state], int(count or 0), int(until), reason)
