"""`make bench`: what the router costs, side by side with PING and with the bare SDK.

Everything is measured in one run on this machine: the embedded server, a simulated provider in a
process of its own, and OpenAI's SDK. Medians are told, and ratios, for machines differ.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console

from benchmarks.timing import Promise, promises_table, side_by_side, timings_table
from core.redis_connection import RedisConnection
from core.settings import Settings
from keys.manager import KeyManager
from keys.policies import Need, charge_answered, policy_of
from keys.reservations import End, Reservation
from keys.selection import Selection
from keys.spec import KeySpec
from llm.factory import build_router
from llm.router import RequestRouter
from tools.simulated_provider import SimulatedProviderProcess

ROUNDS = 1_000
PROMPT = "Name the largest city of each country that borders Austria."


class _OneSecret:
    def fetch(self, key: KeySpec) -> SecretStr:
        return SecretStr("bench")


def main() -> int:
    """Measure and print; the exit code is 1 where a promise of the README is not kept."""
    console = Console()
    with _bench(keys=10) as (router, bare, count_round_trips):
        timings = side_by_side(_things(router, bare), rounds=ROUNDS)
        trips = count_round_trips(lambda: router.send_one_shot(PROMPT))
    console.print(timings_table(timings, ROUNDS))
    ping = timings["PING"].median
    added = timings["send_one_shot"].median - timings["bare SDK call"].median
    seconds, loaded = _import_time()
    kept, table = promises_table(
        [
            Promise("reserve, 10 keys, in PINGs", timings["reserve"].median / ping, "x", most=3.0),
            Promise("added to the bare SDK call", added / 1000, "ms", most=0.5),
            Promise("round trips a one-shot", trips, "", most=2),
            Promise("import llm.router", seconds, "s", most=0.4),
            Promise("provider SDKs that it loads", loaded, "", most=0),
        ]
    )
    console.print(table)
    return 0 if kept else 1


@contextmanager
def _bench(
    keys: int,
) -> Iterator[tuple[RequestRouter, Callable[[], object], Callable[[Callable[[], object]], int]]]:
    with tempfile.TemporaryDirectory() as folder, SimulatedProviderProcess() as provider:
        path = Path(folder) / "keys.json"
        entries = [
            {
                "key_id": f"bench-{number}",
                "model_name": "gpt-4o-mini",
                "provider": "openai",
                "rpm": 1_000_000,
                "tpm": 1_000_000_000,
                "base_url": provider.openai_base_url,
            }
            for number in range(keys)
        ]
        path.write_text(json.dumps({"keys": entries}), encoding="utf-8")
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            redis_url=None,
            keys_file=path,
            llm_data_dir=Path(folder) / "data",
        )
        router = build_router(settings, secret_store=_OneSecret())
        with router:
            yield router, _bare_call(provider.openai_base_url), _counter(router)


def _things(router: RequestRouter, bare: Callable[[], object]) -> dict[str, Callable[[], object]]:
    redis, manager = _parts(router)
    ids = itertools.count()
    need, selection = Need(20, 512, 2048), Selection()
    open_reservations: list[Reservation] = []

    def reserve() -> None:
        outcome = manager.reserve(
            need, selection, reservation_id=f"bench-{next(ids)}", lease_seconds=60.0
        )
        assert isinstance(outcome, Reservation)
        open_reservations.append(outcome)

    def settle() -> None:
        reservation = open_reservations.pop()
        policy = policy_of(reservation.key.provider, reservation.key.base_url)
        charge = charge_answered(policy, need, reservation.weights, None)
        manager.settle(reservation, End(charge, answered=True))

    return {
        "PING": redis.client.ping,
        "PING on our connection": lambda: redis.call("PING"),
        "reserve": reserve,
        "settle": settle,
        "bare SDK call": bare,
        "send_one_shot": lambda: router.send_one_shot(PROMPT),
    }


def _parts(router: RequestRouter) -> tuple[RedisConnection, KeyManager]:
    parts = router._parts
    return parts.redis, parts.driver.keys


def _bare_call(base_url: str) -> Callable[[], object]:
    from openai import OpenAI

    client = OpenAI(api_key="bench", base_url=base_url, max_retries=0)

    def call() -> object:
        return client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": PROMPT}],
            max_tokens=2048,
            temperature=0.7,
        )

    return call


def _counter(router: RequestRouter) -> Callable[[Callable[[], object]], int]:
    redis, _ = _parts(router)

    def count(thing: Callable[[], object]) -> int:
        trips = 0

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any) -> Any:
                nonlocal trips
                trips += 1
                return original(*args)

            return run

        ways = ("call", "call_many", "tell")
        for way in ways:
            setattr(redis, way, counted(getattr(redis, way)))
        try:
            thing()
        finally:
            for way in ways:
                delattr(redis, way)
        return trips

    return count


def _import_time() -> tuple[float, int]:
    code = (
        "import sys, time; began = time.perf_counter(); import llm.router; "
        "sdks = {'openai', 'anthropic', 'google.genai'} & set(sys.modules); "
        "print(time.perf_counter() - began, len(sdks))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(7)
    ]
    return statistics.median(float(run[0]) for run in runs), int(runs[0][1])


if __name__ == "__main__":
    raise SystemExit(main())
