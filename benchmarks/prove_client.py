"""One client process of `make prove`: threads that ask for more than there is, and wait.

    python -m benchmarks.prove_client '{"keys_file": ..., "data_dir": ..., ...}'

Prints one JSON object when it is done.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from core.redis_connection import RedisConnection
from core.settings import Settings
from keys.spec import KeySpec
from llm.factory import build_router
from llm.router import RequestRouter
from lua.loader import load


@dataclass(frozen=True)
class Orders:
    """What a client process is to do.

    Args:
        begin, pace_until, end: Unix seconds; until `pace_until` each thread sends one request
            every `pace` seconds, so that the first window is not one burst, then as fast as it can.
    """

    keys_file: str
    data_dir: str
    window: float
    threads: int
    begin: float
    pace_until: float
    pace: float
    end: float

    def text(self) -> str:
        return json.dumps(asdict(self))


class _OwnName:
    """Every key's secret is its own name: the simulated provider takes any."""

    def fetch(self, key: KeySpec) -> SecretStr:
        return SecretStr(key.key_id)


class _Trips:
    """Counts the round trips to Redis, and the scripts that go along."""

    def __init__(self, redis: RedisConnection) -> None:
        self.trips = 0
        self.scripts: Counter[str] = Counter()
        self._names = {load(name).sha: name for name in ("reserve", "settle", "wake", "leave")}
        self._lock = threading.Lock()
        call, call_many, tell = redis.call, redis.call_many, redis.tell

        def counted_call(*args: Any) -> Any:
            self._count([args])
            return call(*args)

        def counted_many(commands: Any) -> Any:
            self._count(commands)
            return call_many(commands)

        def counted_tell(command: Any, heard: Any) -> None:
            self._count([command])
            tell(command, heard)

        redis.call, redis.call_many = counted_call, counted_many  # type: ignore[method-assign]
        redis.tell = counted_tell  # type: ignore[method-assign]

    def _count(self, commands: Any) -> None:
        with self._lock:
            self.trips += 1
            for command in commands:
                if command[0] == "EVALSHA":
                    self.scripts[self._names.get(command[1], "other")] += 1


def main() -> None:
    """Work as ordered, and print what came of it."""
    orders = Orders(**json.loads(sys.argv[1]))
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        redis_url=None,
        keys_file=Path(orders.keys_file),
        llm_data_dir=Path(orders.data_dir),
        rate_window_seconds=orders.window,
        log_level="CRITICAL",
        redis_timeout_seconds=2.0,
    )
    with build_router(settings, secret_store=_OwnName()) as router:
        trips = _Trips(router._parts.redis)
        results: list[dict[str, Any]] = []
        threads = [
            threading.Thread(target=_work, args=(router, orders, number, results))
            for number in range(orders.threads)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    told = {"trips": trips.trips, "scripts": dict(trips.scripts), "results": results}
    sys.stdout.write(json.dumps(told) + "\n")


def _work(
    router: RequestRouter, orders: Orders, number: int, results: list[dict[str, Any]]
) -> None:
    time.sleep(max(0.0, orders.begin + number * orders.pace / orders.threads - time.time()))
    while (asked := time.time()) < orders.end:
        reply = router.send_one_shot(
            "What is the answer?", max_wait=120.0, timeout=180.0, max_output_tokens=64
        )
        done = time.time()
        attempts = reply["attempts"]
        results.append(
            {
                "asked": asked,
                "sent": done - attempts[-1]["duration_ms"] / 1000 if attempts else done,
                "outcome": reply.get("error_type", "success"),
                "attempts": len(attempts),
            }
        )
        if done < orders.pace_until:
            time.sleep(max(0.0, asked + orders.pace - time.time()))


if __name__ == "__main__":
    main()
