"""`python -m llm explain` and `router.explain`: why a key would serve, and why not."""

from __future__ import annotations

import json
import math

import pytest

from core.errors import InvalidRequest, NoKeys
from core.types import ProviderReply, Usage
from keys.policies import Need
from keys.reservations import Reservation
from keys.selection import Selection
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry
from llm.tokens import TokenCounter
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


class Wordy:
    """A provider whose tokens are twice as many as they are estimated."""

    def send(self, call: ProviderCall) -> ProviderReply:
        estimated = TokenCounter().count_messages(call.messages, call.system_prompt, call.model)
        return ProviderReply("Yes.", call.model, "stop", Usage(2 * estimated, 3))

    def close(self) -> None:
        pass


def test_it_shows_what_any_process_has_learned_of_a_models_tokens(make_router: MakeRouter) -> None:
    prompt = "Tell me what you know of the rivers of Austria and of those who live there. " * 8
    providers = ProviderRegistry()
    providers.register("wordy", Wordy())
    keys = [key("a", provider="wordy", model_name="talker"), key("b", provider="wordy")]
    teacher = make_router(keys=keys, providers=providers)
    for _ in range(8):
        assert teacher.send_one_shot(prompt, "talker")["success"]
    told = make_router(keys=keys, providers=providers).explain(prompt, "talker")
    assert 1.3 < told["ratio"] <= 2.0
    assert told["input_tokens"] == math.ceil(told["estimated_tokens"] * told["ratio"])
    without_preference = make_router(keys=keys, providers=providers).explain(prompt)
    assert without_preference["ratio"] == told["ratio"]  # the largest of those that may serve
