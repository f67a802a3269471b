"""Which keys may serve a request, and in which order they are tried."""

from __future__ import annotations

from typing import Any

import pytest

from keys.selection import (
    Selection,
    candidates_for,
    first_of_each_model,
    subjects_of,
    without,
)
from keys.spec import KeySpec
from tests.keys.fakes import spec


def tiers(keys: list[KeySpec], selection: Selection) -> list[list[str]]:
    """The ids of the candidates, a list for each tier."""
    found: dict[int, list[str]] = {}
    for candidate in candidates_for(keys, selection):
        found.setdefault(candidate.tier, []).append(candidate.key.key_id)
    assert list(found) == list(range(len(found))), "tiers are numbered from 0 and come in order"
    return list(found.values())


def model(name: str, model_name: str, **fields: Any) -> KeySpec:
    return spec(name, model_name=model_name, **fields)


def test_without_wishes_every_active_key_may_serve() -> None:
    keys = [model("a", "x"), model("b", "y", active=False), model("c", "z", provider="gemini")]
    assert tiers(keys, Selection()) == [["a", "c"]]


def test_models_are_tried_in_the_callers_order() -> None:
    keys = [model("a", "x"), model("b", "y"), model("c", "z"), model("d", "y")]
    assert tiers(keys, Selection(("y", "x"))) == [["b", "d"], ["a"]]


def test_within_a_model_a_lower_priority_is_tried_first() -> None:
    keys = [model("a", "x", priority=5), model("b", "x"), model("c", "y"), model("d", "x")]
    assert tiers(keys, Selection(("x", "y"))) == [["b", "d"], ["a"], ["c"]]


def test_without_a_model_priority_alone_orders() -> None:
    keys = [model("a", "x", priority=9), model("b", "y", priority=1), model("c", "z", priority=1)]
    assert tiers(keys, Selection()) == [["b", "c"], ["a"]]


def test_a_model_that_is_named_twice_counts_once() -> None:
    assert tiers([model("a", "x"), model("b", "y")], Selection(("x", "y", "x"))) == [["a"], ["b"]]


def test_an_unknown_model_fits_nothing() -> None:
    assert candidates_for([model("a", "x")], Selection(("z",))) == ()


def test_every_tag_that_is_asked_for_must_fit() -> None:
    keys = [
        model("a", "x", tags={"tier": "free", "team": "red"}),
        model("b", "x", tags={"tier": "free"}),
        model("c", "x"),
    ]
    assert tiers(keys, Selection(tags={"tier": "free"})) == [["a", "b"]]
    assert tiers(keys, Selection(tags={"tier": "free", "team": "red"})) == [["a"]]
    assert tiers(keys, Selection(tags={"tier": "paid"})) == []


def test_a_key_without_a_workload_serves_any() -> None:
    keys = [model("a", "x", tags={"workload": "light"}), model("b", "x")]
    assert tiers(keys, Selection(workload="light")) == [["a", "b"]]
    assert tiers(keys, Selection(workload="heavy")) == [["b"]]
    assert tiers(keys, Selection()) == [["a", "b"]]


def test_the_roll_back_switch_leaves_the_first_active_key_of_each_model() -> None:
    keys = [
        model("idle", "x", active=False),
        model("a", "x"),
        model("b", "x"),
        model("c", "y"),
        model("d", "y"),
    ]
    first = first_of_each_model(candidates_for(keys, Selection(("x", "y"))))
    assert [candidate.key.key_id for candidate in first] == ["a", "c"]


@pytest.mark.parametrize(
    ("avoided", "left"),
    [
        ((), ["a", "b", "c", "d"]),
        (("k:a",), ["b", "c", "d"]),
        (("g:openai/team",), ["c", "d"]),
        (("p:openai",), ["d"]),
        (("p:openai", "k:d"), []),
        (("k:team", "g:gemini/team", "g:team", "p:team"), ["a", "b", "c", "d"]),
    ],
)
def test_keys_groups_and_providers_can_be_left_out(
    avoided: tuple[str, ...], left: list[str]
) -> None:
    keys = [
        model("a", "x", quota_group="team"),
        model("b", "x", quota_group="team"),
        model("c", "x"),
        model("d", "x", provider="gemini"),
    ]
    candidates = without(candidates_for(keys, Selection()), avoided)
    assert [candidate.key.key_id for candidate in candidates] == left


def test_what_a_key_is_avoided_by() -> None:
    assert set(subjects_of(model("a", "x"))) == {"k:a", "g:openai/a", "p:openai", "s:openai"}
    assert subjects_of(model("a", "x", quota_group="t")).group == "g:openai/t"


def test_selections_that_ask_for_the_same_are_the_same() -> None:
    one = Selection(("x",), {"a": "1", "b": "2"}, "light")
    other = Selection(("x",), {"b": "2", "a": "1"}, "light")
    assert one.identity == other.identity
    assert one.identity != Selection(("x",), {"a": "1"}, "light").identity
    assert Selection(("x", "y")).identity != Selection(("y", "x")).identity
    hash(one.identity)


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(), "any model"),
        (Selection(("x",)), "model x"),
        (Selection(("x", "y")), "model x or y"),
        (Selection(("x",), {"t": "1"}, "heavy"), "model x with tags t=1 with workload heavy"),
    ],
)
def test_a_selection_in_words(selection: Selection, words: str) -> None:
    assert selection.describe() == words


def test_providers_are_tried_in_the_callers_order_within_a_model() -> None:
    keys = [
        model("a", "x", provider="openai"),
        model("b", "x", provider="gemini", priority=3),
        model("c", "y", provider="gemini"),
        model("d", "x", provider="anthropic"),
    ]
    allowed = ("gemini", "openai")
    assert tiers(keys, Selection(providers=allowed)) == [["c"], ["b"], ["a"]]
    assert tiers(keys, Selection(("x", "y"), providers=allowed)) == [["b"], ["a"], ["c"]]


def test_excluded_keys_may_not_serve() -> None:
    keys = [model("a", "x"), model("b", "x"), model("c", "y")]
    assert tiers(keys, Selection(exclude=frozenset({"a", "no-such-key"}))) == [["b", "c"]]


def test_what_is_allowed_makes_a_selection_what_it_is() -> None:
    kinds = [
        Selection(("x",)),
        Selection(("x", "y")),
        Selection(("y", "x")),
        Selection(providers=("openai",)),
        Selection(providers=("openai", "gemini")),
        Selection(providers=("gemini", "openai")),
        Selection(exclude=frozenset({"a"})),
        Selection(workload="light"),
        Selection(tags={"tier": "free"}),
    ]
    assert len({kind.identity for kind in kinds}) == len(kinds)
    same = Selection(exclude=frozenset({"a", "b"})), Selection(exclude=frozenset({"b", "a"}))
    assert same[0].identity == same[1].identity


def test_a_refusal_says_what_was_allowed() -> None:
    selection = Selection(("x",), providers=("openai",), exclude=frozenset({"a"}))
    assert selection.describe() == "model x with provider openai with 1 key excluded"
