"""What breaks on the way, how often a provider is asked, and how long that may take."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from core.errors import ConnectionFailed, ProviderError, ProviderTimeout, ProviderUnavailable
from llm.providers import async_transport, transport
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import GEMINI, Dialect, adapter_of, call_of
from tests.providers.faces import Tasks
from tests.providers.scripted import Reply, ScriptedServer


def failing(
    adapter: SdkAdapter[Any, Any], dialect: Dialect, url: str, timeout: float = 10.0
) -> ProviderError:
    with pytest.raises(ProviderError) as failed:
        adapter.send(call_of(dialect, url, timeout=timeout))
    return failed.value


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503, 529])
def test_nothing_is_asked_twice(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], status: int
) -> None:
    headers = {"retry-after": "0", "x-should-retry": "true"}
    server.default = Reply(dialect.error("no"), status=status, headers=headers)
    failing(adapter, dialect, server.url)
    assert len(server.asked) == 1


def test_a_long_gemini_answer_is_not_fetched_on(
    server: ScriptedServer,
) -> None:
    candidate = GEMINI.success["candidates"][0]
    more = {"finishReason": "CONTINUATION", "continuationToken": "bW9yZQ=="}
    server.default = Reply(GEMINI.success | {"candidates": [candidate | more]})
    assert adapter_of("gemini").send(call_of(GEMINI, server.url)).stop_reason == "length"
    assert len(server.asked) == 1


def test_a_refused_connection_was_not_sent(dialect: Dialect, adapter: SdkAdapter[Any, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failing(adapter, dialect, f"http://127.0.0.1:{port}")
    assert (type(error), error.sent, error.status) == (ConnectionFailed, False, None)
    assert "refused" in str(error)


def test_an_unknown_name_was_not_sent(
    dialect: Dialect, adapter: SdkAdapter[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = failing(adapter, dialect, "http://llm.invalid")
    assert (type(error), error.sent) == (ConnectionFailed, False)


def test_a_server_without_tls_was_not_sent_anything(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    error = failing(adapter, dialect, f"https://127.0.0.1:{server.port}")
    assert (type(error), error.sent) == (ConnectionFailed, False)
    assert server.asked == []


def test_an_untrusted_certificate_was_not_sent_anything(
    dialect: Dialect, adapter: SdkAdapter[Any, Any], tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(self_signed(tmp_path / "server.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shake_hands() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=shake_hands)
        thread.start()
        error = failing(adapter, dialect, f"https://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(5)
    assert (type(error), error.sent) == (ConnectionFailed, False)
    assert "certificate" in str(error).lower()


def self_signed(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:99999999"])
def test_an_address_that_is_none_was_not_sent(
    dialect: Dialect, adapter: SdkAdapter[Any, Any], address: str
) -> None:
    error = failing(adapter, dialect, address)
    assert (type(error), error.sent) == (ConnectionFailed, False)


def drop(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def drop_midway(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n" + b'{"choices": [')


def speak_gibberish(connection: socket.socket) -> None:
    connection.sendall(b"220 mail.example.com ESMTP\r\n")


@pytest.mark.parametrize("fault", [drop, drop_midway, speak_gibberish])
def test_a_broken_answer_was_sent(
    server: ScriptedServer,
    dialect: Dialect,
    adapter: SdkAdapter[Any, Any],
    fault: Callable[[socket.socket], None],
) -> None:
    server.default = Reply(raw=fault)
    error = failing(adapter, dialect, server.url)
    assert (type(error), error.sent) == (ProviderUnavailable, True)


def test_a_body_that_cannot_be_unpacked_was_sent(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply(b"no gzip", headers={"content-encoding": "gzip"})
    error = failing(adapter, dialect, server.url)
    assert (type(error), error.sent) == (ProviderUnavailable, True)


def silence(connection: socket.socket) -> None:
    time.sleep(3)


def blank_lines(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(60):
        time.sleep(0.05)
        connection.sendall(b"1\r\n\n\r\n")


def dripping_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in range(60):
        time.sleep(0.05)
        connection.sendall(f"x-{number}: 1\r\n".encode())


def blank_lines_then_silence(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    time.sleep(0.15)
    connection.sendall(b"1\r\n\n\r\n")
    time.sleep(3)


@pytest.mark.parametrize(
    "slowness", [silence, blank_lines, dripping_headers, blank_lines_then_silence]
)
def test_the_timeout_is_for_the_whole_attempt(
    server: ScriptedServer,
    dialect: Dialect,
    adapter: SdkAdapter[Any, Any],
    slowness: Callable[[socket.socket], None],
) -> None:
    server.script = [Reply(dialect.success), Reply(raw=slowness)]
    adapter.send(call_of(dialect, server.url))
    started = time.monotonic()
    error = failing(adapter, dialect, server.url, timeout=0.25)
    assert 0.2 < time.monotonic() - started < 0.8
    assert (type(error), error.sent) == (ProviderTimeout, True)


def test_a_connection_that_takes_too_long_was_not_sent(
    dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        try:
            started = time.monotonic()
            error = failing(adapter, dialect, f"http://127.0.0.1:{port}", timeout=0.25)
            assert time.monotonic() - started < 3
            assert (type(error), error.sent) == (ProviderTimeout, False)
        finally:
            for each in waiting:
                each.close()


def test_after_a_timeout_the_next_call_has_a_connection_of_its_own(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.script = [Reply(raw=silence)]
    server.default = Reply(dialect.success)
    failing(adapter, dialect, server.url, timeout=0.3)
    assert adapter.send(call_of(dialect, server.url)).content == "Hi."


def test_connections_are_kept(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply(dialect.success)
    for number in range(6):
        adapter.send(call_of(dialect, server.url, key_id=f"key-{number % 3}"))
    assert server.connections == 1


def test_a_connection_that_the_provider_closed_is_not_used_again(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    def answer_and_close(connection: socket.socket) -> None:
        Reply(dialect.success).send(connection)

    server.default = Reply(raw=answer_and_close)
    for _ in range(5):
        assert adapter.send(call_of(dialect, server.url)).content == "Hi."
        time.sleep(0.01)
    assert len(server.asked) == 5


@pytest.mark.parametrize("method", ["_ask", "_ask_async"])
def test_our_own_bugs_stay_bugs(
    server: ScriptedServer,
    dialect: Dialect,
    adapter: SdkAdapter[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug of ours")

    if isinstance(adapter, Tasks) != (method == "_ask_async"):
        return
    monkeypatch.setattr(type(adapter_of(dialect.name)), method, broken)
    with pytest.raises(TypeError, match="a bug of ours"):
        adapter.send(call_of(dialect, server.url))


def test_bugs_below_the_sdk_are_no_provider_errors(
    server: ScriptedServer,
    dialect: Dialect,
    adapter: SdkAdapter[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise TypeError("a bug of ours")

    monkeypatch.setattr(transport._Backend, "connect_tcp", broken)
    monkeypatch.setattr(async_transport._Connector, "_create_connection", broken)
    with pytest.raises(Exception) as failed:  # noqa: PT011  Anthropic's SDK wraps anything
        adapter.send(call_of(dialect, server.url))
    assert not isinstance(failed.value, ProviderError)


def test_a_deadline_ends_with_its_block() -> None:
    with transport.Deadline(5.0):
        with transport.Deadline(1.0):
            assert 0.5 < transport._left(None) <= 1.0
        assert 4.0 < transport._left(None) <= 5.0
        assert transport._left(2.0) == 2.0
    assert transport._left(None) == transport.LONGEST_SECONDS


@pytest.mark.parametrize("timeout", [1e9, 1e300, float("inf")])
def test_a_huge_timeout_works(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], timeout: float
) -> None:
    server.default = Reply(dialect.success)
    assert adapter.send(call_of(dialect, server.url, timeout=timeout)).content == "Hi."


def test_tls_is_verified() -> None:
    client = transport.new_http_client()
    context = client._transport._pool._ssl_context  # type: ignore[attr-defined]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    client.close()


def test_httpx_is_whole_before_any_sdk_looks_for_it() -> None:
    """OpenAI's SDK uses a half-imported httpx of another thread and trips over it."""
    code = "import sys, llm.providers.transport; print(hasattr(sys.modules.get('httpx'), 'URL'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "True"
