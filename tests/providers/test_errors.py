"""What each provider's errors mean: every row of the tables, from the bodies that are sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ContextTooLong,
    ModelForbidden,
    ProviderError,
    ProviderRateLimited,
    ProviderUnavailable,
    QuotaExhausted,
    RegionUnsupported,
    RequestRejected,
)
from llm.providers.sdk import SdkAdapter
from llm.providers.translate import Answer, Refusal, failure, rule_for
from tests.providers.dialects import ANTHROPIC, GEMINI, OPENAI, Dialect, adapter_of, call_of
from tests.providers.scripted import Reply, ScriptedServer

RPC = "type.googleapis.com/google.rpc."


def openai(status: int, code: str | None, message: str = "", type_: str = "x") -> Any:
    return status, {"error": {"message": message, "type": type_, "code": code, "param": None}}


def anthropic(status: int, type_: str, message: str = "", code: str | None = None) -> Any:
    error: dict[str, Any] = {"type": type_, "message": message}
    if code:
        error["details"] = {"error_code": code}
    return status, {"type": "error", "error": error, "request_id": "req_1"}


def gemini(status: int, name: str, message: str = "", *details: dict[str, Any]) -> Any:
    error = {"code": status, "status": name, "message": message, "details": list(details)}
    return status, {"error": error}


def reason(text: str) -> dict[str, Any]:
    return {"@type": RPC + "ErrorInfo", "reason": text, "domain": "googleapis.com"}


def quota(*ids: str, delay: str | None = None) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = [
        {"@type": RPC + "QuotaFailure", "violations": [{"quotaId": each} for each in ids]}
    ]
    if delay:
        details.append({"@type": RPC + "RetryInfo", "retryDelay": delay})
    return details


SPENT = "insufficient_quota"
LIMIT = "invalid_request_error"
TABLE: list[tuple[Dialect, Any, type[ProviderError]]] = [
    (OPENAI, openai(401, "invalid_api_key"), AuthenticationFailed),
    (OPENAI, openai(401, None), AuthenticationFailed),
    (OPENAI, openai(429, SPENT, type_=SPENT), QuotaExhausted),
    (OPENAI, openai(429, "credit_balance_exhausted", type_=SPENT), QuotaExhausted),
    (OPENAI, openai(429, "project_spend_limit_exceeded", type_=SPENT), QuotaExhausted),
    (OPENAI, openai(429, "organization_spend_limit_exceeded"), QuotaExhausted),
    (OPENAI, openai(429, "organization_usage_limit_exceeded"), QuotaExhausted),
    (OPENAI, openai(429, None, type_=SPENT), QuotaExhausted),
    (OPENAI, openai(400, "billing_hard_limit_reached"), QuotaExhausted),
    (OPENAI, openai(429, "billing_not_active"), QuotaExhausted),
    (OPENAI, openai(402, None, "Insufficient Balance"), QuotaExhausted),
    (OPENAI, openai(429, "rate_limit_exceeded", type_="requests"), ProviderRateLimited),
    (
        OPENAI,
        openai(429, "rate_limit_exceeded", message="Request too large for gpt-4o: Limit 30000"),
        RequestRejected,
    ),
    (OPENAI, openai(429, "slow_down"), ProviderRateLimited),
    (OPENAI, openai(503, "slow_down"), ProviderRateLimited),
    (OPENAI, openai(403, "model_not_found"), ModelForbidden),
    (OPENAI, openai(404, "model_not_found"), ModelForbidden),
    (OPENAI, openai(403, None, "Missing scopes: model.request"), ModelForbidden),
    (OPENAI, openai(404, "DeploymentNotFound"), ModelForbidden),
    (OPENAI, openai(403, "unsupported_country_region_territory"), RegionUnsupported),
    (OPENAI, openai(403, None, "Country, region, or territory not supported"), RegionUnsupported),
    (OPENAI, (400, {"error": {"code": "content_filter", "message": "filtered", "innererror":
                              {"code": "ResponsibleAIPolicyViolation"}}}), ContentBlocked),
    (OPENAI, openai(400, "context_length_exceeded"), ContextTooLong),
    (OPENAI, openai(400, None, "This model's maximum context length is 4096."), ContextTooLong),
    (OPENAI, openai(400, "content_filter"), ContentBlocked),
    (OPENAI, openai(400, "content_policy_violation"), ContentBlocked),
    (OPENAI, openai(400, "invalid_prompt"), ContentBlocked),
    (OPENAI, openai(400, None, "bad", LIMIT), RequestRejected),
    (OPENAI, openai(404, None, "no such path"), RequestRejected),
    (OPENAI, openai(413, "request_too_large"), RequestRejected),
    (OPENAI, openai(422, None), RequestRejected),
    (OPENAI, openai(418, None), RequestRejected),
    (OPENAI, openai(408, None), ProviderUnavailable),
    (OPENAI, openai(409, None), ProviderUnavailable),
    (OPENAI, openai(500, "server_error"), ProviderUnavailable),
    (OPENAI, openai(503, "server_is_overloaded"), ProviderUnavailable),
    (OPENAI, openai(599, None), ProviderUnavailable),
    (OPENAI, (400, {"code": "Client specified an invalid argument",
                    "error": "Incorrect API key provided: na***ys."}), AuthenticationFailed),
    (OPENAI, (422, {"detail": [{"msg": "field required"}]}), RequestRejected),
    (OPENAI, (400, {"object": "error", "message": "maximum context length is 8", "code": 400}),
     ContextTooLong),
    (ANTHROPIC, anthropic(401, "authentication_error", "invalid x-api-key"), AuthenticationFailed),
    (ANTHROPIC, anthropic(400, LIMIT, "This organization has been disabled."),
     AuthenticationFailed),
    (ANTHROPIC, anthropic(403, "permission_error", "", "organization_on_hold"),
     AuthenticationFailed),
    (ANTHROPIC, anthropic(402, "billing_error"), QuotaExhausted),
    (ANTHROPIC, anthropic(429, "rate_limit_error", "", "enforced_spend_limit_reached"),
     QuotaExhausted),
    (ANTHROPIC, anthropic(429, "rate_limit_error", "", "contract_spend_limit_reached"),
     QuotaExhausted),
    (ANTHROPIC, anthropic(400, LIMIT, "You have reached your specified API usage limits."),
     QuotaExhausted),
    (ANTHROPIC, anthropic(400, LIMIT, "You have reached your specified workspace API usage limits"),
     QuotaExhausted),
    (ANTHROPIC, anthropic(400, LIMIT, "Your credit balance is too low to access the API."),
     QuotaExhausted),
    (ANTHROPIC, anthropic(402, "x", "", "linked_organization_billing_unavailable"), QuotaExhausted),
    (ANTHROPIC, anthropic(429, "rate_limit_error"), ProviderRateLimited),
    (ANTHROPIC, anthropic(429, "rate_limit_error", "", "ramp_limit_exceeded"), ProviderRateLimited),
    (ANTHROPIC, anthropic(403, "permission_error"), ModelForbidden),
    (ANTHROPIC, anthropic(404, "not_found_error", "model: claude-x"), ModelForbidden),
    (ANTHROPIC, anthropic(404, "not_found_error", "Not found"), RequestRejected),
    (ANTHROPIC, (403, {"error": {"type": "forbidden", "message": "Request not allowed"}}),
     RegionUnsupported),
    (ANTHROPIC, anthropic(400, LIMIT, "prompt is too long: 9 tokens > 8 maximum"), ContextTooLong),
    (ANTHROPIC, anthropic(400, LIMIT, "input length and `max_tokens` exceed context limit: 1 + 2"),
     ContextTooLong),
    (ANTHROPIC, anthropic(400, LIMIT, "Output blocked by content filtering policy"),
     ContentBlocked),
    (ANTHROPIC, anthropic(400, LIMIT, "max_tokens: Field required"), RequestRejected),
    (ANTHROPIC, anthropic(413, "request_too_large"), RequestRejected),
    (ANTHROPIC, anthropic(409, "conflict_error"), ProviderUnavailable),
    (ANTHROPIC, anthropic(500, "api_error"), ProviderUnavailable),
    (ANTHROPIC, anthropic(504, "timeout_error"), ProviderUnavailable),
    (ANTHROPIC, anthropic(529, "overloaded_error"), ProviderUnavailable),
    (GEMINI, gemini(400, "INVALID_ARGUMENT", "", reason("API_KEY_INVALID")), AuthenticationFailed),
    (GEMINI, gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
     AuthenticationFailed),
    (GEMINI, gemini(401, "UNAUTHENTICATED"), AuthenticationFailed),
    (GEMINI, gemini(403, "PERMISSION_DENIED", "Your API key was reported as leaked."),
     AuthenticationFailed),
    (GEMINI, gemini(403, "PERMISSION_DENIED", "", reason("API_KEY_SERVICE_BLOCKED")),
     AuthenticationFailed),
    (GEMINI, gemini(403, "PERMISSION_DENIED", "", reason("CONSUMER_SUSPENDED")),
     AuthenticationFailed),
    (GEMINI, gemini(403, "PERMISSION_DENIED", "", reason("SERVICE_DISABLED")),
     AuthenticationFailed),
    (GEMINI, gemini(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers (x)."),
     AuthenticationFailed),
    (GEMINI, gemini(403, "PERMISSION_DENIED", "", reason("BILLING_DISABLED")), QuotaExhausted),
    (GEMINI, gemini(403, "PERMISSION_DENIED", "You do not have permission"), ModelForbidden),
    (GEMINI, gemini(400, "FAILED_PRECONDITION", "User location is not supported"), QuotaExhausted),
    (GEMINI, gemini(402, "RESOURCE_EXHAUSTED"), QuotaExhausted),
    (GEMINI, gemini(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."),
     QuotaExhausted),
    (GEMINI, gemini(429, "RESOURCE_EXHAUSTED", "monthly spending cap"), QuotaExhausted),
    (GEMINI, gemini(429, "RESOURCE_EXHAUSTED"), ProviderRateLimited),
    (GEMINI, gemini(429, "RESOURCE_EXHAUSTED", "", *quota("PerDayPerModel")), ProviderRateLimited),
    (GEMINI, gemini(404, "NOT_FOUND", "models/x is not found for API version v1beta"),
     ModelForbidden),
    (GEMINI, gemini(404, "NOT_FOUND", "Requested entity was not found."), RequestRejected),
    (GEMINI, gemini(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number "
     "of tokens allowed (8)."), ContextTooLong),
    (GEMINI, gemini(400, "INVALID_ARGUMENT", "contents is not specified"), RequestRejected),
    (GEMINI, gemini(499, "CANCELLED"), ProviderUnavailable),
    (GEMINI, gemini(500, "INTERNAL"), ProviderUnavailable),
    (GEMINI, gemini(503, "UNAVAILABLE"), ProviderUnavailable),
    (GEMINI, gemini(504, "DEADLINE_EXCEEDED"), ProviderUnavailable),
    (GEMINI, (429, [gemini(429, "RESOURCE_EXHAUSTED")[1]]), ProviderRateLimited),
]  # fmt: skip


def refusal_in(adapter: SdkAdapter[Any, Any], said: Any, **headers: str) -> Refusal:
    lower = {name.replace("_", "-"): text for name, text in headers.items()}
    return adapter._refusal(Answer(said[0], lower, json.dumps(said[1])))


def translated(
    dialect: Dialect, said: Any, now: datetime | None = None, **headers: str
) -> ProviderError:
    adapter = adapter_of(dialect.name)
    refusal = refusal_in(adapter, said, **headers)
    return failure(call_of(dialect, None), refusal, adapter.rules, now)


@pytest.mark.parametrize(("dialect", "said", "meaning"), TABLE)
def test_every_error_means_one_thing(
    dialect: Dialect, said: Any, meaning: type[ProviderError]
) -> None:
    error = translated(dialect, said)
    assert type(error) is meaning
    assert (error.provider, error.status, error.sent) == (dialect.name, said[0], True)


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC, GEMINI], ids=lambda each: each.name)
def test_every_row_of_a_table_decides_something_and_names_its_source(dialect: Dialect) -> None:
    adapter = adapter_of(dialect.name)
    said = [said for each, said, _ in TABLE if each is dialect]
    deciding = {id(rule_for(refusal_in(adapter, each), adapter.rules)) for each in said}
    assert [rule for rule in adapter.rules if id(rule) not in deciding] == []
    assert all(rule.source for rule in adapter.rules)


@pytest.mark.parametrize(("dialect", "said", "meaning"), TABLE)
def test_they_mean_it_through_the_sdk_too(
    server: ScriptedServer, dialect: Dialect, said: Any, meaning: type[ProviderError]
) -> None:
    server.default = Reply(said[1], status=said[0])
    with pytest.raises(meaning) as failed:
        adapter_of(dialect.name).send(call_of(dialect, server.url))
    assert type(failed.value) is meaning
    assert len(server.asked) == 1


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=lambda each: each.name)
def test_a_spent_budget_has_no_short_wait(dialect: Dialect) -> None:
    said = openai(429, SPENT) if dialect is OPENAI else anthropic(402, "billing_error")
    assert translated(dialect, said, retry_after="1").retry_after is None
    busy = openai(503, None) if dialect is OPENAI else anthropic(529, "overloaded_error")
    assert translated(dialect, busy, retry_after="1").retry_after == 1.0


def test_the_message_keeps_the_facts() -> None:
    said = openai(429, "rate_limit_exceeded", "Slow\ndown.")
    error = translated(OPENAI, said, x_request_id="req_7", retry_after="20")
    assert str(error) == "openai: 429 rate_limit_exceeded: Slow down. (request req_7)"
    assert (error.code, error.retry_after) == ("rate_limit_exceeded", 20.0)
    error = translated(ANTHROPIC, anthropic(529, "overloaded_error", "Overloaded"))
    assert str(error) == "anthropic: 529 overloaded_error: Overloaded"


def test_a_page_of_a_proxy_is_readable() -> None:
    refusal = adapter_of("openai")._refusal(
        Answer(502, {}, b"<html>\r\n<title>502 Bad Gateway</title><hr>nginx</html>")
    )
    error = failure(call_of(OPENAI, None), refusal, ())
    assert str(error) == "openai: 502: 502 Bad Gateway nginx"


def test_azure_tells_what_its_filter_found() -> None:
    inner = {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"hate": {"filtered": True}, "violence": {"filtered": False}},
    }
    body = {"error": {"code": "content_filter", "message": "filtered", "innererror": inner}}
    error = translated(OPENAI, (400, body))
    assert isinstance(error, ContentBlocked)
    assert error.reasons == ("hate",)


NOON = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)  # noon in California, winter time


def test_geminis_minute_is_told_in_the_body() -> None:
    details = quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", delay="26s")
    error = translated(GEMINI, gemini(429, "RESOURCE_EXHAUSTED", "", *details), NOON)
    assert error.retry_after == 26.0
    assert error.code == "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


@pytest.mark.parametrize(
    ("delay", "wait"), [("36s", 43_200.0), (None, 43_200.0), ("9h54m0s", 35_640.0)]
)
def test_geminis_day_lasts_until_midnight_pacific(delay: str | None, wait: float) -> None:
    details = quota("GenerateRequestsPerMinute", "GenerateRequestsPerDayPerProject", delay=delay)
    error = translated(GEMINI, gemini(429, "RESOURCE_EXHAUSTED", "", *details), NOON)
    assert (type(error), error.retry_after) == (ProviderRateLimited, wait)
    assert error.code == "GenerateRequestsPerDayPerProject"


def test_anthropic_says_when_access_returns() -> None:
    words = (
        "You have reached your specified API usage limits. You will regain access on 2026-12-01 "
    )
    error = translated(ANTHROPIC, anthropic(400, LIMIT, words + "at 00:00 UTC."), NOON)
    assert error.retry_after == (datetime(2026, 12, 1, tzinfo=UTC) - NOON).total_seconds()


@pytest.mark.parametrize(
    ("now", "then"),
    [
        (NOON, datetime(2026, 12, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_anthropics_tier_cap_lasts_until_the_month_ends(now: datetime, then: datetime) -> None:
    said = anthropic(429, "rate_limit_error", "", "enforced_spend_limit_reached")
    assert translated(ANTHROPIC, said, now).retry_after == (then - now).total_seconds()


@pytest.mark.parametrize("status", [204, 301, 400, 429, 500])
def test_no_body_can_break_the_translation(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], status: int
) -> None:
    for body in _STRANGE:
        server.default = Reply(body, status=status)
        with pytest.raises(ProviderError) as failed:
            adapter.send(call_of(dialect, server.url))
        assert str(failed.value).isprintable()


_STRANGE = [
    b"",
    b"\xff\xfe\x00",
    b"\x80abc",
    b"[" * 50_000,
    b"null",
    b"123",
    b'"text"',
    b"[1, 2]",
    b'{"error": null}',
    b'{"error": "text"}',
    b'{"error": {"message": {"a": 1}, "code": {"b": 2}, "type": [1], "details": "x", "status": 5}}',
    b'{"error": {"details": [{"violations": "x", "retryDelay": 5}, 7], "innererror": 7}}',
    b'{"error": {"message": "a\\ud800b\\u0000c"}}',
]


def test_a_redirect_is_not_followed(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply({}, status=308, headers={"location": server.url + "/elsewhere"})
    with pytest.raises(ProviderUnavailable, match="308"):
        adapter.send(call_of(dialect, server.url))
    assert len(server.asked) == 1
