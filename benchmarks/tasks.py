"""`make bench`: streams and tasks, side by side with OpenAI's bare SDK.

Time to the first chunk and between chunks; asynchronous requests a second in one process; the
memory of open streams. Everything is measured in turn against a simulated provider in a process
of its own, so that noise hits all alike.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console

from benchmarks.timing import Promise, promises_table
from core.settings import Settings
from keys.spec import KeySpec
from llm.factory import build_async_router, build_router
from tools.simulated_provider import SimulatedProviderProcess
from tools.simulation.settings import SimulationSettings

MODEL = "gpt-4o-mini"
PROMPT = "Name the largest city of each country that borders Austria."
STREAMS, IN_FLIGHT, REQUESTS, ROUNDS, OPEN = 60, 64, 640, 3, 1_000
BODY: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": PROMPT}],
    "max_tokens": 2048,
    "temperature": 0.7,
}
STREAM: dict[str, Any] = {**BODY, "stream": True, "stream_options": {"include_usage": True}}


class _OneSecret:
    def fetch(self, key: KeySpec) -> SecretStr:
        return SecretStr("bench")


def one_secret() -> Any:
    """A secret store with the same secret for all keys."""
    return _OneSecret()


def main() -> int:
    """Measure and print; the exit code is 1 where a promise of the README is not kept."""
    console = Console()
    console.print(f"{STREAMS} streams, then {ROUNDS} rounds of {REQUESTS} requests ...")
    with (
        SimulatedProviderProcess(SimulationSettings(completion_tokens=1_500)) as provider,
        bench_settings(provider.openai_base_url) as settings,
    ):
        first, between = _streams(settings, provider.openai_base_url)
        memory = asyncio.run(_open_streams(settings, provider))
    with (
        SimulatedProviderProcess() as provider,
        bench_settings(provider.openai_base_url) as settings,
    ):
        rates = asyncio.run(_rates(settings, provider.openai_base_url))
    for name, rate in rates.items():
        console.print(f"{name:36} {rate:8,.0f} requests a second, {IN_FLIGHT} in flight")

    def share(name: str) -> float:
        return 100 * rates["AsyncRequestRouter"] / rates[name]

    kept, table = promises_table(
        [
            Promise("added to the first chunk", first * 1e3, "ms", most=0.6),
            Promise("added to each further chunk", between * 1e6, "µs", most=20.0),
            Promise("of the bare SDK on aiohttp", share("bare SDK, aiohttp"), "%", least=75),
            Promise("of the bare SDK by default", share("bare SDK"), "%", least=100),
            Promise(f"memory of one of {OPEN:,} open streams", memory, "KiB", most=200),
        ]
    )
    console.print(table)
    return 0 if kept else 1


@contextmanager
def bench_settings(base_url: str) -> Iterator[Settings]:
    """Settings of ten keys without limits to speak of, and a server of their own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.json"
        limits = {"rpm": 1_000_000, "tpm": 1_000_000_000, "base_url": base_url}
        entries = [
            {"key_id": f"bench-{n}", "model_name": MODEL, "provider": "openai", **limits}
            for n in range(10)
        ]
        path.write_text(json.dumps({"keys": entries}), encoding="utf-8")
        yield Settings(
            _env_file=None,  # type: ignore[call-arg]
            redis_url=None,
            keys_file=path,
            llm_data_dir=Path(folder) / "data",
            log_level="ERROR",
        )


def _streams(settings: Settings, base_url: str) -> tuple[float, float]:
    """Seconds that the router adds to the first chunk, and to each further one."""
    from openai import OpenAI

    client = OpenAI(api_key="bench", base_url=base_url, max_retries=0)

    def bare() -> Iterable[Any]:
        for chunk in client.chat.completions.create(**STREAM):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk

    with build_router(settings, secret_store=one_secret()) as router:

        def ours() -> Iterable[Any]:
            return router.stream_one_shot(PROMPT, MODEL)

        times: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
        for number in range(STREAMS + 10):
            for name, thing in (("bare", bare), ("ours", ours)):
                timed = _time(thing())
                if number >= 10:
                    times[name].append(timed)

    def added(which: int) -> float:
        ours, bare = (
            statistics.median(timed[which] for timed in times[name]) for name in ("ours", "bare")
        )
        return ours - bare

    return added(0), added(1)


def _time(chunks: Iterable[Any]) -> tuple[float, float]:
    began = time.perf_counter()
    first, count = began, 0
    for _ in chunks:
        if not count:
            first = time.perf_counter()
        count += 1
    return first - began, (time.perf_counter() - first) / max(1, count - 1)


async def _rates(settings: Settings, base_url: str) -> dict[str, float]:
    """Requests a second of each, medians of rounds in turn."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    plain = AsyncOpenAI(api_key="bench", base_url=base_url, max_retries=0)
    quick = AsyncOpenAI(
        api_key="bench", base_url=base_url, max_retries=0, http_client=DefaultAioHttpClient()
    )
    async with plain, quick, _router(settings) as router:
        things: dict[str, Callable[[], Awaitable[Any]]] = {
            "bare SDK": lambda: plain.chat.completions.create(**BODY),
            "bare SDK, aiohttp": lambda: quick.chat.completions.create(**BODY),
            "AsyncRequestRouter": lambda: router.send_one_shot(PROMPT, MODEL),
        }
        found: dict[str, list[float]] = {name: [] for name in things}
        for number in range(ROUNDS + 1):
            for name, thing in things.items():
                rate = await _rate(thing)
                if number:
                    found[name].append(rate)
    return {name: statistics.median(rates) for name, rates in found.items()}


async def _rate(thing: Callable[[], Awaitable[Any]]) -> float:
    async def worker() -> None:
        for _ in range(REQUESTS // IN_FLIGHT):
            await thing()

    began = time.perf_counter()
    await asyncio.gather(*[worker() for _ in range(IN_FLIGHT)])
    return REQUESTS / (time.perf_counter() - began)


async def _open_streams(settings: Settings, provider: SimulatedProviderProcess) -> float:
    """KiB that this process grows by for each of a thousand streams that stand open."""
    async with _router(settings) as router:
        warm = [router.stream_one_shot(PROMPT, MODEL) for _ in range(20)]
        for stream in warm:
            await anext(stream)
            await stream.aclose()
        provider.add_fault("stall")
        before = resident_kib()
        streams = [router.stream_one_shot(PROMPT, MODEL, timeout=300) for _ in range(OPEN)]
        for start in range(0, OPEN, 100):
            await asyncio.gather(*[anext(stream) for stream in streams[start : start + 100]])
        grown = resident_kib() - before
        await asyncio.gather(*[stream.aclose() for stream in streams])
        provider.clear_faults()
    return grown / OPEN


@asynccontextmanager
async def _router(settings: Settings) -> AsyncIterator[Any]:
    async with build_async_router(settings, secret_store=one_secret()) as router:
        yield router


def resident_kib() -> float:
    """The memory of this process."""
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return float(text.split("VmRSS:")[1].split()[0])


if __name__ == "__main__":
    raise SystemExit(main())
