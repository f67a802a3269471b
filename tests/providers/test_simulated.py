"""The adapters against the simulated provider: every error that it knows, and real limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ContextTooLong,
    ModelForbidden,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RegionUnsupported,
    RequestRejected,
)
from core.types import ProviderQuota
from llm.providers.base import ProviderCall
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import Dialect, call_of, new_secret
from tools.simulated_provider import SimulatedProvider, SimulationSettings
from tools.simulation.errors import TABLE

MEANINGS: dict[str, dict[type[ProviderError], str]] = {
    "openai": {
        AuthenticationFailed: "missing_api_key invalid_api_key",
        QuotaExhausted: "insufficient_quota credit_balance_exhausted "
        "organization_spend_limit_exceeded project_spend_limit_exceeded "
        "organization_usage_limit_exceeded billing_hard_limit_reached",
        ProviderRateLimited: "rate_limit_exceeded rate_limit_exceeded_tokens slow_down "
        "slow_down_429",
        ModelForbidden: "model_permission model_not_found",
        RegionUnsupported: "unsupported_region",
        ContextTooLong: "context_length_exceeded",
        ContentBlocked: "content_filter content_filter_finish",
        RequestRejected: "invalid_request request_too_large unprocessable request_exceeds_limit "
        "unsupported_parameter max_tokens_per_request",
        ProviderUnavailable: "request_timeout conflict server_error bad_gateway "
        "service_unavailable gateway_timeout server_is_overloaded",
    },
    "anthropic": {
        AuthenticationFailed: "missing_api_key authentication_error",
        QuotaExhausted: "billing_error enforced_spend_limit_reached usage_limits_reached "
        "credit_balance_too_low",
        ProviderRateLimited: "rate_limit_error concurrency_limit",
        ModelForbidden: "permission_error not_found_error",
        ContextTooLong: "prompt_too_long",
        ContentBlocked: "refusal",
        RequestRejected: "invalid_request_error request_too_large",
        ProviderUnavailable: "conflict_error api_error timeout_error overloaded_error",
    },
    "gemini": {
        AuthenticationFailed: "missing_api_key API_KEY_INVALID",
        QuotaExhausted: "FAILED_PRECONDITION",
        ProviderRateLimited: "RESOURCE_EXHAUSTED RESOURCE_EXHAUSTED_PER_MINUTE "
        "RESOURCE_EXHAUSTED_TOKENS RESOURCE_EXHAUSTED_PER_DAY",
        ModelForbidden: "PERMISSION_DENIED NOT_FOUND",
        ContextTooLong: "CONTEXT_TOO_LONG",
        ContentBlocked: "PROMPT_BLOCKED SAFETY",
        RequestRejected: "INVALID_ARGUMENT",
        ProviderUnavailable: "INTERNAL UNAVAILABLE DEADLINE_EXCEEDED",
    },
}
EXPECTED = {
    provider: {name: error for error, names in meanings.items() for name in names.split()}
    for provider, meanings in MEANINGS.items()
}


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatedProvider]:
    with SimulatedProvider(SimulationSettings(cached_share=0.5)) as simulation:
        yield simulation


@pytest.fixture
def simulation(running: SimulatedProvider) -> Iterator[SimulatedProvider]:
    yield running
    running.clear_faults()


def call(dialect: Dialect, simulation: SimulatedProvider, **changes: Any) -> ProviderCall:
    return call_of(dialect, simulation.url, **changes)


def test_a_plain_call(
    simulation: SimulatedProvider, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    reply = adapter.send(call(dialect, simulation, system_prompt="Be short."))
    assert "Hello" in reply.content
    assert (reply.model, reply.stop_reason) == (dialect.model, "stop")
    assert reply.usage is not None
    assert 0 < reply.usage.cached <= reply.usage.input
    assert reply.usage.output > 0


def test_limits_are_told(
    simulation: SimulatedProvider, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    secret = new_secret()
    simulation.configure_key(secret, name=f"limited-{secret[-8:]}", rpm=2)
    reply = adapter.send(call(dialect, simulation, secret=SecretStr(secret)))
    if dialect.name != "gemini":
        (quota,) = reply.quotas
        assert (quota.dimension, quota.remaining, quota.limit) == ("requests", 1, 2)
        assert quota.reset_seconds is not None
        assert 50 < quota.reset_seconds <= 61
    else:
        assert reply.quotas == tuple[ProviderQuota, ...]()
    adapter.send(call(dialect, simulation, secret=SecretStr(secret)))
    with pytest.raises(ProviderRateLimited) as failed:
        adapter.send(call(dialect, simulation, secret=SecretStr(secret)))
    assert failed.value.retry_after is not None
    assert 50 < failed.value.retry_after <= 61


def test_a_revoked_key_is_refused(
    simulation: SimulatedProvider, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    secret = new_secret()
    adapter.send(call(dialect, simulation, secret=SecretStr(secret)))
    simulation.revoke(secret)
    with pytest.raises(AuthenticationFailed):
        adapter.send(call(dialect, simulation, secret=SecretStr(secret)))


def test_every_named_error_is_expected_here() -> None:
    for provider, rows in TABLE.items():
        assert rows.keys() == EXPECTED[provider].keys()


def test_every_named_error(
    simulation: SimulatedProvider, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    seen: dict[str, type[ProviderError]] = {}
    for name, row in TABLE[dialect.name].items():
        simulation.add_fault(name, protocol=dialect.name, times=1)  # type: ignore[arg-type]
        with pytest.raises(ProviderError) as failed:
            adapter.send(call(dialect, simulation))
        error = failed.value
        seen[name] = type(error)
        assert error.status == row.status
        assert error.sent
        if row.retry_after is not None and name != "RESOURCE_EXHAUSTED_PER_DAY":
            assert error.retry_after == row.retry_after
        if isinstance(error, ContentBlocked):
            assert error.reasons
    assert seen == EXPECTED[dialect.name]


@pytest.mark.parametrize(
    ("fault", "meaning"),
    [("hang", ProviderTimeout), ("stall", ProviderTimeout), ("drop", ProviderUnavailable),
     ("drop_midway", ProviderUnavailable), ("garbage", ProviderUnavailable),
     ("empty", ProviderUnavailable), ("html", ProviderUnavailable)],
)  # fmt: skip
def test_faults_of_the_network(
    simulation: SimulatedProvider,
    dialect: Dialect,
    adapter: SdkAdapter[Any, Any],
    fault: str,
    meaning: type[ProviderError],
) -> None:
    simulation.add_fault(fault, protocol=dialect.name, times=1)  # type: ignore[arg-type]
    with pytest.raises(meaning) as failed:
        adapter.send(call(dialect, simulation, timeout=0.3))
    assert type(failed.value) is meaning
    assert failed.value.sent
    assert adapter.send(call(dialect, simulation)).stop_reason == "stop"
