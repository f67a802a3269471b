from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from core.embedded.folder import socket_path
from core.redis_connection import RedisConnection, open_redis
from tests.conftest import MakeSettings
from tests.core.processes import folders, kill, running, wait_for
from tests.servers import PlainServer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder of the test's own, which does not exist yet."""
    return tmp_path / "data"


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    gone = wait_for(lambda: not any(running(folder) for folder in folders))
    left = [pid for folder in folders for pid in running(folder)]
    for pid in left:
        kill(pid)
    assert gone, f"processes were left behind: {left}"
    sockets = [path for folder in folders if (path := socket_path(folder)).is_socket()]
    assert not sockets, f"sockets were left behind: {sockets}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PlainServer]:
    """A server of the test's own."""
    with PlainServer(tmp_path / "plain") as server:
        yield server


@pytest.fixture
def connection(server: PlainServer, settings: MakeSettings) -> Iterator[RedisConnection]:
    """Our connection to it."""
    chosen = settings(redis_url=server.url, redis_timeout_seconds=0.5)
    with open_redis(chosen) as connection:
        yield connection
