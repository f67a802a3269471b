"""What is read from rate-limit headers, and what is rather left out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.types import ProviderQuota
from llm.providers.headers import anthropic_quotas, openai_quotas, parse_duration, retry_after

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("8.64s", 8.64),
        ("6m0s", 360.0),
        ("1h2m3.5s", 3723.5),
        ("1d2h", 93_600.0),
        ("0s", 0.0),
        ("26s", 26.0),
        ("37025.723541104s", 37025.723541104),
        (" 20s ", 20.0),
        ("", None),
        ("20", None),
        ("soon", None),
        ("-5s", None),
        ("5s later", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "20", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "20", "retry-after-ms": "soon"}, 20.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:01:30 GMT"}, 90.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "99999999"}, 86_400.0),
        ({"retry-after": "Sat, 21 Nov 2099 12:00:00 GMT"}, 86_400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == seconds


def test_openai_tells_requests_and_tokens() -> None:
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "6m0s",
    }
    assert openai_quotas(headers) == (
        ProviderQuota("requests", 499, 500, 0.12),
        ProviderQuota("tokens", 0, 30_000, 360.0),
    )


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [("-1", "-1"), ("0", "0"), ("0", "999"), ("-1", "7"), ("many", "7"), (None, "0"), ("5", None)],
)
def test_azure_nonsense_is_left_out(limit: str | None, remaining: str | None) -> None:
    headers = {
        "x-ratelimit-limit-requests": limit,
        "x-ratelimit-remaining-requests": remaining,
    }
    assert openai_quotas({name: text for name, text in headers.items() if text}) == ()


def test_anthropic_tells_resets_as_times() -> None:
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-11-21T12:00:02Z",
        "anthropic-ratelimit-input-tokens-limit": "40000",
        "anthropic-ratelimit-input-tokens-remaining": "39000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-21T11:59:00Z",
        "anthropic-ratelimit-output-tokens-limit": "8000",
        "anthropic-ratelimit-output-tokens-remaining": "8000",
        "anthropic-ratelimit-output-tokens-reset": "whenever",
    }
    assert anthropic_quotas(headers, NOW) == (
        ProviderQuota("requests", 49, 50, 2.0),
        ProviderQuota("input_tokens", 39_000, 40_000, 0.0),
        ProviderQuota("output_tokens", 8_000, 8_000, None),
    )
