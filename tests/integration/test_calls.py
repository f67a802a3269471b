"""`send_one_shot`: what comes back, through each of the three SDKs."""

from __future__ import annotations

import re

import pytest

from core.errors import InvalidRequest
from tests.integration.routers import MODELS, MakeRouter, key, manager_of
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True

ALWAYS = {
    "success", "request_id", "content", "tool_calls", "model", "key_id", "provider", "tokens",
    "conversation_id", "attempts", "duration_ms",
}  # fmt: skip
OF_AN_ATTEMPT = {"key_id", "provider", "model", "outcome", "duration_ms"}
PROVIDERS = list(MODELS)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_has_exactly_these_fields(make_router: MakeRouter, provider: str) -> None:
    reply = make_router(keys=[key("a", provider, rpm=10)]).send_one_shot("Hello there")
    assert set(reply) == ALWAYS | {"stop_reason"}
    assert reply["success"] is True
    assert reply["content"] == 'You sent 1 message(s); the last one begins: "Hello there"'
    assert (reply["model"], reply["key_id"]) == (MODELS[provider], "a")
    assert reply["provider"] == provider
    assert reply["conversation_id"] is None
    assert reply["stop_reason"] == "stop"
    assert reply["duration_ms"] > 0
    (attempt,) = reply["attempts"]
    assert set(attempt) == OF_AN_ATTEMPT
    assert attempt["outcome"] == "success"
    assert 0 < attempt["duration_ms"] <= reply["duration_ms"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_failure_has_the_same_fields_and_what_went_wrong(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str
) -> None:
    router = make_router(keys=[key("a", provider)])
    simulator.revoke("a")
    reply = router.send_one_shot("Hello")
    assert set(reply) == ALWAYS | {"error", "error_type"}
    assert reply["success"] is False
    assert reply["content"] is None
    assert reply["error_type"] == "auth_failed"
    assert reply["tokens"] == {"input": 0, "output": 0, "total": 0}
    (attempt,) = reply["attempts"]
    assert set(attempt) == OF_AN_ATTEMPT | {"error"}
    assert attempt["error"] == reply["error"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_tokens_are_those_that_the_provider_counted(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str
) -> None:
    reply = make_router(keys=[key("a", provider)]).send_one_shot("Hello " * 50)
    counted = simulator.report()["keys"]["a"]
    tokens = reply["tokens"]
    assert (tokens["input"], tokens["output"]) == (counted["tokens_in"], counted["tokens_out"])
    assert tokens["total"] == tokens["input"] + tokens["output"]
    assert tokens["input"] == 75


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_that_was_cut_says_so(make_router: MakeRouter, provider: str) -> None:
    reply = make_router(keys=[key("a", provider)]).send_one_shot("Hello", max_output_tokens=3)
    assert reply["success"]
    assert reply["stop_reason"] == "length"
    assert reply["tokens"]["output"] == 3


def test_the_system_prompt_goes_along(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")])
    reply = router.send_one_shot("Hello", system_prompt="Be brief.")
    assert str(reply["content"]).startswith("You sent 2 message(s)")


def test_the_arguments_of_the_seeds_may_be_given_by_position(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")])
    reply = router.send_one_shot("Hello", MODELS["openai"], "Be brief.", 100, 200, 0.2)
    assert reply["success"]


def test_the_preferred_model_serves(make_router: MakeRouter) -> None:
    router = make_router(keys=[key(name, name) for name in PROVIDERS])
    for provider, model in MODELS.items():
        assert router.send_one_shot("Hello", model)["provider"] == provider


def test_without_a_preference_all_keys_take_turns(make_router: MakeRouter) -> None:
    router = make_router(keys=[key(name, rpm=100) for name in "abc"])
    served = [router.send_one_shot("Hello")["key_id"] for _ in range(6)]
    assert sorted(served) == ["a", "a", "b", "b", "c", "c"]


def test_a_model_that_nobody_serves_is_told_with_those_that_are(make_router: MakeRouter) -> None:
    reply = make_router(keys=[key("a")]).send_one_shot("Hello", "no-such-model")
    assert reply["error_type"] == "no_keys"
    assert MODELS["openai"] in reply["error"]
    assert reply["model"] == "no-such-model"
    assert reply["attempts"] == []


def test_tags_and_workload_choose_among_the_keys(make_router: MakeRouter) -> None:
    router = make_router(
        keys=[
            key("free", tags={"tier": "free", "workload": "light"}),
            key("paid", tags={"tier": "paid", "workload": "heavy"}),
        ]
    )
    assert router.send_one_shot("Hello", tags={"tier": "paid"})["key_id"] == "paid"
    assert router.send_one_shot("Hello", workload="light")["key_id"] == "free"
    assert router.send_one_shot("Hello", workload="medium")["error_type"] == "no_keys"


def test_the_roll_back_switch_leaves_each_models_first_key_alone(make_router: MakeRouter) -> None:
    router = make_router(
        keys=[key("idle", active=False), key("a", rpm=2), key("b", rpm=2)],
        llm_multi_key_router_enabled=False,
    )
    replies = [router.send_one_shot("Hello") for _ in range(3)]
    assert [reply["key_id"] for reply in replies] == ["a", "a", None]
    assert replies[-1]["error_type"] == "rate_limited", "its limit still holds"


def test_a_finished_call_leaves_nothing_in_flight(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", max_parallel=3, otpm=100_000)])
    router.send_one_shot("Hello")
    status = manager_of(router).get_key_status("a")
    assert status["parallel"] == {"used": 0, "limit": 3}
    assert status["otpm"]["used"] == 13


def test_a_router_is_healthy_and_says_of_each_part_why(make_router: MakeRouter) -> None:
    health = make_router(keys=[key("a"), key("b", secret=None)]).health_check()
    assert health["healthy"] is True
    for part in ("redis", "keys", "conversations", "secrets"):
        assert health[part]["healthy"] is True
        assert health[part]["reason"]
    assert list(health["secrets"]["missing"]) == ["b"]


def test_a_router_may_be_closed_twice(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")])
    router.close()
    router.close()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("model", "model_preference"),
        ("max_tokens", "max_output_tokens"),
        ("stream", "stream_one_shot"),
        ("no_such", "help()"),
    ],
)
def test_an_argument_by_another_s_name_is_refused_with_the_right_one(
    make_router: MakeRouter, name: str, meant: str
) -> None:
    router = make_router(keys=[key("a")])
    with pytest.raises(InvalidRequest, match=f"no argument '{name}'.*{re.escape(meant)}"):
        router.send_one_shot("Hello", **{name: "x"})
