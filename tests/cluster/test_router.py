"""The router on a cluster: each provider's limits lie on a shard of their own."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from redis.crc import key_slot

from core.events import Event, SettleFailed
from core.redis_connection import RedisConnection
from llm.router import RequestRouter
from lua.loader import load
from tests.cluster.conftest import until_slot_is_back
from tests.constellations import NODE_TIMEOUT_MS, Cluster
from tests.integration.elsewhere import run_elsewhere
from tests.integration.routers import (
    MODELS,
    MakeRouter,
    key,
    limit,
    manager_of,
    secret_of,
    wait_for,
)
from tools.simulated_provider import SimulatedProvider

ROUTERS_WINDOW = 2.5
PROVIDERS_WINDOW = 1.75
"""Shorter, as in tests/integration/test_limits_across_processes.py."""


@pytest.fixture(autouse=True)
def _empty(cluster: Cluster) -> None:
    cluster.flush()


def served(router: RequestRouter, times: int, **more: Any) -> Counter[str]:
    """How many requests each provider answered; `error_type` for those that none did."""
    replies = [router.send_one_shot("Hello", **more) for _ in range(times)]
    return Counter(r["provider"] if r["success"] else r["error_type"] for r in replies)


def test_each_providers_counters_lie_on_a_shard_of_their_own(
    make_router: MakeRouter, cluster: Cluster
) -> None:
    keys = [key("a", "openai", rpm=9), key("b", "anthropic", rpm=9)]
    served(make_router(keys=keys, redis_url=cluster.url), 8)
    tags = {name.partition("{")[2].partition("}")[0] for name in cluster.key_names()}
    assert tags == {"openai", "anthropic"}
    masters = {cluster.master_of(key_slot(tag.encode())).port for tag in tags}
    assert len(masters) == 2, "and these two lie on different nodes"


def test_equal_tiers_share_the_load_by_their_number_of_keys(
    make_router: MakeRouter, cluster: Cluster
) -> None:
    keys = [key("a1", rpm=99), key("a2", rpm=99), key("a3", rpm=99), key("b", "gemini", rpm=99)]
    router = make_router(keys=keys, redis_url=cluster.url)
    assert served(router, 40) == {"openai": 30, "gemini": 10}


def test_the_first_tier_is_used_up_before_the_second(
    make_router: MakeRouter, cluster: Cluster
) -> None:
    keys = [key("a", "anthropic", rpm=3), key("b", "gemini", rpm=2, priority=1)]
    router = make_router(keys=keys, redis_url=cluster.url)
    assert served(router, 3) == {"anthropic": 3}
    assert served(router, 2) == {"gemini": 2}
    assert served(router, 1) == {"rate_limited": 1}


def test_the_preferred_model_is_used_up_before_the_other(
    make_router: MakeRouter, cluster: Cluster
) -> None:
    keys = [key("a", "anthropic", rpm=3), key("b", "gemini", rpm=2)]
    router = make_router(keys=keys, redis_url=cluster.url)
    order = {
        "model_preference": MODELS["gemini"],
        "fallback_models": [MODELS["anthropic"]],
    }
    assert served(router, 2, **order) == {"gemini": 2}
    assert served(router, 3, **order) == {"anthropic": 3}


def test_a_failing_provider_is_left_for_another_ones_shard(
    make_router: MakeRouter, cluster: Cluster, simulator: SimulatedProvider
) -> None:
    keys = [key("a", "anthropic"), key("b", "openai", priority=1)]
    router = make_router(keys=keys, redis_url=cluster.url)
    simulator.add_fault("api_error", key=secret_of("a"))
    reply = router.send_one_shot("Hello")
    assert (reply["provider"], reply["success"]) == ("openai", True)


@pytest.mark.parametrize(("first", "provider"), [("a", "anthropic"), ("b", "openai")])
def test_it_waits_at_the_provider_that_opens_first(
    make_router: MakeRouter, cluster: Cluster, first: str, provider: str
) -> None:
    keys = [key("a", "anthropic"), key("b", "openai")]
    router = make_router(keys=keys, redis_url=cluster.url)
    for name in "ab":
        manager_of(router).mark_key_unhealthy(name, 0.7 if name == first else 20, "tired")
    reply = router.send_one_shot("Hello", max_wait=10)
    assert (reply["success"], reply["provider"]) == (True, provider)


def test_those_who_wait_at_two_providers_are_all_served_in_time(
    make_router: MakeRouter, cluster: Cluster
) -> None:
    keys = [key("a", "anthropic", rpm=4), key("b", "openai", rpm=4)]
    router = make_router(keys=keys, redis_url=cluster.url, rate_window_seconds=0.6)
    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: router.send_one_shot("Hello", max_wait=10), range(20)))
    counts = Counter(reply["provider"] for reply in replies if reply["success"])
    assert sum(counts.values()) == 20
    assert set(counts) == {"anthropic", "openai"}
    assert time.monotonic() - began < 6


def test_a_chat_lies_on_three_shards(make_router: MakeRouter, cluster: Cluster) -> None:
    router = make_router(keys=[key("a")], redis_url=cluster.url)
    for n in range(3):
        assert router.send_chat("chat-1", f"Hello {n}", "alice")["success"]
    store = router._parts.driver.conversations
    assert len(store.get_history("chat-1")) == 6
    assert [found["conversation_id"] for found in store.list_conversations("alice")] == ["chat-1"]


def test_marks_and_statuses_reach_every_shard(make_router: MakeRouter, cluster: Cluster) -> None:
    keys = [key("a", "anthropic", rpm=5), key("b", "openai", rpm=5), key("c", "gemini", rpm=5)]
    router = make_router(keys=keys, redis_url=cluster.url)
    manager = manager_of(router)
    manager.mark_key_unhealthy("b", 30, "tired")
    assert served(router, 4).keys() == {"anthropic", "gemini"}
    statuses = {status["key_id"]: status for status in manager.get_all_key_statuses()}
    assert [statuses[name]["available"] for name in "abc"] == [True, False, True]
    assert statuses["a"]["rpm"]["used"] + statuses["c"]["rpm"]["used"] == 4
    assert router.health_check()["healthy"]


def test_a_request_goes_on_while_its_shard_moves(
    make_router: MakeRouter, cluster: Cluster, cluster_redis: RedisConnection
) -> None:
    router = make_router(keys=[key("a", rpm=6)], redis_url=cluster.url)
    assert served(router, 2) == {"openai": 2}
    manager_of(router).outages()[0].tick()  # a beat: what Redis has counted is known
    with until_slot_is_back(cluster, key_slot(b"openai")) as target:
        cluster.move(key_slot(b"openai"), target)
        with cluster.client(target) as client:
            client.script_flush()
            assert served(router, 5) == {"openai": 4, "rate_limited": 1}, "nothing was forgotten"
            assert client.script_exists(load("reserve").sha) == [True]


def test_a_provider_whose_node_is_gone_is_left_for_another(
    make_router: MakeRouter, tmp_path: Path
) -> None:
    with Cluster(tmp_path / "own", options={"cluster-require-full-coverage": "no"}) as cluster:
        keys = [key("a", "anthropic"), key("b", "openai", priority=1)]
        router = make_router(keys=keys, redis_url=cluster.url, llm_on_redis_down="fail")
        assert served(router, 2) == {"anthropic": 2}
        cluster.master_of(key_slot(b"anthropic")).kill()
        assert served(router, 3) == {"openai": 3}
        time.sleep(2 * NODE_TIMEOUT_MS / 1000)  # until the others know that it is gone
        assert served(router, 3) == {"openai": 3}
        cluster.master_of(key_slot(b"openai")).kill()
        assert served(router, 1) == {"redis_unavailable": 1}


def test_a_slot_that_moves_under_a_request_loses_no_settlement(
    make_router: MakeRouter, cluster: Cluster, simulator: SimulatedProvider, events: list[Event]
) -> None:
    keys = [key("a", tpm=1_000_000, max_parallel=10)]
    router, other = (make_router(keys=keys, redis_url=cluster.url) for _ in range(2))
    assert served(router, 2) == {"openai": 2}
    simulator.add_fault("latency", seconds=0.7, times=1)

    def under_way() -> int:
        return manager_of(other).get_key_status("a")["parallel"]["used"]

    slot = key_slot(b"openai")
    with until_slot_is_back(cluster, slot) as target, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(router.send_one_shot, "Hello")
        wait_for(lambda: under_way() == 1)
        cluster.move(slot, target)
        assert sent.result()["success"]
        wait_for(lambda: under_way() == 0)
    assert SettleFailed not in [type(event) for event in events]


def test_four_processes_share_the_limits_of_two_shards(
    make_router: MakeRouter, cluster: Cluster, simulator: SimulatedProvider
) -> None:
    names = {"a": "openai", "b": "anthropic"}
    labelled = {"tags": {"team": "red"}}
    keys = [key(name, provider, rpm=24, **labelled) for name, provider in names.items()]
    router = make_router(
        keys=[
            *keys,
            key("warm", model_name="warm-up"),
            key("warm-2", "anthropic", model_name="warm-up-2"),
        ],
        redis_url=cluster.url,
        rate_window_seconds=ROUTERS_WINDOW,
    )
    for name in names:
        limit(simulator, name, window_seconds=PROVIDERS_WINDOW, rpm=24)
    ends = run_elsewhere(
        {
            "settings": router._parts.settings.model_dump(),
            "crowd": {
                "processes": 4,
                "threads": 6,
                "warm_up_model": "warm-up",
                "warm_up_also": ["warm-up-2"],
                "sdks": ["openai", "anthropic"],
                "seconds": ROUTERS_WINDOW + 0.8,
                "request": {"prompt": "Hello", "tags": labelled["tags"], "timeout": 30},
            },
        }
    )
    report = simulator.report()
    del report["keys"]["warm"], report["keys"]["warm-2"]
    assert report["totals"]["refused"] == 0
    assert report["totals"]["overshoot"] == 0
    accepted = sum(found["accepted"] for found in report["keys"].values())
    assert ends["success"] == accepted
    assert accepted >= 0.98 * 2 * 2 * 24
