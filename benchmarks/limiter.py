"""`make bench`: one reservation, side by side with PING, a script that does nothing, one acquire of
the libraries `limits` and `throttled-py` for the same weight, and pools of 10 and 1,000 keys."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from limits import RateLimitItemPerMinute
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from rich.console import Console
from throttled import RedisStore, Throttled, per_min

from benchmarks.timing import side_by_side, timings_table
from core.redis_connection import RedisConnection, open_redis
from core.settings import Settings
from keys.manager import KeyManager
from keys.policies import Need
from keys.registry import KeyRegistry
from keys.reservations import Reservation
from keys.selection import Selection
from lua.loader import Script

ROUNDS = 400
TOKENS = 2_000
OURS = "reserve, 10 keys"


def main() -> int:
    """Measure and print; the exit code is 1 where a promise is not kept."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            redis_url=None,
            llm_data_dir=Path(folder) / "data",
        )
        with open_redis(settings) as redis:
            timings = side_by_side(_things(redis, Path(folder)), rounds=ROUNDS)
    ours, pool = timings[OURS].median, timings["reserve, 1,000 keys"].median
    cooling = timings["reserve, 1,000 keys, 999 cooling"].median
    theirs = timings[f"limits, one counter of {TOKENS:,}"].median
    console = Console()
    console.print(timings_table(timings, ROUNDS))
    promises = [
        ("1,000 keys against 10", pool / ours, 2.0),
        ("1,000 keys, 999 cooling, against 10", cooling / ours, 2.0),
        ("ten keys with limits each, against one counter of limits", ours / theirs, 1.0),
    ]
    kept = True
    for what, ratio, bound in promises:
        good = ratio <= bound
        kept = kept and good
        verdict = "[green]kept[/]" if good else "[red]not kept[/]"
        console.print(f"{what}: {ratio:.2f} x, at most {bound:g} x: {verdict}")
    return 0 if kept else 1


def _things(redis: RedisConnection, folder: Path) -> dict[str, Callable[[], object]]:
    nothing = Script("nothing", "return 1")
    ten, thousand = _manager(redis, folder, "ten", 10), _manager(redis, folder, "thousand", 1_000)
    cold = _manager(redis, folder, "cold", 1_000)
    for key in cold.registry.keys()[1:]:
        cold.mark_key_unhealthy(key.key_id, 3_600, "bench")
    path = str(redis.client.config_get("unixsocket")["unixsocket"])
    store = RedisStorage("redis+unix://" + path)
    moving, item = MovingWindowRateLimiter(store), RateLimitItemPerMinute(10**9)
    throttled = Throttled(
        key="bench",
        using="gcra",
        quota=per_min(10**9, burst=10**9),
        store=RedisStore(server="unix://" + path),
    )
    return {
        "PING": redis.client.ping,
        "a script that does nothing": lambda: nothing.run(redis, [], []),
        OURS: _reserver(ten),
        "reserve, 1,000 keys": _reserver(thousand),
        "reserve, 1,000 keys, 999 cooling": _reserver(cold),
        f"limits, one counter of {TOKENS:,}": lambda: moving.hit(item, "bench", cost=TOKENS),
        f"throttled-py, one counter of {TOKENS:,}": lambda: throttled.limit(cost=TOKENS),
    }


def _manager(redis: RedisConnection, folder: Path, name: str, keys: int) -> KeyManager:
    entries = [
        {
            "key_id": f"{name}-{number}",
            "model_name": "gpt-4o-mini",
            "provider": "openai",
            "rpm": 1_000_000,
            "tpm": 1_000_000_000,
            "rpd": 100_000_000,
        }
        for number in range(keys)
    ]
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"keys": entries}), encoding="utf-8")
    return KeyManager(redis, KeyRegistry(path), prefix=name)


def _reserver(manager: KeyManager) -> Callable[[], object]:
    ids = itertools.count()
    need, selection = Need(1_500, 500, TOKENS), Selection()

    def reserve() -> object:
        outcome = manager.reserve(
            need, selection, reservation_id=f"bench-{next(ids)}", lease_seconds=60.0
        )
        assert isinstance(outcome, Reservation), outcome
        return outcome

    return reserve


if __name__ == "__main__":
    raise SystemExit(main())
