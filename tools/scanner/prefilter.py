"""Says which of the literals that the detectors look for occur in a text at all.

With `hyperscan` installed they are found in one pass; without it every detector looks for its own.
What is found is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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
# Below this, looking for each literal costs less than the call.
_SMALLEST = 512


def without() -> Prefilter:
    """Leaves the search to the detectors."""
    return lambda lower: _EVERYTHING


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
        if len(lower) < _SMALLEST:
            return _EVERYTHING
        found: set[bytes] = set()
        database.scan(
            lower,
            match_event_handler=lambda id, begin, end, flags, context: found.add(literals[id]),
            scratch=scratch,
        )
        return found

    return present


def best(literals: Sequence[bytes], wanted: bool = True) -> Prefilter:
    """Hyperscan's where it is installed and `wanted`."""
    if wanted:
        try:
            return with_hyperscan(literals)
        except ImportError:
            pass
    return without()
