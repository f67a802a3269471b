"""What each failure means for its key: one row of the table for every class of `core.errors`."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from core import errors
from core.errors import ProviderError, RouterError
from llm.routing.backoff import LONGEST, pause
from llm.routing.verdicts import Counted, Subject, verdict_on
from lua.circuits import Pulse
from lua.limiter_types import UNTIL_SOMEBODY_ACTS

KEY, GROUP, PROVIDER, NOBODY = Subject.KEY, Subject.GROUP, Subject.PROVIDER, Subject.NOBODY
NOTHING, REJECTED, UNKNOWN = Counted.NOTHING, Counted.REJECTED, Counted.UNKNOWN
ANSWERED, FAILED, SILENT = Pulse.ANSWERED, Pulse.FAILED, Pulse.UNKNOWN

# error: who is avoided, another key?, the same again?, what was counted, what it tells of the
# service, state, for seconds
TABLE: dict[str, tuple[Subject, bool, bool, Counted, Pulse, str | None, float | None]] = {
    "RouterError": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "ConfigurationError": (KEY, True, False, NOTHING, SILENT, None, None),
    "InvalidRequest": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "UnknownArgument": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "RequestTooLarge": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "NoKeys": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "NoCapacity": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "DeadlineExceeded": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "RequestCancelled": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "AdapterFault": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "SecretError": (KEY, True, False, NOTHING, SILENT, "throttled", 5.0),
    "SecretNotFound": (KEY, True, False, NOTHING, SILENT, "throttled", 5.0),
    "SecretDenied": (KEY, True, False, NOTHING, SILENT, None, None),
    "SecretStoreDown": (KEY, True, False, NOTHING, SILENT, None, None),
    "SecretMalformed": (KEY, True, False, NOTHING, SILENT, "throttled", 5.0),
    "SecretNotWritable": (KEY, True, False, NOTHING, SILENT, "throttled", 5.0),
    "CircuitsOpen": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "UserRateLimited": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "StorageError": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "ConversationUnavailable": (NOBODY, False, False, UNKNOWN, SILENT, None, None),
    "AuthenticationFailed": (KEY, True, False, REJECTED, ANSWERED, "invalid", None),
    "ModelForbidden": (KEY, True, False, REJECTED, ANSWERED, "invalid", 3600.0),
    "QuotaExhausted": (GROUP, True, False, REJECTED, ANSWERED, "exhausted", 3600.0),
    "ProviderRateLimited": (GROUP, True, False, REJECTED, ANSWERED, "throttled", 60.0),
    "ProviderUnavailable": (KEY, True, True, UNKNOWN, FAILED, None, None),
    "ConnectionFailed": (KEY, True, True, NOTHING, FAILED, None, None),
    "ProviderTimeout": (KEY, True, True, UNKNOWN, FAILED, None, None),
    "RegionUnsupported": (PROVIDER, True, False, REJECTED, ANSWERED, None, None),
    "RequestRejected": (NOBODY, False, False, REJECTED, ANSWERED, None, None),
    "ContextTooLong": (NOBODY, False, False, REJECTED, ANSWERED, None, None),
    "ContentBlocked": (NOBODY, False, False, REJECTED, ANSWERED, None, None),
}

ERRORS: dict[str, type[Any]] = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, RouterError)
}

ERROR_TYPES = {
    "rate_limited", "user_rate_limited", "no_keys", "invalid_request", "context_too_long",
    "content_filtered", "auth_failed", "quota_exhausted", "provider_unavailable", "timeout",
    "secret_unavailable", "redis_unavailable", "conversation_unavailable", "budget_exceeded",
    "policy_denied", "cancelled", "internal_error",
}  # fmt: skip

OF_PROVIDERS = sorted(name for name, kind in ERRORS.items() if issubclass(kind, ProviderError))


def make(name: str, **more: Any) -> RouterError:
    kind = ERRORS[name]
    if issubclass(kind, ProviderError):
        more = {"provider": "openai", **more}
    error: RouterError = kind("it failed", **more)
    return error


def test_every_error_has_a_row() -> None:
    # A bare ProviderError says too little to act on; adapters raise the most specific one.
    # A StreamInterrupted is made of a reply, after the verdict on its cause.
    missing = set(ERRORS) - set(TABLE) - {"ProviderError", "StreamInterrupted"}
    assert missing == set()
    assert set(TABLE) <= set(ERRORS)


@pytest.mark.parametrize("name", TABLE)
def test_the_verdict_on_each_error(name: str) -> None:
    subject, retry, transient, counted, pulse, state, seconds = TABLE[name]
    verdict = verdict_on(make(name))
    assert verdict.subject is subject
    assert verdict.retry is retry
    assert verdict.transient is transient
    assert verdict.counted is counted
    assert verdict.pulse is pulse
    assert (verdict.state, verdict.seconds) == (state, seconds)
    assert verdict.escalate is (name == "ContentBlocked")


@pytest.mark.parametrize("name", OF_PROVIDERS)
def test_what_never_left_counts_as_nothing(name: str) -> None:
    error = make(name)
    assert isinstance(error, ProviderError)
    error.sent = False
    assert verdict_on(error).counted is NOTHING


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_has_a_type_that_callers_know(name: str) -> None:
    assert ERRORS[name].error_type in ERROR_TYPES


@pytest.mark.parametrize("name", ERRORS)
def test_the_tree_at_the_top_of_the_errors_tells_each_error_and_its_type(name: str) -> None:
    assert errors.__doc__
    (line,) = [
        line for line in errors.__doc__.splitlines() if name in line.replace("─", " ").split()
    ]
    assert ERRORS[name].error_type in line.split()


def test_a_new_kind_of_error_is_judged_as_the_one_that_it_is_a_kind_of() -> None:
    class TeaTime(errors.ProviderRateLimited):
        pass

    verdict = verdict_on(TeaTime("later", provider="openai"))
    assert (verdict.subject, verdict.state) == (GROUP, "throttled")


@pytest.mark.parametrize(
    ("name", "retry_after", "milliseconds"),
    [
        ("ProviderRateLimited", None, 60_000),
        ("ProviderRateLimited", 12.5, 12_500),
        ("ProviderRateLimited", 0.0015, 2),
        ("QuotaExhausted", None, 3_600_000),
        ("QuotaExhausted", 86_400.0, 86_400_000),
        ("AuthenticationFailed", None, UNTIL_SOMEBODY_ACTS),
        ("AuthenticationFailed", 30.0, UNTIL_SOMEBODY_ACTS),
    ],
)
def test_what_the_provider_asks_for_wins_where_a_time_ends_it(
    name: str, retry_after: float | None, milliseconds: int
) -> None:
    assert verdict_on(make(name)).cooldown_ms(retry_after) == milliseconds


def test_a_rate_limit_without_a_time_grows_and_one_with_a_time_is_obeyed() -> None:
    verdict = verdict_on(make("ProviderRateLimited"))
    assert verdict.longest_ms(None) == 900_000
    assert verdict.longest_ms(5.0) == 0
    assert verdict_on(make("QuotaExhausted")).longest_ms(None) == 0


@pytest.mark.parametrize(("given", "pulse"), [(9.9, SILENT), (10.0, FAILED)])
def test_a_timeout_tells_of_the_service_only_where_it_had_the_time(
    given: float, pulse: Pulse
) -> None:
    assert verdict_on(make("ProviderTimeout"), given).pulse is pulse
    assert verdict_on(make("ProviderUnavailable"), given).pulse is FAILED


def test_pauses_double_half_of_each_is_chance_and_they_are_capped() -> None:
    assert [pause(n, 0.5, lambda: 1.0) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert [pause(n, 0.5, lambda: 0.0) for n in (1, 2, 3)] == [0.25, 0.5, 1.0]
    assert pause(50, 0.5, lambda: 1.0) == LONGEST
    assert pause(1, 0.0, lambda: 1.0) == 0.0
