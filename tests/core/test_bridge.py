"""Synchronous code on tasks: it waits as they do, and is cancelled as they are."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar

import pytest

from core.bridge import Bell, aside, on_a_task, on_task, sleep, wait_for


def test_it_gives_what_the_function_gives_and_raises_what_it_raises() -> None:
    def fail() -> None:
        raise ValueError("no")

    async def run() -> None:
        assert await on_task(lambda a, b: a + b, 1, b=2) == 3
        with pytest.raises(ValueError, match="no"):
            await on_task(fail)

    asyncio.run(run())


def test_others_go_on_while_it_waits() -> None:
    def nap() -> bool:
        assert on_a_task()
        sleep(0.2)
        return on_a_task()

    async def run() -> float:
        began = time.monotonic()
        assert await asyncio.gather(*[on_task(nap) for _ in range(50)]) == [True] * 50
        return time.monotonic() - began

    assert asyncio.run(run()) < 2.0
    assert not on_a_task()


def test_a_cancelled_task_is_cancelled_where_the_function_waits_and_it_may_still_wait() -> None:
    seen: list[str] = []

    def work() -> None:
        try:
            sleep(30)
        except asyncio.CancelledError:
            sleep(0.01)
            seen.append("tidied")
            raise

    async def run() -> None:
        task = asyncio.create_task(on_task(work))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert seen == ["tidied"]


def test_the_context_is_that_of_the_task() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody")

    def read() -> str:
        sleep(0.001)
        return name.get()

    async def named(value: str) -> str:
        name.set(value)
        return await on_task(read)

    async def run() -> list[str]:
        return list(await asyncio.gather(*[named(str(n)) for n in range(20)]))

    assert asyncio.run(run()) == [str(n) for n in range(20)]


def test_what_blocks_is_done_by_a_thread() -> None:
    here = threading.get_ident()
    assert aside(threading.get_ident) == here

    async def run() -> int:
        return await on_task(aside, threading.get_ident)

    assert asyncio.run(run()) != here


@pytest.mark.parametrize("rung", ["before", "while it waits", "never"])
def test_a_bell_is_heard_by_threads_and_by_tasks(rung: str) -> None:
    def ring(bell: Bell) -> None:
        if rung == "before":
            bell.set()
        elif rung == "while it waits":
            threading.Timer(0.05, bell.set).start()

    bell = Bell()
    ring(bell)
    assert bell.wait(0.15 if rung == "never" else 5.0) is (rung != "never")

    async def run() -> bool:
        other = Bell()
        ring(other)
        return await on_task(other.wait, 0.15 if rung == "never" else 5.0)

    assert asyncio.run(run()) is (rung != "never")


def test_wait_for_gives_what_comes_of_an_awaitable() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def run() -> int:
        return await on_task(lambda: wait_for(answer()))

    assert asyncio.run(run()) == 42
