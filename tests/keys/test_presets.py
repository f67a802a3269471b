from __future__ import annotations

from datetime import date

import pytest

from keys.presets import CONSOLES, PRESETS, Tier, preset_for
from tests.keys.fakes import spec

TODAY = date(2026, 11, 21)


def test_every_row_makes_a_key() -> None:
    for row in PRESETS:
        key = spec(f"{row.provider}-default", model_name=row.model, **row.limits())
        assert key.rpm == row.rpm
    assert len({(row.provider, row.tier, row.model) for row in PRESETS}) == len(PRESETS)
    assert {row.provider for row in PRESETS} == set(CONSOLES)


@pytest.mark.parametrize(
    ("provider", "tier", "found"),
    [
        ("gemini", None, Tier.FREE),
        ("openai", None, Tier.TIER1),
        ("anthropic", None, Tier.TIER1),
        ("openai", Tier.TIER3, Tier.TIER3),
        ("anthropic", Tier.FREE, Tier.TIER1),
        ("anthropic", Tier.TIER5, Tier.TIER4),
        ("gemini", Tier.TIER5, Tier.TIER3),
    ],
)
def test_the_nearest_tier_that_a_provider_has_is_chosen(
    provider: str, tier: Tier | None, found: Tier
) -> None:
    assert preset_for(provider, tier, TODAY).tier is found


def test_limits_rise_with_the_tier() -> None:
    for provider in CONSOLES:
        rows = [preset_for(provider, tier, TODAY) for tier in Tier]
        assert [row.rpm for row in rows] == sorted(row.rpm for row in rows)


def test_a_model_is_not_chosen_after_its_last_day() -> None:
    assert preset_for("openai", None, date(2027, 1, 13)).model == "gpt-4o-mini"
    assert preset_for("openai", None, date(2027, 1, 14)).model == "gpt-6-luna"


def test_a_model_is_left_for_each_provider_for_ever() -> None:
    for provider in CONSOLES:
        assert preset_for(provider, None, date(2100, 1, 1)).until is None
