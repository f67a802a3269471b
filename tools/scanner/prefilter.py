"""Says which of the literals that the detectors look for occur in a text at all.

With `hyperscan` installed they are found in one pass; without it every detector looks for its own
in all but short texts. What is found is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from importlib import import_module
from typing import Any


class Everything(Collection[bytes]):
    """Any literal may occur."""

    def __contains__(self, literal: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


Prefilter = Callable[[bytes], Collection[bytes]]
_EVERYTHING = Everything()
# To ask for all literals costs less than to start every detector.
_SHORT = 2**9
# Hyperscan takes as long to get ready as the rest takes for so much.
_LITTLE = 2**19


def without(literals: Sequence[bytes]) -> Prefilter:
    """Leaves the search to the detectors, unless a text is short. Goes to other processes whole."""
    return partial(_if_short, tuple(literals))


def _if_short(literals: Sequence[bytes], lower: bytes) -> Collection[bytes]:
    if len(lower) > _SHORT:
        return _EVERYTHING
    return [literal for literal in literals if literal in lower]


def with_hyperscan(literals: Sequence[bytes]) -> Prefilter:
    """Searches for all `literals`, which are lower case, at once.

    Raises:
        ImportError: hyperscan is not installed.
    """
    hyperscan = import_module("hyperscan")
    database = hyperscan.Database()
    escaped = [b"".join(b"\\x%02x" % byte for byte in literal) for literal in literals]
    database.compile(
        expressions=escaped,
        ids=list(range(len(literals))),
        elements=len(literals),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH] * len(literals),
    )
    scratch = hyperscan.Scratch(database)

    def present(lower: bytes) -> Collection[bytes]:
        found: set[bytes] = set()
        database.scan(
            lower,
            match_event_handler=lambda id, begin, end, flags, context: found.add(literals[id]),
            scratch=scratch,
        )
        return found

    return present


def best(literals: Sequence[bytes]) -> Prefilter:
    """Hyperscan's where it is installed."""
    try:
        return with_hyperscan(literals)
    except ImportError:
        return without(literals)


def in_time(literals: Sequence[bytes]) -> Prefilter:
    """The best one, as soon as there is enough to scan that it is worth its start."""
    chosen, seen = without(literals), 0

    def present(lower: bytes) -> Collection[bytes]:
        nonlocal chosen, seen
        if seen <= _LITTLE:
            seen += len(lower)
            if seen > _LITTLE:
                chosen = best(literals)
        return chosen(lower)

    return present
