"""In which order the pools of a selection are asked; on a single server there is one of them."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from keys.places import Places
from keys.pool import Pool
from keys.selection import Candidate
from lua.limiter_types import Geometry


@dataclass(frozen=True)
class Rounds:
    """What is asked for one selection: round after round, and within a round one shard after the
    other. Shards of a round are equally good, so each request begins with another of them.

    Example:
        With `openai` and `gemini` in the first tier of a cluster, and `gemini` alone in the second,
        a request asks openai, gemini, gemini; the next one gemini, openai, gemini.

    Args:
        models: of all its keys, in the order in which they are tried.
    """

    rounds: tuple[tuple[Pool, ...], ...]
    models: tuple[str, ...]

    def in_order(self, turn: int) -> tuple[Pool, ...]:
        """The pools in the order in which a request asks them.

        Args:
            turn: a number that counts the requests; a shard begins in proportion to its keys.
        """
        return tuple(pool for pools in self.rounds for pool in _rotated(pools, turn))


def plan_rounds(candidates: Sequence[Candidate], places: Places, geometry: Geometry) -> Rounds:
    """Sort candidates into pools of one shard each.

    Args:
        candidates: the best tier first; at least one.
    """
    rounds: list[dict[str, list[Candidate]]] = []
    for tier in sorted({candidate.tier for candidate in candidates}):
        shards: dict[str, list[Candidate]] = {}
        for candidate in candidates:
            if candidate.tier == tier:
                shards.setdefault(places.shard(candidate.key.provider).tag, []).append(candidate)
        if rounds and len(shards) == 1 and rounds[-1].keys() == shards.keys():
            for tag, more in shards.items():
                rounds[-1][tag] += more  # one call tries both tiers
        else:
            rounds.append(shards)
    return Rounds(
        tuple(tuple(Pool(run, places, geometry) for run in shards.values()) for shards in rounds),
        tuple(dict.fromkeys(candidate.key.model_name for candidate in candidates)),
    )


def _rotated(pools: tuple[Pool, ...], turn: int) -> tuple[Pool, ...]:
    if len(pools) == 1:
        return pools
    ends = list(accumulate(pool.size for pool in pools))
    first = bisect(ends, turn % ends[-1])
    return pools[first:] + pools[:first]
