"""The usual limits of new accounts: what `python -m keys init` starts from.

They are a start. Providers change them, and only their consoles tell what an account really has.
Each table below says where its numbers come from; all were looked up in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

CONSOLES = {
    "openai": "https://platform.openai.com/settings/organization/limits",
    "anthropic": "https://platform.claude.com/settings/limits",
    "gemini": "https://aistudio.google.com/rate-limit",
}


class Tier(StrEnum):
    """How far an account has come at its provider, lowest first."""

    FREE = "free"
    TIER1 = "tier1"
    TIER2 = "tier2"
    TIER3 = "tier3"
    TIER4 = "tier4"
    TIER5 = "tier5"


@dataclass(frozen=True, slots=True)
class Preset:
    """The limits of one model for accounts of one tier.

    Args:
        rpm, tpm, itpm, otpm, rpd: as in `keys.json`; None where the provider sets none.
        until: the last day on which the provider serves the model, where that is known.
    """

    provider: str
    tier: Tier
    model: str
    rpm: int
    tpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    rpd: int | None = None
    until: date | None = None

    def limits(self) -> dict[str, Any]:
        """The limits that are set, by their names in `keys.json`."""
        found = {name: getattr(self, name) for name in ("rpm", "tpm", "itpm", "otpm", "rpd")}
        return {name: limit for name, limit in found.items() if limit is not None}


# gpt-4o-mini: https://platform.openai.com/docs/models/gpt-4o-mini, by tier; shut down on
# 2027-01-14 by https://developers.openai.com/api/docs/deprecations, which names gpt-6-luna as its
# replacement. Its own limits were not found; those of the small models before it stand in.
_GPT_4O_MINI_UNTIL = date(2027, 1, 13)
_OPENAI = tuple(
    Preset("openai", tier, model, rpm=rpm, tpm=tpm, rpd=rpd, until=until)
    for model, until in (("gpt-4o-mini", _GPT_4O_MINI_UNTIL), ("gpt-6-luna", None))
    for tier, rpm, tpm, rpd in (
        (Tier.FREE, 3, 40_000, 200),
        (Tier.TIER1, 500, 200_000, 10_000),
        (Tier.TIER2, 5_000, 2_000_000, None),
        (Tier.TIER3, 5_000, 4_000_000, None),
        (Tier.TIER4, 10_000, 10_000_000, None),
        (Tier.TIER5, 30_000, 150_000_000, None),
    )
)

# https://platform.claude.com/docs/en/api/rate-limits as of May 2026, when the tiers were numbered.
# They are now called Evaluation, Start, Build and Scale; new accounts start in the first.
_ANTHROPIC = tuple(
    Preset("anthropic", tier, "claude-haiku-4-5", rpm=rpm, itpm=itpm, otpm=otpm)
    for tier, rpm, itpm, otpm in (
        (Tier.TIER1, 50, 50_000, 10_000),
        (Tier.TIER2, 1_000, 450_000, 90_000),
        (Tier.TIER3, 2_000, 1_000_000, 200_000),
        (Tier.TIER4, 4_000, 4_000_000, 800_000),
    )
)

# Google publishes none since 2026 and points to AI Studio. Free: what users report from there for
# gemini-3.5-flash-lite (August and September 2026). Paid: the last published of gemini-2.5-flash.
_GEMINI = tuple(
    Preset("gemini", tier, "gemini-3.5-flash-lite", rpm=rpm, tpm=tpm, rpd=rpd)
    for tier, rpm, tpm, rpd in (
        (Tier.FREE, 15, 250_000, 500),
        (Tier.TIER1, 1_000, 1_000_000, 10_000),
        (Tier.TIER2, 2_000, 3_000_000, 100_000),
        (Tier.TIER3, 10_000, 8_000_000, None),
    )
)

PRESETS = (*_OPENAI, *_ANTHROPIC, *_GEMINI)
_OF_A_NEW_ACCOUNT = {"openai": Tier.TIER1, "anthropic": Tier.TIER1, "gemini": Tier.FREE}


def preset_for(provider: str, tier: Tier | None, today: date) -> Preset:
    """The row to start from: of the first model that is still served.

    Args:
        provider: `openai`, `anthropic` or `gemini`.
        tier: None for the tier of a new account. Where a provider does not have it, the highest
            below it counts, else the lowest that there is.
        today: models whose last day is over are passed over.

    Example:
        >>> preset_for("gemini", None, date(2026, 11, 21)).rpm
        15
    """
    order = list(Tier)
    wanted = order.index(tier or _OF_A_NEW_ACCOUNT[provider])
    rows = [p for p in PRESETS if p.provider == provider and (p.until is None or today <= p.until)]
    rows = [row for row in rows if row.model == rows[0].model]
    reached = [row for row in rows if order.index(row.tier) <= wanted]
    return reached[-1] if reached else rows[0]
