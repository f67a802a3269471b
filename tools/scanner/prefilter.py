"""Says where in a text the detectors have to look.

With `hyperscan` installed that is told in one pass; without it each kind of place is searched for
by itself. What is found is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, NamedTuple

from .mentions import mentions
from .rows import Row, rows


class Leads(NamedTuple):
    """Where the detectors have to look in a text.

    `present` are the literals that may occur, `mentions` the ends of the names that may have a
    value, `rows` those that may hold a token or encoded text.
    """

    present: Collection[bytes]
    mentions: list[int]
    rows: list[Row]


# Given a text and the same in lower case.
Prefilter = Callable[[bytes, bytes], Leads]


class Everything(Collection[bytes]):
    """Any literal may occur."""

    def __contains__(self, literal: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


_EVERYTHING = Everything()
# To ask for all literals costs less than to start every detector.
_SHORT = 2**9
# Hyperscan takes as long to get ready as the rest takes for so much.
_LITTLE = 2**21


def without(literals: Sequence[bytes]) -> Prefilter:
    """Leaves the search to the detectors, unless a text is short. Goes to other processes whole."""
    return partial(_searched, tuple(literals))


def _searched(literals: Sequence[bytes], data: bytes, lower: bytes) -> Leads:
    if len(lower) > _SHORT:
        return Leads(_EVERYTHING, mentions(lower), rows(data))
    present = [literal for literal in literals if literal in lower]
    return Leads(present, mentions(lower), rows(data))


def best(literals: Sequence[bytes]) -> Prefilter:
    """Hyperscan's where it is installed."""
    from .hyperscan_search import with_hyperscan

    try:
        return with_hyperscan(literals)
    except ImportError:
        return without(literals)


class InTime:
    """The best one, as soon as there is enough to scan that it is worth its start.

    `size` are the bytes that are known to come. Goes to other processes as it began.
    """

    def __init__(self, literals: Sequence[bytes], size: int = 0) -> None:
        self._literals, self._size = literals, size
        self._chosen, self._left = without(literals), max(0, _LITTLE - size)

    def __reduce__(self) -> tuple[type[InTime], tuple[Sequence[bytes], int]]:
        return InTime, (self._literals, self._size)

    def __call__(self, data: bytes, lower: bytes) -> Leads:
        if self._left >= 0:
            self._left -= len(lower)
            if self._left < 0:
                self._chosen = best(self._literals)
        return self._chosen(data, lower)
