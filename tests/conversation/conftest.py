"""Every test of the store runs on a real server and on fakeredis."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from conversation.records import Turn
from conversation.store import ConversationStore
from core.redis_calls import PooledCalls
from lua.names import Names

TTL_SECONDS = 1000


@pytest.fixture
def server(redis: Any) -> Any:
    """redis-py's client of the real server, which is empty."""
    return redis


@pytest.fixture(params=["server", "fakeredis"])
def client(request: pytest.FixtureRequest) -> Any:
    """redis-py's client of an empty Redis, real and imitated."""
    if request.param == "server":
        return request.getfixturevalue("server")
    return fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)


@pytest.fixture
def connection(client: Any, request: pytest.FixtureRequest) -> Any:
    """What a store works with: the router's own connection to the real server, or fakeredis."""
    if isinstance(client, fakeredis.FakeRedis):
        return PooledCalls(client.connection_pool)
    return request.getfixturevalue("redis_server")


@pytest.fixture
def names() -> Names:
    return Names("test")


@pytest.fixture
def store(connection: Any, names: Names) -> ConversationStore:
    return ConversationStore(connection, names, TTL_SECONDS)


def turn(n: int | str = 1, conv_id: str = "chat", **more: Any) -> Turn:
    """The n-th turn of a conversation: question n, answer n."""
    return Turn(conv_id, f"request-{n}", f"question {n}", f"answer {n}", **more)
