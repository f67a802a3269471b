"""The HTTP client that the SDKs send through, a deadline for a whole attempt, what broke.

Loads httpx2, so it is imported at the first send and not before.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Any

import httpcore2

# OpenAI's SDK takes `httpx` where it finds it in sys.modules, also while another thread has only
# begun to import it (google-genai does at its first use): so it is there, whole, before any call.
import httpx  # noqa: F401
import httpx2

from core.errors import ConnectionFailed, ProviderError, ProviderTimeout, ProviderUnavailable
from llm.providers.base import ProviderCall, note_sent
from llm.providers.redact import redact

CONNECT_SECONDS = 10.0
LONGEST_SECONDS = 86_400.0

IDLE_SECONDS = 30.0
_MOST_IDLE = 100
_WRITE_BYTES = 65_536


class _Clock(threading.local):
    end: float = math.inf


_clock = _Clock()


class Deadline:
    """Cuts all that this thread does through our HTTP client at so many seconds from now.

    httpx2's own timeouts are per read, so an answer that trickles in, or the blank lines that
    some servers send to keep a connection open, would outlive them. Name resolution is the
    system's and is not bounded.

    Example:
        with Deadline(30.0):
            client.get("https://example.com")
    """

    __slots__ = ("_before", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._before = math.inf

    def __enter__(self) -> None:
        self._before = _clock.end
        _clock.end = time.monotonic() + self._seconds

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _clock.end = self._before


def new_http_client() -> httpx2.Client:
    """A client for any number of keys and threads: pooled, without redirects or cookies.

    A redirect would be a second request that nobody reserved, and would carry the key elsewhere.
    Proxies and certificates come from the environment, as httpx2 does it.
    """
    client = httpx2.Client(
        verify=certificates(),
        timeout=CONNECT_SECONDS,
        follow_redirects=False,
        limits=httpx2.Limits(
            max_connections=None,
            max_keepalive_connections=_MOST_IDLE,
            keepalive_expiry=IDLE_SECONDS,
        ),
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    # httpcore2 takes a network backend, but httpx2 has no public way to hand it one.
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend)
    return client


def certificates() -> ssl.SSLContext:
    """What the environment trusts. All clients share it, as reading it takes some 50 ms."""
    return _certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def failure_of(error: BaseException, call: ProviderCall) -> ProviderError | None:
    """Our error for what broke on the way; None if `error` is nothing of the network's.

    `sent` is False only for what fails before a byte of the request is written.
    """
    for kind, meaning, sent, words in _BROKEN:
        if isinstance(error, kind):
            return meaning_of(meaning, words, sent, redact(str(error), call.secret), call)
    return None


def meaning_of(
    meaning: type[ProviderError], words: str, sent: bool, detail: str, call: ProviderCall
) -> ProviderError:
    """One of our errors, said in these words; `detail` is redacted."""
    text = f"{call.provider}: {words}" + (f": {detail}" if detail else "")
    return meaning(text, provider=call.provider, sent=sent)


_NOT_REACHED = "no connection came about"
# Most specific first.
_BROKEN: tuple[tuple[type[BaseException], type[ProviderError], bool, str], ...] = (
    (httpx2.ConnectTimeout, ProviderTimeout, False, "no connection in time"),
    (httpx2.PoolTimeout, ProviderTimeout, False, "no connection in time"),
    (httpx2.ConnectError, ConnectionFailed, False, _NOT_REACHED),
    (httpx2.ProxyError, ConnectionFailed, False, "the proxy refused the connection"),
    (httpx2.UnsupportedProtocol, ConnectionFailed, False, _NOT_REACHED),
    (httpx2.InvalidURL, ConnectionFailed, False, "base_url is not an address"),
    (httpx2.TimeoutException, ProviderTimeout, True, "no whole answer in time"),
    (httpx2.HTTPError, ProviderUnavailable, True, "the connection broke"),
    (ssl.SSLError, ProviderUnavailable, True, "the connection broke"),
)


def _left(timeout: float | None) -> float:
    # Above some 292 years a socket answers a timeout with an OverflowError.
    left = min(_clock.end - time.monotonic(), LONGEST_SECONDS)
    return left if timeout is None else min(timeout, left)


class _Stream(httpcore2.NetworkStream):
    """A connection whose every step ends with the deadline."""

    def __init__(self, inner: httpcore2.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = _left(timeout)
        if left <= 0:
            raise httpcore2.ReadTimeout("timed out")
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _WRITE_BYTES):
            left = _left(timeout)
            if left <= 0:
                raise httpcore2.WriteTimeout("timed out")
            self._inner.write(buffer[start : start + _WRITE_BYTES], left)
        note_sent()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        left = _connecting(timeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    """Opens such connections, and has the system notice when the other end is gone."""

    def __init__(self, inner: httpcore2.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        options = [*KEEP_ALIVE, *(socket_options or ())]
        left = _connecting(timeout)
        return _Stream(self._inner.connect_tcp(host, port, left, local_address, options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def _connecting(timeout: float | None) -> float:
    left = min(_left(timeout), CONNECT_SECONDS)
    if left <= 0:
        raise httpcore2.ConnectTimeout("timed out")
    return left


# A model may think for minutes without a byte; routers on the way forget silent connections.
KEEP_ALIVE = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)] + [
    (socket.IPPROTO_TCP, getattr(socket, name), value)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
    if hasattr(socket, name)
]
