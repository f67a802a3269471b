"""Four processes under load while Redis is killed for some seconds: the strict provider refuses
nothing, and no caller who waits sees a failure."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.elsewhere import run_elsewhere
from tests.integration.routers import MODELS, MakeRouter, key, limit, wait_for
from tests.servers import PlainServer
from tools.simulated_provider import SimulatedProvider

ROUTERS_WINDOW = 3.0
PROVIDERS_WINDOW = 2.2
"""The provider's strict window is shorter by what a loaded machine may need on the way from a
reservation to the provider. With real minutes the router keeps half a second for that."""

LIMIT = 24
PROCESSES = 4
KEPT = {"appendonly": "yes", "appendfsync": "everysec"}


@pytest.mark.parametrize("kept", [True, False], ids=["with data", "empty"])
def test_nothing_is_refused_and_nobody_fails(
    make_router: MakeRouter, simulator: SimulatedProvider, tmp_path: Path, kept: bool
) -> None:
    names = ["a", "b"]
    options = KEPT if kept else {}
    with PlainServer(tmp_path / "server", tcp=True, options=options) as server:
        router = make_router(
            keys=[*(key(name, rpm=LIMIT) for name in names), key("warm", model_name="warm-up")],
            redis_url=server.url,
            redis_timeout_seconds=1.0,
            rate_window_seconds=ROUTERS_WINDOW,
        )
        for name in names:
            limit(simulator, name, window_seconds=PROVIDERS_WINDOW, rpm=LIMIT)
        orders = {
            "settings": router._parts.settings.model_dump(),
            "crowd": {
                "processes": PROCESSES,
                "threads": 4,
                "warm_up_model": "warm-up",
                "seconds": 6 * ROUTERS_WINDOW,
                "request": {
                    "prompt": "Hello",
                    "model_preference": MODELS["openai"],
                    "timeout": 60,
                },
            },
        }
        with ThreadPoolExecutor(1) as pool:
            crowd = pool.submit(run_elsewhere, orders, 100.0)
            wait_for(lambda: crowd.done() or accepted(simulator, names) > 2 * LIMIT, 60)
            assert not crowd.done(), crowd.result()
            time.sleep(ROUTERS_WINDOW)
            server.kill()
            before = accepted(simulator, names)
            time.sleep(2 * ROUTERS_WINDOW)
            meanwhile = accepted(simulator, names) - before
            server.start()
            ends = crowd.result()
    assert ends.keys() <= {"success", "rate_limited"}, "the last of each thread found no room"
    assert ends["success"] == accepted(simulator, names)
    report = simulator.report()["totals"]
    assert report["refused"] == 0
    assert report["overshoot"] == 0
    assert meanwhile >= 2 * LIMIT, "at least half of what is permitted goes on"


def accepted(simulator: SimulatedProvider, names: list[str]) -> int:
    keys = simulator.report()["keys"]
    return sum(keys[name]["accepted"] for name in names if name in keys)
