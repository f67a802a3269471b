"""`RedisConnection.call`: right replies to the right callers, whatever happens in between."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
import redis as redis_py

from core.deadlines import no_later_than
from core.redis_connection import RedisConnection, open_redis
from core.redis_patience import OutOfTime
from tests.conftest import MakeSettings
from tests.servers import PlainServer
from tests.tls import self_signed


def client_id(connection: RedisConnection) -> int:
    return int(connection.call("CLIENT", "ID"))


def test_replies_are_plain(connection: RedisConnection) -> None:
    assert connection.call("PING") == "PONG"
    assert connection.call("GET", "missing") is None
    assert connection.call("SET", b"key", 1.5) == "OK"
    assert connection.call("GET", "key") == "1.5"
    assert connection.call("INCRBY", "n", 7) == 7
    script = "return {1, 'zwei ü', {3, redis.status_reply('FINE')}, false}"
    assert connection.call("EVAL", script, 0) == [1, "zwei ü", [3, "FINE"], None]


def test_large_values_go_both_ways(connection: RedisConnection) -> None:
    value = "ü" * 3_000_000
    assert connection.call("SET", "key", value) == "OK"
    assert connection.call("GET", "key") == value


def test_errors_keep_their_kind_and_the_connection(connection: RedisConnection) -> None:
    before = client_id(connection)
    with pytest.raises(redis_py.exceptions.NoScriptError):
        connection.call("EVALSHA", "0" * 40, 0)
    connection.call("SET", "text", "x")
    with pytest.raises(redis_py.ResponseError, match="WRONGTYPE"):
        connection.call("HGETALL", "text")
    with pytest.raises(redis_py.DataError):
        connection.call("SET", "key", None)  # type: ignore[arg-type]
    assert client_id(connection) == before


def test_many_commands_are_one_round_trip_with_errors_in_their_place(
    connection: RedisConnection,
) -> None:
    replies = connection.call_many(
        [("SET", "a", "x"), ("EVALSHA", "0" * 40, 0), ("GET", "a"), ("INCR", "a")]
    )
    assert replies[0] == "OK"
    assert isinstance(replies[1], redis_py.exceptions.NoScriptError)
    assert replies[2] == "x"
    assert isinstance(replies[3], redis_py.ResponseError)
    assert connection.call_many([]) == []
    assert connection.call_many([("ECHO", str(n)) for n in range(3000)])[-1] == "2999"


def test_one_thread_keeps_to_one_connection(connection: RedisConnection) -> None:
    assert len({client_id(connection) for _ in range(20)}) == 1


def test_each_thread_gets_its_own_replies(connection: RedisConnection) -> None:
    wrong: list[str] = []

    def work(name: int) -> None:
        for number in range(300):
            word = f"{name}-{number}"
            if connection.call("ECHO", word) != word:
                wrong.append(word)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(connection.client.client_list()) <= 9


def test_a_forked_child_has_connections_of_its_own(connection: RedisConnection) -> None:
    before = client_id(connection)
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, str(client_id(connection)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = int(os.read(told, 32))
    os.close(told)
    os.close(tell)
    assert theirs != before
    assert client_id(connection) == before


def test_a_dropped_connection_is_replaced_unnoticed(
    connection: RedisConnection, server: PlainServer
) -> None:
    before = client_id(connection)
    with redis_py.Redis.from_url(server.url) as other:
        other.client_kill_filter(_id=str(before))
    assert client_id(connection) != before
    server.kill()
    server.start()
    assert connection.call("PING") == "PONG"


def test_a_dead_redis_is_told_at_once_and_used_again_when_it_is_back(
    connection: RedisConnection, server: PlainServer
) -> None:
    connection.call("PING")
    server.kill()
    began = time.monotonic()
    with pytest.raises(redis_py.ConnectionError):
        connection.call("PING")
    assert time.monotonic() - began < 0.4
    server.start()
    assert connection.call("PING") == "PONG"


def test_a_connection_that_timed_out_is_never_used_again(
    connection: RedisConnection, server: PlainServer
) -> None:
    before = client_id(connection)
    server.freeze()
    began = time.monotonic()
    with pytest.raises(redis_py.TimeoutError):
        connection.call("ECHO", "late")
    assert 0.4 < time.monotonic() - began < 2
    server.thaw()
    assert connection.call("ECHO", "fresh") == "fresh"
    assert client_id(connection) != before


def test_a_connection_that_was_interrupted_is_never_used_again(
    connection: RedisConnection, server: PlainServer
) -> None:
    before = client_id(connection)
    server.freeze()
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.1):
        connection.call("ECHO", "late")
    server.thaw()
    assert connection.call("ECHO", "fresh") == "fresh"
    assert client_id(connection) != before


def test_interrupted_at_any_instant_the_replies_stay_right(connection: RedisConnection) -> None:
    interrupts = 0
    for instant_us in range(20, 2000, 20):
        try:
            with interrupted_after(instant_us / 1e6):
                for number in range(10_000):
                    assert connection.call("ECHO", str(number)) == str(number)
        except KeyboardInterrupt:
            interrupts += 1
        assert connection.call("ECHO", "fresh") == "fresh"
    assert interrupts > 90


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise KeyboardInterrupt in what is done within, wherever it is by then."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


class Script:
    """A server that does to each connection what `behave` says, and counts the commands."""

    def __init__(self, folder: Path, behave: Callable[[socket.socket], None]) -> None:
        self.url = f"unix://{folder / 's.sock'}"
        self.commands = 0
        self._behave = behave
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "s.sock"))
        self._listener.listen()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            accepted, _ = self._listener.accept()
            self._open.append(accepted)
            if accepted.recv(4096):
                self.commands += 1
                self._behave(accepted)


def script(
    tmp_path: Path, settings: MakeSettings, behave: Callable[[socket.socket], None]
) -> tuple[Script, RedisConnection]:
    made = Script(tmp_path, behave)
    return made, open_redis(settings(redis_url=made.url, redis_timeout_seconds=0.3))


def test_a_command_is_sent_at_most_twice(tmp_path: Path, settings: MakeSettings) -> None:
    made, connection = script(tmp_path, settings, lambda accepted: accepted.close())
    with pytest.raises(redis_py.ConnectionError):
        connection.call("PING")
    assert made.commands == 2


def test_a_command_is_not_sent_again_after_a_timeout(
    tmp_path: Path, settings: MakeSettings
) -> None:
    made, connection = script(tmp_path, settings, lambda accepted: None)
    with pytest.raises(redis_py.TimeoutError):
        connection.call("PING")
    assert made.commands == 1


@pytest.mark.parametrize("reply", [b"$5\r\nab", b"*2\r\n:1\r\n"])
def test_half_a_reply_is_no_reply(reply: bytes, tmp_path: Path, settings: MakeSettings) -> None:
    _, connection = script(tmp_path, settings, lambda accepted: accepted.sendall(reply))
    with pytest.raises(redis_py.TimeoutError):
        connection.call("PING")


@pytest.mark.parametrize("reply", [b"+ONE\r\n+TWO\r\n", b"+ONE\r\n$5\r\nab", b"nonsense\r\n"])
def test_more_than_a_reply_and_nonsense_are_refused(
    reply: bytes, tmp_path: Path, settings: MakeSettings
) -> None:
    _, connection = script(tmp_path, settings, lambda accepted: accepted.sendall(reply))
    with pytest.raises(redis_py.InvalidResponse):
        connection.call("PING")


def test_after_a_failover_it_connects_anew(tmp_path: Path, settings: MakeSettings) -> None:
    answer = b"-READONLY You can't write against a read only replica.\r\n"
    made, connection = script(tmp_path, settings, lambda accepted: accepted.sendall(answer))
    for _ in range(2):
        with pytest.raises(redis_py.exceptions.ReadOnlyError):
            connection.call("PING")
    assert made.commands == 2  # each on a connection of its own


def test_it_speaks_tls_and_times_out_there_too(tmp_path: Path, settings: MakeSettings) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    answers = [b"+PONG\r\n", b""]

    def serve() -> None:
        accepted, _ = listener.accept()
        with context.wrap_socket(accepted, server_side=True) as secured:
            for answer in answers:
                secured.recv(4096)
                secured.sendall(answer)
            secured.recv(4096)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = listener.getsockname()[1]
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate}"
    with open_redis(settings(redis_url=url, redis_timeout_seconds=0.3)) as connection:
        assert connection.call("PING") == "PONG"
        with pytest.raises(redis_py.TimeoutError):
            connection.call("PING")
    thread.join(5)
    listener.close()


def test_a_request_without_time_says_nothing_of_redis(
    server: PlainServer, connection: RedisConnection
) -> None:
    connection.call("PING")
    server.freeze()
    try:
        with no_later_than(time.monotonic() + 0.1), pytest.raises(OutOfTime):
            connection.call("PING")
        with pytest.raises(redis_py.TimeoutError) as failed:
            connection.call("PING")
        assert not isinstance(failed.value, OutOfTime), "this one had Redis's own time"
    finally:
        server.thaw()
