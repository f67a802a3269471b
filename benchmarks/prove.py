"""`make prove`: never over a limit, hardly ever under it, in the eyes of a strict provider.

Four processes of eight threads ask five keys for three times and more of what they permit, and
wait for their turn. A simulated provider counts strictly, in each of the three ways that providers
use. Then the same while the server of the limits is killed and comes back, and a client process is
killed. Exit code 1 if a promise is not kept.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.prove_client import Orders
from core.redis_connection import open_redis
from core.settings import Settings
from tools.simulated_provider import (
    KeySettings,
    SimulatedProviderProcess,
    SimulationSettings,
)

PROCESSES, THREADS, KEYS = 4, 8, 5
WINDOW = 6.0
WINDOWS = 3
LIMIT = 50
KINDS = ("sliding", "fixed", "bucket")


@dataclass(frozen=True)
class Outcome:
    """What one run showed."""

    name: str
    refused: int
    used_at_provider: float
    used_at_redis: float
    failures: int
    trips: float
    reserves: float
    overtaken: float
    longest_wait: float
    troubled: bool = False

    @property
    def kept(self) -> bool:
        if self.troubled:
            return self.refused == 0 and self.failures == 0
        return (
            self.refused == 0
            and self.failures == 0
            and self.used_at_provider >= 0.97
            and self.used_at_redis >= 0.98
        )


def main() -> int:
    """Run every proof and print a row for each."""
    console = Console()
    console.print(
        f"{PROCESSES} processes x {THREADS} threads, {KEYS} keys of {LIMIT} requests in any "
        f"{WINDOW:g} s, everybody waits; about two minutes"
    )
    outcomes = []
    for kind in KINDS:
        outcomes.append(_run(kind, kind))
        console.print(f"  {kind}: {outcomes[-1].refused} refused by the provider")
    outcomes.append(_run("sliding, killed", "sliding", trouble=True))
    console.print(_table(outcomes))
    return 0 if all(outcome.kept for outcome in outcomes) else 1


def _run(name: str, kind: str, *, trouble: bool = False) -> Outcome:
    keys = {
        f"prove-{n}": KeySettings(name=f"prove-{n}", rpm=LIMIT, kind=kind)  # type: ignore[arg-type]
        for n in range(KEYS)
    }
    simulation = SimulationSettings(window_seconds=WINDOW, keys=keys, keep_accepted=100_000)
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatedProviderProcess(simulation) as provider,
    ):
        path = Path(folder) / "keys.json"
        path.write_text(json.dumps({"keys": _entries(provider.openai_base_url)}), encoding="utf-8")
        data = Path(folder) / "data"
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            redis_url=None,
            llm_data_dir=data,
        )
        with open_redis(settings):
            begin = time.time() + 4.0
            steady = begin + WINDOW * 1.2
            end = steady + WINDOW * WINDOWS
            orders = Orders(
                keys_file=str(path),
                data_dir=str(data),
                window=WINDOW,
                threads=THREADS,
                begin=begin,
                pace_until=begin + WINDOW * 0.95,
                pace=PROCESSES * THREADS * WINDOW / (KEYS * LIMIT),
                end=end,
            )
            clients = [_client(orders) for _ in range(PROCESSES)]
            if trouble:
                _make_trouble(data, clients, steady)
            told = [_told(client) for client in clients]
            report = provider.report(timestamps=True)
    return _outcome(name, told, report, steady, end, trouble)


def _entries(base_url: str) -> list[dict[str, Any]]:
    return [
        {
            "key_id": f"prove-{n}",
            "model_name": "gpt-4o-mini",
            "provider": "openai",
            "rpm": LIMIT,
            "base_url": base_url,
        }
        for n in range(KEYS)
    ]


def _client(orders: Orders) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.prove_client", orders.text()],
        stdout=subprocess.PIPE,
        text=True,
    )


def _make_trouble(data: Path, clients: list[subprocess.Popen[str]], steady: float) -> None:
    time.sleep(max(0.0, steady + WINDOW / 2 - time.time()))
    with open_redis(Settings(_env_file=None, llm_data_dir=data, redis_url=None)) as redis:  # type: ignore[call-arg]
        server = int(redis.client.info("server")["process_id"])
    os.kill(server, signal.SIGKILL)
    time.sleep(WINDOW / 2)
    clients.pop().send_signal(signal.SIGKILL)


def _told(client: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = client.communicate(timeout=300)
    told: dict[str, Any] = json.loads(output)
    return told


def _outcome(
    name: str,
    told: list[dict[str, Any]],
    report: Any,
    steady: float,
    end: float,
    trouble: bool,
) -> Outcome:
    results = [result for client in told for result in client["results"]]
    accepted = [at for key in report["keys"].values() for at, _ in key["accepted_at"]]
    permitted = KEYS * LIMIT * (end - steady) / WINDOW
    scripts = [client["scripts"] for client in told]
    admitted = sum(result["attempts"] for result in results)
    reserves = sum(s.get("reserve", 0) + s.get("wake", 0) for s in scripts)
    return Outcome(
        name=name,
        refused=report["totals"]["refused"],
        used_at_provider=sum(steady <= at < end for at in accepted) / permitted,
        used_at_redis=sum(steady <= r["sent"] < end for r in results) / permitted,
        failures=sum(result["outcome"] != "success" for result in results),
        trips=sum(client["trips"] for client in told) / max(1, admitted),
        reserves=reserves / max(1, admitted),
        overtaken=_overtaken(results),
        longest_wait=max(result["sent"] - result["asked"] for result in results),
        troubled=trouble,
    )


def _overtaken(results: list[dict[str, Any]]) -> float:
    """The share of requests that somebody passed who came a tenth of a window later."""
    slack = WINDOW / 10
    by_arrival = sorted(results, key=lambda result: result["asked"])
    passed = 0
    earliest_later = float("inf")
    pending: list[dict[str, Any]] = []
    for result in reversed(by_arrival):
        while pending and pending[0]["asked"] > result["asked"] + slack:
            earliest_later = min(earliest_later, pending.pop(0)["sent"])
        passed += earliest_later < result["sent"] - slack
        pending.append(result)
    return passed / len(by_arrival)


def _table(outcomes: list[Outcome]) -> Table:
    table = Table(title="Proof", title_justify="left")
    table.add_column("")
    for outcome in outcomes:
        table.add_column(outcome.name, justify="right")
    rows: list[tuple[str, Callable[[Outcome], str]]] = [
        ("refused by the provider", lambda o: str(o.refused)),
        ("failures seen by callers", lambda o: str(o.failures)),
        ("used, as the provider saw it", lambda o: f"{o.used_at_provider:.1%}"),
        ("used, as the router sent it", lambda o: f"{o.used_at_redis:.1%}"),
        ("round trips a request", lambda o: f"{o.trips:.2f}"),
        ("reserve calls a request", lambda o: f"{o.reserves:.2f}"),
        ("overtaken while waiting", lambda o: f"{o.overtaken:.1%}"),
        ("longest wait", lambda o: f"{o.longest_wait:.1f} s"),
        ("promise", lambda o: "[green]kept[/]" if o.kept else "[red]not kept[/]"),
    ]
    for heading, cell in rows:
        table.add_row(heading, *(cell(outcome) for outcome in outcomes))
    return table


if __name__ == "__main__":
    raise SystemExit(main())
