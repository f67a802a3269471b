"""How the keys of a selection are packed, and how a large pool is tried."""

from __future__ import annotations

from typing import Any

from keys.places import Places
from keys.policies import policy_of
from keys.pool import FIRST_DRAW, MAX_CANDIDATES, MEMORY_SECONDS, Plan, Pool
from keys.selection import Selection, candidates_for
from keys.spec import KeySpec
from lua.limiter_types import Geometry, GroupKeys, PassedOver, Refusal
from lua.names import Names
from tests.keys.fakes import spec


def model(name: str, model_name: str, **fields: Any) -> KeySpec:
    return spec(name, model_name=model_name, **fields)


def plan(keys: list[KeySpec], selection: Selection | None = None) -> Plan:
    pool = Pool(candidates_for(keys, selection or Selection()), Places(Names("t")), Geometry())
    (made,) = pool.plans()
    return made


def test_a_plan_keeps_the_order_and_the_sizes_of_the_tiers() -> None:
    keys = [model("a", "x", priority=1), model("b", "y"), model("c", "x"), model("d", "z")]
    made = plan(keys)
    assert [packed.candidate.key.key_id for packed in made.packed] == ["b", "c", "d", "a"]
    assert made.tiers == "3,1"


def test_each_key_has_the_policy_of_its_provider_and_address() -> None:
    keys = [
        model("a", "x"),
        model("b", "x", base_url="http://localhost/v1"),
        model("c", "x", provider="gemini"),
        model("d", "x"),
    ]
    made = plan(keys)
    policies = [made.policies[packed.policy] for packed in made.packed]
    assert policies == [
        policy_of("openai"),
        policy_of("openai", "http://localhost/v1"),
        policy_of("gemini"),
        policy_of("openai"),
    ]
    assert len(made.policies) == 3


def test_keys_of_one_group_share_its_counters() -> None:
    team = {"quota_group": "t"}
    a, b, c = plan([model("a", "x", **team), model("b", "x", **team), model("c", "x")]).groups
    assert a == b
    assert set(names_in(a)).isdisjoint(names_in(c))


def test_equal_names_at_two_providers_are_counted_apart() -> None:
    team = {"quota_group": "t"}
    a, b = plan([model("a", "x", **team), model("b", "x", provider="gemini", **team)]).groups
    assert set(names_in(a)).isdisjoint(names_in(b))


def names_in(group: GroupKeys) -> tuple[str, str, str]:
    return group.ring, group.leases, group.queue


def test_on_one_server_all_that_a_plan_touches_shares_a_hash_tag() -> None:
    made = plan([model("a", "x"), model("b", "x", provider="gemini")])
    touched = [made.shard.health, *(name for group in made.groups for name in names_in(group))]
    assert {name[name.index("{") : name.index("}")] for name in touched} == {"{pool"}


def test_a_candidate_is_found_by_its_field() -> None:
    made = plan([model("a", "x"), model("b", "x")])
    assert [made.index_of(f"k:{name}") for name in "ab"] == [0, 1]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def large(clock: Clock, size: int = 100, **fields: Any) -> Pool:
    keys = [model(f"k{n}", "x", priority=n // 50, **fields) for n in range(size)]
    return Pool(candidates_for(keys, Selection()), Places(Names("t")), Geometry(), clock=clock)


def ids(plan: Plan) -> list[str]:
    return [packed.candidate.key.key_id for packed in plan.packed]


def passed(plan: Plan, why: Refusal, until_ms: int = 0) -> list[PassedOver]:
    return [PassedOver(n, why, until_ms) for n in range(len(plan.packed))]


def test_a_large_pool_is_drawn_from_and_then_tried_whole() -> None:
    plans = list(large(Clock()).plans())
    sizes = [len(plan.packed) for plan in plans]
    assert sizes[0] == FIRST_DRAW
    assert max(sizes) == MAX_CANDIDATES
    assert sorted(name for plan in plans for name in ids(plan)) == sorted(
        f"k{n}" for n in range(100)
    )


def test_the_first_tier_of_a_large_pool_is_tried_first() -> None:
    tried = [int(name[1:]) for plan in large(Clock()).plans() for name in ids(plan)]
    assert max(tried[:50]) < 50


def test_what_cools_down_is_not_drawn_for_a_moment() -> None:
    clock = Clock()
    pool = large(clock)
    first = next(pool.plans())
    pool.learn(first, passed(first, Refusal.COOLING, 10**9), now_ms=0)
    assert set(ids(first)).isdisjoint(name for plan in pool.plans() for name in ids(plan))
    clock.now += MEMORY_SECONDS
    assert set(ids(first)) <= {name for plan in pool.plans() for name in ids(plan)}


def test_a_cooldown_is_forgotten_when_it_ends() -> None:
    clock = Clock()
    pool = large(clock)
    first = next(pool.plans())
    pool.learn(first, passed(first, Refusal.COOLING, 1500), now_ms=1000)
    clock.now += 0.5
    assert set(ids(first)) <= {name for plan in pool.plans() for name in ids(plan)}


def test_a_key_that_is_too_small_for_one_request_serves_another() -> None:
    pool = large(Clock())
    first = next(pool.plans())
    pool.learn(first, passed(first, Refusal.TOO_LARGE, -2), now_ms=0)
    assert sum(len(plan.packed) for plan in pool.plans()) == 100


def test_marks_of_key_group_and_provider_are_remembered() -> None:
    for field, left in (("k:k7", 99), ("g:openai/team", 0), ("p:openai", 0)):
        pool = large(Clock(), quota_group="team")
        pool.learn_marks([field])
        names = [name for plan in pool.plans() for name in ids(plan)]
        assert len(names) == (left or MAX_CANDIDATES), "where all is passed over, some are asked"


def test_every_plan_covers_what_is_remembered_as_well() -> None:
    pool = large(Clock())
    pool.learn_marks(["p:openai"])
    assert sum(len(plan.packed) for plan in pool.every_plan()) == 100
