"""The order in which the shards of a pool are asked."""

from __future__ import annotations

from collections import Counter

from keys.places import Places
from keys.rounds import Rounds, plan_rounds
from keys.selection import Candidate
from lua.limiter_types import Geometry
from lua.names import Names
from tests.keys.fakes import spec


def rounds(*candidates: str, clustered: bool = True) -> Rounds:
    """Of candidates like "openai/0": a provider and its tier."""
    found = []
    for number, text in enumerate(candidates):
        provider, tier = text.split("/")
        found.append(Candidate(spec(f"key-{number}", provider=provider), int(tier)))
    found.sort(key=lambda candidate: candidate.tier)
    return plan_rounds(found, Places(Names(), clustered=clustered), Geometry())


def order(of: Rounds, turn: int = 0) -> list[tuple[str, str]]:
    """Each plan's shard and the sizes of its tiers."""
    return [(plan.shard.tag, plan.tiers) for pool in of.in_order(turn) for plan in pool.plans()]


def test_a_single_server_is_asked_once_for_all_tiers() -> None:
    one = rounds("openai/0", "gemini/0", "openai/1", clustered=False)
    assert order(one, 0) == order(one, 1) == [("pool", "2,1")]


def test_a_cluster_is_asked_tier_by_tier_and_provider_by_provider() -> None:
    found = rounds("openai/0", "gemini/0", "openai/1", "gemini/2")
    assert order(found) == [("openai", "1"), ("gemini", "1"), ("openai", "1"), ("gemini", "1")]


def test_tiers_of_one_provider_alone_go_in_one_call() -> None:
    assert order(rounds("openai/0", "openai/1", "gemini/2")) == [("openai", "1,1"), ("gemini", "1")]


def test_tiers_are_not_joined_across_a_provider_in_between() -> None:
    found = rounds("openai/0", "gemini/1", "openai/2")
    assert order(found) == [("openai", "1"), ("gemini", "1"), ("openai", "1")]


def test_equal_providers_begin_in_turn_as_often_as_they_have_keys() -> None:
    found = rounds("openai/0", "openai/0", "openai/0", "gemini/0")
    first = Counter(order(found, turn)[0][0] for turn in range(400))
    assert first == {"openai": 300, "gemini": 100}
    assert all(len(order(found, turn)) == 2 for turn in range(4))
