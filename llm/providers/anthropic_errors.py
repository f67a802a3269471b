"""What Anthropic's errors mean."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ContextTooLong,
    ModelForbidden,
    ProviderUnavailable,
    QuotaExhausted,
    RegionUnsupported,
)
from llm.providers.headers import retry_after
from llm.providers.translate import Answer, Refusal, Rule, codes_in

_ERRORS = "platform.claude.com/docs/en/api/errors"
_SPEND = "platform.claude.com/docs/en/api/rate-limits: spend limits"
_ACCESS = re.compile(r"regain access on (\d{4}-\d\d-\d\d) at (\d\d:\d\d) UTC")


def until_next_month(refusal: Refusal, now: datetime) -> float:
    """Seconds until a tier's spend cap ends: 00:00 UTC on the first of the next month."""
    year, month = (now.year + 1, 1) if now.month == 12 else (now.year, now.month + 1)
    return (datetime(year, month, 1, tzinfo=UTC) - now).total_seconds()


def until_access(refusal: Refusal, now: datetime) -> float | None:
    """Seconds until the time that the message names, or None if it names none."""
    found = _ACCESS.search(refusal.message)
    if found is None:
        return None
    moment = datetime.fromisoformat(f"{found[1]}T{found[2]}+00:00")
    return max(0.0, (moment - now).total_seconds())


RULES = (
    Rule(error=QuotaExhausted, code="enforced_spend_limit_reached", wait=until_next_month,
         source=_SPEND + ": 429 without retry-after"),
    Rule(error=QuotaExhausted, code="*_spend_limit_reached",
         source="anthropic.types.shared.ErrorDetails"),
    Rule(error=QuotaExhausted, code="*_billing_unavailable",
         source="anthropic.types.shared.ErrorDetails"),
    Rule(error=QuotaExhausted, status=400, says="you have reached your specified",
         wait=until_access, source=_SPEND + ": 'API usage limits', 'workspace API usage limits'"),
    Rule(error=QuotaExhausted, says="credit balance is too low",
         source="anthropics/claude-code#4684: a 400"),
    Rule(error=QuotaExhausted, code="billing_error", source=_ERRORS),
    Rule(error=AuthenticationFailed, code="organization_on_hold",
         source="anthropic.types.shared.OrganizationOnHoldErrorDetails"),
    Rule(error=AuthenticationFailed, says="organization has been disabled",
         source="anthropics/claude-code#72457: a 400"),
    Rule(error=AuthenticationFailed, code="authentication_error", source=_ERRORS),
    Rule(error=RegionUnsupported, status=403, says="request not allowed",
         source="enricoros/big-AGI#485: type 'forbidden' from unsupported places"),
    Rule(error=ModelForbidden, status=404, code="not_found_error", says="model:", source=_ERRORS),
    Rule(error=ContextTooLong, status=400, says="prompt is too long", source=_ERRORS),
    Rule(error=ContextTooLong, status=400, says="exceed context limit",
         source="docker/docker-agent#569: 'input length and `max_tokens` exceed context limit'"),
    Rule(error=ContentBlocked, status=400, says="blocked by content filtering policy",
         source="anthropics/claude-code#37547"),
    # A proxy may put an error of the service into a status of its own.
    Rule(error=ProviderUnavailable, code="overloaded_error", source=_ERRORS),
    Rule(error=ProviderUnavailable, code="api_error", source=_ERRORS),
    Rule(error=ProviderUnavailable, code="timeout_error", source=_ERRORS),
)  # fmt: skip

# platform.claude.com/docs/en/api/errors
STATUS_OF = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The status of each type: an error inside a stream comes without one."""


def refusal_of(answer: Answer) -> Refusal:
    """What an error answer says: `{"type": "error", "error": {...}, "request_id": ...}`."""
    body = answer.json()
    error = body.get("error") if isinstance(body, dict) else None
    request_id = answer.headers.get("request-id")
    wait = retry_after(answer.headers)
    if not isinstance(error, dict):
        return Refusal(
            status=answer.status, message=answer.text(), request_id=request_id, retry_after=wait
        )
    details = error.get("details")
    codes = codes_in(details, "error_code") if isinstance(details, dict) else ()
    return Refusal(
        status=answer.status,
        codes=codes + codes_in(error, "type"),
        message=str(error.get("message") or ""),
        request_id=request_id,
        retry_after=wait,
    )
