"""How long to pause before the next try."""

from __future__ import annotations

from collections.abc import Callable

LONGEST = 8.0
"""Seconds; more would only hold the caller."""


def pause(failures: int, base_seconds: float, random: Callable[[], float]) -> float:
    """Exponential backoff with jitter: base x 2^(failures - 1), of which half is left to chance.

    Args:
        failures: failed attempts so far, 1 or more.
        random: gives numbers from 0 to 1.

    Example:
        >>> pause(3, 0.5, lambda: 1.0)
        2.0
    """
    longest = min(LONGEST, base_seconds * 2.0 ** (failures - 1))
    return longest * (0.5 + 0.5 * random())
