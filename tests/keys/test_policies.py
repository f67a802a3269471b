"""What each provider counts: before a call, after it, and until when a day lasts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from core.types import Usage
from keys.policies import (
    DayEnds,
    Need,
    Policy,
    charge_answered,
    charge_rejected,
    charge_unknown,
    charge_unsent,
    day_end_ms,
    policy_of,
    weigh,
)
from lua.limiter_types import Charge, Weights

DAY_END = 1_795_305_600_000
NEED = Need(input=300, expected_output=100, max_output=2048)
AZURE = "https://my.openai.azure.com/openai"
LOCAL = "http://localhost:8000/v1"

POLICIES = {
    "openai": policy_of("openai"),
    "anthropic": policy_of("anthropic"),
    "gemini": policy_of("gemini"),
    "azure": policy_of("openai", AZURE),
    "compatible": policy_of("openai", LOCAL),
    "own": policy_of("my-own"),
}


def charge(policy: Policy, need: Need, usage: Usage | None) -> Charge:
    return charge_answered(policy, need, weigh(policy, need, DAY_END), usage)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("openai", 2048),  # max(max_tokens, the prompt)
        ("anthropic", 400),  # the prompt and the expected answer
        ("gemini", 300),  # the prompt
        ("azure", 2348),  # the prompt and max_tokens
        ("compatible", 2048),
        ("own", 400),
    ],
)
def test_the_weight_of_a_request(name: str, tokens: int) -> None:
    assert weigh(POLICIES[name], NEED, DAY_END) == Weights(tokens, 300, 2048, DAY_END)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("openai", 5000),
        ("anthropic", 5100),
        ("gemini", 5000),
        ("azure", 7048),
        ("compatible", 5100),
        ("own", 5100),
    ],
)
def test_a_prompt_longer_than_its_answer_may_be(name: str, tokens: int) -> None:
    assert weigh(POLICIES[name], Need(5000, 100, 2048), DAY_END).tokens == tokens


@pytest.mark.parametrize(
    ("name", "tokens", "given"),
    [
        ("openai", 2048, 300),  # nothing is given back
        ("anthropic", 150, 120),
        ("gemini", 120, 120),
        ("azure", 2348, 300),
        ("compatible", 2048, 300),
        ("own", 150, 120),
    ],
)
def test_less_used_is_given_back_where_the_provider_does(
    name: str, tokens: int, given: int
) -> None:
    assert charge(POLICIES[name], NEED, Usage(120, 30)) == Charge(1, tokens, given, 30)


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("openai", 2600),
        ("anthropic", 4600),
        ("gemini", 2600),
        ("azure", 4648),
        ("compatible", 4600),
        ("own", 4600),
    ],
)
def test_more_used_is_charged(name: str, tokens: int) -> None:
    assert charge(POLICIES[name], NEED, Usage(2600, 2000)) == Charge(1, tokens, 2600, 2000)


def test_what_anthropic_read_from_its_cache_is_no_input() -> None:
    assert charge(POLICIES["anthropic"], NEED, Usage(1000, 30, cached=900)).input == 100
    assert charge(POLICIES["gemini"], NEED, Usage(1000, 30, cached=900)).input == 1000


def test_a_nonsensical_cache_never_makes_the_charge_negative() -> None:
    assert charge(POLICIES["anthropic"], NEED, Usage(100, 30, cached=900)).input == 0


@pytest.mark.parametrize("name", POLICIES)
def test_without_usage_the_estimate_stands(name: str) -> None:
    weights = weigh(POLICIES[name], NEED, DAY_END)
    assert charge(POLICIES[name], NEED, None) == Charge(1, weights.tokens, 300, 100)


@pytest.mark.parametrize("name", POLICIES)
def test_no_charge_is_below_what_the_provider_counted(name: str) -> None:
    policy = POLICIES[name]
    for need in (NEED, Need(1, 1, 1), Need(10_000, 1, 100)):
        for usage in (Usage(0, 0), Usage(1, 1), Usage(500, 1), Usage(20_000, 90)):
            charged = charge(policy, need, usage)
            assert charged.tokens >= policy.used_tokens(need, usage) - usage.cached
            assert charged.input >= usage.input
            assert charged.output >= usage.output


@pytest.mark.parametrize("name", POLICIES)
def test_a_refused_call_costs_a_request_and_tokens_where_these_are_counted(name: str) -> None:
    weights = weigh(POLICIES[name], NEED, DAY_END)
    counts = name in ("openai", "azure", "compatible")
    expected = Charge(1, weights.tokens, 300, 0) if counts else Charge(1, 0, 0, 0)
    assert charge_rejected(POLICIES[name], weights) == expected


def test_a_call_whose_end_nobody_saw_costs_all_that_it_may_have_used() -> None:
    weights = weigh(POLICIES["anthropic"], NEED, DAY_END)
    assert charge_unknown(weights) == Charge(1, 400, 300, 2048)


def test_a_call_that_never_left_costs_nothing() -> None:
    assert charge_unsent() == Charge(0, 0, 0, 0)


# -- which policy ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "base_url", "name"),
    [
        ("openai", None, "openai"),
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "https://API.OPENAI.COM/v1/", "openai"),
        ("openai", "https://api.openai.com.evil.org/v1", "compatible"),
        ("openai", AZURE, "azure"),
        ("azure", None, "azure"),
        ("my-azure", AZURE, "azure"),
        ("openai", "https://my.services.ai.azure.com/openai/v1", "azure"),
        ("openai", "https://openrouter.ai/api/v1", "compatible"),
        ("openai", LOCAL, "compatible"),
        ("anthropic", "https://proxy.example.com", "anthropic"),
        ("gemini", LOCAL, "gemini"),
        ("my-own", LOCAL, "own"),
    ],
)
def test_the_provider_and_its_address_tell_the_policy(
    provider: str, base_url: str | None, name: str
) -> None:
    assert policy_of(provider, base_url) is POLICIES[name]


# -- the end of the day ------------------------------------------------------------------------

PACIFIC = ZoneInfo("America/Los_Angeles")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-21T12:00:00+00:00", "2026-11-22T00:00:00+00:00"),
        ("2026-11-21T23:59:59.999+00:00", "2026-11-22T00:00:00+00:00"),
        ("2026-11-22T00:00:00+00:00", "2026-11-23T00:00:00+00:00"),
        ("2026-12-31T23:00:00+00:00", "2027-01-01T00:00:00+00:00"),
        ("2028-02-28T12:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        ("2026-11-22T01:00:00+05:00", "2026-11-22T00:00:00+00:00"),
    ],
)
def test_a_day_ends_at_midnight_utc(now: str, end: str) -> None:
    assert day_end_ms(UTC, at(now)) == at(end).timestamp() * 1000
    assert POLICIES["openai"].day_zone is UTC


@pytest.mark.parametrize(
    ("now", "end"),
    [
        ("2026-11-21T12:00:00+00:00", "2026-11-22T08:00:00+00:00"),  # winter: UTC-8
        ("2026-07-01T12:00:00+00:00", "2026-07-02T07:00:00+00:00"),  # summer: UTC-7
        ("2026-07-01T06:59:59+00:00", "2026-07-01T07:00:00+00:00"),
        # The clocks go forward on 8 March 2026 at 2:00, so that day has 23 hours ...
        ("2026-03-08T08:00:00+00:00", "2026-03-09T07:00:00+00:00"),
        # ... and back on 1 November 2026 at 2:00: that day has 25.
        ("2026-11-01T07:00:00+00:00", "2026-11-02T08:00:00+00:00"),
    ],
)
def test_geminis_day_ends_at_midnight_pacific_daylight_saving_included(now: str, end: str) -> None:
    assert day_end_ms(POLICIES["gemini"].day_zone, at(now)) == at(end).timestamp() * 1000


def test_every_hour_of_a_year_lies_before_the_end_of_its_day_and_within_25_hours() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for hour in range(365 * 24):
        moment = now + timedelta(hours=hour, minutes=1)
        left = day_end_ms(PACIFIC, moment) / 1000 - moment.timestamp()
        assert 0 < left <= 25 * 3600


def test_the_end_of_a_day_is_reckoned_anew_when_the_day_is_over() -> None:
    now = at("2026-11-21T12:00:00+00:00").timestamp()
    ends = DayEnds(lambda: now)
    first = ends(UTC), ends(PACIFIC)
    assert first == (day_end_ms(UTC, at("2026-11-21T12:00:00+00:00")), 1000 * (now + 20 * 3600))
    now += 12 * 3600 - 1
    assert (ends(UTC), ends(PACIFIC)) == first
    now += 1
    assert (ends(UTC), ends(PACIFIC)) == (first[0] + 86_400_000, first[1])


def test_a_clock_that_was_set_back_gets_its_own_day_again() -> None:
    now = at("2026-11-21T12:00:00+00:00").timestamp()
    ends = DayEnds(lambda: now)
    ends(UTC)
    now -= 5 * 86_400
    assert ends(UTC) == day_end_ms(UTC, at("2026-11-16T12:00:00+00:00"))
