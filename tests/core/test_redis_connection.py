"""Opening the Redis that the settings name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import redis as redis_py

from core.errors import ConfigurationError
from core.redis_connection import RedisConnection, open_redis
from tests.conftest import MakeSettings
from tests.servers import PlainServer


def test_without_a_url_it_is_the_embedded_server(
    settings: MakeSettings, redis_server: RedisConnection
) -> None:
    with open_redis(settings()) as connection:
        assert connection.kind == "embedded"
        connection.call("SET", "name", "value")
        assert redis_server.client.get("name") == "value"


def test_a_unix_url(settings: MakeSettings, tmp_path: Path) -> None:
    with (
        PlainServer(tmp_path) as server,
        open_redis(settings(redis_url=f"{server.url}?db=3")) as connection,
    ):
        assert connection.kind == "url"
        assert connection.description == f"Redis at {server.socket}"
        assert connection.call("SET", "name", "wert ü") == "OK"
        assert connection.client.get("name") == "wert ü"
        assert "db=3" in connection.call("CLIENT", "INFO")


def test_a_tcp_url_with_a_password(settings: MakeSettings, tmp_path: Path) -> None:
    password = "p@ss/w:rd"
    with PlainServer(tmp_path, tcp=True) as server:
        redis_py.Redis.from_url(server.url).config_set("requirepass", password)
        url = f"redis://:p%40ss%2Fw%3Ard@127.0.0.1:{server.port}/1"
        with open_redis(settings(redis_url=url)) as connection:
            assert connection.call("PING") == "PONG"
            assert connection.client.ping()
            assert connection.description == f"Redis at 127.0.0.1:{server.port}, database 1"
            assert password not in f"{connection!r}{connection.client!r}"


def test_a_wrong_password_is_an_error_without_the_password(
    settings: MakeSettings, tmp_path: Path
) -> None:
    with PlainServer(tmp_path, tcp=True) as server:
        redis_py.Redis.from_url(server.url).config_set("requirepass", "right")
        url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
        with open_redis(settings(redis_url=url)) as connection:
            for attempt in (lambda: connection.call("PING"), connection.client.ping):
                with pytest.raises(redis_py.AuthenticationError) as caught:
                    attempt()
                assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2@localhost:99999/0",
        "redis://:hun/hunter2@localhost:1/0",
        "redis://:hunter2@localhost:1/zero",
        "redis://:hunter2@localhost:1/0?bogus=1",
        "redis://:hunter2@localhost:1/0?socket_timeout=hunter2",
        "redis://:hunter2@[::1/0",
        "unix://?db=1",
    ],
)
def test_a_url_that_is_wrong_is_a_configuration_error_without_the_password(
    url: str, settings: MakeSettings
) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL") as caught:
        open_redis(settings(redis_url=url))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


def test_an_unreachable_redis_is_met_at_the_first_command_and_soon(
    settings: MakeSettings, tmp_path: Path
) -> None:
    server = PlainServer(tmp_path, tcp=True)
    with open_redis(settings(redis_url=server.url, redis_timeout_seconds=1)) as connection:
        began = time.monotonic()
        for attempt in (lambda: connection.call("PING"), connection.client.ping):
            with pytest.raises(redis_py.ConnectionError):
                attempt()
        assert time.monotonic() - began < 1
        with server:
            assert connection.call("PING") == "PONG"
            assert connection.client.ping()


def test_a_redis_that_hangs_is_reported_after_the_timeout(
    settings: MakeSettings, tmp_path: Path
) -> None:
    with (
        PlainServer(tmp_path, tcp=True) as server,
        open_redis(settings(redis_url=server.url, redis_timeout_seconds=0.3)) as connection,
    ):
        connection.call("PING")
        connection.client.ping()
        server.freeze()
        for attempt in (lambda: connection.call("PING"), connection.client.ping):
            began = time.monotonic()
            with pytest.raises(redis_py.TimeoutError):
                attempt()
            assert 0.2 < time.monotonic() - began < 1


def test_closing_twice_does_nothing_and_closing_ends_its_connections(
    settings: MakeSettings, tmp_path: Path
) -> None:
    with PlainServer(tmp_path) as server:
        connection = open_redis(settings(redis_url=server.url))
        connection.call("PING")
        connection.client.ping()
        connection.close()
        connection.close()
        with redis_py.Redis.from_url(server.url) as other:
            assert len(other.client_list()) == 1
        with pytest.raises(redis_py.ConnectionError, match="closed"):
            connection.call("PING")
