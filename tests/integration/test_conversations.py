"""`send_chat`: conversations outlive keys, providers and processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from conversation.store import ConversationStore
from core.events import ConversationNotSaved, Event
from core.redis_connection import RedisConnection
from llm.router import RequestRouter
from lua.names import Names
from tests.integration.elsewhere import run_elsewhere
from tests.integration.routers import MODELS, MakeRouter, key, manager_of
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True


@pytest.fixture
def store(redis_server: RedisConnection) -> ConversationStore:
    """What is stored, read without the router."""
    return ConversationStore(redis_server, Names("llm"), 86_400)


@pytest.fixture
def router(make_router: MakeRouter) -> RequestRouter:
    return make_router(keys=[key(f"{name}-{n}", name) for name in MODELS for n in (1, 2)])


def said(store: ConversationStore, conv_id: str = "c") -> list[str]:
    return [message["content"] for message in store.get_history(conv_id)]


def echo(number: int, prompt: str) -> str:
    return f'You sent {number} message(s); the last one begins: "{prompt}"'


@pytest.mark.parametrize("provider", MODELS)
def test_the_history_goes_along_through_each_sdk(router: RequestRouter, provider: str) -> None:
    contents = [router.send_chat("c", text, "bo", MODELS[provider])["content"] for text in "ABC"]
    assert contents == [echo(1, "A"), echo(3, "B"), echo(5, "C")]


def test_a_turn_tells_its_conversation(router: RequestRouter) -> None:
    reply = router.send_chat("c", "Hello", "bo")
    assert reply["success"]
    assert reply["conversation_id"] == "c"


def test_a_conversation_goes_on_over_keys_and_providers(
    router: RequestRouter, store: ConversationStore
) -> None:
    models = [*MODELS.values(), *MODELS.values()]
    replies = [router.send_chat("c", f"turn {n}", "bo", model) for n, model in enumerate(models)]
    assert all(reply["success"] for reply in replies)
    assert {reply["provider"] for reply in replies} == set(MODELS)
    assert len({reply["key_id"] for reply in replies}) > 3
    assert said(store) == [t for n, r in enumerate(replies) for t in (f"turn {n}", r["content"])]
    assert replies[-1]["content"] == echo(11, "turn 5")


def test_what_is_known_of_a_conversation(router: RequestRouter, store: ConversationStore) -> None:
    first = router.send_chat("c", "Hello", "bo", MODELS["openai"], metadata={"topic": "tea"})
    second = router.send_chat("c", "Hello again", "bo", MODELS["gemini"])
    found = store.get_metadata("c")
    assert found["user_id"] == "bo"
    assert found["message_count"] == 4
    assert found["total_tokens"] == first["tokens"]["total"] + second["tokens"]["total"]
    assert found["last_model"] == MODELS["gemini"]
    assert found["metadata"] == {"topic": "tea"}


def test_a_system_prompt_is_kept_for_the_turns_to_come(
    router: RequestRouter, store: ConversationStore
) -> None:
    model = MODELS["openai"]
    router.send_chat("c", "Hello", "bo", model, system_prompt="Answer in rhymes.")
    second = router.send_chat("c", "Hello again", "bo", model)
    assert second["content"] == echo(4, "Hello again"), "three turns and the system prompt"
    router.send_chat("c", "And again", "bo", model, system_prompt="Be brief.")
    assert store.get_history("c")[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize("fault", ["invalid_api_key", "server_error", "content_filter", "garbage"])
def test_a_failed_turn_leaves_the_history_as_it_was(
    make_router: MakeRouter, simulator: SimulatedProvider, store: ConversationStore, fault: str
) -> None:
    router = make_router(keys=[key("a")], llm_max_retries=1)
    router.send_chat("c", "Hello", "bo", system_prompt="Be brief.", metadata={"topic": "tea"})
    before = store.get_history("c"), store.get_metadata("c")
    simulator.add_fault(fault)
    failed = router.send_chat("c", "Lost", "bo", system_prompt="Rhyme.", metadata={"topic": "x"})
    assert not failed["success"]
    assert (store.get_history("c"), store.get_metadata("c")) == before


def test_a_failed_first_turn_begins_no_conversation(
    make_router: MakeRouter, simulator: SimulatedProvider, store: ConversationStore
) -> None:
    router = make_router(keys=[key("a")])
    simulator.revoke("a")
    assert not router.send_chat("c", "Hello")["success"]
    assert not store.exists("c")


def test_a_turn_that_took_several_keys_is_stored_once(
    router: RequestRouter, simulator: SimulatedProvider, store: ConversationStore
) -> None:
    simulator.add_fault("server_error", times=1)
    reply = router.send_chat("c", "Hello", "bo", MODELS["openai"])
    assert [attempt["outcome"] for attempt in reply["attempts"]][-1] == "success"
    assert len(reply["attempts"]) == 2
    assert said(store) == ["Hello", reply["content"]]


def test_another_process_resumes_the_conversation(
    router: RequestRouter, store: ConversationStore
) -> None:
    router.send_chat("c", "Hello", "bo", system_prompt="Be brief.")
    reply = run_elsewhere(
        {
            "settings": router._parts.settings.model_dump(),
            "chat": {"conv_id": "c", "prompt": "Still there?", "model_preference": "gpt-4o-mini"},
        }
    )
    assert reply["content"] == echo(4, "Still there?")
    assert said(store)[-2:] == ["Still there?", reply["content"]]
    assert router.send_chat("c", "Yes", model_preference="gpt-4o-mini")["content"] == echo(6, "Yes")


def test_a_hundred_turns_at_once_lose_nothing_and_stay_whole(
    router: RequestRouter, store: ConversationStore
) -> None:
    prompts = [f"prompt {n:03}" for n in range(100)]
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda text: router.send_chat("c", text, "bo"), prompts))
    assert all(reply["success"] for reply in replies)
    history = store.get_history("c")
    assert [message["role"] for message in history] == ["user", "assistant"] * 100
    turns = [(q["content"], a["content"]) for q, a in zip(history[::2], history[1::2], strict=True)]
    expected = [(text, reply["content"]) for text, reply in zip(prompts, replies, strict=True)]
    assert sorted(turns) == sorted(expected)


def test_another_users_conversation_is_refused_before_anything_is_sent(
    router: RequestRouter, simulator: SimulatedProvider, store: ConversationStore
) -> None:
    router.send_chat("c", "My secret", "alice")
    sent, before = simulator.report()["totals"]["accepted"], said(store)
    reply = router.send_chat("c", "What did she say?", "bob")
    assert reply["error_type"] == "invalid_request"
    assert "alice" not in reply["error"]
    assert simulator.report()["totals"]["accepted"] == sent
    assert said(store) == before


def test_without_a_user_the_owner_stays(router: RequestRouter, store: ConversationStore) -> None:
    router.send_chat("c", "Hello", "alice")
    assert router.send_chat("c", "Hello again")["success"]
    assert store.get_metadata("c")["user_id"] == "alice"


def test_two_users_who_begin_one_conversation_at_once_are_not_mixed(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    store: ConversationStore,
    events: list[Event],
) -> None:
    router = make_router(keys=[key("a")])
    simulator.add_fault("latency", seconds=0.2)
    with ThreadPoolExecutor(2) as pool:
        replies = dict(
            zip("xy", pool.map(lambda user: router.send_chat("c", user, user), "xy"), strict=True)
        )
    assert all(reply["success"] for reply in replies.values()), "both were answered"
    owner = store.get_metadata("c")["user_id"]
    assert said(store) == [owner, replies[owner]["content"]]
    assert [type(event) for event in events].count(ConversationNotSaved) == 1


def test_a_long_history_is_cut_to_the_model_and_stays_stored(
    make_router: MakeRouter, store: ConversationStore
) -> None:
    small = {"model_name": "gpt-4"}  # 8,192 tokens
    router = make_router(keys=[key("small", **small), key("large")])
    for n in range(6):
        router.send_chat("c", f"{n} " + "word " * 1500, "bo", MODELS["openai"])
    whole = router.send_chat("c", "How many?", "bo", MODELS["openai"])
    cut = router.send_chat("c", "How many?", "bo", "gpt-4")
    assert whole["content"] == echo(13, "How many?")
    assert cut["success"]
    assert cut["tokens"]["input"] < 8_192 < whole["tokens"]["input"]
    assert len(said(store)) == 16


def test_a_prompt_that_fits_no_model_is_told_before_anything_is_reserved(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("small", model_name="gpt-4")])
    reply = router.send_chat("c", "word " * 10_000)
    assert reply["error_type"] == "context_too_long"
    assert reply["attempts"] == []
    assert simulator.report()["totals"]["accepted"] == 0


LONG = "word " * 10_000
"""More than gpt-4's 8,192 tokens."""


def test_models_too_small_for_the_prompt_are_passed_over(make_router: MakeRouter) -> None:
    small = [key(f"small-{n}", model_name="gpt-4") for n in (1, 2)]
    router = make_router(keys=[*small, key("large", priority=1, rpm=10)])
    reply = router.send_chat("c", LONG)
    assert reply["success"], reply
    assert reply["key_id"] == "large"


def test_a_key_that_is_taken_after_a_too_small_one_is_charged_as_well(
    make_router: MakeRouter,
) -> None:
    small = [key(f"small-{n}", model_name="gpt-4") for n in (1, 2)]
    router = make_router(keys=[*small, key("large", priority=1, rpm=1)])
    replies = [router.send_chat(conv_id, LONG) for conv_id in "xyz"]
    assert [reply["success"] for reply in replies] == [True, False, False]
    assert manager_of(router).get_key_status("large")["rpm"]["used"] == 1


def test_while_the_one_large_enough_is_full_it_is_told_when_it_has_room(
    make_router: MakeRouter,
) -> None:
    small = key("small", model_name="gpt-4", priority=1)
    router = make_router(keys=[key("large", rpm=1), small], rate_window_seconds=2)
    assert router.send_chat("c", LONG)["key_id"] == "large"
    reply = router.send_chat("d", LONG)
    assert reply["error_type"] == "rate_limited"
    assert 0 < reply["retry_after"] < 3


def test_a_talk_that_outgrows_what_a_key_admits_goes_on_with_its_newest_turns(
    make_router: MakeRouter, store: ConversationStore
) -> None:
    router = make_router(keys=[key(f"a{n}", "anthropic", itpm=400) for n in range(8)])
    said_long = "rivers and lakes and mountains " * 15
    for number in range(8):
        reply = router.send_chat(
            "c", f"{number} {said_long}", "bo", expected_completion_tokens=20, max_output_tokens=20
        )
        assert reply["success"], reply
        assert reply["tokens"]["input"] <= 400
    assert len(said(store)) == 16, "the store keeps all of it"
    refused = router.send_chat("c", said_long * 10, "bo", max_output_tokens=20)
    assert refused["error_type"] == "invalid_request"
    assert "more than any allowed key admits" in refused["error"]
