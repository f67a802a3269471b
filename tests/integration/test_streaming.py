"""Streams of both routers: chunks, retries before the first of them, and every way to stop."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from core.errors import StreamInterrupted
from core.events import Event, RequestFinished
from tests.integration.routers import MODELS, MakeRouter, key, limit, secret_of, wait_for
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True

LONG = "Tell me a long story about the lighthouse keeper and all of his many cats, please."


def status_of(router: Any, key_id: str) -> Any:
    return router._parts.driver.keys.get_key_status(key_id)


def in_flight(router: Any, key_id: str) -> int:
    return int(status_of(router, key_id)["parallel"]["used"])


@pytest.mark.parametrize("provider", MODELS)
def test_chunks_arrive_and_the_last_one_has_the_reply(
    make_router: MakeRouter, provider: str
) -> None:
    router = make_router(keys=[key("a", provider)])
    chunks = list(router.stream_one_shot(LONG))
    assert len(chunks) > 2
    assert all(chunk.text and chunk.reply is None for chunk in chunks[:-1])
    reply = chunks[-1].reply
    assert reply is not None
    assert reply["success"]
    assert reply["content"] == "".join(chunk.text for chunk in chunks)
    whole = router.send_one_shot(LONG)
    assert whole["tokens"] == reply["tokens"]
    assert whole.keys() == reply.keys()


def test_a_stream_is_counted_as_a_whole_answer_is(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", rpm=60, itpm=100_000, otpm=100_000, provider="anthropic")])
    (*_, last) = router.stream_one_shot(LONG)
    assert last.reply is not None
    used = status_of(router, "a")
    assert used["rpm"]["used"] == 1
    assert used["otpm"]["used"] == last.reply["tokens"]["output"]


@pytest.mark.parametrize("provider", MODELS)
def test_what_fails_before_the_first_text_is_tried_on_another_key(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str
) -> None:
    router = make_router(keys=[key("a", provider), key("b", provider, priority=1)])
    simulator.revoke(secret_of("a"))
    (*_, last) = router.stream_one_shot(LONG)
    assert last.reply is not None
    assert [a["outcome"] for a in last.reply["attempts"]] == ["auth_failed", "success"]


def test_a_request_that_nobody_serves_ends_with_its_reply(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a", secret=None)])
    (only,) = router.stream_one_shot(LONG)
    assert only.text == ""
    assert only.reply is not None
    assert only.reply["error_type"] == "secret_unavailable"


@pytest.mark.parametrize("provider", MODELS)
def test_what_breaks_after_it_is_raised_with_what_arrived(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, events: list[Event]
) -> None:
    router = make_router(keys=[key("a", provider), key("b", provider)])
    simulator.add_fault("drop_midway", times=1)
    texts: list[str] = []
    stream = router.stream_one_shot(LONG * 3)
    with pytest.raises(StreamInterrupted) as cut:
        texts.extend(chunk.text for chunk in stream)
    assert texts
    assert cut.value.partial == "".join(texts)
    assert cut.value.error_type == "provider_unavailable"
    assert cut.value.reply["tokens"]["output"] > 0
    (finished,) = [event for event in events if isinstance(event, RequestFinished)]
    assert finished.outcome == "provider_unavailable"


def test_a_stalled_stream_ends_by_its_idle_timeout(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a")])
    simulator.add_fault("stall", times=1)
    with pytest.raises(StreamInterrupted) as cut:
        list(router.stream_one_shot(LONG * 3, idle_timeout=0.3))
    assert cut.value.error_type == "timeout"


@pytest.mark.parametrize("how", ["close", "with", "let go"])
@pytest.mark.parametrize("provider", MODELS)
def test_whoever_stops_early_closes_the_connection_and_settles(
    make_router: MakeRouter, simulator: SimulatedProvider, how: str, provider: str
) -> None:
    router = make_router(keys=[key("a", provider, rpm=60, max_parallel=1)])
    simulator.add_fault("stall", times=1)
    stream = router.stream_one_shot(LONG * 3)
    assert next(stream).text
    assert in_flight(router, "a") == 1
    if how == "with":
        with stream:
            pass
    elif how == "close":
        stream.close()
        stream.close()
    del stream
    gc.collect()
    wait_for(lambda: in_flight(router, "a") == 0)
    assert router.send_one_shot("Next", max_wait=5.0)["success"]


def test_a_stream_that_was_never_begun_sends_nothing(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", rpm=5)])
    router.stream_one_shot(LONG).close()
    assert status_of(router, "a")["rpm"]["used"] == 0


def test_a_turn_is_appended_when_its_stream_ends_well(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")])
    (*_, last) = router.stream_chat("c", "Hello")
    assert last.reply is not None
    history = router._parts.driver.conversations.get_history("c")
    assert [m["content"] for m in history] == ["Hello", last.reply["content"]]


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("end", ["stopped", "broken"])
def test_a_turn_that_was_cut_is_dropped_or_kept_as_the_caller_says(
    make_router: MakeRouter, simulator: SimulatedProvider, keep: bool, end: str
) -> None:
    router = make_router(keys=[key("a")])
    router.send_chat("c", "First")
    simulator.add_fault("stall" if end == "stopped" else "drop_midway", times=1)
    stream = router.stream_chat("c", LONG * 3, keep_partial=keep)
    first = next(stream).text
    if end == "stopped":
        stream.close()
    else:
        with pytest.raises(StreamInterrupted):
            list(stream)
    history = router._parts.driver.conversations.get_history("c")
    assert len(history) == (4 if keep else 2)
    if keep:
        assert history[-1]["content"].startswith(first)


def test_a_stream_waits_for_room_as_a_whole_request_does(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", max_parallel=1)])
    limit(simulator, "a")
    stream = router.stream_one_shot(LONG)
    next(stream)
    done: list[Any] = []
    waiting = threading.Thread(
        target=lambda: done.extend(router.stream_one_shot("Me too", max_wait=10.0))
    )
    waiting.start()
    list(stream)
    waiting.join(15)
    assert done[-1].reply["success"]
