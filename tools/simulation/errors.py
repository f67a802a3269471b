"""Every error that the simulated providers can give, in one table.

A row says what the provider sends: status, type, code, message, and `retry-after` in seconds where
it sends one. Rows of status 200 are refusals inside a success: `outcome` says how they end.
A message may use the fields of `Facts`. `source` says where the row is from: a provider's own
guide, or a public issue (`owner/repository#number`) in which somebody pasted the body.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tools.simulation.formats import go_duration

Outcome = Literal["stop", "length", "called", "filtered", "prompt_blocked"]


@dataclass(frozen=True, slots=True)
class Row:
    """One named error. For Gemini, `type` is the status and `code` the reason or the quota id."""

    status: int
    type: str
    code: str | None
    message: str
    source: str
    retry_after: float | None = None
    param: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a body may mention: the request, and the limit that it met; `wait` is in seconds."""

    model: str = "simulated-model"
    detail: str = "the request is not valid"
    param: str | None = None
    tokens: int = 200_000
    context: int = 128_000
    what: str = "requests per min (RPM)"
    limit: int = 60
    used: int = 60
    requested: int = 1
    wait: float = 20.0
    fine: bool = False

    def fill(self, template: str) -> str:
        """The message with these facts put in."""
        return template.format(
            model=self.model,
            detail=self.detail,
            tokens=self.tokens,
            context=self.context,
            what=self.what,
            limit=self.limit,
            used=self.used,
            requested=self.requested,
            wait=go_duration(self.wait if math.isfinite(self.wait) else 0.0),
        )


_GUIDE = "developers.openai.com/api/docs/guides/error-codes"
_SPEND = "help.openai.com/en/articles/6614457: four codes share the type insufficient_quota"
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_RATE = (
    "Rate limit reached for {model} in organization org-simulated on {what}: Limit {limit}, "
    "Used {used}, Requested {requested}. Please try again in {wait}. "
    "Visit https://platform.openai.com/account/rate-limits to learn more."
)
_SLOW = "Your request rate increased too quickly. Reduce it, then increase it gradually."
_SORRY = "The server had an error while processing your request. Sorry about that!"

# fmt: off
_OPENAI = {
    "missing_api_key": Row(401, "invalid_request_error", None,
        "You didn't provide an API key. You need to provide your API key in an Authorization "
        "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).", _GUIDE),
    "invalid_api_key": Row(401, "invalid_request_error", "invalid_api_key",
        "Incorrect API key provided: ****. You can find your API key at "
        "https://platform.openai.com/account/api-keys.", _GUIDE),
    "insufficient_quota": Row(429, "insufficient_quota", "insufficient_quota",
        _QUOTA, "OpenHands/OpenHands#998"),
    "credit_balance_exhausted": Row(429, "insufficient_quota", "credit_balance_exhausted",
        _QUOTA, _SPEND),
    "organization_spend_limit_exceeded": Row(429, "insufficient_quota",
        "organization_spend_limit_exceeded", _QUOTA, _SPEND),
    "project_spend_limit_exceeded": Row(429, "insufficient_quota",
        "project_spend_limit_exceeded", _QUOTA, _SPEND),
    "organization_usage_limit_exceeded": Row(429, "insufficient_quota",
        "organization_usage_limit_exceeded", _QUOTA, _SPEND),
    "billing_hard_limit_reached": Row(400, "invalid_request_error", "billing_hard_limit_reached",
        "Billing hard limit has been reached", "dfinke/PowerShellAI#127"),
    "rate_limit_exceeded": Row(429, "requests", "rate_limit_exceeded", _RATE,
        "continuedev/continue#11472", retry_after=20.0),
    "rate_limit_exceeded_tokens": Row(429, "tokens", "rate_limit_exceeded", _RATE,
        "continuedev/continue#11472", retry_after=20.0),
    "request_exceeds_limit": Row(429, "tokens", "rate_limit_exceeded",
        "Request too large for {model} in organization org-simulated on {what}: Limit {limit}, "
        "Requested {requested}. The input or output tokens must be reduced in order to run "
        "successfully.", "DrShushen/climb#13; no retry-after, as waiting does not help"),
    "slow_down": Row(503, "service_unavailable_error", "slow_down", _SLOW, _GUIDE,
        retry_after=5.0),
    "slow_down_429": Row(429, "rate_limit_error", "slow_down", _SLOW,
        _GUIDE + ": endpoints that gave 503 slow_down may now give 429", retry_after=5.0),
    "server_is_overloaded": Row(503, "service_unavailable_error", "server_is_overloaded",
        "Our servers are currently overloaded. Please try again later.", _GUIDE),
    "model_permission": Row(403, "invalid_request_error", "model_not_found",
        "Project `proj_simulated` does not have access to model `{model}`",
        "Aider-AI/aider#1903"),
    "unsupported_region": Row(403, "request_forbidden", "unsupported_country_region_territory",
        "Country, region, or territory not supported", "home-assistant/core#120072"),
    "model_not_found": Row(404, "invalid_request_error", "model_not_found",
        "The model `{model}` does not exist or you do not have access to it.",
        "Aider-AI/aider#2030"),
    "context_length_exceeded": Row(400, "invalid_request_error", "context_length_exceeded",
        "This model's maximum context length is {context} tokens. However, your messages resulted "
        "in {tokens} tokens. Please reduce the length of the messages.",
        "crewAIInc/crewAI-examples#121", param="messages"),
    "content_filter": Row(400, "invalid_request_error", "content_filter",
        "The response was filtered due to the prompt triggering the content management policy.",
        "Azure OpenAI's content filtering", param="prompt"),
    "content_filter_finish": Row(200, "", None, "", "finish_reason in the API reference",
        outcome="filtered"),
    "invalid_request": Row(400, "invalid_request_error", None, "{detail}", _GUIDE),
    "unsupported_parameter": Row(400, "invalid_request_error", "unsupported_parameter",
        "{detail}", "huggingface/smolagents#1671"),
    "max_tokens_per_request": Row(400, "invalid_request_error", "max_tokens_per_request",
        "{detail}", "langchain-ai/langchain#31227"),
    "request_timeout": Row(408, "timeout", None, "Request timed out.", "openai SDK retries 408"),
    "conflict": Row(409, "conflict", None,
        "The resource was updated by another request.", "openai SDK retries 409"),
    "request_too_large": Row(413, "invalid_request_error", "request_too_large",
        "Maximum content size limit exceeded.", _GUIDE),
    "unprocessable": Row(422, "invalid_request_error", None,
        "Unable to process the request despite the format being correct.", _GUIDE),
    "server_error": Row(500, "server_error", None, _SORRY, _GUIDE),
    "bad_gateway": Row(502, "server_error", None, _SORRY, _GUIDE),
    "service_unavailable": Row(503, "server_error", None,
        "The engine is currently overloaded, please try again later", _GUIDE),
    "gateway_timeout": Row(504, "server_error", None,
        "The upstream server did not answer in time.", _GUIDE),
}

_CLAUDE = "docs.claude.com/en/api/errors"
_ANTHROPIC = {
    "missing_api_key": Row(401, "authentication_error", None,
        "x-api-key header is required", _CLAUDE),
    "authentication_error": Row(401, "authentication_error", None,
        "invalid x-api-key", "eyaltoledano/claude-task-master#222"),
    "billing_error": Row(402, "billing_error", None,
        "There is an issue with your billing or payment information.", _CLAUDE),
    "permission_error": Row(403, "permission_error", None,
        "Your API key does not have permission to use the specified resource.", _CLAUDE),
    "not_found_error": Row(404, "not_found_error", None, "model: {model}", _CLAUDE),
    "conflict_error": Row(409, "conflict_error", None,
        "The resource was changed by another request.", _CLAUDE),
    "request_too_large": Row(413, "request_too_large", None,
        "Request exceeds the maximum size", _CLAUDE),
    "rate_limit_error": Row(429, "rate_limit_error", None,
        "This request would exceed the rate limit for your organization (org-simulated) of "
        "{limit:,} {what}. For details, refer to: https://docs.claude.com/en/api/rate-limits. "
        "Please reduce the prompt length or the maximum tokens requested, or try again later.",
        "OpenHands/OpenHands#9259", retry_after=20.0),
    "concurrency_limit": Row(429, "rate_limit_error", None,
        "Number of concurrent connections has exceeded your rate limit. Please try again later.",
        "cline/cline#4351", retry_after=1.0),
    "enforced_spend_limit_reached": Row(429, "rate_limit_error", "enforced_spend_limit_reached",
        "Your organization has crossed the monthly API usage threshold of its tier.",
        "anthropic.types.shared.EnforcedSpendLimitReachedErrorDetails; no retry-after"),
    "usage_limits_reached": Row(400, "invalid_request_error", None,
        "You have reached your specified API usage limits. You will regain access on 2030-01-01 "
        "at 00:00 UTC.", "anthropics/claude-code#38035"),
    "credit_balance_too_low": Row(400, "invalid_request_error", None,
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing "
        "to upgrade or purchase credits.", "anthropics/claude-code#4684"),
    "prompt_too_long": Row(400, "invalid_request_error", None,
        "prompt is too long: {tokens} tokens > {context} maximum", _CLAUDE),
    "invalid_request_error": Row(400, "invalid_request_error", None, "{detail}", _CLAUDE),
    "api_error": Row(500, "api_error", None, "Internal server error", _CLAUDE),
    "timeout_error": Row(504, "timeout_error", None,
        "The request timed out while processing.", _CLAUDE),
    "overloaded_error": Row(529, "overloaded_error", None, "Overloaded", _CLAUDE),
    "refusal": Row(200, "", None, "", "anthropic.types.RefusalStopDetails", outcome="filtered"),
}

_GOOGLE = "ai.google.dev/gemini-api/docs/troubleshooting"
_EXHAUSTED = (
    _QUOTA + " For more information on this error, head to: "
    "https://ai.google.dev/gemini-api/docs/rate-limits. \n* Quota exceeded for metric: "
    "generativelanguage.googleapis.com/{what}, limit: {limit}, model: {model}\n"
    "Please retry in {wait}."
)
_GEMINI = {
    "missing_api_key": Row(403, "PERMISSION_DENIED", None,
        "Method doesn't allow unregistered callers (callers without established identity). "
        "Please use API Key or other form of API consumer identity to call this API.",
        "what the API answers without a key"),
    "API_KEY_INVALID": Row(400, "INVALID_ARGUMENT", "API_KEY_INVALID",
        "API key not valid. Please pass a valid API key.",
        "cequence-io/openai-scala-client#109"),
    "INVALID_ARGUMENT": Row(400, "INVALID_ARGUMENT", None, "{detail}", _GOOGLE),
    "CONTEXT_TOO_LONG": Row(400, "INVALID_ARGUMENT", None,
        "The input token count ({tokens}) exceeds the maximum number of tokens allowed "
        "({context}).", _GOOGLE),
    "FAILED_PRECONDITION": Row(400, "FAILED_PRECONDITION", None,
        "User location is not supported for the API use.", _GOOGLE),
    "PERMISSION_DENIED": Row(403, "PERMISSION_DENIED", None,
        "The caller does not have permission", "google-gemini/gemini-cli#14519"),
    "NOT_FOUND": Row(404, "NOT_FOUND", None,
        "models/{model} is not found for API version v1beta, or is not supported for "
        "generateContent. Call ListModels to see the list of available models and their supported "
        "methods.", _GOOGLE),
    "RESOURCE_EXHAUSTED": Row(429, "RESOURCE_EXHAUSTED", None,
        "Resource has been exhausted (e.g. check quota).",
        "googleapis/python-genai#2065; no details at all"),
    "RESOURCE_EXHAUSTED_PER_MINUTE": Row(429, "RESOURCE_EXHAUSTED",
        "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", _EXHAUSTED,
        "googleapis/python-genai#2044", 26.0),
    "RESOURCE_EXHAUSTED_TOKENS": Row(429, "RESOURCE_EXHAUSTED",
        "GenerateContentInputTokensPerModelPerMinute-FreeTier", _EXHAUSTED,
        "RooCodeInc/Roo-Code#3883", 26.0),
    "RESOURCE_EXHAUSTED_PER_DAY": Row(429, "RESOURCE_EXHAUSTED",
        "GenerateRequestsPerDayPerProjectPerModel-FreeTier", _EXHAUSTED,
        "diegosouzapw/OmniRoute#9504: the delay is short although the quota is daily", 36.0),
    "INTERNAL": Row(500, "INTERNAL", None,
        "An internal error has occurred. Please retry or report in "
        "https://developers.generativeai.google/guide/troubleshooting",
        "google-gemini/gemini-cli#7316"),
    "UNAVAILABLE": Row(503, "UNAVAILABLE", None,
        "The model is overloaded. Please try again later.", _GOOGLE),
    "DEADLINE_EXCEEDED": Row(504, "DEADLINE_EXCEEDED", None,
        "Deadline expired before operation could complete.", _GOOGLE),
    "PROMPT_BLOCKED": Row(200, "", None, "", "promptFeedback.blockReason in the API reference",
        outcome="prompt_blocked"),
    "SAFETY": Row(200, "", None, "", "finishReason in the API reference", outcome="filtered"),
}
# fmt: on

TABLE: dict[str, dict[str, Row]] = {"openai": _OPENAI, "anthropic": _ANTHROPIC, "gemini": _GEMINI}


def describe() -> str:
    """The whole table as text, one error a line, for `--list-errors`."""
    lines = []
    for protocol, rows in TABLE.items():
        lines.append(f"{protocol}:")
        lines += [f"  {row.status}  {name:<36} {row.source}" for name, row in rows.items()]
    return "\n".join(lines)
