"""The limiter's scripts with their time in the test's hand, on a real server and on fakeredis."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from core.redis_calls import PooledCalls
from lua import limiter_calls
from lua.limiter_calls import Charge, Geometry, Mark, NoRoom, Reserved, Weights
from lua.names import Names

START = 1_800_000_000_000
LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "max_parallel", "burst_slots", "burst")


class Bench:
    """Drives the scripts by hand: `now` is the server's time in ms."""

    def __init__(self, calls: Any, window_ms: int = 60_000) -> None:
        self.calls = calls
        self.names = Names("test")
        self.geometry = Geometry(window_ms=window_ms)
        self.now = START
        self.day_end = START + 10 * 3_600_000
        self._ids = itertools.count(1)

    def candidate(self, name: str, *, tier: int = 0, group: str | None = None, **limits: int) -> Any:
        unknown = set(limits) - set(LIMITS)
        assert not unknown, unknown
        row = [1, 1, f"k:{name}", f"g:{group or name}", *(limits.get(n, 0) for n in LIMITS)]
        return tier, group or name, "|".join(str(part) for part in row)

    def reserve(
        self,
        *candidates: Any,
        tokens: int = 0,
        given: int = 0,
        output: int = 0,
        id: str | None = None,
        lease_ms: int = 60_000,
        rotation: int = 0,
    ) -> tuple[str, Reserved | NoRoom]:
        reservation = id or f"r{next(self._ids)}"
        answer = limiter_calls.reserve(
            self.calls,
            self.geometry,
            reservation_key=self.names.reservation("p", reservation),
            reservation_id=reservation,
            health_keys=[self.names.health("p")],
            group_keys=[
                name
                for _, group, _ in candidates
                for name in (self.names.group("p", group), self.names.leases("p", group))
            ],
            weights=[Weights(tokens, given, output, self.day_end)],
            candidates=[row for _, _, row in candidates],
            tiers=",".join(str(n) for _, n in sorted(Counter(t for t, _, _ in candidates).items())),
            lease_ms=lease_ms,
            rotation=rotation,
            now_ms=self.now,
        )
        return reservation, answer

    def settle(
        self,
        reservation: str,
        group: str,
        *,
        requests: int = 1,
        tokens: int = 0,
        given: int = 0,
        output: int = 0,
        marks: tuple[Mark, ...] = (),
    ) -> bool:
        call = limiter_calls.settle_call(
            self.geometry,
            reservation_key=self.names.reservation("p", reservation),
            group_key=self.names.group("p", group),
            leases_key=self.names.leases("p", group),
            health_key=self.names.health("p"),
            reservation_id=reservation,
            charge=Charge(requests, tokens, given, output),
            marks=marks,
            now_ms=self.now,
        )
        return bool(call.run(self.calls)[0] == 1)

    def mark(self, *marks: Mark) -> list[int]:
        _, until = limiter_calls.mark(
            self.calls, self.names.health("p"), marks, now_ms=self.now
        )
        return until

    def use(self, *names: str) -> list[limiter_calls.GroupUse]:
        _, _, uses = limiter_calls.status(
            self.calls,
            self.geometry,
            health_key=self.names.health("p"),
            group_keys=[
                key
                for name in names
                for key in (self.names.group("p", name), self.names.leases("p", name))
            ],
            fields=[(f"k:{name}", f"g:{name}") for name in names],
            now_ms=self.now,
        )
        return uses


@pytest.fixture(params=["server", "fakeredis"])
def calls(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Something that runs commands, emptied: the real server, or fakeredis in process."""
    if request.param == "server":
        connection = request.getfixturevalue("redis_server")
        connection.client.flushall()
        yield connection
        return
    import fakeredis

    client = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    yield PooledCalls(client.connection_pool)
    client.close()


@pytest.fixture
def bench(calls: Any) -> Bench:
    return Bench(calls)
