"""What providers say in headers about their limits, and when to come back.

Headers arrive as a plain mapping with names in lower case. What cannot be understood is left out:
a wrong number would correct the limiter wrongly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from core.types import ProviderQuota

Headers = Mapping[str, str]
Dimension = Literal["requests", "tokens", "input_tokens", "output_tokens"]

LONGEST_RETRY_SECONDS = 86_400.0

_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)")
_UNIT_SECONDS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0
}  # fmt: skip
_OPENAI: tuple[Dimension, ...] = ("requests", "tokens")
_ANTHROPIC: tuple[Dimension, ...] = ("requests", "tokens", "input_tokens", "output_tokens")


def parse_duration(text: str) -> float | None:
    """Seconds of a duration as OpenAI's resets and Gemini's `retryDelay` write it.

    Example:
        >>> [parse_duration(text) for text in ("12ms", "8.64s", "6m0s", "26s", "soon")]
        [0.012, 8.64, 360.0, 26.0, None]
    """
    text = text.strip()
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def retry_after(headers: Headers, now: datetime | None = None) -> float | None:
    """Seconds until the provider wants to be asked again, at most a day; None if it says nothing.

    Args:
        headers: `retry-after-ms` wins over `retry-after`, which holds seconds or an HTTP date.
        now: the time that a date is compared with; default is the clock's.

    Example:
        >>> retry_after({"retry-after": "20", "retry-after-ms": "1500"})
        1.5
    """
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return _capped(milliseconds / 1000)
    text = headers.get("retry-after", "")
    seconds = _number(text)
    if seconds is not None:
        return _capped(seconds)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return _capped(_until(moment, now))


def openai_quotas(headers: Headers) -> tuple[ProviderQuota, ...]:
    """The limits of `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`.

    Example:
        >>> openai_quotas({"x-ratelimit-remaining-tokens": "90"})
        (ProviderQuota(dimension='tokens', remaining=90, limit=None, reset_seconds=None),)
    """
    quotas = []
    for dimension in _OPENAI:
        quota = _quota(
            dimension,
            headers.get(f"x-ratelimit-limit-{dimension}"),
            headers.get(f"x-ratelimit-remaining-{dimension}"),
            parse_duration(headers.get(f"x-ratelimit-reset-{dimension}", "")),
        )
        if quota is not None:
            quotas.append(quota)
    return tuple(quotas)


def anthropic_quotas(headers: Headers, now: datetime | None = None) -> tuple[ProviderQuota, ...]:
    """The limits of `anthropic-ratelimit-*-{limit,remaining,reset}`; resets are RFC 3339 times."""
    quotas = []
    for dimension in _ANTHROPIC:
        name = f"anthropic-ratelimit-{dimension.replace('_', '-')}"
        remaining = headers.get(f"{name}-remaining")
        if remaining is None:
            continue
        reset = _until_text(headers.get(f"{name}-reset", ""), now)
        quota = _quota(dimension, headers.get(f"{name}-limit"), remaining, reset)
        if quota is not None:
            quotas.append(quota)
    return tuple(quotas)


def _quota(
    dimension: Dimension, limit: str | None, remaining: str | None, reset: float | None
) -> ProviderQuota | None:
    whole, left = _count(limit), _count(remaining)
    # Azure sends -1 or 0 as the limit where it has nothing to tell, with a meaningless rest.
    if left is None or left < 0 or (limit is not None and (whole is None or whole <= 0)):
        return None
    if limit is None and left == 0:
        return None
    return ProviderQuota(dimension, left, whole, reset)


def _count(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _capped(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST_RETRY_SECONDS)


def _until(moment: datetime, now: datetime | None) -> float:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - (now or datetime.now(UTC))).total_seconds()


def _until_text(text: str, now: datetime | None) -> float | None:
    try:
        return max(0.0, _until(datetime.fromisoformat(text), now))
    except ValueError:
        return None
