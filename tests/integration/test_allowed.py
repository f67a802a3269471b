"""What the caller allows, in the caller's order: models, workloads, providers, keys left out."""

from __future__ import annotations

from typing import Any

import pytest

from keys.manager import MOST_SELECTIONS
from llm.router import RequestRouter
from tests.integration.routers import MODELS, MakeRouter, key, manager_of
from tools.simulated_provider import SimulatedProvider

ALL = [key("o", "openai"), key("a", "anthropic"), key("g", "gemini")]


def served_by(router: RequestRouter, **allowed: Any) -> str | None:
    return router.send_one_shot("Hello", **allowed)["key_id"]


@pytest.mark.parametrize("send", ["one_shot", "chat", "explain"])
def test_each_way_to_ask_takes_what_is_allowed(make_router: MakeRouter, send: str) -> None:
    router = make_router(keys=[*ALL, key("g2", "gemini", priority=5)])
    allowed = {"allowed_providers": ["gemini"], "exclude_keys": ["g"]}
    if send == "explain":
        assert [k["key_id"] for k in router.explain("Hello", **allowed)["keys"]] == ["g2"]
    elif send == "chat":
        assert router.send_chat("c", "Hello", **allowed)["key_id"] == "g2"
    else:
        assert served_by(router, **allowed) == "g2"


def test_providers_are_preferred_in_the_callers_order(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=ALL)
    order = {"allowed_providers": ["anthropic", "gemini"]}
    assert {served_by(router, **order) for _ in range(4)} == {"a"}
    simulator.add_fault("drop", key="a")
    assert served_by(router, **order) == "g"
    simulator.add_fault("drop", key="g")
    reply = router.send_one_shot("Hello", **order)
    assert {attempt["provider"] for attempt in reply["attempts"]} == {"anthropic", "gemini"}
    assert not reply["success"], "openai is well, and not allowed"


def test_the_order_of_models_comes_before_that_of_providers(make_router: MakeRouter) -> None:
    router = make_router(keys=ALL)
    reply = router.send_one_shot(
        "Hello",
        MODELS["gemini"],
        fallback_models=[MODELS["openai"]],
        allowed_providers=["openai", "gemini"],
    )
    assert reply["key_id"] == "g"


def test_excluded_keys_are_never_asked_whatever_happens(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a"), key("b"), key("c")])
    simulator.add_fault("server_error", times=2)
    reply = router.send_one_shot("Hello", exclude_keys=["a", "nobody"])
    assert reply["success"]
    assert "a" not in {attempt["key_id"] for attempt in reply["attempts"]}
    nothing = router.send_one_shot("Hello", exclude_keys=["a", "b", "c"])
    assert nothing["error_type"] == "no_keys"
    assert "3 keys excluded" in nothing["error"]


def test_a_workload_asks_for_keys_that_are_tagged_so_or_not_at_all(make_router: MakeRouter) -> None:
    tagged = [key(name, tags={"workload": name}) for name in ("light", "heavy")]
    router = make_router(keys=[*tagged, key("any", priority=1)])
    assert served_by(router, workload="light") == "light"
    assert served_by(router, workload="heavy") == "heavy"
    assert served_by(router, workload="medium") == "any"


def test_what_one_caller_excludes_costs_another_nothing(make_router: MakeRouter) -> None:
    router = make_router(keys=[key(f"k{n}") for n in range(4)])
    manager = manager_of(router)
    router.send_one_shot("Hello")
    kept = dict(manager._rounds)
    for n in range(MOST_SELECTIONS + 10):
        router.explain("Hello", exclude_keys=[f"no-such-key-{n}"])
    assert manager._rounds == kept, "the plans of those who exclude nobody are still there"
    assert len(manager._rounds_without) <= MOST_SELECTIONS
