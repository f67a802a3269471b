"""`make bench`: what a thread costs in the synchronous router, and when tasks are the better one.

As many threads as the column says send requests in one process, with a provider that answers at
once and with one that takes its time; beside them OpenAI's bare SDK with as many threads, the
asynchronous router with as many tasks, and the calls to Redis alone, ours and redis-py's. Python
runs one thread at a time, so where a process needs a whole core, more threads bring nothing more:
the CPU time of a request decides.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.tasks import BODY, MODEL, PROMPT, bench_settings, one_secret, resident_kib
from core.settings import Settings
from keys.policies import Need, charge_answered, policy_of
from keys.reservations import End, Reservation
from keys.selection import Selection
from llm.factory import build_async_router, build_router
from llm.router import RequestRouter
from tools.simulated_provider import SimulatedProviderProcess

COUNTS = (1, 2, 4, 8, 16, 32)
LATENCIES = (0.0, 0.05)
SECONDS, ROUNDS = 0.6, 3
MANY_THREADS = 128


class Cost(NamedTuple):
    """What one round found: requests a second, CPU microseconds of each, and of the core used."""

    rate: float
    cpu: float
    busy: float


def main() -> int:
    """Measure and print."""
    console = Console()
    with SimulatedProviderProcess() as provider, bench_settings(provider.openai_base_url) as chosen:
        for latency in LATENCIES:
            provider.clear_faults()
            if latency:
                provider.add_fault("latency", seconds=latency)
            requests = _requests(chosen, provider.openai_base_url)
            answers = f"answered after {latency * 1000:g} ms" if latency else "answered at once"
            console.print(_table(f"Requests, {answers}", requests, "bare SDK"))
        memory = _memory(chosen)
        provider.clear_faults()
        with build_router(chosen, secret_store=one_secret()) as router:
            found = {name: _each_count(thing) for name, thing in _redis_calls(router).items()}
    console.print(_table("Redis alone", found, "redis-py, PING"))
    console.print(f"memory of a thread that has sent a request: {memory:,.0f} KiB")
    return 0


def _requests(settings: Settings, base_url: str) -> dict[str, list[Cost]]:
    from openai import OpenAI

    client = OpenAI(api_key="bench", base_url=base_url, max_retries=0)
    with client, build_router(settings, secret_store=one_secret()) as router:
        found = {
            "bare SDK": _each_count(lambda: client.chat.completions.create(**BODY)),
            "RequestRouter": _each_count(lambda: router.send_one_shot(PROMPT, MODEL)),
        }
    found["AsyncRequestRouter"] = asyncio.run(_each_count_of_tasks(settings))
    return found


def _redis_calls(router: RequestRouter) -> dict[str, Callable[[], object]]:
    redis, manager = router._parts.redis, router._parts.driver.keys
    ids, need, selection = itertools.count(), Need(20, 512, 2048), Selection()

    def reserve_and_settle() -> None:
        taken = manager.reserve(
            need, selection, reservation_id=f"bench-{next(ids)}", lease_seconds=60.0
        )
        assert isinstance(taken, Reservation)
        policy = policy_of(taken.key.provider, taken.key.base_url)
        manager.settle(taken, End(charge_answered(policy, need, taken.weights, None), True))

    return {
        "redis-py, PING": redis.client.ping,
        "ours, PING": lambda: redis.call("PING"),
        "reserve and settle": reserve_and_settle,
    }


def _each_count(thing: Callable[[], object]) -> list[Cost]:
    for _ in range(20):
        thing()
    return [_median([_with_threads(thing, count) for _ in range(ROUNDS)]) for count in COUNTS]


def _with_threads(thing: Callable[[], object], count: int) -> Cost:
    done = [0] * count
    ready = threading.Barrier(count + 1)
    stop = threading.Event()

    def work(number: int) -> None:
        thing()
        ready.wait()
        while not stop.is_set():
            thing()
            done[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    ready.wait()
    began, cpu = time.perf_counter(), time.process_time()
    time.sleep(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    return _cost(sum(done), time.perf_counter() - began, time.process_time() - cpu)


async def _each_count_of_tasks(settings: Settings) -> list[Cost]:
    async with build_async_router(settings, secret_store=one_secret()) as router:

        def thing() -> Awaitable[Any]:
            return router.send_one_shot(PROMPT, MODEL)

        for _ in range(20):
            await thing()
        return [
            _median([await _with_tasks(thing, count) for _ in range(ROUNDS)]) for count in COUNTS
        ]


async def _with_tasks(thing: Callable[[], Awaitable[Any]], count: int) -> Cost:
    done, end = 0, time.perf_counter() + SECONDS

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await thing()
            done += 1

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*[work() for _ in range(count)])
    return _cost(done, time.perf_counter() - began, time.process_time() - cpu)


def _cost(done: int, seconds: float, cpu: float) -> Cost:
    return Cost(done / seconds, cpu / max(1, done) * 1e6, cpu / seconds)


def _median(rounds: list[Cost]) -> Cost:
    return Cost(*(statistics.median(values) for values in zip(*rounds, strict=True)))


def _memory(settings: Settings) -> float:
    """KiB that the process grows by for each thread that waits for its answer, connections too."""
    with build_router(settings, secret_store=one_secret()) as router:
        router.send_one_shot(PROMPT, MODEL)
        before = resident_kib()
        everybody = threading.Barrier(MANY_THREADS + 1)

        def work() -> None:
            router.send_one_shot(PROMPT, MODEL)
            everybody.wait()
            everybody.wait()

        threads = [threading.Thread(target=work) for _ in range(MANY_THREADS)]
        for thread in threads:
            thread.start()
        everybody.wait()
        grown = resident_kib() - before
        everybody.wait()
        for thread in threads:
            thread.join()
    return grown / MANY_THREADS


def _table(title: str, found: Mapping[str, list[Cost]], beside: str) -> Table:
    """Requests a second, their share of `beside`'s, and the CPU time of each."""
    table = Table(title=f"{title}: a second (of {beside}; CPU µs; of a core)", title_justify="left")
    table.add_column("what")
    for count in COUNTS:
        table.add_column(f"{count}", justify="right")
    for name, costs in found.items():
        cells = [
            f"{cost.rate:,.0f}\n({cost.rate / other.rate:.2f}; {cost.cpu:,.0f}; {cost.busy:.0%})"
            for cost, other in zip(costs, found[beside], strict=True)
        ]
        table.add_row(name, *cells)
    return table


if __name__ == "__main__":
    raise SystemExit(main())
