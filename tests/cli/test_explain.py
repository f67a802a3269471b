"""`python -m llm explain` and `router.explain`: why a key would serve, and why not."""

from __future__ import annotations

import json

import pytest

from core.errors import InvalidRequest, NoKeys
from keys.policies import Need
from keys.reservations import Reservation
from keys.selection import Selection
from tests.integration.routers import MakeRouter, key, make_router, manager_of, sdks, simulator

__all__ = ["make_router", "sdks", "simulator"]


def test_every_key_is_told_with_its_limits(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=2, tpm=50_000), key("b", rpm=1, priority=1)])
    manager_of(router).mark_key_unhealthy("a", 30, "maintenance")
    told = {entry["key_id"]: entry for entry in router.explain("Hello")["keys"]}
    assert told["a"]["verdict"] == "passed over"
    assert "maintenance" in told["a"]["why"]
    assert told["a"]["free_in"] == pytest.approx(30, abs=1)
    assert told["a"]["limits"]["tpm"] == {"used": 0, "limit": 50_000, "adds": 2048}
    assert (told["b"]["verdict"], told["b"]["free_in"]) == ("chosen", 0.0)


def test_it_reserves_nothing(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=1)])
    for _ in range(3):
        assert router.explain("Hello")["keys"][0]["verdict"] == "chosen"
    assert manager_of(router).get_key_status("a")["rpm"]["used"] == 0


def test_it_names_the_key_that_is_then_used(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=10), key("b", rpm=10), key("c", rpm=10)])
    manager = manager_of(router)
    for name, times in (("a", 8), ("b", 6), ("c", 9)):
        for number in range(times):
            outcome = manager.reserve(
                Need(1, 1, 1),
                Selection(),
                reservation_id=f"{name}{number}",
                lease_seconds=9,
                avoid={f"k:{other}" for other in "abc" if other != name},
            )
            assert isinstance(outcome, Reservation)
    (chosen,) = (e for e in router.explain("Hello")["keys"] if e["verdict"] == "chosen")
    assert chosen["key_id"] == "b" == router.send_one_shot("Hello")["key_id"]


def test_what_is_too_large_says_so(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", tpm=100)])
    (entry,) = router.explain("Hello")["keys"]
    assert (entry["verdict"], entry["free_in"]) == ("passed over", None)
    assert "smaller than this request" in entry["why"]


def test_wrong_arguments_and_unknown_models_are_refused(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")])
    with pytest.raises(InvalidRequest, match="prompt"):
        router.explain("")
    with pytest.raises(NoKeys, match="nope"):
        router.explain("Hello", "nope")
    assert json.dumps(router.explain("Hello"))
