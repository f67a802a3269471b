"""`make bench-shard`: how many requests a second one shard's limiter carries.

Processes reserve on and settle with one server, as quickly as they can, over the loopback, each on
ten keys of one provider. Clients and server share this machine, so the clients often are what is
slow; the server's own time a pair tells what it would carry on a core of its own.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

from core.redis_connection import open_redis
from core.settings import Settings
from keys.manager import Reservation, build_key_manager
from keys.policies import Need, charge_answered, policy_of
from keys.selection import Selection
from tests.servers import PlainServer

CROWDS = ((1, 1), (4, 1), (8, 1), (1, 8))
"""How many processes, of how many threads."""

ROUNDS = 5
SECONDS = 2.0
KEYS = 10
NEED = Need(20, 512, 2048)


@dataclass(frozen=True)
class Measured:
    """Pairs of reserve and settle a second, and what each cost the server (µs of CPU)."""

    pairs_a_second: float
    server_us: float


def main() -> None:
    """Measure each crowd in turn, several rounds, and print the medians."""
    found: dict[tuple[int, int], list[Measured]] = {crowd: [] for crowd in CROWDS}
    with tempfile.TemporaryDirectory() as folder, PlainServer(Path(folder), tcp=True) as server:
        settings = _settings(Path(folder), server.url)
        for _ in range(ROUNDS):
            for crowd in CROWDS:
                found[crowd].append(_measure(settings, server.url, *crowd))
    table = Table(
        title=f"One shard: reserve and settle, medians of {ROUNDS} rounds of {SECONDS:g} s",
        title_justify="left",
    )
    for heading in ("processes", "threads each", "pairs/s", "server's CPU", "a core would carry"):
        table.add_column(heading, justify="right")
    for (processes, threads), rounds in found.items():
        rate = statistics.median(each.pairs_a_second for each in rounds)
        cost = statistics.median(each.server_us for each in rounds)
        table.add_row(
            str(processes),
            str(threads),
            f"{rate:,.0f}",
            f"{cost:.0f} µs a pair",
            f"{1e6 / cost:,.0f} pairs/s",
        )
    Console(width=100).print(table, f"{os.cpu_count()} cores, shared by clients and server.")


def _settings(folder: Path, url: str) -> Settings:
    path = folder / "keys.json"
    limits: dict[str, Any] = {"rpm": 100_000_000, "tpm": 1_000_000_000_000}
    entries = [
        {"key_id": f"key-{n}", "model_name": "gpt-4o-mini", "provider": "openai", **limits}
        for n in range(KEYS)
    ]
    path.write_text(json.dumps({"keys": entries}), encoding="utf-8")
    return Settings(_env_file=None, redis_url=url, keys_file=path)  # type: ignore[call-arg]


def _measure(settings: Settings, url: str, processes: int, threads: int) -> Measured:
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(processes + 1), fork.SimpleQueue()
    members = [
        fork.Process(target=_member, args=(settings, threads, start, results))
        for _ in range(processes)
    ]
    for member in members:
        member.start()
    with redis.Redis.from_url(url) as client:
        start.wait(30)
        before = _cpu_seconds(client)
        pairs = sum(results.get() for _ in members)
        spent = _cpu_seconds(client) - before
    for member in members:
        member.join()
    return Measured(pairs / SECONDS, spent / pairs * 1e6)


def _member(settings: Settings, threads: int, start: Any, results: Any) -> None:
    with open_redis(settings) as connection:
        manager = build_key_manager(settings, connection)
        policy = policy_of("openai", None)
        counts: list[int] = []

        def pairs(ids: Iterator[int], end: float) -> int:
            done = 0
            while time.monotonic() < end:
                name = f"{os.getpid()}-{threading.get_ident()}-{next(ids)}"
                held = manager.reserve(NEED, Selection(), reservation_id=name, lease_seconds=60.0)
                assert isinstance(held, Reservation)
                manager.settle(held, charge_answered(policy, NEED, held.weights, None))
                done += 1
            return done

        ids = itertools.count()
        pairs(ids, time.monotonic() + 0.2)
        start.wait(30)
        end = time.monotonic() + SECONDS
        crowd = [
            threading.Thread(target=lambda: counts.append(pairs(ids, end))) for _ in range(threads)
        ]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
        results.put(sum(counts))


def _cpu_seconds(client: redis.Redis) -> float:
    cpu: dict[str, float] = client.info("cpu")  # type: ignore[assignment]
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"]


if __name__ == "__main__":
    main()
