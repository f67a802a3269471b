"""Every test of the store runs on a real server, on a cluster and on fakeredis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis as redis_py
from redis.cluster import ClusterNode

from conversation.records import Turn
from conversation.store import ConversationStore
from core.redis_calls import PooledCalls
from lua.names import Names
from tests.constellations import Cluster

TTL_SECONDS = 1000


@pytest.fixture
def server(redis: Any) -> Any:
    """redis-py's client of the real server, which is empty."""
    return redis


@pytest.fixture(scope="session")
def cluster_client(cluster: Cluster) -> Iterator[Any]:
    """redis-py's own client of the cluster."""
    nodes = [ClusterNode("127.0.0.1", server.port) for server in cluster.masters]
    with redis_py.RedisCluster(startup_nodes=nodes, decode_responses=True) as client:
        yield client


@pytest.fixture(params=["server", "cluster", "fakeredis"])
def client(request: pytest.FixtureRequest) -> Any:
    """redis-py's client of an empty Redis, real and imitated."""
    if request.param == "server":
        return request.getfixturevalue("server")
    if request.param == "cluster":
        request.getfixturevalue("cluster").flush()
        return request.getfixturevalue("cluster_client")
    return fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)


@pytest.fixture
def connection(client: Any, request: pytest.FixtureRequest) -> Any:
    """What a store works with: the router's own connection to the real server, or fakeredis."""
    if isinstance(client, fakeredis.FakeRedis):
        return PooledCalls(client.connection_pool)
    clustered = isinstance(client, redis_py.RedisCluster)
    return request.getfixturevalue("cluster_redis" if clustered else "redis_server")


@pytest.fixture
def names() -> Names:
    return Names("test")


@pytest.fixture
def store(connection: Any, names: Names) -> ConversationStore:
    return ConversationStore(connection, names, TTL_SECONDS)


def turn(n: int | str = 1, conv_id: str = "chat", **more: Any) -> Turn:
    """The n-th turn of a conversation: question n, answer n."""
    return Turn(conv_id, f"request-{n}", f"question {n}", f"answer {n}", **more)
