"""In which order the shards of a pool are asked; on a single server there is one of them."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from keys.selection import Candidate, Places, Plan, pack
from lua.limiter_calls import Geometry

Run = tuple[Plan, ...]
"""Plans of one shard, one after the other."""


@dataclass(frozen=True)
class Rounds:
    """What is asked for one selection: round after round, and within a round one shard after the
    other. Shards of a round are equally good, so each request begins with another of them.

    Example:
        With `openai` and `gemini` in the first tier of a cluster, and `gemini` alone in the second,
        a request asks openai, gemini, gemini; the next one gemini, openai, gemini.
    """

    rounds: tuple[tuple[Run, ...], ...]

    def in_order(self, turn: int) -> Run:
        """The plans in the order in which a request asks them.

        Args:
            turn: a number that counts the requests; a shard begins in proportion to its keys.
        """
        return tuple(plan for runs in self.rounds for run in _rotated(runs, turn) for plan in run)


def plan_rounds(
    candidates: Sequence[Candidate], places: Places, geometry: Geometry, most: int
) -> Rounds:
    """Cut candidates into plans of one shard each.

    Args:
        candidates: the best tier first.
        most: how many candidates one plan may have.
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
        tuple(
            tuple(_packed(run, places, geometry, most) for run in shards.values())
            for shards in rounds
        )
    )


def _packed(run: list[Candidate], places: Places, geometry: Geometry, most: int) -> Run:
    parts = (tuple(run[at : at + most]) for at in range(0, len(run), most))
    return tuple(pack(part, places, geometry) for part in parts)


def _rotated(runs: tuple[Run, ...], turn: int) -> tuple[Run, ...]:
    if len(runs) == 1:
        return runs
    ends = list(accumulate(sum(len(plan.candidates) for plan in run) for run in runs))
    first = bisect(ends, turn % ends[-1])
    return runs[first:] + runs[:first]
