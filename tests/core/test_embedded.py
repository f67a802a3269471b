"""The embedded server's life: shared, kept while used, gone with its last user."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from core.embedded import EmbeddedServer, find_server
from core.errors import StorageError
from tests.core.processes import (
    User,
    alive,
    keeper_pid,
    open_embedded,
    running,
    server_pid,
    wait_for,
)


def test_a_server_starts_and_answers(folder: Path) -> None:
    with open_embedded(folder) as connection:
        assert connection.kind == "embedded"
        assert connection.call("PING") == "PONG"
        assert connection.client.ping()
        assert str(folder) in connection.description


def test_it_starts_within_half_a_second_and_opens_again_within_twenty_ms(folder: Path) -> None:
    began = time.perf_counter()
    with open_embedded(folder):
        first = time.perf_counter() - began
        again = []
        for _ in range(5):
            began = time.perf_counter()
            with open_embedded(folder) as connection:
                connection.call("PING")
            again.append(time.perf_counter() - began)
    # The bounds are for a machine of its own; a busy one gets some more.
    assert first < 2.0
    assert min(again) < 0.1


def test_it_listens_to_its_socket_alone_and_never_evicts(folder: Path) -> None:
    with open_embedded(folder) as connection:
        config = connection.client.config_get("*")
        assert config["port"] == "0"
        assert config["maxmemory"] == "0"
        assert config["maxmemory-policy"] == "noeviction"
        assert config["protected-mode"] == "yes"
        assert (config["appendonly"], config["appendfsync"]) == ("yes", "everysec")


def test_two_processes_share_the_data(folder: Path) -> None:
    one, other = User(folder).start(), User(folder).start()
    one.call("SET", "name", "value")
    assert other.call("GET", "name") == "value"
    one.leave()
    assert other.call("GET", "name") == "value"
    other.leave()


def test_eight_processes_that_start_at_once_get_one_server(folder: Path) -> None:
    users = [User(folder) for _ in range(8)]
    for user in users:
        user.ask("open")
    for user in users:
        user.answer()
    assert [user.call("INCR", "n") for user in users] == list(range(1, 9))
    assert len(running(folder)) == 2
    for user in users:
        user.leave()


def test_the_data_is_kept_after_everybody_left(folder: Path) -> None:
    with open_embedded(folder) as connection:
        connection.call("SET", "name", "value")
    assert wait_for(lambda: not running(folder))
    with open_embedded(folder) as connection:
        assert connection.call("GET", "name") == "value"


def test_keeper_and_server_go_with_the_last_user_and_take_the_socket_along(folder: Path) -> None:
    with open_embedded(folder):
        assert len(running(folder)) == 2
    assert wait_for(lambda: not running(folder))
    assert not (folder / "valkey.sock").exists()


def test_a_user_that_comes_in_the_grace_finds_the_same_server(folder: Path) -> None:
    with open_embedded(folder) as connection:
        before = server_pid(connection)
    with open_embedded(folder) as connection:
        assert server_pid(connection) == before


def test_users_that_come_and_go_around_the_end_always_find_a_server(folder: Path) -> None:
    for round_ in range(6):
        with open_embedded(folder) as connection:
            assert connection.call("INCR", "n") == round_ + 1
        time.sleep(0.08 + 0.02 * round_)


def test_the_server_goes_when_its_user_was_killed(folder: Path) -> None:
    user = User(folder).start()
    assert user.call("PING") == "PONG"
    user.kill()
    assert wait_for(lambda: not running(folder))


def test_the_server_stays_until_the_last_open_of_a_process_is_closed(folder: Path) -> None:
    first, second = open_embedded(folder), open_embedded(folder)
    pid = server_pid(first)
    first.close()
    first.close()
    time.sleep(0.4)
    assert second.call("PING") == "PONG"
    assert server_pid(second) == pid
    second.close()


def test_a_forked_child_keeps_the_server_and_is_served(folder: Path) -> None:
    connection = open_embedded(folder)
    connection.call("SET", "name", "value")
    wake, waker = os.pipe()
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(wake, 1)
        os.write(tell, str(connection.call("GET", "name")).encode())
        os.read(wake, 1)
        os._exit(0)
    connection.close()
    time.sleep(0.4)
    os.write(waker, b"x")
    assert os.read(told, 64) == b"value"
    os.write(waker, b"x")
    os.waitpid(child, 0)
    for descriptor in (wake, waker, told, tell):
        os.close(descriptor)


def test_a_program_that_the_user_started_does_not_keep_the_server(folder: Path) -> None:
    with open_embedded(folder):
        program = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        assert wait_for(lambda: not running(folder))
    finally:
        program.kill()
        program.wait()


def test_a_killed_server_comes_back_with_its_data(folder: Path) -> None:
    with open_embedded(folder) as connection:
        connection.call("SET", "name", "value")
        pid = server_pid(connection)
        os.kill(pid, 9)
        assert connection.call("GET", "name") == "value"
        assert connection.client.get("name") == "value"
        assert server_pid(connection) != pid


def test_a_killed_keeper_leaves_no_orphan_and_a_running_user_gets_a_server_back(
    folder: Path,
) -> None:
    with open_embedded(folder) as connection:
        connection.call("SET", "name", "value")
        keeper, server = keeper_pid(connection), server_pid(connection)
        os.kill(keeper, 9)
        assert wait_for(lambda: not alive(server)), "the server outlived its keeper"
        began = time.monotonic()
        assert connection.call("GET", "name") == "value"
        assert time.monotonic() - began < 2.0
        assert connection.client.get("name") == "value"
        assert len(running(folder)) == 2


def test_the_plain_client_heals_as_well(folder: Path) -> None:
    with open_embedded(folder) as connection:
        connection.client.set("name", "value")
        server = server_pid(connection)
        os.kill(keeper_pid(connection), 9)
        assert wait_for(lambda: not alive(server))
        pipeline = connection.client.pipeline(transaction=False)
        pipeline.get("name")
        pipeline.get("name")
        assert pipeline.execute() == ["value", "value"]


def test_everything_killed_at_once_loses_no_data(folder: Path) -> None:
    user = User(folder).start()
    user.call("SET", "name", "value")
    pids = running(folder)
    user.kill()
    for pid in pids:
        os.kill(pid, 9)
    with open_embedded(folder) as connection:
        assert connection.call("GET", "name") == "value"


def test_a_keeper_that_is_asked_to_end_stops_the_server_cleanly(folder: Path) -> None:
    with open_embedded(folder) as connection:
        connection.call("SET", "name", "value")
        keeper = keeper_pid(connection)
        os.kill(keeper, 15)
        assert wait_for(lambda: not alive(keeper))
        assert connection.call("GET", "name") == "value"


def test_a_server_whose_socket_was_deleted_is_started_again(folder: Path) -> None:
    with open_embedded(folder) as connection:
        connection.call("SET", "name", "value")
        (folder / "valkey.sock").unlink()
        with open_embedded(folder) as other:
            assert other.call("GET", "name") == "value"


def test_a_deleted_folder_ends_its_server_and_the_user_starts_afresh(folder: Path) -> None:
    with open_embedded(folder) as connection:
        connection.call("SET", "name", "value")
        pids = running(folder)
        shutil.rmtree(folder)
        assert wait_for(lambda: not any(alive(pid) for pid in pids))
        assert connection.call("GET", "name") is None
        assert len(running(folder)) == 2


def server_without_keeper(folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir(mode=0o700)
    lock = os.open(folder / "server.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    command = [str(find_server()), "--port", "0", "--unixsocket", str(folder / "valkey.sock")]
    server = subprocess.Popen(
        [*command, "--save", "", "--logfile", "server.log"], cwd=folder, pass_fds=(lock,)
    )
    os.pwrite(lock, str(server.pid).encode(), 0)
    os.close(lock)
    assert wait_for((folder / "valkey.sock").exists)
    return server


def test_a_server_that_a_killed_keeper_left_is_taken_over(folder: Path) -> None:
    """As on a system that does not end the server along with its keeper."""
    left = server_without_keeper(folder)
    with open_embedded(folder) as connection:
        assert server_pid(connection) == left.pid
        left.kill()
        left.wait()
        assert connection.call("PING") == "PONG"
        assert server_pid(connection) != left.pid


def test_a_server_that_was_taken_over_ends_with_its_last_user(folder: Path) -> None:
    left = server_without_keeper(folder)
    with open_embedded(folder) as connection:
        assert server_pid(connection) == left.pid
    assert left.wait(timeout=10) == 0


def test_closing_means_closed(folder: Path) -> None:
    connection = open_embedded(folder)
    connection.close()
    with pytest.raises(Exception, match="closed"):
        connection.call("PING")
    with pytest.raises(Exception, match="closed"):
        connection.client.ping()
    with pytest.raises(StorageError, match="closed"):
        EmbeddedServer(folder).ensure_running()


def test_folder_and_files_are_the_users_alone(folder: Path) -> None:
    with open_embedded(folder) as connection:
        connection.call("SET", "name", "value")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "valkey.sock").stat().st_mode) == 0o600
        for path in folder.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
