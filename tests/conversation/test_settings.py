"""The store that the settings describe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conversation.store import get_conversation_store
from core.redis_connection import shared_redis
from core.settings import Settings, get_settings
from tests.conversation.conftest import turn


@pytest.fixture
def own_settings(
    redis: Any,
    redis_folder: Path,
    settings: Callable[..., Settings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LLM_DATA_DIR", str(redis_folder))
    monkeypatch.setenv("CONVERSATION_TTL_SECONDS", "77")
    monkeypatch.setenv("REDIS_KEY_PREFIX", "mine")
    get_settings.cache_clear()
    shared_redis.cache_clear()
    yield
    shared_redis().close()
    shared_redis.cache_clear()
    get_settings.cache_clear()


@pytest.mark.usefixtures("own_settings")
def test_prefix_and_life_come_from_the_settings(redis: Any) -> None:
    get_conversation_store().append_turn(turn(1))
    assert 70_000 < redis.pttl("mine:{conv:chat}:messages") <= 77_000
    assert get_conversation_store().get_history("chat", limit=1) == [
        {"role": "assistant", "content": "answer 1"}
    ]


@pytest.mark.usefixtures("own_settings")
def test_all_stores_of_a_process_share_one_connection() -> None:
    get_conversation_store().append_turn(turn(1))
    first = shared_redis()
    get_conversation_store().append_turn(turn(2))
    assert shared_redis() is first
