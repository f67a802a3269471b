"""How much of a provider's load may be retries, so that a failing one is not asked ever more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

LEAST_A_SECOND = 0.5
"""A program that asks seldom may retry so often all the same."""

LARGEST = 20.0
"""Retries that can be saved up: a lull of failures does not pay for a storm."""

START = 10.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RetryBudget:
    """A token bucket for each provider: every request pays a share of a retry in, every retry takes
    a whole one out. So retries are at most that share of the requests, beside a small allowance.
    Of this process alone: what all processes keep to, their sum keeps to. Safe under threads.

    Args:
        share: retries for each request, 0 to 1.
        clock: seconds that only go forwards.

    Example:
        >>> budget = RetryBudget(0.2, clock=lambda: 0.0)
        >>> sum(budget.take("openai") for _ in range(100))
        10
    """

    def __init__(self, share: float = 0.2, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, _Bucket] = {}

    def count(self, provider: str) -> None:
        """A request is sent to a provider for the first time."""
        with self._lock:
            bucket = self._bucket(provider)
            bucket.tokens = min(LARGEST, bucket.tokens + self._share)

    def take(self, provider: str) -> bool:
        """Whether a request that failed there may be sent there once more."""
        with self._lock:
            bucket = self._bucket(provider)
            if bucket.tokens < 1.0:
                return False
            bucket.tokens -= 1.0
            return True

    def give_back(self, provider: str) -> None:
        """What was taken was not used: the request goes on elsewhere."""
        with self._lock:
            bucket = self._bucket(provider)
            bucket.tokens = min(LARGEST, bucket.tokens + 1.0)

    def _bucket(self, provider: str) -> _Bucket:
        now = self._clock()
        bucket = self._buckets.get(provider)
        if bucket is None:
            bucket = self._buckets[provider] = _Bucket(START, now)
        allowance = LEAST_A_SECOND * max(0.0, now - bucket.at)
        bucket.tokens, bucket.at = min(LARGEST, bucket.tokens + allowance), now
        return bucket
