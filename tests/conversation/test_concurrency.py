"""Many writers at once: nothing is lost, doubled or interleaved."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

from conversation.store import ConversationStore
from core.redis_connection import open_redis
from core.settings import Settings
from lua.names import Names
from tests.conversation.conftest import TTL_SECONDS, turn


def assert_whole(store: ConversationStore, expected: set[str]) -> None:
    """Every turn is there once, its two messages side by side."""
    contents = [message["content"] for message in store.get_history("chat")]
    assert len(contents) == 2 * len(expected)
    pairs = list(zip(contents[::2], contents[1::2], strict=True))
    assert {question for question, _ in pairs} == {f"question {n}" for n in expected}
    assert all(answer == question.replace("question", "answer") for question, answer in pairs)
    meta = store.get_metadata("chat")
    assert meta["message_count"] == len(contents)
    assert meta["total_tokens"] == 3 * len(expected)


def test_a_hundred_turns_at_once(store: ConversationStore) -> None:
    start = Barrier(100)

    def send(n: int) -> bool:
        start.wait(10)
        return store.append_turn(turn(n, total_tokens=3))

    with ThreadPoolExecutor(100) as pool:
        assert all(pool.map(send, range(100)))
    assert_whole(store, {str(n) for n in range(100)})


def test_a_hundred_threads_with_turns_each_and_a_reader(
    server: Any, names: Names, redis_server: Any
) -> None:
    store = ConversationStore(redis_server, names, TTL_SECONDS)

    def send(thread: int) -> None:
        for n in range(3):
            store.append_turn(turn(f"{thread}-{n}", total_tokens=3))
            roles = [message.role for message in store.load("chat").messages]
            assert roles == ["user", "assistant"] * (len(roles) // 2)

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(send, range(100)))
    assert_whole(store, {f"{thread}-{n}" for thread in range(100) for n in range(3)})


def test_the_same_turn_sent_by_many_is_appended_once(store: ConversationStore) -> None:
    with ThreadPoolExecutor(20) as pool:
        appended = list(pool.map(lambda _: store.append_turn(turn(1, total_tokens=3)), range(20)))
    assert sorted(appended) == [False] * 19 + [True]
    assert_whole(store, {"1"})


def test_truncation_among_writers_keeps_turns_whole(
    server: Any, names: Names, redis_server: Any
) -> None:
    store = ConversationStore(redis_server, names, TTL_SECONDS)

    def send(n: int) -> None:
        store.append_turn(turn(n))
        if n % 5 == 0:
            store.truncate_history("chat", keep_last_n=7)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(send, range(200)))
    history = store.get_history("chat")
    assert [m["role"] for m in history] == ["user", "assistant"] * (len(history) // 2)
    assert store.get_metadata("chat")["message_count"] == len(history)


def _append_from_a_process(folder: Path, process: int) -> None:
    settings = Settings(_env_file=None, llm_data_dir=folder, redis_url=None)  # type: ignore[call-arg]
    with open_redis(settings) as connection:
        store = ConversationStore(connection, Names("test"), TTL_SECONDS)
        for n in range(50):
            store.append_turn(turn(f"{process}-{n}", total_tokens=3))


def test_several_processes(
    redis_folder: Path, server: Any, names: Names, redis_server: Any
) -> None:
    forkserver = multiprocessing.get_context("forkserver")
    forkserver.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(3, mp_context=forkserver) as pool:
        list(pool.map(_append_from_a_process, [redis_folder] * 3, range(3)))
    store = ConversationStore(redis_server, names, TTL_SECONDS)
    assert_whole(store, {f"{process}-{n}" for process in range(3) for n in range(50)})
