"""The dozen keys of the demo: whose they are, and what they permit."""

from __future__ import annotations

from typing import Any, Final

from tools.simulated_provider import SimulationClient

OPENAI, CLAUDE, GEMINI = "gpt-4o-mini", "claude-haiku-4-5", "gemini-2.5-flash"
MODELS = (OPENAI, CLAUDE, GEMINI)
MAX_OUTPUT_TOKENS = 200
EXPECTED_TOKENS = 60
TO_BE_REVOKED = "openai-2"
TO_FAIL: Final = "gemini"

_SHARES = (
    ("openai", "openai", OPENAI, (12, 12, 8, 8)),
    ("claude", "anthropic", CLAUDE, (10, 10, 10, 10)),
    ("gemini", "gemini", GEMINI, (12, 12, 8, 8)),
)
_MAX_PARALLEL = 6


def key_entries(permitted: int, providers: SimulationClient) -> list[dict[str, Any]]:
    """The entries of keys.json, with limits that permit about so many requests a window."""
    whole = sum(share for *_, shares in _SHARES for share in shares)
    addresses = {
        "openai": providers.openai_base_url,
        "anthropic": providers.anthropic_base_url,
        "gemini": providers.gemini_base_url,
    }
    entries = []
    for name, provider, model, shares in _SHARES:
        for number, share in enumerate(shares, 1):
            rpm = max(1, round(permitted * share / whole))
            entries.append(
                {
                    "key_id": f"{name}-{number}",
                    "model_name": model,
                    "provider": provider,
                    "base_url": addresses[provider],
                    "rpm": rpm,
                    "max_parallel": _MAX_PARALLEL,
                    **_token_limits(provider, rpm),
                }
            )
    return entries


def _token_limits(provider: str, rpm: int) -> dict[str, int]:
    """Limits on tokens in each provider's own terms, wide enough for requests to be scarcer."""
    if provider == "anthropic":
        return {"itpm": rpm * 500, "otpm": _MAX_PARALLEL * MAX_OUTPUT_TOKENS + rpm * 100}
    return {"tpm": rpm * (MAX_OUTPUT_TOKENS + 50)}
