"""Commands on a cluster: each reaches its node, also while slots move and nodes go."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from redis.crc import key_slot

from core.errors import ConfigurationError
from core.redis_connection import RedisConnection, open_redis
from core.redis_slots import slot_of
from lua.loader import Script, ScriptCall, run_pipeline
from tests.conftest import MakeSettings
from tests.constellations import Cluster, until
from tests.servers import PlainServer

KEYS = [f"key-{n}" for n in range(12)]


@pytest.fixture
def redis(cluster: Cluster, settings: MakeSettings) -> Iterator[RedisConnection]:
    """A new connection to the cluster, which is empty."""
    cluster.flush()
    with open_redis(settings(redis_url=cluster.url)) as connection:
        yield connection


def nodes_of(cluster: Cluster, keys: list[str]) -> set[int]:
    return {cluster.master_of(slot_of(("GET", key))).port for key in keys}


def test_commands_reach_the_nodes_of_their_keys(cluster: Cluster, redis: RedisConnection) -> None:
    assert len(nodes_of(cluster, KEYS)) == 3, "the test's keys lie on all nodes"
    for key in KEYS:
        assert redis.call("SET", key, key) == "OK"
    assert [redis.call("GET", key) for key in KEYS] == KEYS
    assert cluster.key_names() == set(KEYS)


def test_it_is_known_to_be_a_cluster(
    cluster: Cluster, redis: RedisConnection, redis_server: RedisConnection
) -> None:
    assert redis.clustered
    assert not redis_server.clustered
    assert redis.description == "Redis Cluster at " + ", ".join(
        f"127.0.0.1:{server.port}" for server in cluster.masters
    )


def test_commands_without_a_key_are_answered(redis: RedisConnection) -> None:
    assert redis.call("PING") == "PONG"
    assert redis.client.ping()
    assert "cluster_state:ok" in redis.call("CLUSTER", "INFO")


def test_many_commands_keep_their_order_and_an_error_stays_in_its_place(
    redis: RedisConnection,
) -> None:
    redis.call("SET", KEYS[5], "no number")
    replies = redis.call_many([("INCR", key) for key in KEYS])
    assert isinstance(replies[5], redis_py.ResponseError)
    assert replies[:5] + replies[6:] == [1] * 11
    assert redis.call_many([]) == []


def test_a_script_is_sent_anew_to_each_node(redis: RedisConnection) -> None:
    script = Script("mine", f"return ARGV[1] .. '{os.urandom(4).hex()}'")
    calls = [ScriptCall(script, (key,), (key,)) for key in KEYS]
    answers = run_pipeline(redis, calls)
    assert [answer[:-8] for answer in answers] == KEYS
    assert script.run(redis, [KEYS[0]], ["again"]).startswith("again")


def test_a_script_over_two_slots_is_refused(redis: RedisConnection) -> None:
    with pytest.raises(redis_py.ResponseError, match="same slot"):
        redis.call("EVAL", "return 1", 2, "a", "b")


def test_a_slot_that_moved_is_followed(cluster: Cluster, redis: RedisConnection) -> None:
    redis.call("SET", "{moving}a", "here")
    slot = key_slot(b"{moving}")
    home = cluster.master_of(slot)
    target = next(server for server in cluster.masters if server is not home)
    cluster.move(slot, target)
    assert redis.call("GET", "{moving}a") == "here"
    assert redis.call_many([("GET", "{moving}a"), ("SET", KEYS[0], 1)]) == ["here", "OK"]
    cluster.move(slot, home)
    assert redis.call_many([("GET", "{moving}a"), ("SET", KEYS[0], 1)]) == ["here", "OK"]


def test_while_a_slot_moves_new_keys_are_asked_for_at_its_next_home(
    cluster: Cluster, redis: RedisConnection
) -> None:
    redis.call("SET", "{asked}old", "old")
    slot = key_slot(b"{asked}")
    home = cluster.master_of(slot)
    target = next(server for server in cluster.masters if server is not home)

    def meanwhile() -> None:
        assert redis.call("SET", "{asked}new", "new") == "OK"
        assert redis.call_many([("GET", "{asked}old"), ("GET", "{asked}new")]) == ["old", "new"]

    cluster.move(slot, target, meanwhile)
    assert redis.call_many([("GET", "{asked}old"), ("GET", "{asked}new")]) == ["old", "new"]
    cluster.move(slot, home)


def test_a_script_waits_until_its_slot_has_moved(cluster: Cluster, redis: RedisConnection) -> None:
    script = "return {redis.call('GET', KEYS[1]), redis.call('INCR', KEYS[2])}"
    command = ("EVAL", script, 2, "{split}old", "{split}new")
    redis.call("SET", "{split}old", "old")
    slot = key_slot(b"{split}")
    home = cluster.master_of(slot)
    target = next(server for server in cluster.masters if server is not home)
    answers: list[Any] = []
    waiting = threading.Thread(target=lambda: answers.append(redis.call(*command)))

    def meanwhile() -> None:
        waiting.start()
        time.sleep(0.2)
        assert answers == [], "a part of its keys is here, a part there"

    cluster.move(slot, target, meanwhile)
    waiting.join(5)
    assert answers == [["old", 1]]
    cluster.move(slot, home)


def test_many_threads_while_slots_move(cluster: Cluster, redis: RedisConnection) -> None:
    slot = key_slot(b"{busy}")
    home = cluster.master_of(slot)
    stop = threading.Event()
    counts: list[int] = []

    def count() -> None:
        done = 0
        while not stop.is_set():
            redis.call("INCR", "{busy}n")
            done += 1
        counts.append(done)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for target in [*(server for server in cluster.masters if server is not home), home]:
        time.sleep(0.1)
        cluster.move(slot, target)
    stop.set()
    for thread in threads:
        thread.join(10)
    assert len(counts) == 4, "no thread met an error"
    assert int(redis.call("GET", "{busy}n")) == sum(counts)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://:hunter2@localhost:1,localhost:99999",
        "redis+cluster://:hun/hunter2@localhost:1",
        "redis+cluster://:hunter2@localhost:1/3",
        "redis+cluster://:hunter2@localhost:1?bogus=hunter2",
        "redis+cluster://:hunter2@",
        "redis+cluster://:hunter2@one,,two",
        "redis+sentinel://:hunter2@localhost:1",
        "redis+sentinel://:hunter2@localhost:1/service/zero",
        "redis+sentinel://:hunter2@localhost:1/service/0/more",
        "redis+sentinel://:hunter2@localhost:1/service?bogus=hunter2",
        "redis+sentinel://:hunter2@localhost:1/service?sentinel_bogus=hunter2",
        "redis+other://:hunter2@localhost:1",
        "unix+cluster:///hunter2",
    ],
)
def test_a_url_that_is_wrong_is_a_configuration_error_without_the_password(
    url: str, settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.settings import load_settings

    settings()
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ConfigurationError, match="REDIS_URL") as caught:
        open_redis(load_settings(None))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None or "settings" in str(caught.traceback[-1].path)


def test_a_cluster_with_a_password(settings: MakeSettings, tmp_path: Path) -> None:
    with Cluster(tmp_path, masters=1) as cluster:
        with cluster.client(cluster.masters[0]) as client:
            client.config_set("requirepass", "p@ss/w:rd")
        url = cluster.url.replace("://", "://:p%40ss%2Fw%3Ard@")
        with open_redis(settings(redis_url=url)) as connection:
            assert connection.call("SET", "a", 1) == "OK"
            assert connection.client.ping()
            assert "p@ss" not in f"{connection!r}{connection.client!r}"
        url = url.replace("p%40ss", "hunter2")
        with open_redis(settings(redis_url=url)) as connection:
            for attempt in (lambda: connection.call("PING"), connection.client.ping):
                with pytest.raises(redis_py.ConnectionError) as caught:
                    attempt()
                assert "hunter2" not in str(caught.value)


def test_a_server_that_is_no_cluster_says_so(settings: MakeSettings, tmp_path: Path) -> None:
    with PlainServer(tmp_path, tcp=True) as server:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        with (
            open_redis(settings(redis_url=url)) as connection,
            pytest.raises(redis_py.ResponseError, match="cluster support disabled"),
        ):
            connection.call("PING")


def test_a_cluster_out_of_reach_is_met_at_the_first_command(settings: MakeSettings) -> None:
    with open_redis(settings(redis_url="redis+cluster://127.0.0.1:1,127.0.0.1:2")) as connection:
        for attempt in (lambda: connection.call("PING"), connection.client.ping):
            with pytest.raises(redis_py.ConnectionError):
                attempt()
        with pytest.raises(redis_py.ConnectionError):
            connection.call_many([("PING",)])


def test_a_closed_connection_says_so(cluster: Cluster, settings: MakeSettings) -> None:
    connection = open_redis(settings(redis_url=cluster.url))
    connection.call("PING")
    connection.close()
    connection.close()
    with pytest.raises(redis_py.ConnectionError, match="closed"):
        connection.call("PING")


def test_a_master_that_dies_is_followed_to_its_replica(
    settings: MakeSettings, tmp_path: Path
) -> None:
    with (
        Cluster(tmp_path, replicas=True) as cluster,
        open_redis(settings(redis_url=cluster.url)) as connection,
    ):
        dead = cluster.master_of(slot_of(("GET", KEYS[0])))
        lost = [key for key in KEYS if cluster.master_of(slot_of(("GET", key))) is dead]
        kept = [key for key in KEYS if key not in lost]
        assert lost
        for key in KEYS:
            connection.call("SET", key, key)
        pubsub = connection.pubsub()
        pubsub.subscribe("news")
        assert pubsub.get_message(timeout=5)["type"] == "subscribe"
        dead.kill()
        replies = connection.call_many([("GET", lost[0]), ("GET", kept[0])])
        assert isinstance(replies[0], redis_py.ConnectionError), "an error of one node alone"
        assert replies[1] == kept[0]

        def all_served() -> bool:
            replies = connection.call_many([("GET", key) for key in KEYS])
            return bool(replies == KEYS)

        until(all_served, "the replica to be promoted", 15)
        assert connection.call("SET", lost[0], "new") == "OK"

        def heard() -> bool:
            connection.call("PUBLISH", "news", "hello")
            try:
                message = pubsub.get_message(ignore_subscribe_messages=True, timeout=0.1)
            except redis_py.ConnectionError:
                return False
            return message is not None and message["data"] == "hello"

        until(heard, "news on whichever node there is")
        pubsub.close()
