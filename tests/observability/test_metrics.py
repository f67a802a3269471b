"""Prometheus metrics: the names of the seeds, with the right values, served on PROMETHEUS_PORT."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from core.events import CapacityWaited, KeysRejected, SettleFailed, emit
from core.redis_connection import RedisConnection
from keys.policies import Need
from keys.selection import Selection
from tests.integration.routers import MakeRouter, key, manager_beside, manager_of
from tests.servers import PlainServer, free_port
from tools.simulated_provider import SimulatedProvider


class Change:
    """How far a counter has moved since the test began."""

    def __init__(self, name: str, **labels: str) -> None:
        self._sample = name, labels
        self._before = self._now()

    def _now(self) -> float:
        return REGISTRY.get_sample_value(*self._sample) or 0.0

    def __call__(self) -> float:
        return self._now() - self._before


def gauge(name: str, key_id: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"key_id": key_id})


@pytest.fixture(scope="session")
def metrics_port() -> int:
    """One port for all tests of this process, since a process serves its metrics once."""
    return free_port()


def scrape(port: int) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_metrics_of_the_seeds_are_served_on_the_port_of_the_settings(
    make_router: MakeRouter, metrics_port: int
) -> None:
    router = make_router(keys=[key("a", rpm=1)], prometheus_port=metrics_port)
    router.send_one_shot("Hello", max_output_tokens=700)
    router.send_one_shot("Hello")
    manager_of(router).mark_key_unhealthy("a", 100)
    found = scrape(metrics_port)
    assert found["key_rpm_used", (("key_id", "a"),)] == 1
    assert found["key_tpm_used", (("key_id", "a"),)] == 700
    assert found["key_cooldown", (("key_id", "a"),)] == pytest.approx(100, abs=2)
    names = {name for name, _ in found}
    assert {"request_router_attempts_total", "request_router_rate_limited_total"} <= names


_SERVE = """
import socket
from core.settings import Settings
from observability.metrics import follow_with_metrics

follow_with_metrics(Settings(_env_file=None), lambda: [])
for address in ("127.0.0.2", "127.0.0.1"):
    with socket.socket() as client:
        print(address, client.connect_ex((address, Settings(_env_file=None).prometheus_port)) == 0)
"""


def test_metrics_are_served_on_the_address_of_the_settings_alone() -> None:
    port = str(free_port())
    done = subprocess.run(  # a process serves its metrics once: this needs one of its own
        [sys.executable, "-c", _SERVE],
        env={**os.environ, "PROMETHEUS_PORT": port, "PROMETHEUS_ADDRESS": "127.0.0.2"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["127.0.0.2 True", "127.0.0.1 False"]


def test_a_second_router_on_the_same_port_is_served_there_as_well(
    make_router: MakeRouter, metrics_port: int
) -> None:
    make_router(keys=[key("a")], prometheus_port=metrics_port)
    make_router(keys=[key("a"), key("b")], prometheus_port=metrics_port)
    keys = {labels for name, labels in scrape(metrics_port) if name == "key_rpm_used"}
    assert keys == {(("key_id", "a"),), (("key_id", "b"),)}


def test_a_port_that_is_taken_costs_the_metrics_and_not_the_router(make_router: MakeRouter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        router = make_router(keys=[key("a")], prometheus_port=taken.getsockname()[1])
        assert router.send_one_shot("Hello")["success"]


def test_every_attempt_is_counted_by_its_outcome(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a"), key("b", priority=1)])
    labels = {"provider": "openai", "model": "gpt-4o-mini"}
    name = "request_router_attempts_total"
    good = Change(name, outcome="success", **labels)
    bad = Change(name, outcome="provider_unavailable", **labels)
    simulator.add_fault("server_error", times=1)
    for _ in range(3):
        router.send_one_shot("Hello")
    assert (good(), bad()) == (3, 1)


def test_refusals_for_a_rate_limit_are_counted_by_who_refused(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a", rpm=2)])
    by_provider = Change("request_router_rate_limited_total", source="provider")
    by_router = Change("request_router_rate_limited_total", source="router")
    simulator.add_fault("rate_limit_exceeded", times=1, retry_after=0.001)
    for _ in range(4):
        router.send_one_shot("Hello")
    assert (by_provider(), by_router()) == (1, 2)


def test_requests_their_time_and_their_tokens_are_counted(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")])
    requests = Change("request_router_requests_total", outcome="success")
    timed = Change("request_router_request_seconds_count")
    given = Change("request_router_tokens_total", direction="input")
    told = Change("request_router_tokens_total", direction="output")
    tokens = router.send_one_shot("Hello")["tokens"]
    assert (requests(), timed(), given(), told()) == (1, 1, tokens["input"], tokens["output"])


def test_a_request_that_waits_long_is_counted_once(make_router: MakeRouter) -> None:
    waits = Change("request_router_waits_total", outcome="waited")
    router = make_router(keys=[key("a", rpm=1)], rate_window_seconds=0.5)
    router.send_one_shot("Hello")
    assert router.send_one_shot("Hello", max_wait=3)["success"]
    assert waits() == 1


def test_what_goes_wrong_beside_the_answers_is_counted(make_router: MakeRouter) -> None:
    make_router(keys=[key("a")])
    lost = Change("request_router_faults_total", kind="SettleFailed")
    rejected = Change("request_router_faults_total", kind="KeysRejected")
    emit(SettleFailed("r1", "a", "Redis is away"))
    emit(KeysRejected("keys.json", "no JSON"))
    assert (lost(), rejected()) == (1, 1)


def test_a_key_that_is_out_until_somebody_acts_shows_minus_one(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a"), key("b")])
    simulator.revoke("a")
    for _ in range(2):
        router.send_one_shot("Hello")
    assert gauge("key_cooldown", "a") == -1
    assert gauge("key_cooldown", "b") == 0


def test_the_cooldown_is_the_longest_of_the_keys_own_and_its_groups(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a"), key("b", priority=1)])
    simulator.add_fault("rate_limit_exceeded", times=1, retry_after=300)
    router.send_one_shot("Hello")
    manager_of(router).mark_key_unhealthy("a", 5)
    assert gauge("key_cooldown", "a") == pytest.approx(300, abs=2)


def test_the_gauges_show_what_all_processes_have_used(
    make_router: MakeRouter, redis_server: RedisConnection
) -> None:
    router = make_router(keys=[key("a", rpm=10)])
    beside = manager_beside(router, redis_server)
    beside.reserve(Need(5, 5, 5), Selection(), reservation_id="theirs", lease_seconds=9)
    router.send_one_shot("Hello")
    assert gauge("key_rpm_used", "a") == 2


# -- several routers in one process ------------------------------------------------------------


def test_with_two_routers_an_attempt_is_counted_once(make_router: MakeRouter) -> None:
    first = make_router(keys=[key("a")])
    make_router(keys=[key("a")])
    requests = Change("request_router_requests_total", outcome="success")
    first.send_one_shot("Hello")
    assert requests() == 1


def test_when_one_router_closes_the_others_metrics_go_on(make_router: MakeRouter) -> None:
    first = make_router(keys=[key("a")])
    second = make_router(keys=[key("a")])
    first.close()
    requests = Change("request_router_requests_total", outcome="success")
    second.send_one_shot("Hello")
    assert requests() == 1
    assert gauge("key_rpm_used", "a") == 1


def test_when_the_last_router_closes_its_gauges_go(make_router: MakeRouter) -> None:
    make_router(keys=[key("a")]).close()
    assert gauge("key_rpm_used", "a") is None
    refused = Change("request_router_waits_total", outcome="refused")
    emit(CapacityWaited("r1", False, None))
    assert refused() == 0


def test_a_redis_out_of_reach_costs_the_gauges_and_not_the_counters(
    make_router: MakeRouter, simulator: SimulatedProvider, tmp_path: Any
) -> None:
    with PlainServer(tmp_path / "server") as server:
        router = make_router(
            keys=[key("a")],
            redis_url=server.url,
            redis_timeout_seconds=0.5,
            llm_on_redis_down="fail",
        )
        router.send_one_shot("Hello")
        failed = Change("request_router_requests_total", outcome="redis_unavailable")
        server.kill()
        router.send_one_shot("Hello")
        assert gauge("key_rpm_used", "a") is None
        assert failed() == 1
