"""Embeddings: through the router and the real SDKs to the providers that make them."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from core.errors import InvalidRequest
from core.types import EmbeddingReply, ProviderReply, Usage
from llm.providers.abilities import Ability
from llm.providers.base import EmbeddingCall, ProviderCall
from llm.providers.embedding_limits import EmbeddingLimits
from llm.providers.registry import ProviderRegistry
from llm.router import RequestRouter
from tests.integration.routers import MakeRouter, key, limit, manager_of
from tools.simulated_provider import SimulatedProvider
from tools.simulation.embeddings import DIMENSIONS, embed

BOTH_ROUTERS = True
OPENAI, GEMINI = "text-embedding-3-small", "gemini-embedding-001"
MODELS = {"openai": OPENAI, "gemini": GEMINI}


def embedding_key(key_id: str, provider: str = "openai", **fields: Any) -> dict[str, Any]:
    return key(key_id, provider, **{"model_name": MODELS.get(provider), **fields})


@pytest.fixture(params=["openai", "gemini"])
def provider(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def router(make_router: MakeRouter, provider: str) -> RequestRouter:
    return make_router(keys=[embedding_key("a", provider), key("chat", provider)])


def test_texts_become_vectors_in_their_order(router: RequestRouter, provider: str) -> None:
    texts = ["one", "two", "今天", "one"]
    reply = router.embed(texts, MODELS[provider])
    assert reply["success"], reply
    assert reply["embeddings"] == [pytest.approx(embed(text)) for text in texts]
    assert (reply["model"], reply["key_id"], reply["key_ids"]) == (MODELS[provider], "a", ["a"])
    assert reply["provider"] == provider
    tokens = reply["tokens"]
    assert tokens == {"input": tokens["total"], "output": 0, "total": tokens["total"]}
    assert tokens["input"] > 0
    assert len(reply["attempts"]) == 1
    assert set(reply) == {
        "success", "request_id", "embeddings", "model", "key_id", "key_ids", "provider", "tokens",
        "attempts", "duration_ms",
    }  # fmt: skip


def test_the_caller_names_who_may_embed(make_router: MakeRouter) -> None:
    router = make_router(
        keys=[embedding_key("a"), embedding_key("b"), embedding_key("c", "gemini")]
    )
    for _ in range(4):
        assert router.embed(["one"], OPENAI, exclude_keys=["a"])["key_id"] == "b"
        assert router.embed(["one"], allowed_providers=["gemini"])["key_id"] == "c"
    refused = router.embed(["one"], OPENAI, exclude_keys=["a", "b"])
    assert refused["error_type"] == "no_keys"
    with pytest.raises(InvalidRequest, match="exclude_keys must be a list"):
        router.embed(["one"], exclude_keys="a")


def test_without_a_preference_the_model_that_embeds_is_taken_and_chats_go_elsewhere(
    router: RequestRouter, simulator: SimulatedProvider
) -> None:
    assert router.embed(["one"])["key_id"] == "a"
    for _ in range(5):
        assert router.send_one_shot("Hello")["key_id"] == "chat"
    assert simulator.report()["keys"]["a"]["accepted"] == 1


def test_the_length_of_the_vectors(router: RequestRouter) -> None:
    (vector,) = router.embed(["one"], dimensions=5)["embeddings"] or []
    assert len(vector) == 5 != DIMENSIONS


@pytest.mark.parametrize(("name", "count", "calls"), [("openai", 96 * 3, 3), ("gemini", 201, 3)])
def test_many_texts_go_in_batches(
    make_router: MakeRouter, simulator: SimulatedProvider, name: str, count: int, calls: int
) -> None:
    router = make_router(keys=[embedding_key("a", name), embedding_key("b", name)])
    texts = [f"text {n}" for n in range(count)]
    reply = router.embed(texts)
    assert reply["embeddings"] == [pytest.approx(embed(text)) for text in texts]
    assert len(reply["attempts"]) == calls
    assert sorted(reply["key_ids"]) == ["a", "b"]
    assert simulator.report()["totals"]["accepted"] == calls


def test_batches_fit_the_keys_limits(make_router: MakeRouter, simulator: SimulatedProvider) -> None:
    keys = [embedding_key(name, tpm=400, rpm=100) for name in "abc"]
    router = make_router(keys=keys, rate_window_seconds=2)
    for name in "abc":
        limit(simulator, name, tpm=400, window_seconds=2)
    texts = ["some words that are a text of their own " for _ in range(60)]
    reply = router.embed(texts, max_wait=30)
    assert reply["success"], reply
    assert len(reply["embeddings"] or []) == 60
    report = simulator.report()
    assert report["totals"]["overshoot"] == 0
    assert report["totals"]["refused"] == 0


def test_what_is_used_is_settled(make_router: MakeRouter, simulator: SimulatedProvider) -> None:
    router = make_router(keys=[embedding_key("a", tpm=100_000, rpm=100)])
    reply = router.embed(["some words " * 20] * 10)
    status = manager_of(router).get_key_status("a")
    assert status["rpm"]["used"] == 1
    counted = simulator.report()["keys"]["a"]["tokens_in"]
    assert reply["tokens"]["input"] == counted
    assert counted <= status["tpm"]["used"] <= 2 * counted


def test_a_key_that_fails_is_replaced(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[embedding_key("a", priority=0), embedding_key("b", priority=1)])
    simulator.revoke("a")
    reply = router.embed(["one", "two"])
    assert (reply["success"], reply["key_id"]) == (True, "b")
    assert [attempt["outcome"] for attempt in reply["attempts"]] == ["auth_failed", "success"]


@pytest.mark.parametrize("fault", ["garbage", "html", "empty"])
def test_an_answer_that_is_none_is_replaced(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, fault: Any
) -> None:
    router = make_router(keys=[embedding_key(name, provider) for name in "ab"])
    simulator.add_fault(fault, times=1)
    reply = router.embed(["one", "two"], MODELS[provider])
    assert reply["success"], reply
    outcomes = [attempt["outcome"] for attempt in reply["attempts"]]
    assert outcomes == ["provider_unavailable", "success"]


def test_a_failure_in_the_middle_tells_what_there_is(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[embedding_key("a", rpm=2)])
    texts = [f"text {n}" for n in range(96 * 3)]
    reply = router.embed(texts)
    assert (reply["success"], reply["error_type"]) == (False, "rate_limited")
    assert reply["embeddings"] is None
    assert reply["retry_after"] > 0
    assert reply["partial"] == [pytest.approx(embed(text)) for text in texts[: 96 * 2]]
    assert reply["tokens"]["input"] > 0


def test_all_batches_go_to_one_model(make_router: MakeRouter) -> None:
    router = make_router(
        keys=[embedding_key("a"), embedding_key("b", "gemini"), embedding_key("c", priority=2)]
    )
    reply = router.embed([f"text {n}" for n in range(500)])
    assert {attempt["model"] for attempt in reply["attempts"]} == {reply["model"]}


def test_the_deadline_is_of_all_batches(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[embedding_key("a")])
    router.embed(["warm"])
    simulator.add_fault("latency", seconds=0.3)
    reply = router.embed([f"text {n}" for n in range(96 * 10)], timeout=0.7)
    assert reply["error_type"] == "timeout"
    assert reply["duration_ms"] < 2_000


def test_a_provider_s_own_fields(make_router: MakeRouter) -> None:
    router = make_router(keys=[embedding_key("g", "gemini"), embedding_key("o")])
    own = {"gemini": {"taskType": "RETRIEVAL_QUERY"}, "openai": {"user": "x"}}
    for model in (OPENAI, GEMINI):
        assert router.embed(["one"], model, provider_options=own)["success"]


@pytest.mark.parametrize("fields", [{}, {"serves": "embeddings"}])
def test_anthropic_makes_none_and_says_so(
    make_router: MakeRouter, simulator: SimulatedProvider, fields: dict[str, Any]
) -> None:
    router = make_router(keys=[key("a", "anthropic", **fields)])
    reply = router.embed(["one"], "claude-3-5-haiku")
    assert (reply["success"], reply["error_type"]) == (False, "invalid_request")
    assert "embeddings" in reply["error"]
    assert "claude-3-5-haiku" in reply["error"]
    assert simulator.report()["totals"]["accepted"] == 0


def test_a_key_can_say_what_its_model_does(make_router: MakeRouter) -> None:
    deployments = [
        key("a", model_name="deployment-1", serves="embeddings"),
        key("b", model_name="embedded-chat", serves="chat"),
    ]
    router = make_router(keys=deployments)
    assert router.embed(["one"])["key_id"] == "a"
    assert router.send_one_shot("Hello")["key_id"] == "b"
    assert router.send_one_shot("Hello", "deployment-1")["error_type"] == "no_keys"


def test_no_key_at_all(make_router: MakeRouter) -> None:
    reply = make_router(keys=[embedding_key("a")]).embed(["one"], "another-embedding-model")
    assert reply["error_type"] == "no_keys"


@pytest.mark.parametrize(
    ("texts", "word"),
    [("one", "texts"), ([], "empty"), ([""], r"texts\[0\]"), (["a", 5], r"texts\[1\]"),
     (["a", " "], r"texts\[1\]"), (None, "texts"), (["\ud800"], r"texts\[0\]")],
)  # fmt: skip
def test_wrong_texts_name_themselves(make_router: MakeRouter, texts: Any, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        make_router(keys=[embedding_key("a")]).embed(texts)


@pytest.mark.parametrize("dimensions", [0, -1, 1.5, "8", True])
def test_wrong_dimensions_name_themselves(make_router: MakeRouter, dimensions: Any) -> None:
    with pytest.raises(InvalidRequest, match="dimensions"):
        make_router(keys=[embedding_key("a")]).embed(["one"], dimensions=dimensions)


def test_an_adapter_of_one_s_own(make_router: MakeRouter) -> None:
    class Lengths:
        def send(self, call: ProviderCall) -> ProviderReply:
            raise AssertionError("nobody chats here")

        def embed(self, call: EmbeddingCall) -> EmbeddingReply:
            vectors = tuple([float(len(text))] for text in call.texts)
            return EmbeddingReply(vectors, call.model, Usage(len(call.texts), 0))

        def abilities(self, model: str, base_url: str | None) -> frozenset[Ability]:
            return frozenset({Ability.EMBEDDINGS})

        def embedding_limits(self, base_url: str | None) -> EmbeddingLimits:
            return EmbeddingLimits(2, 1_000)

        def close(self) -> None: ...

    providers = ProviderRegistry({"lengths": Lengths})
    router = make_router(keys=[key("a", "lengths", serves="embeddings")], providers=providers)
    words = [secrets.token_hex(n) for n in (1, 2, 3)]
    reply = router.embed(words)
    assert reply["embeddings"] == [[2.0], [4.0], [6.0]]
    assert len(reply["attempts"]) == 2
