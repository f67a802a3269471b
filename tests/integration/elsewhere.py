"""Routers in processes of their own: `python -m tests.integration.elsewhere '<orders as JSON>'`.

Orders hold `settings`, and either `chat` (one turn; its reply is printed as JSON) or `crowd`:
so many processes of so many threads, each process with a router of its own, which send and send
again, waiting for room, until `seconds` are over. A crowd prints how its requests ended.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]


def run_elsewhere(orders: dict[str, Any], timeout: float = 60.0) -> Any:
    """Carry out orders in another process; the environment, with its secrets, goes along."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.elsewhere", json.dumps(orders, default=str)],
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def offline(name: str) -> Any:
    """Stands for tiktoken's loader, which would fetch a file from the network."""
    raise OSError(f"{name}: these tests stay on the loopback")


def main(orders: dict[str, Any]) -> Any:
    import llm.factory

    llm.factory.load_tiktoken = offline
    return _chat(orders) if "chat" in orders else _crowd(orders)


def _build(orders: dict[str, Any]) -> Any:
    from core.settings import Settings
    from llm.factory import build_router

    return build_router(Settings(_env_file=None, **orders["settings"]))


def _chat(orders: dict[str, Any]) -> Any:
    with _build(orders) as router:
        return router.send_chat(**orders["chat"])


def _crowd(orders: dict[str, Any]) -> Any:
    for name in (*orders["crowd"].get("sdks", ["openai"]), "llm.providers.transport"):
        importlib.import_module(name)  # once, before the processes part ways

    fork = multiprocessing.get_context("fork")
    crowd = orders["crowd"]
    start = fork.Barrier(crowd["processes"])
    ends = fork.SimpleQueue()
    members = [
        fork.Process(target=_member, args=(orders, start, ends)) for _ in range(crowd["processes"])
    ]
    for member in members:
        member.start()
    total: Counter[str] = Counter()
    for _ in members:
        total.update(ends.get())
    for member in members:
        member.join()
    return total


def _member(orders: dict[str, Any], start: Any, ends: Any) -> None:
    crowd = orders["crowd"]
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()
    with _build(orders) as router:
        # The first call of a process loads and connects; it must not come between a reservation
        # and its request.
        for model in [crowd["warm_up_model"], *crowd.get("warm_up_also", [])]:
            assert router.send_one_shot("Hello", model)["success"]
        start.wait(30)
        end = time.monotonic() + crowd["seconds"]

        def send() -> None:
            while (left := end - time.monotonic()) > 0:
                reply = router.send_one_shot(max_wait=left, **crowd["request"])
                with lock:
                    outcomes[reply.get("error_type", "success")] += 1
                if not reply["success"]:
                    return

        threads = [threading.Thread(target=send) for _ in range(crowd["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ends.put(dict(outcomes))


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
