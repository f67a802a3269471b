"""A running simulation can be configured, broken, revoked, reset and asked."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any
from urllib.parse import urlsplit

import pytest

from tools.simulated_provider import (
    Fault,
    KeySettings,
    SimulatedProvider,
    SimulationClient,
    SimulationSettings,
)
from tools.simulation.faults import FaultBook


@pytest.fixture
def provider() -> Iterator[SimulatedProvider]:
    with SimulatedProvider() as running:
        yield running


def send(
    provider: SimulationClient, key: str = "key-1", protocol: str = "openai", model: str = "m"
) -> int:
    """One small request in that protocol; returns the status."""
    return exchange(provider, key, protocol, model)[0]


def exchange(
    provider: SimulationClient, key: str, protocol: str = "openai", model: str = "m"
) -> tuple[int, dict[str, Any]]:
    messages = [{"role": "user", "content": "Hello"}]
    path, header, value, body = {
        "openai": (
            "/v1/chat/completions",
            "authorization",
            f"Bearer {key}",
            {"model": model, "messages": messages},
        ),
        "anthropic": (
            "/v1/messages",
            "x-api-key",
            key,
            {"model": model, "max_tokens": 9, "messages": messages},
        ),
        "gemini": (
            f"/v1beta/models/{model}:generateContent",
            "x-goog-api-key",
            key,
            {"contents": [{"parts": [{"text": "Hello"}]}]},
        ),
    }[protocol]
    connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=5)
    try:
        connection.request("POST", path, json.dumps(body), {header: value})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_it_says_that_it_is_well(provider: SimulatedProvider) -> None:
    provider.add_fault("server_error")
    assert provider.health() == {"status": "ok", "faults": ["server_error"]}


@pytest.mark.parametrize(
    ("protocol", "status", "mark"),
    [
        ("openai", 401, "invalid_api_key"),
        ("anthropic", 401, "authentication_error"),
        ("gemini", 400, "API_KEY_INVALID"),
    ],
)
def test_a_revoked_key_is_refused_as_its_provider_would(
    provider: SimulatedProvider, protocol: str, status: int, mark: str
) -> None:
    provider.configure_key("key-1", name="first")
    assert send(provider, protocol=protocol) == 200
    provider.revoke("key-1")
    refused, body = exchange(provider, "key-1", protocol)
    assert refused == status
    assert mark in json.dumps(body)
    assert "key-1" not in json.dumps(body)
    report = provider.report()["keys"]["first"]
    assert report["revoked"]
    assert report["refused_by"] == {"revoked": 1}
    provider.configure_key("key-1", name="first")
    assert send(provider, protocol=protocol) == 200


def test_a_key_can_be_revoked_by_its_name(provider: SimulatedProvider) -> None:
    provider.configure_key("key-1", name="first")
    provider.revoke("first")
    assert send(provider) == 401
    with pytest.raises(ValueError, match="no key has that"):
        provider.revoke("second")


def test_a_report_adds_up(provider: SimulatedProvider) -> None:
    provider.configure_key("key-1", name="first", rpm=2)
    statuses = [send(provider) for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert send(provider, "key-2") == 200
    report = provider.report(timestamps=True)
    first = report["keys"]["first"]
    assert (first["accepted"], first["refused"], first["refused_by"]) == (2, 1, {"rpm": 1})
    assert (first["tokens_in"], first["tokens_out"]) == (4, 26)
    assert first["limits"]["rpm"] == {"limit": 2, "peak": 2, "overshoot": 0}
    assert [tokens for _, tokens in first["accepted_at"]] == [2, 2]
    assert report["totals"] == {
        "accepted": 3,
        "refused": 1,
        "tokens_in": 6,
        "tokens_out": 39,
        "overshoot": 0,
    }
    assert len(report["keys"]) == 2
    provider.reset()
    assert provider.report()["totals"]["accepted"] == 0
    assert send(provider) == 200


def test_concurrency_has_a_limit_and_a_peak(provider: SimulatedProvider) -> None:
    provider.configure_key("key-1", name="first", max_parallel=3)
    provider.add_fault("latency", seconds=0.5)
    start = threading.Barrier(6)

    def one() -> int:
        start.wait()
        return send(provider)

    with ThreadPoolExecutor(6) as pool:
        statuses = [future.result() for future in [pool.submit(one) for _ in range(6)]]
    assert sorted(statuses) == [200, 200, 200, 429, 429, 429]
    report = provider.report()["keys"]["first"]
    assert report["concurrency_peak"] == 3
    assert report["refused_by"] == {"max_parallel": 3}


def test_many_threads_never_get_more_than_the_limit(provider: SimulatedProvider) -> None:
    provider.configure_key("key-1", name="first", rpm=50)
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda _: send(provider), range(120)))
    assert statuses.count(200) == 50
    assert provider.report()["keys"]["first"]["limits"]["rpm"]["peak"] == 50


def test_limits_recover_with_a_short_window() -> None:
    settings = SimulationSettings(window_seconds=0.2, default=KeySettings(rpm=1))
    now = [1_700_000_000.0]
    with SimulatedProvider(settings, clock=lambda: now[0]) as provider:
        assert [send(provider), send(provider)] == [200, 429]
        now[0] += 0.2
        assert send(provider) == 200


def test_faults_can_be_aimed(provider: SimulatedProvider) -> None:
    provider.configure_key("key-1", name="first")
    provider.add_fault("server_error", key="first", model="large")
    assert send(provider, "key-1", model="large") == 500
    assert send(provider, "key-1", model="small") == 200
    assert send(provider, "key-2", model="large") == 200
    provider.clear_faults()
    provider.add_fault("html", protocol="gemini")
    assert send(provider, protocol="openai") == 200
    assert send(provider, protocol="anthropic") == 200
    assert exchange_status_of_page(provider) == 502


def exchange_status_of_page(provider: SimulatedProvider) -> int:
    connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=5)
    try:
        body = json.dumps({"contents": [{"parts": [{"text": "Hello"}]}]})
        path = "/v1beta/models/m:generateContent?key=key-1"
        connection.request("POST", path, body)
        return connection.getresponse().status
    finally:
        connection.close()


def test_faults_strike_as_often_as_told(provider: SimulatedProvider) -> None:
    provider.add_fault("server_error", times=2)
    assert [send(provider) for _ in range(4)] == [500, 500, 200, 200]
    assert provider.health()["faults"] == []


def test_probability_is_a_share() -> None:
    book = FaultBook(Random(1), [Fault(kind="server_error", probability=0.25)])
    struck = sum(bool(book.strike("openai", "m", ("k",)).name) for _ in range(4_000))
    assert struck == pytest.approx(1_000, rel=0.1)


def test_a_named_error_concerns_the_protocols_that_know_it() -> None:
    book = FaultBook(Random(0), [Fault(kind="overloaded_error")])
    assert book.strike("openai", "m", ("k",)).name == ""
    assert book.strike("anthropic", "m", ("k",)).name == "overloaded_error"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "nonsense"},
        {"kind": "overloaded_error", "protocol": "openai"},
        {"kind": "drop", "protocol": "cohere"},
        {"kind": "drop", "probability": 2},
        {"kind": "drop", "times": 0},
        {"kind": "drop", "error": "server_error"},
        {"kind": "latency"},
        {"kind": "flap", "error": "latency"},
        {"kind": "stall", "seconds": "uniform:1:2"},
        {"kind": "drop", "colour": "red"},
    ],
)
def test_a_fault_that_means_nothing_is_refused(
    provider: SimulatedProvider, wrong: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"\w+"):
        Fault.from_mapping(wrong)
    connection = http.client.HTTPConnection(urlsplit(provider.url).netloc, timeout=5)
    try:
        connection.request("POST", "/_sim/faults", json.dumps(wrong))
        response = connection.getresponse()
        assert response.status == 400
        assert json.loads(response.read())["error"]
    finally:
        connection.close()


def test_wrong_arguments_are_told_to_the_caller(provider: SimulatedProvider) -> None:
    with pytest.raises(ValueError, match="rpm must be"):
        provider.configure_key("key-1", rpm=0)
    with pytest.raises(ValueError, match="needs a secret"):
        provider.configure_key("")


def test_a_taken_port_is_told() -> None:
    with SimulatedProvider() as first:
        port = urlsplit(first.url).port
        assert port is not None
        with pytest.raises(OSError, match=str(port)):
            SimulatedProvider(SimulationSettings(port=port)).__enter__()
