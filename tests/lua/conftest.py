"""The limiter's scripts with their time in the test's hand, on a real server and on fakeredis."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.redis_calls import PooledCalls
from core.redis_connection import RedisConnection
from keys.places import Places
from lua import limiter_calls
from lua.lifecycle_calls import read_logs
from lua.limiter_types import (
    Charge,
    Geometry,
    GroupKeys,
    Lesson,
    LogKeys,
    Mark,
    NoRoom,
    Patience,
    Reserved,
    Settlement,
    Turn,
    Waits,
    Weights,
)
from lua.names import Names

START = 1_800_000_000_000
LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "max_parallel", "burst_slots", "burst")


class Bench:
    """Drives the scripts by hand: `now` is the server's time in ms."""

    def __init__(self, calls: Any, window_ms: int = 60_000, prefix: str = "test") -> None:
        self.calls = calls
        self.names = Names(prefix)
        self.places = Places(self.names, clustered=calls.clustered)
        self.shard = self.places.shard("p")
        self.geometry = Geometry(window_ms=window_ms)
        self.now = START
        self.day_end = START + 10 * 3_600_000
        self.settled: list[int] = []
        self._ids = itertools.count(1)

    def candidate(
        self, name: str, *, tier: int = 0, group: str | None = None, **limits: int
    ) -> Any:
        unknown = set(limits) - set(LIMITS)
        assert not unknown, unknown
        fields = ["p:p", f"k:{name}", f"g:p/{group or name}"]
        row = [*fields, *(limits.get(n, 0) for n in LIMITS), 1, "s:p"]
        return tier, group or name, "|".join(str(part) for part in row)

    def group(self, name: str) -> GroupKeys:
        place = (self.shard.tag, "p", name)
        return GroupKeys(
            self.names.group(*place), self.names.leases(*place), self.names.queue(*place)
        )

    def reserve(
        self,
        *candidates: Any,
        tokens: int = 0,
        given: int = 0,
        output: int = 0,
        id: str | None = None,
        lease_ms: int = 60_000,
        rotation: int = 0,
        wait_ms: int = 0,
        priority: int = 0,
        channel: str = "here",
    ) -> tuple[str, Reserved | NoRoom | Waits]:
        reservation = id or f"r{next(self._ids)}"
        answer = limiter_calls.reserve(
            self.calls,
            self.geometry,
            self.shard,
            reservation_key=self.places.reservation(self.shard, reservation),
            reservation_id=reservation,
            group_keys=[key for _, group, _ in candidates for key in self.group(group)],
            weights=[Weights(tokens, given, output, self.day_end)],
            candidates=[row for _, _, row in candidates],
            tiers=",".join(str(n) for _, n in sorted(Counter(t for t, _, _ in candidates).items())),
            lease_ms=lease_ms,
            rotation=rotation,
            patience=Patience(wait_ms, priority, channel),
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
        **more: Any,
    ) -> bool:
        call = limiter_calls.settle_call(
            self.geometry,
            self.shard,
            reservation_key=self.places.reservation(self.shard, reservation),
            reservation_id=reservation,
            group=self.group(group),
            logs=self.logs(group),
            settlement=Settlement(
                Charge(requests, tokens, given, output),
                subjects=f"p:p|k:{group}|g:p/{group}|s:p",
                **{"lesson": Lesson("m"), **more},
            ),
            now_ms=self.now,
        )
        self.settled = call.run(self.calls)
        return bool(self.settled[0] == 1)

    def wake(self, group: str) -> None:
        limiter_calls.wake(
            self.calls, self.geometry, self.shard, self.group(group), now_ms=self.now
        )

    def leave(self, reservation: str) -> Turn | None:
        return limiter_calls.leave(self.calls, self.shard, reservation, now_ms=self.now)

    def mark(self, *marks: Mark) -> list[int]:
        logs = [self.names.log(self.shard.tag, m.field.removeprefix("c:")) for m in marks]
        return limiter_calls.mark(
            self.calls, self.shard, marks, who="bo", logs=logs, now_ms=self.now
        )

    def logs(self, name: str) -> LogKeys:
        kept = (f"k:{name}", f"g:p/{name}", "s:p")
        return LogKeys(*(self.names.log(self.shard.tag, subject) for subject in kept))

    def history(self, name: str) -> list[tuple[str, str, str]]:
        """Subject, state before and state after of each change that was logged."""
        entries = read_logs(self.calls, self.logs(name), 100)
        return [(entry.subject, entry.before, entry.after) for entry in entries]

    def use(self, *names: str) -> list[limiter_calls.GroupUse]:
        _, uses = limiter_calls.status(
            self.calls,
            self.geometry,
            self.shard,
            groups=[self.group(name) for name in names],
            fields=[f"p:p|k:{name}|g:p/{name}|s:p" for name in names],
            now_ms=self.now,
        )
        return uses


SERVERS = {"newest": "redis_server", "oldest": "oldest_redis", "cluster": "cluster_redis"}


@pytest.fixture(params=[*SERVERS, "fakeredis"])
def calls(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Something that runs commands, emptied: a real server or cluster, or fakeredis in process."""
    if request.param in SERVERS:
        connection = request.getfixturevalue(SERVERS[request.param])
        if connection.clustered:
            request.getfixturevalue("cluster").flush()
        else:
            connection.client.flushall()
        yield connection
        return
    import fakeredis

    client = fakeredis.FakeRedis(decode_responses=True, protocol=2)
    with RedisConnection(
        client, "in-process", "fakeredis", PooledCalls(client.connection_pool)
    ) as connection:
        yield connection


@pytest.fixture
def flush(calls: RedisConnection, request: pytest.FixtureRequest) -> Callable[[], Any]:
    """Empties whatever `calls` reaches."""
    if calls.clustered:
        return request.getfixturevalue("cluster").flush
    return calls.client.flushall


@pytest.fixture
def bench(calls: Any) -> Bench:
    return Bench(calls)
