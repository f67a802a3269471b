"""What a user sees when the embedded server cannot run, or only badly."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from core.errors import StorageError
from core.events import Event, StorageDegraded, subscribe
from tests.core.processes import User, keeper_pid, open_embedded, server_pid, wait_for


def test_without_a_server_it_is_in_process_and_says_so(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Event] = []
    stop = subscribe(seen.append)
    with open_embedded(folder, find=lambda: None) as connection:
        assert connection.kind == "in-process"
        assert "this process alone" in connection.description
        assert isinstance(seen[0], StorageDegraded)
        assert "this process alone" in caplog.text
    stop()


def test_in_process_connections_share_their_data_and_speak_like_a_server(folder: Path) -> None:
    with (
        open_embedded(folder, find=lambda: None) as one,
        open_embedded(folder, find=lambda: None) as other,
    ):
        one.client.flushall()
        assert one.call("PING") == "PONG"
        one.call("HSET", "hash", "field", 1)
        assert other.call("HGETALL", "hash") == ["field", "1"]
        script = "return {ARGV[1], redis.call('HINCRBY', KEYS[1], 'field', 2)}"
        sha = one.client.script_load(script)
        assert other.call("EVALSHA", sha, 1, "hash", "ü") == ["ü", 3]
        with pytest.raises(redis.exceptions.NoScriptError):
            one.call("EVALSHA", "0" * 40, 0)
        replies = one.call_many([("GET", "no"), ("GET", "hash"), ("ECHO", "yes")])
        assert replies[0] is None
        assert isinstance(replies[1], redis.ResponseError)
        assert replies[2] == "yes"


def test_a_server_of_another_process_is_used_also_without_a_binary_of_ones_own(
    folder: Path,
) -> None:
    with open_embedded(folder), open_embedded(folder, find=lambda: None) as connection:
        assert connection.kind == "embedded"
        assert connection.call("PING") == "PONG"


def program(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(stat.S_IRWXU)
    return path


def test_a_binary_that_does_not_run_here_leaves_in_process(folder: Path, tmp_path: Path) -> None:
    broken = program(tmp_path / "valkey-server", "\x7fELF of another machine")
    with open_embedded(folder, find=lambda: broken) as connection:
        assert connection.kind == "in-process"


def test_a_server_that_does_not_start_is_an_error_with_its_last_words(
    folder: Path, tmp_path: Path
) -> None:
    text = '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "no luck today" >&2; exit 1\n'
    failing = program(tmp_path / "valkey-server", text)
    began = time.monotonic()
    with pytest.raises(StorageError, match="no luck today"):
        open_embedded(folder, find=lambda: failing)
    assert time.monotonic() - began < 5


def test_damaged_data_is_an_error_that_says_so(folder: Path) -> None:
    with open_embedded(folder) as connection:
        for number in range(100):
            connection.call("SET", f"k{number}", number)
    assert wait_for(lambda: not (folder / "valkey.sock").exists())
    (log,) = (folder / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*3\r\n$nonsense\r\n" + log.read_bytes())
    with pytest.raises(StorageError, match="Bad file format"):
        open_embedded(folder)


def test_a_user_whose_server_cannot_come_back_gets_a_redis_error_soon(
    folder: Path, tmp_path: Path
) -> None:
    failing = program(tmp_path / "valkey-server", "#!/bin/sh\nexit 1\n")
    with open_embedded(folder) as connection:
        connection._server._find = lambda: failing  # type: ignore[union-attr]
        os.kill(keeper_pid(connection), signal.SIGKILL)
        assert wait_for(lambda: _refused(folder))
        began = time.monotonic()
        with pytest.raises(redis.ConnectionError):
            connection.call("PING")
        with pytest.raises(redis.ConnectionError):
            connection.client.ping()
        assert time.monotonic() - began < 5


def _refused(folder: Path) -> bool:
    client = redis.Redis(unix_socket_path=str(folder / "valkey.sock"), retry=None)
    try:
        return not client.ping()
    except redis.ConnectionError:
        return True
    finally:
        client.close()


def test_a_server_that_is_killed_again_and_again_comes_back_each_time(folder: Path) -> None:
    with open_embedded(folder) as connection:
        for number in range(1, 9):
            assert connection.call("INCR", "n") == number
            os.kill(server_pid(connection), signal.SIGKILL)
        assert connection.call("GET", "n") == "8"


def test_a_server_that_hangs_is_an_error_when_it_is_opened(folder: Path) -> None:
    user = User(folder).start()
    with open_embedded(folder) as connection:
        pid = server_pid(connection)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StorageError, match="does not answer"):
            open_embedded(folder, start_seconds=0.5)
        assert time.monotonic() - began < 5
    finally:
        os.kill(pid, signal.SIGCONT)
    assert user.call("PING") == "PONG"
    user.leave()


def test_the_log_is_bounded(folder: Path) -> None:
    with open_embedded(folder):
        with (folder / "server.log").open("a") as log:
            log.write("x" * 1_100_000)
        assert wait_for((folder / "server.log.1").exists)
        assert not (folder / "server.log").exists() or (
            (folder / "server.log").stat().st_size < 10_000
        )


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    path = tmp_path / "tiny"
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    options = ["-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(path)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted: {mounted.stderr.strip()}")
    yield path
    wait_for(lambda: not (path / "valkey.sock").exists())
    assert wait_for(lambda: subprocess.run(["umount", str(path)], check=False).returncode == 0)


def fill(write: Callable[[int], object]) -> None:
    for number in range(1000):
        write(number)


def test_a_full_disk_refuses_writes_and_still_reads(tiny_disk: Path) -> None:
    value = "x" * 100_000
    with open_embedded(tiny_disk) as connection:
        with pytest.raises(redis.ResponseError, match="No space left"):
            fill(lambda number: connection.call("SET", f"k{number}", value))
        assert connection.call("GET", "k0") == value
        os.kill(server_pid(connection), signal.SIGKILL)
        assert connection.call("GET", "k0") == value


def test_a_disk_that_is_full_from_the_start_is_an_error(tiny_disk: Path) -> None:
    filler = os.open(tiny_disk / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space"):
        fill(lambda number: os.write(filler, b"x" * 4096))
    os.close(filler)
    began = time.monotonic()
    with pytest.raises(StorageError):
        open_embedded(tiny_disk)
    assert time.monotonic() - began < 5
