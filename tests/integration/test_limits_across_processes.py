"""Eight processes of eight threads share one limit: none is sent too much, nearly all is used."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.elsewhere import run_elsewhere
from tests.integration.routers import MODELS, MakeRouter, key, limit
from tools.simulated_provider import SimulatedProvider

ROUTERS_WINDOW = 2.5
PROVIDERS_WINDOW = 1.75
"""The provider's strict window is shorter by what a loaded machine may need on the way from a
reservation to the provider. With real minutes the router keeps half a second for that."""

LIMIT = 48
VARIANTS: dict[str, tuple[list[str], dict[str, Any], dict[str, Any], int]] = {
    # keys, our limits, the provider's, what a request counts
    "rpm of a key": (["a"], {"rpm": LIMIT}, {"rpm": LIMIT}, 1),
    "tpm of a quota group": (
        ["a", "b"],
        {"tpm": LIMIT * 100, "quota_group": "team"},
        {"tpm": LIMIT * 100, "group": "team"},
        100,
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_limit_under_eight_processes_by_eight_threads(
    make_router: MakeRouter, simulator: SimulatedProvider, variant: str
) -> None:
    names, ours, theirs, each = VARIANTS[variant]
    keys: list[dict[str, Any]] = [key(name, **ours) for name in names]
    keys.append(key("warm", model_name="warm-up"))
    router = make_router(keys=keys, rate_window_seconds=ROUTERS_WINDOW)
    for name in names:
        limit(simulator, name, window_seconds=PROVIDERS_WINDOW, **theirs)
    ends = run_elsewhere(
        {
            "settings": router._parts.settings.model_dump(),
            "crowd": {
                "processes": 8,
                "threads": 8,
                "warm_up_model": "warm-up",
                "seconds": ROUTERS_WINDOW + 1.6,
                "request": {
                    "prompt": "Hello",
                    "model_preference": MODELS["openai"],
                    "max_output_tokens": 100,
                    "expected_completion_tokens": 50,
                    "timeout": 30,
                },
            },
        }
    )
    report = simulator.report()
    del report["keys"]["warm"]
    assert set(ends) == {"success", "rate_limited"}, "the last of each thread found no room"
    assert report["totals"]["refused"] == 0
    assert report["totals"]["overshoot"] == 0
    accepted = sum(found["accepted"] for found in report["keys"].values())
    assert ends["success"] == accepted
    assert accepted >= 0.98 * LIMIT * 2
    # Of a shared quota every key reports the same peak.
    peak = max(found["limits"][next(iter(theirs))]["peak"] for found in report["keys"].values())
    assert 0.98 * LIMIT * each <= peak <= LIMIT * each
