"""Tasks that are cancelled, wherever they are, leave nothing behind; and a thousand at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llm.async_router import AsyncRequestRouter
from llm.routing import task_drivers
from tests.integration.faces import TaskRouter
from tests.integration.routers import TASKS, MakeRouter, key, wait_for
from tools.simulated_provider import SimulatedProvider

pytestmark = pytest.mark.parametrize("make_router", [TASKS], indirect=True)


def on_its_loop(
    made: Any, work: Callable[[AsyncRequestRouter], Awaitable[Any]], seconds: float = 60
) -> Any:
    assert isinstance(made, TaskRouter)
    return asyncio.run_coroutine_threadsafe(_awaited(work(made.router)), made.loop).result(seconds)


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


async def nothing_left(router: AsyncRequestRouter, key_id: str) -> None:
    """Wait until nothing of the cancelled tasks is left: no slot, no task, no waiter."""
    keys = router._parts.driver.keys
    for _ in range(300):
        status = await asyncio.to_thread(keys.get_key_status, key_id)
        others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
        waiters = keys._limiter._room._tickets
        if not (status["parallel"]["used"] or others or waiters or task_drivers._finishing):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"left: {status['parallel']['used']} slots, {others}, {waiters}")


@pytest.mark.parametrize("after", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02, 0.05, 0.1])
def test_a_request_that_is_cancelled_at_any_moment_leaves_nothing(
    make_router: MakeRouter, simulator: SimulatedProvider, after: float
) -> None:
    made = make_router(keys=[key("a", max_parallel=50, rpm=1000)])
    simulator.add_fault("latency", seconds=0.03)

    async def run(router: AsyncRequestRouter) -> None:
        await router.send_one_shot("Warm up")
        tasks = [asyncio.ensure_future(router.send_one_shot("Hello")) for _ in range(10)]
        await asyncio.sleep(after)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await nothing_left(router, "a")
        assert (await router.send_one_shot("Still well"))["success"]

    on_its_loop(made, run)


def test_a_stream_whose_task_is_cancelled_closes_and_settles(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    made = make_router(keys=[key("a", max_parallel=5)])
    simulator.add_fault("stall", times=5)

    async def read(router: AsyncRequestRouter) -> None:
        async for _ in router.stream_one_shot("A long story, please. " * 20):
            pass

    async def run(router: AsyncRequestRouter) -> None:
        tasks = [asyncio.ensure_future(read(router)) for _ in range(5)]
        await asyncio.sleep(0.5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await nothing_left(router, "a")

    on_its_loop(made, run)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "text-embedding-3-small"), ("gemini", "gemini-embedding-001")],
)
def test_embeddings_that_are_cancelled_close_and_settle(
    make_router: MakeRouter, simulator: SimulatedProvider, provider: str, model: str
) -> None:
    made = make_router(keys=[key("a", provider, model_name=model, max_parallel=5, rpm=100)])
    simulator.add_fault("hang", times=5)

    def under_way() -> int:
        return simulator.report()["keys"]["a"]["in_flight"]

    async def run(router: AsyncRequestRouter) -> None:
        tasks = [asyncio.ensure_future(router.embed(["one", "two"])) for _ in range(5)]
        await asyncio.to_thread(wait_for, lambda: under_way() == 5)
        for task in tasks:
            task.cancel()
        gone = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in gone)
        await asyncio.to_thread(wait_for, lambda: under_way() == 0)
        await nothing_left(router, "a")
        status = await asyncio.to_thread(router._parts.driver.keys.get_key_status, "a")
        assert status["rpm"]["used"] == 5, "they were sent, so they count"
        assert (await router.embed(["one"]))["success"]

    on_its_loop(made, run)


def test_who_waits_for_room_and_is_cancelled_leaves_the_queue(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    made = make_router(keys=[key("a", max_parallel=1)])
    simulator.add_fault("latency", seconds=0.5, times=1)

    async def run(router: AsyncRequestRouter) -> None:
        first = asyncio.ensure_future(router.send_one_shot("Slow"))
        await asyncio.sleep(0.1)
        waiting = [asyncio.ensure_future(router.send_one_shot("?", max_wait=20)) for _ in range(20)]
        await asyncio.sleep(0.1)
        for task in waiting[:10]:
            task.cancel()
        gone = await asyncio.gather(*waiting[:10], return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in gone)
        assert (await first)["success"]
        assert all(reply["success"] for reply in await asyncio.gather(*waiting[10:]))
        await nothing_left(router, "a")

    on_its_loop(made, run)


def test_a_thousand_requests_in_flight_and_no_connection_left(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    made = make_router(keys=[key(f"k{n}") for n in range(10)])
    simulator.add_fault("latency", seconds=1.0)

    async def run(router: AsyncRequestRouter) -> None:
        replies = await asyncio.gather(*[router.send_one_shot("Hello") for _ in range(1000)])
        assert all(reply["success"] for reply in replies)

    on_its_loop(made, run, 110)
    before = len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))
    made.close()
    after = len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))
    assert after < before - 100
