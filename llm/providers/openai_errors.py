"""What OpenAI's errors mean, and those of servers that speak its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ContextTooLong,
    ModelForbidden,
    ProviderRateLimited,
    QuotaExhausted,
    RegionUnsupported,
    RequestRejected,
)
from llm.providers.headers import retry_after
from llm.providers.translate import Answer, Refusal, Rule, codes_in

_GUIDE = "developers.openai.com/api/docs/guides/error-codes"
_SPEND = "help.openai.com/en/articles/6614457: the type may still be insufficient_quota"
_AZURE = "learn.microsoft.com: Azure OpenAI content filtering"

RULES = (
    Rule(error=QuotaExhausted, code="credit_balance_exhausted", source=_SPEND),
    Rule(error=QuotaExhausted, code="*_spend_limit_exceeded", source=_SPEND),
    Rule(error=QuotaExhausted, code="organization_usage_limit_exceeded", source=_SPEND),
    Rule(error=QuotaExhausted, code="insufficient_quota", source=_GUIDE),
    Rule(error=QuotaExhausted, code="billing_*", source="billing_hard_limit_reached, 400, "
         "dfinke/PowerShellAI#127; billing_not_active, 429, BerriAI/litellm#2743"),
    Rule(error=RegionUnsupported, code="unsupported_country_region_territory", source=_GUIDE),
    Rule(error=RegionUnsupported, status=403, says="country, region, or territory not supported",
         source=_GUIDE),
    Rule(error=AuthenticationFailed, code="invalid_api_key", source=_GUIDE),
    Rule(error=AuthenticationFailed, says="incorrect api key provided",
         source="continuedev/continue#10778: xAI says it with a 400"),
    Rule(error=ModelForbidden, code="model_not_found",
         source=_GUIDE + ": 403, and 404 'does not exist or you do not have access to it'"),
    Rule(error=ModelForbidden, code="DeploymentNotFound", source="learn.microsoft.com: Azure 404"),
    # It can never be admitted, by no key of such a limit: waiting or another key would not help.
    Rule(error=RequestRejected, status=429, says="request too large",
         source="community.openai.com: 'Request too large for gpt-4o ... Limit 30000, Requested'"),
    # The same code comes with 503: endpoints are moving from one to the other.
    Rule(error=ProviderRateLimited, code="slow_down", source=_GUIDE),
    Rule(error=ContextTooLong, code="context_length_exceeded", source=_GUIDE),
    Rule(error=ContextTooLong, status=400, says="maximum context length",
         source="vllm and OpenRouter say it without the code"),
    Rule(error=ContentBlocked, code="ResponsibleAIPolicyViolation", source=_AZURE),
    Rule(error=ContentBlocked, code="content_filter", source=_AZURE),
    Rule(error=ContentBlocked, code="content_policy_violation", source=_GUIDE),
    Rule(error=ContentBlocked, code="invalid_prompt",
         source="usestrix/strix#1162: reasoning models, 'flagged as potentially violating'"),
)  # fmt: skip

STATUS_OF = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "tokens": 429,
    "requests": 429,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
}
"""The status that an error would have had before the stream began, by its code or type; other
errors in a stream are the server's own."""


def refusal_of(answer: Answer) -> Refusal:
    """What an error answer says; the body is `{"error": {...}}`, or one of its look-alikes."""
    body = answer.json()
    error = body.get("error", body) if isinstance(body, dict) else body
    request_id = answer.headers.get("x-request-id") or answer.headers.get("apim-request-id")
    wait = retry_after(answer.headers)
    if not isinstance(error, dict):
        text = error if isinstance(error, str) else answer.text()
        return Refusal(status=answer.status, message=text, request_id=request_id, retry_after=wait)
    inner = error.get("innererror")
    codes = codes_in(error, "code", "type")
    if isinstance(inner, dict):
        codes += codes_in(inner, "code")
    message = error.get("message") or error.get("detail") or error.get("error") or ""
    return Refusal(
        status=answer.status,
        codes=codes,
        message=str(message),
        request_id=request_id,
        retry_after=wait,
        reasons=filtered(inner.get("content_filter_result") if isinstance(inner, dict) else None),
    )


def filtered(results: Any) -> tuple[str, ...]:
    """The names of what Azure's filter found, from `{"hate": {"filtered": true}, ...}`."""
    if not isinstance(results, Mapping):
        return ()
    return tuple(
        str(name)
        for name, result in results.items()
        if isinstance(result, Mapping) and result.get("filtered") is True
    )
