"""What Gemini's errors mean. Its limits are told in the body of a 429, never in headers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from core.errors import (
    AuthenticationFailed,
    ContextTooLong,
    ModelForbidden,
    ProviderRateLimited,
    QuotaExhausted,
)
from keys.policies import day_end_ms, policy_of
from llm.providers.headers import LONGEST_RETRY_SECONDS, parse_duration, retry_after
from llm.providers.translate import Answer, Refusal, Rule, codes_in, objects

_GUIDE = "ai.google.dev/gemini-api/docs/troubleshooting"
_REASONS = "cloud.google.com/apis/design/errors: google.api.ErrorReason"
_BILLING = "ai.google.dev/gemini-api/docs/billing"
_MINUTES = 600.0


def until_midnight(refusal: Refusal, now: datetime) -> float | None:
    """Seconds until the day's quota is new: midnight Pacific.

    `retryDelay` is often some seconds even for a spent day; only a long one is meant.
    """
    if refusal.retry_after is not None and refusal.retry_after >= _MINUTES:
        return refusal.retry_after
    return day_end_ms(policy_of("gemini").day_zone, now) / 1000 - now.timestamp()


RULES = (
    Rule(error=AuthenticationFailed, code="API_KEY_*", source=_REASONS + ": API_KEY_INVALID is a "
         "400; API_KEY_SERVICE_BLOCKED, API_KEY_IP_ADDRESS_BLOCKED and others are 403"),
    Rule(error=AuthenticationFailed, status=400, says="pass a valid api key",
         source="google-gemini/gemini-cli#25198: 'not valid', 'not found'"),
    Rule(error=AuthenticationFailed, status=403, says="reported as leaked",
         source="continuedev/continue#11541"),
    Rule(error=AuthenticationFailed, status=403, says="unregistered callers", source=_GUIDE),
    Rule(error=AuthenticationFailed, code="CONSUMER_*",
         source=_REASONS + ": CONSUMER_SUSPENDED, CONSUMER_INVALID"),
    Rule(error=AuthenticationFailed, code="SERVICE_DISABLED", source=_REASONS),
    Rule(error=QuotaExhausted, code="BILLING_DISABLED", source=_REASONS),
    # "User location is not supported" is this one too: a key with billing is served there.
    Rule(error=QuotaExhausted, code="FAILED_PRECONDITION",
         source=_GUIDE + ": no free tier in this country, enable billing"),
    Rule(error=QuotaExhausted, status=429, says="prepayment credits",
         source=_BILLING + ": a 402; the 429 is [I]"),
    Rule(error=QuotaExhausted, status=429, says="spending cap",
         source=_BILLING + " [I]"),
    Rule(error=ProviderRateLimited, status=429, code="*PerDay*", wait=until_midnight,
         source="ai.google.dev/gemini-api/docs/rate-limits: QuotaFailure.quotaId"),
    Rule(error=ModelForbidden, status=404, says="models/",
         source=_GUIDE + ": not found, or closed to new users of the project"),
    Rule(error=ContextTooLong, status=400, says="exceeds the maximum number of tokens",
         source=_GUIDE),
)  # fmt: skip


def refusal_of(answer: Answer) -> Refusal:
    """What an error answer says: a `google.rpc.Status` with its details, or a list of one."""
    body = answer.json()
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return Refusal(
            status=answer.status, message=answer.text(), retry_after=retry_after(answer.headers)
        )
    reasons, quotas, delay = _details(error.get("details"))
    return Refusal(
        status=answer.status,
        codes=(*reasons, *quotas, *codes_in(error, "status")),
        message=str(error.get("message") or ""),
        retry_after=delay if delay is not None else retry_after(answer.headers),
    )


def _details(details: Any) -> tuple[list[str], list[str], float | None]:
    """`ErrorInfo.reason`, `QuotaFailure.violations[].quotaId` and `RetryInfo.retryDelay`."""
    reasons: list[str] = []
    quotas: list[str] = []
    delay: float | None = None
    for detail in objects(details):
        reasons += codes_in(detail, "reason")
        for violation in objects(detail.get("violations")):
            quotas += codes_in(violation, "quotaId")
        text = detail.get("retryDelay")
        seconds = parse_duration(text) if isinstance(text, str) else None
        if seconds is not None:
            delay = min(seconds, LONGEST_RETRY_SECONDS)
    # A spent day outlasts a spent minute, so it speaks for all.
    quotas.sort(key=lambda quota: "PerDay" not in quota)
    return reasons, quotas, delay
