"""Every error that the simulated providers give, by its real body and through the real SDK, and the
one consequence that it has for its key, for its provider and for the request."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.integration.routers import MakeRouter, key, manager_of
from tools.simulated_provider import SimulatedProvider
from tools.simulation.errors import TABLE


@dataclass(frozen=True)
class Consequence:
    """What follows.

    Args:
        outcome: the attempt's, as the caller sees it.
        goes_on: whether another key answers.
        state: of the key that met it, as all processes see it.
        counted: whether the circuits count it.
    """

    outcome: str
    goes_on: bool = True
    state: str = "available"
    counted: bool = False


REFUSED = Consequence("auth_failed", state="invalid")
SPENT = Consequence("quota_exhausted", state="exhausted")
THROTTLED = Consequence("rate_limited", state="throttled")
NOT_HERE = Consequence("provider_unavailable", goes_on=False)
FAILS = Consequence("provider_unavailable", counted=True)
CALLERS = Consequence("invalid_request", goes_on=False)
TOO_LONG = Consequence("context_too_long", goes_on=False)
FILTERED = Consequence("content_filtered", goes_on=False)

EXPECTED: dict[str, dict[str, Consequence]] = {
    "openai": {
        "missing_api_key": REFUSED,
        "invalid_api_key": REFUSED,
        "insufficient_quota": SPENT,
        "credit_balance_exhausted": SPENT,
        "organization_spend_limit_exceeded": SPENT,
        "project_spend_limit_exceeded": SPENT,
        "organization_usage_limit_exceeded": SPENT,
        "billing_hard_limit_reached": SPENT,
        "rate_limit_exceeded": THROTTLED,
        "rate_limit_exceeded_tokens": THROTTLED,
        "request_exceeds_limit": CALLERS,
        "slow_down": THROTTLED,
        "slow_down_429": THROTTLED,
        "server_is_overloaded": FAILS,
        "model_permission": REFUSED,
        "unsupported_region": NOT_HERE,
        "model_not_found": REFUSED,
        "context_length_exceeded": TOO_LONG,
        "content_filter": FILTERED,
        "content_filter_finish": FILTERED,
        "invalid_request": CALLERS,
        "request_timeout": FAILS,
        "conflict": FAILS,
        "request_too_large": CALLERS,
        "unprocessable": CALLERS,
        "server_error": FAILS,
        "bad_gateway": FAILS,
        "service_unavailable": FAILS,
        "gateway_timeout": FAILS,
    },
    "anthropic": {
        "missing_api_key": REFUSED,
        "authentication_error": REFUSED,
        "billing_error": SPENT,
        "permission_error": REFUSED,
        "not_found_error": REFUSED,
        "conflict_error": FAILS,
        "request_too_large": CALLERS,
        "rate_limit_error": THROTTLED,
        "concurrency_limit": THROTTLED,
        "enforced_spend_limit_reached": SPENT,
        "usage_limits_reached": SPENT,
        "credit_balance_too_low": SPENT,
        "prompt_too_long": TOO_LONG,
        "invalid_request_error": CALLERS,
        "api_error": FAILS,
        "timeout_error": FAILS,
        "overloaded_error": FAILS,
        "refusal": FILTERED,
    },
    "gemini": {
        "missing_api_key": REFUSED,
        "API_KEY_INVALID": REFUSED,
        "INVALID_ARGUMENT": CALLERS,
        "CONTEXT_TOO_LONG": TOO_LONG,
        "FAILED_PRECONDITION": SPENT,
        "PERMISSION_DENIED": REFUSED,
        "NOT_FOUND": REFUSED,
        "RESOURCE_EXHAUSTED": THROTTLED,
        "RESOURCE_EXHAUSTED_PER_MINUTE": THROTTLED,
        "RESOURCE_EXHAUSTED_TOKENS": THROTTLED,
        "RESOURCE_EXHAUSTED_PER_DAY": THROTTLED,
        "INTERNAL": FAILS,
        "UNAVAILABLE": FAILS,
        "DEADLINE_EXCEEDED": FAILS,
        "PROMPT_BLOCKED": FILTERED,
        "SAFETY": FILTERED,
    },
}


def test_every_error_has_its_consequence() -> None:
    assert {p: set(rows) for p, rows in EXPECTED.items()} == {p: set(r) for p, r in TABLE.items()}


@pytest.mark.parametrize(
    ("provider", "name"), [(provider, name) for provider, rows in TABLE.items() for name in rows]
)
def test_each_error_has_one_consequence(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, name: str
) -> None:
    expected = EXPECTED[provider][name]
    # One failure opens a circuit here, so that it shows whether it was counted.
    router = make_router(
        keys=[key("a", provider), key("b", provider, priority=1)], llm_circuit_failures=1
    )
    simulator.add_fault(name, key="a", times=1)
    reply = router.send_one_shot("Hello")
    tried = [(attempt["key_id"], attempt["outcome"]) for attempt in reply["attempts"]]
    assert tried == [("a", expected.outcome), *([("b", "success")] if expected.goes_on else [])]
    met, other = manager_of(router).get_all_key_statuses()
    assert met["state"] == expected.state
    assert met["circuits"]["key"] == ("open" if expected.counted else "closed")
    assert other["state"] == "available", "no key is punished for another's fault"
    assert other["circuits"] == {"key": "closed", "service": "closed"}
    assert met["parallel"]["used"] == other["parallel"]["used"] == 0, "all is settled"
    changes = [entry["after"] for entry in manager_of(router).history("a")]
    assert changes == ([] if expected.state == "available" else [expected.state]) + (
        ["open"] if expected.counted else []
    )
