"""Prometheus metrics: from events as they come, and from the status of the keys at each scrape."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from core.errors import StorageError
from core.events import (
    AdmittedLocally,
    AttemptFinished,
    CapacityWaited,
    CircuitOpened,
    ConversationNotSaved,
    Event,
    KeysRejected,
    RedisAway,
    RedisBack,
    RedisRecovering,
    RequestFinished,
    SecretNotRefreshed,
    SecretStoreFailing,
    SettleFailed,
    UserRefused,
)
from core.settings import Settings
from observability.following import SharedSubscription

_log = logging.getLogger(__name__)

Statuses = Callable[[], Sequence[Mapping[str, Any]]]

ATTEMPTS = Counter(
    "request_router_attempts",
    "Tries on a key, by how they ended",
    ["provider", "model", "outcome"],
)
RATE_LIMITED = Counter(
    "request_router_rate_limited",
    "Refusals for a rate limit: by a provider, or by this router before anything was sent "
    "(router: no key had room; user, all_users: the limit of a user, of all of them)",
    ["source"],
)
REQUESTS = Counter("request_router_requests", "Requests, by how they ended", ["outcome"])
SECONDS = Histogram(
    "request_router_request_seconds",
    "Time from a request to its reply",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
TOKENS = Counter("request_router_tokens", "Tokens of answered requests", ["direction"])
WAITS = Counter("request_router_waits", "Requests that found every key full", ["outcome"])
CIRCUITS = Counter(
    "request_router_circuits_opened", "Circuits of keys and services that opened", ["provider"]
)
FAULTS = Counter(
    "request_router_faults", "What went wrong beside the answers, by kind of event", ["kind"]
)

REDIS_UP = Gauge(
    "request_router_redis_up", "1 while Redis can do its work, 0 while any part of it is away"
)
REDIS_UP.set(1)
REDIS_RECOVERING = Gauge(
    "request_router_redis_recovering",
    "1 while Redis answers, but may not know all that was used",
)
LOCAL = Counter(
    "request_router_local_admissions", "Requests admitted while Redis was away", ["provider"]
)


@lru_cache(maxsize=4096)
def _child(counter: Counter, *labels: str) -> Counter:
    # prometheus_client validates the labels at each look-up; this is on the way of every request.
    return counter.labels(*labels)


class _KeyGauges(Collector):
    """Reads the keys' status of every router of the process when Prometheus asks."""

    def __init__(self) -> None:
        self.sources: list[Statuses] = []
        self._missing = False

    def collect(self) -> Iterable[GaugeMetricFamily]:
        rpm = GaugeMetricFamily("key_rpm_used", "Requests in the current window", labels=["key_id"])
        tpm = GaugeMetricFamily("key_tpm_used", "Tokens in the current window", labels=["key_id"])
        cooling = GaugeMetricFamily(
            "key_cooldown",
            "Seconds for which a key is passed over; -1 until somebody acts",
            labels=["key_id"],
        )
        for status in self._statuses():
            label = [status["key_id"]]
            rpm.add_metric(label, status["rpm"]["used"])
            tpm.add_metric(label, status["tpm"]["used"])
            seconds = status["cooldown_seconds"]
            cooling.add_metric(label, -1.0 if seconds is None else seconds)
        return [rpm, tpm, cooling]

    def _statuses(self) -> Iterable[Mapping[str, Any]]:
        found: dict[str, Mapping[str, Any]] = {}
        missing = False
        for source in self.sources:
            try:
                found.update((status["key_id"], status) for status in source())
            except StorageError as error:
                FAULTS.labels("StorageError").inc()
                if not self._missing:  # one line, not one a scrape
                    _log.warning("the keys' metrics are missing: %s", error)
                missing = True
        self._missing = missing
        return found.values()


_gauges = _KeyGauges()
_lock = threading.Lock()
_served_port: int | None = None
_away: set[str] = set()
_recovering: set[str] = set()


def follow_with_metrics(settings: Settings, statuses: Statuses) -> Callable[[], None]:
    """Count events, and serve the metrics on `PROMETHEUS_PORT` if it is set.

    Several routers of a process count each event once.

    Args:
        statuses: gives the status of every key; called once for each scrape.

    Returns:
        A function that ends the counting; the server goes on, as a process has but one.
    """
    with _lock:
        if not _gauges.sources:
            REGISTRY.register(_gauges)
        _gauges.sources.append(statuses)
        _serve(settings.prometheus_port, str(settings.prometheus_address))
    unfollow = _shared.follow()

    def end() -> None:
        unfollow()
        with _lock:
            if statuses not in _gauges.sources:
                return
            _gauges.sources.remove(statuses)
            if not _gauges.sources:
                REGISTRY.unregister(_gauges)

    return end


def _count(event: Event) -> None:
    match event:
        case AttemptFinished():
            _child(ATTEMPTS, event.provider, event.model, event.outcome).inc()
            if event.outcome == "rate_limited":
                RATE_LIMITED.labels("provider").inc()
        case RequestFinished():
            _child(REQUESTS, event.outcome).inc()
            SECONDS.observe(event.duration_ms / 1000)
            _child(TOKENS, "input").inc(event.input_tokens)
            _child(TOKENS, "output").inc(event.output_tokens)
        case CapacityWaited():
            WAITS.labels("waited" if event.waited else "refused").inc()
            if not event.waited:
                RATE_LIMITED.labels("router").inc()
        case UserRefused():
            _child(RATE_LIMITED, event.source).inc()
        case CircuitOpened():
            CIRCUITS.labels(event.provider).inc()
        case AdmittedLocally():
            _child(LOCAL, event.provider).inc()
        case RedisAway() | RedisRecovering() | RedisBack():
            _follow_redis(event)
        case (
            SettleFailed()
            | ConversationNotSaved()
            | KeysRejected()
            | SecretStoreFailing()
            | SecretNotRefreshed()
        ):
            FAULTS.labels(type(event).__name__).inc()


def _follow_redis(event: RedisAway | RedisRecovering | RedisBack) -> None:
    with _lock:
        for parts, kind in ((_away, RedisAway), (_recovering, RedisRecovering)):
            if isinstance(event, kind):
                parts.add(event.redis)
            else:
                parts.discard(event.redis)
        REDIS_UP.set(0 if _away else 1)
        REDIS_RECOVERING.set(1 if _recovering else 0)


def _serve(port: int | None, address: str) -> None:
    global _served_port
    if port is None or _served_port is not None:
        return
    try:
        start_http_server(port, address)
    except OSError as error:
        # Another process of the same program may hold it; requests matter more than metrics.
        _log.warning(
            "metrics are not served on PROMETHEUS_ADDRESS %s, PROMETHEUS_PORT %d: %s",
            address,
            port,
            error,
        )
        return
    _served_port = port


_shared = SharedSubscription(_count)
