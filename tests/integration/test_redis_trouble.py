"""Redis in trouble, as it is by default: requests go on within each process's share, and what they
used is known to Redis when it is back."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
import redis as redis_py

from core.events import (
    AdmittedLocally,
    ConversationNotSaved,
    Event,
    RedisAway,
    RedisBack,
    RedisRecovering,
    SettleFailed,
)
from core.types import ProviderReply, Usage
from keys.outage import Outage, State
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry
from llm.router import RequestRouter
from tests.integration.routers import MakeRouter, key, limit, manager_of, wait_for
from tests.proxies import Proxy
from tests.servers import PlainServer
from tools.simulated_provider import SimulatedProvider

KEPT = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PlainServer]:
    """A server that keeps its data."""
    with PlainServer(tmp_path / "server", tcp=True, options=KEPT) as plain:
        yield plain


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[PlainServer]:
    """A server that is empty when it starts."""
    with PlainServer(tmp_path / "forgetful", tcp=True) as plain:
        yield plain


@pytest.fixture
def admin(server: PlainServer) -> Iterator[redis_py.Redis]:
    with redis_py.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


def known(router: RequestRouter) -> Outage:
    """The router's outage, once a request was sent and Redis has told all that must be known."""
    assert router.send_one_shot("Hello")["success"]
    outage = manager_of(router).outages()[0]
    wait_for(lambda: outage.epoch and outage.routers)
    outage.tick()
    return outage


def used(router: RequestRouter, key_id: str = "a") -> int:
    return manager_of(router).get_key_status(key_id)["rpm"]["used"]


def outcomes(router: RequestRouter, count: int) -> list[str]:
    replies = [router.send_one_shot("Hello") for _ in range(count)]
    return [reply.get("error_type", "success") for reply in replies]


def is_up(outage: Outage) -> bool:
    return outage.state is State.UP


# -- death -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False], ids=["with data", "empty"])
def test_requests_go_on_and_are_charged_to_a_redis_that_restarts(
    make_router: MakeRouter,
    server: PlainServer,
    forgetful: PlainServer,
    events: list[Event],
    kept: bool,
) -> None:
    server = server if kept else forgetful
    router = make_router(keys=[key("a", rpm=10, rpd=50)], redis_url=server.url)
    outage = known(router)
    assert outcomes(router, 3) == ["success"] * 3
    server.kill()
    began = time.monotonic()
    assert outcomes(router, 3) == ["success"] * 3
    assert time.monotonic() - began < 1.0, "nobody pays for a timeout"
    server.start()
    wait_for(lambda: is_up(outage))
    assert used(router) == 7
    assert manager_of(router).get_key_status("a")["rpd"]["used"] == 7
    assert outcomes(router, 4) == ["success"] * 3 + ["rate_limited"]
    kinds = Counter(type(event) for event in events)
    assert kinds[RedisAway] == kinds[RedisRecovering] == kinds[RedisBack] == 1
    assert kinds[AdmittedLocally] == 3
    assert kinds[SettleFailed] == 0


def test_a_settlement_that_redis_never_heard_is_told_again(
    make_router: MakeRouter, server: PlainServer, events: list[Event]
) -> None:
    frozen = False

    class Mine:
        def send(self, call: ProviderCall) -> ProviderReply:
            if frozen:
                server.freeze()  # what is sent to it from now on, it never sees
            return ProviderReply(
                content="Hi", model=call.model, stop_reason="stop", usage=Usage(700, 77)
            )

        def close(self) -> None:
            pass

    router = make_router(
        keys=[key("a", "mine", tpm=100_000)],
        providers=ProviderRegistry({"mine": Mine}),
        redis_url=server.url,
    )
    outage = known(router)
    frozen = True
    assert router.send_one_shot("Hello")["success"], "nobody waits for the settlement"
    server.kill()
    server.start()
    frozen = False
    assert router.send_one_shot("Hello")["success"]
    wait_for(lambda: is_up(outage) and not outage.own.anything_untold)
    assert manager_of(router).get_key_status("a")["tpm"]["used"] == 3 * 777
    assert SettleFailed not in [type(event) for event in events]


def test_no_more_than_the_limit_while_redis_is_away(
    make_router: MakeRouter, server: PlainServer
) -> None:
    router = make_router(keys=[key("a", rpm=6, max_parallel=4)], redis_url=server.url)
    known(router)
    server.kill()
    assert outcomes(router, 7) == ["success"] * 5 + ["rate_limited"] * 2
    reply = router.send_one_shot("Hello")
    assert 50 < reply["retry_after"] < 62
    assert "Redis" in reply["error"]


def test_a_chat_is_refused_at_once_and_nothing_of_it_is_kept(
    make_router: MakeRouter, server: PlainServer, events: list[Event]
) -> None:
    router = make_router(keys=[key("a")], redis_url=server.url)
    outage = known(router)
    assert router.send_chat("c", "Hello")["success"]
    server.kill()
    router.send_one_shot("Hello")
    began = time.monotonic()
    reply = router.send_chat("c", "Still there?")
    assert reply["error_type"] == "conversation_unavailable"
    assert time.monotonic() - began < 0.1
    server.start()
    wait_for(lambda: is_up(outage))
    assert len(router._parts.driver.conversations.get_history("c")) == 2
    assert router.send_chat("c", "And now?")["success"]
    assert ConversationNotSaved not in [type(event) for event in events]


def test_health_and_status_say_what_is_the_matter(
    make_router: MakeRouter, server: PlainServer
) -> None:
    router = make_router(keys=[key("a")], redis_url=server.url)
    outage = known(router)
    assert not router.health_check()["degraded"]
    server.kill()
    router.send_one_shot("Hello")
    health = router.health_check()
    assert health["healthy"]
    assert health["degraded"]
    assert health["redis"]["state"] == "away"
    assert not health["redis"]["healthy"]
    assert "share, one of 1" in health["redis"]["reason"]
    assert not health["conversations"]["healthy"]
    server.start()
    wait_for(lambda: is_up(outage))
    assert not router.health_check()["degraded"]


def test_a_router_that_never_saw_redis_is_not_unlimited(
    make_router: MakeRouter, tmp_path: Path
) -> None:
    gone = PlainServer(tmp_path / "gone", tcp=True)
    router = make_router(keys=[key("a")], redis_url=gone.url)
    assert outcomes(router, 2) == ["redis_unavailable"] * 2
    health = router.health_check()
    assert not health["healthy"]
    with gone:
        wait_for(lambda: router.send_one_shot("Hello")["success"])


def test_users_keep_their_limits(make_router: MakeRouter, server: PlainServer) -> None:
    router = make_router(
        keys=[key("a")], redis_url=server.url, user_rpm_default=6, user_burst_default=3
    )
    outage = known(router)
    server.kill()
    replies = [router.send_one_shot("Hello", user_id="bo") for _ in range(3)]
    assert [reply.get("error_type") for reply in replies] == [None] + ["user_rate_limited"] * 2
    assert 9 < replies[1]["retry_after"] <= 10
    server.start()
    wait_for(lambda: is_up(outage))
    replies = [router.send_one_shot("Hello", user_id="bo") for _ in range(3)]
    assert [reply["success"] for reply in replies] == [True, True, False], "one was charged"


# -- several routers ---------------------------------------------------------------------------


def test_two_routers_have_half_of_every_limit_each(
    make_router: MakeRouter, server: PlainServer, simulator: SimulatedProvider
) -> None:
    keys = [key("a", rpm=10)]
    one, other = (make_router(keys=keys, redis_url=server.url) for _ in range(2))
    limit(simulator, "a", rpm=10)
    outages = [known(router) for router in (one, other)]
    wait_for(lambda: all(outage.routers == 2 for outage in outages), 15)
    time.sleep(2.5 * 2.1)  # until each is sure that the other counts it
    server.kill()
    served = [outcomes(router, 6).count("success") for router in (one, other)]
    assert 4 <= sum(served) <= 8, "two were served before"
    assert simulator.report()["totals"]["refused"] == 0
    server.start()
    wait_for(lambda: all(map(is_up, outages)), 15)
    assert used(one) == 2 + sum(served)
    assert outcomes(one, 5).count("success") == 8 - sum(served)


def test_who_used_more_than_its_share_leaves_nothing_for_the_other(
    make_router: MakeRouter, server: PlainServer, simulator: SimulatedProvider
) -> None:
    keys = [key("a", rpm=10)]
    one, other = (
        make_router(keys=keys, redis_url=server.url, rate_window_seconds=4) for _ in range(2)
    )
    limit(simulator, "a", rpm=10, window_seconds=3.8)
    outages = [known(router) for router in (one, other)]
    wait_for(lambda: all(outage.routers == 2 for outage in outages), 15)
    time.sleep(4.5)  # until their first requests have aged
    assert outcomes(one, 10) == ["success"] * 10
    outages[1].tick()
    server.kill()
    assert outcomes(other, 1) == ["rate_limited"]
    with ThreadPoolExecutor(12) as pool:
        sent = [
            pool.submit(router.send_one_shot, "Hello", max_wait=12)
            for router in (one, other)
            for _ in range(6)
        ]
    assert all(one.result()["success"] for one in sent)
    assert simulator.report()["totals"]["refused"] == 0


# -- waiting -----------------------------------------------------------------------------------


def test_who_waits_is_served_in_order_while_redis_is_away(
    make_router: MakeRouter, server: PlainServer
) -> None:
    router = make_router(keys=[key("a", rpm=2)], redis_url=server.url, rate_window_seconds=4)
    known(router)
    server.kill()
    assert router.send_one_shot("Hello")["success"]
    order: list[int] = []

    def ask(n: int) -> None:
        assert router.send_one_shot("Hello", max_wait=30, priority=int(n == 5))["success"]
        order.append(n)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
        time.sleep(0.02)
    for thread in threads:
        thread.join()
    assert sorted(order[:2]) == [0, 5], "the one with a higher priority, and the first"
    assert sorted(order[2:4]) == [1, 2]
    assert sorted(order[4:]) == [3, 4]


def test_who_waits_goes_over_to_the_local_queue_and_back(
    make_router: MakeRouter, server: PlainServer, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", rpm=4)], redis_url=server.url, rate_window_seconds=2)
    limit(simulator, "a", rpm=4, window_seconds=1.8)
    outage = known(router)
    with ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(router.send_one_shot, "Hello", max_wait=30) for _ in range(16)]
        time.sleep(0.5)
        server.kill()
        time.sleep(2.5)
        server.start()
        replies = [one.result() for one in sent]
    assert [reply for reply in replies if not reply["success"]] == []
    assert simulator.report()["totals"]["refused"] == 0
    wait_for(lambda: is_up(outage))


def test_who_gives_up_leaves_the_local_queue(make_router: MakeRouter, server: PlainServer) -> None:
    router = make_router(keys=[key("a", rpm=1)], redis_url=server.url)
    outage = known(router)
    server.kill()
    reply = router.send_one_shot("Hello", max_wait=0.3)
    assert reply["error_type"] == "rate_limited"
    assert len(outage.queue) == 0


# -- lost state --------------------------------------------------------------------------------


def test_what_a_flush_lost_is_charged_again_before_anything_is_admitted(
    make_router: MakeRouter, server: PlainServer, admin: redis_py.Redis
) -> None:
    router = make_router(keys=[key("a", rpm=5)], redis_url=server.url)
    outage = known(router)
    assert outcomes(router, 3) == ["success"] * 3
    admin.flushall()
    assert outcomes(router, 2) == ["success", "rate_limited"]
    wait_for(lambda: is_up(outage) and outage.epoch)
    assert used(router) == 5
    assert outcomes(router, 1) == ["rate_limited"]


def test_a_restart_between_two_requests_is_noticed_by_the_second(
    make_router: MakeRouter, forgetful: PlainServer
) -> None:
    router = make_router(keys=[key("a", rpm=4)], redis_url=forgetful.url)
    known(router)
    assert outcomes(router, 2) == ["success"] * 2
    forgetful.kill()
    forgetful.start()
    assert outcomes(router, 3) == ["success", "rate_limited", "rate_limited"]


def test_forgotten_scripts_are_no_lost_state(
    make_router: MakeRouter, server: PlainServer, admin: redis_py.Redis, events: list[Event]
) -> None:
    router = make_router(keys=[key("a", rpm=50)], redis_url=server.url)
    known(router)
    for _ in range(5):
        admin.script_flush()
        assert router.send_one_shot("Hello")["success"]
    assert [e for e in events if isinstance(e, RedisAway | RedisRecovering)] == []


# -- refusals of Redis -------------------------------------------------------------------------


def test_a_full_redis_is_away_until_it_has_memory(
    make_router: MakeRouter, server: PlainServer, admin: redis_py.Redis, events: list[Event]
) -> None:
    router = make_router(keys=[key("a", rpm=20)], redis_url=server.url)
    outage = known(router)
    admin.config_set("maxmemory", 1)
    assert outcomes(router, 2) == ["success"] * 2
    assert outage.state is State.AWAY
    time.sleep(1)  # some probes, none of which may take it for whole
    assert "maxmemory" in router.health_check()["redis"]["reason"]
    assert [type(e) for e in events if isinstance(e, RedisAway | RedisRecovering)] == [RedisAway]
    admin.config_set("maxmemory", 0)
    wait_for(lambda: is_up(outage))
    assert used(router) == 3


def test_a_master_that_became_a_replica_is_away_until_it_is_a_master_again(
    make_router: MakeRouter, server: PlainServer, admin: redis_py.Redis, forgetful: PlainServer
) -> None:
    router = make_router(keys=[key("a", rpm=20)], redis_url=server.url)
    outage = known(router)
    admin.config_set("replica-serve-stale-data", "yes")
    admin.replicaof("127.0.0.1", 1)
    assert outcomes(router, 2) == ["success"] * 2
    assert outage.state is State.AWAY
    assert "read only" in (outage.away or "")
    admin.replicaof("NO", "ONE")
    wait_for(lambda: is_up(outage))
    assert used(router) == 3


def test_a_redis_that_loads_is_away_until_it_has_loaded(
    make_router: MakeRouter, tmp_path: Path
) -> None:
    slowly = {"key-load-delay": "300000", "loading-process-events-interval-bytes": "1024"}
    with PlainServer(
        tmp_path / "loading", tcp=True, options={"save": "3600 1", "dbfilename": "dump.rdb"}
    ) as server:
        router = make_router(keys=[key("a", rpm=20)], redis_url=server.url)
        outage = known(router)
        with redis_py.Redis.from_url(server.url) as client:
            client.mset({f"filler-{n}": os.urandom(2000) for n in range(12)})
            client.save()
        server.kill()
        server.options.update(slowly)
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(server.start)
            assert outcomes(router, 1) == ["success"]
            wait_for(lambda: "loading" in (outage.away or ""))
            assert outcomes(router, 1) == ["success"]
            starting.result()
        wait_for(lambda: is_up(outage))


def test_a_redis_that_does_not_allow_script_load_serves_all_the_same(
    make_router: MakeRouter, server: PlainServer, admin: redis_py.Redis, events: list[Event]
) -> None:
    word = uuid4().hex
    admin.acl_setuser(
        "limited",
        enabled=True,
        passwords=[f"+{word}"],
        keys=["*"],
        channels=["*"],
        categories=["+@all"],
        commands=["-script", "-info", "-config"],
    )
    url = server.url.replace("redis://", f"redis://limited:{word}@")
    router = make_router(keys=[key("a", rpm=3)], redis_url=url)
    known(router)
    assert outcomes(router, 3) == ["success", "success", "rate_limited"]
    admin.script_flush()
    assert router.send_chat("c", "Hello", max_wait=0)["error_type"] == "rate_limited"
    assert [e for e in events if isinstance(e, RedisAway | RedisRecovering)] == []


# -- slow, and away ----------------------------------------------------------------------------


@pytest.fixture
def proxy(server: PlainServer) -> Iterator[Proxy]:
    with Proxy(server.port) as between:
        yield between


def test_a_redis_that_answers_within_the_timeout_is_but_slow(
    make_router: MakeRouter, proxy: Proxy, events: list[Event]
) -> None:
    router = make_router(keys=[key("a")], redis_url=proxy.url, redis_timeout_seconds=2)
    known(router)
    proxy.delay = 0.3
    began = time.monotonic()
    assert router.send_one_shot("Hello")["success"]
    assert router.send_one_shot("Hello")["success"]
    assert 0.55 < time.monotonic() - began < 1.9
    assert [e for e in events if isinstance(e, RedisAway)] == []


def test_a_redis_slower_than_the_timeout_is_away_and_costs_one_timeout(
    make_router: MakeRouter, proxy: Proxy
) -> None:
    router = make_router(keys=[key("a", rpm=60)], redis_url=proxy.url, redis_timeout_seconds=0.4)
    outage = known(router)
    proxy.delay = 1.0
    assert outcomes(router, 1) == ["success"]
    began = time.monotonic()
    assert outcomes(router, 5) == ["success"] * 5
    assert time.monotonic() - began < 0.4
    proxy.delay = 0.0
    wait_for(lambda: is_up(outage))
    assert 7 <= used(router) <= 8, "one may have been reserved by the call that was too slow"


def test_ten_seconds_away_are_passed_over_and_nobody_storms_redis(
    make_router: MakeRouter, proxy: Proxy, simulator: SimulatedProvider, events: list[Event]
) -> None:
    router = make_router(
        keys=[key("a", rpm=30)],
        redis_url=proxy.url,
        rate_window_seconds=3,
        redis_timeout_seconds=0.5,
    )
    limit(simulator, "a", rpm=30, window_seconds=2.2)
    outage = known(router)
    ends: Counter[str] = Counter()
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            reply = router.send_one_shot("Hello", max_wait=10)
            ends[reply.get("error_type", "success")] += 1

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(send)
        time.sleep(1)
        proxy.cut()
        before = proxy.accepted
        time.sleep(10)
        tried = proxy.accepted - before
        mended = proxy.accepted
        proxy.mend()
        wait_for(lambda: is_up(outage))
        opened = proxy.accepted - mended
        stop.set()
    assert ends.keys() == {"success"}
    assert ends["success"] > 30 * 3
    assert tried < 60, "one probe a second, and the channel of those who wait"
    assert opened <= 20, "a connection for each thread, and a few of the router's own"
    report = simulator.report()["keys"]["a"]
    assert report["refused"] == 0, report
    kinds = Counter(type(event) for event in events)
    assert kinds[RedisAway] == kinds[RedisBack] == 1
