"""Finds all leads of a text in one pass, with hyperscan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from importlib import import_module

from . import decoding, tokens
from .mentions import HINTS as OF_MENTIONS
from .mentions import mentions_at
from .prefilter import Leads, Prefilter
from .rows import Stretch, rows

_HINTS = (*tokens.HINTS, *decoding.HINTS)
# Hints as near as this to each other tell of one stretch: each reaches farther by itself.
_CLOSE = min(hint.width + hint.reach for hint in _HINTS)


def with_hyperscan(literals: Sequence[bytes]) -> Prefilter:
    """Searches for `literals`, which are lower case, and all other leads at once.

    Raises:
        ImportError: hyperscan is not installed, or does not work on this machine.
    """
    hyperscan = import_module("hyperscan")
    once = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_CASELESS
    mentioned = hyperscan.HS_FLAG_SOM_LEFTMOST | hyperscan.HS_FLAG_CASELESS
    patterns = [
        *((hint.pattern, hyperscan.HS_FLAG_DOTALL) for hint in _HINTS),
        *((b"".join(b"\\x%02x" % byte for byte in literal), once) for literal in literals),
        *((pattern, mentioned) for _, pattern in OF_MENTIONS),
    ]
    of_literals = len(_HINTS)
    of_mentions = of_literals + len(literals)
    try:
        database = hyperscan.Database()
        database.compile(
            expressions=[pattern for pattern, _ in patterns],
            ids=list(range(len(patterns))),
            elements=len(patterns),
            flags=[flags for _, flags in patterns],
        )
        scratch = hyperscan.Scratch(database)
    except hyperscan.error as error:
        raise ImportError(f"hyperscan does not work here: {error}") from error

    def leads(data: bytes, lower: bytes) -> Leads:
        found: defaultdict[int, list[int]] = defaultdict(list)

        def hit(id: int, start: int, end: int, flags: int, context: None) -> None:
            places = found[id]
            if id >= of_mentions:
                places.append(start)
            elif places and end - places[-1] <= _CLOSE:
                places[-1] = end
            else:
                places += (end, end)

        database.scan(data, match_event_handler=hit, scratch=scratch)
        present: set[bytes] = set()
        mentions: set[int] = set()
        stretches: list[Stretch] = []
        for id, places in found.items():
            if id >= of_mentions:
                mentions.update(mentions_at(lower, OF_MENTIONS[id - of_mentions][0], places))
            elif id >= of_literals:
                present.add(literals[id - of_literals])
            else:
                _, width, reach = _HINTS[id]
                pairs = zip(places[::2], places[1::2], strict=True)
                stretches += [(first - width, last + reach) for first, last in pairs]
        stretches += tokens.told_of(lower, present)
        return Leads(present, sorted(mentions), rows(data, stretches))

    return leads
