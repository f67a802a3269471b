"""Finds all leads of a text at once, with hyperscan."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from . import decoding, tokens
from .mentions import HINTS as OF_MENTIONS
from .mentions import mentions_at
from .prefilter import Leads, Prefilter
from .rows import Hint, Stretch, rows

_OF_WORDS = (*tokens.HINTS, *decoding.HINTS)
_OF_ALPHABETS = decoding.HINTS_BY_ALPHABET

_Places = defaultdict[int, list[int]]
# Calls back with the number of a pattern, and where it begins and ends.
_Search = Callable[[bytes, Callable[[int, int, int, int, None], None]], None]


def with_hyperscan(literals: Sequence[bytes]) -> Prefilter:
    """Searches for `literals`, which are lower case, and all other leads.

    Raises:
        ImportError: hyperscan is not installed, or does not work on this machine.
    """
    hyperscan = import_module("hyperscan")
    once = hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_CASELESS
    mentioned = hyperscan.HS_FLAG_SOM_LEFTMOST | hyperscan.HS_FLAG_CASELESS
    any_byte = hyperscan.HS_FLAG_DOTALL
    # What holds no word is searched for by itself: together both take twice as long.
    search_words = _database(
        hyperscan,
        [
            *((hint.pattern, any_byte) for hint in _OF_WORDS),
            *((b"".join(b"\\x%02x" % byte for byte in literal), once) for literal in literals),
            *((pattern, mentioned) for _, pattern in OF_MENTIONS),
        ],
    )
    search_alphabets = _database(hyperscan, [(hint.pattern, any_byte) for hint in _OF_ALPHABETS])
    of_literals = len(_OF_WORDS)
    of_mentions = of_literals + len(literals)

    def leads(data: bytes, lower: bytes) -> Leads:
        found: _Places = defaultdict(list)
        encoded: _Places = defaultdict(list)

        def hit(id: int, start: int, end: int, flags: int, context: None) -> None:
            if id >= of_literals:
                found[id].append(start)
            else:
                _widen(found[id], end, _OF_WORDS[id])

        def encoded_hit(id: int, start: int, end: int, flags: int, context: None) -> None:
            _widen(encoded[id], end, _OF_ALPHABETS[id])

        search_words(data, hit)
        search_alphabets(data, encoded_hit)
        present: set[bytes] = set()
        mentions: set[int] = set()
        stretches: list[Stretch] = []
        for id, places in found.items():
            if id >= of_mentions:
                mentions.update(mentions_at(lower, OF_MENTIONS[id - of_mentions][0], places))
            elif id >= of_literals:
                present.add(literals[id - of_literals])
            else:
                stretches += _stretches(_OF_WORDS[id], places)
        for id, places in encoded.items():
            stretches += _stretches(_OF_ALPHABETS[id], places)
        stretches += tokens.told_of(lower, present)
        return Leads(present, sorted(mentions), rows(data, stretches) if stretches else [])

    return leads


def _database(hyperscan: Any, patterns: Sequence[tuple[bytes, int]]) -> _Search:
    """Searches a text for all `patterns`, each with its flags."""
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

    def search(data: bytes, hit: Callable[[int, int, int, int, None], None]) -> None:
        database.scan(data, match_event_handler=hit, scratch=scratch)

    return search


def _widen(ends: list[int], end: int, hint: Hint) -> None:
    """Adds `end` to pairs of first and last ones between which `hint` leaves no gap."""
    if ends and end - ends[-1] <= hint.width + hint.reach:
        ends[-1] = end
    else:
        ends += (end, end)


def _stretches(hint: Hint, ends: list[int]) -> list[Stretch]:
    pairs = zip(ends[::2], ends[1::2], strict=True)
    return [(first - hint.width, last + hint.reach) for first, last in pairs]
