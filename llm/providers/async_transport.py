"""The HTTP client of the asynchronous side: the SDKs' httpx2 over aiohttp, and what broke on it.

Measured with OpenAI's SDK, 64 requests in flight: over aiohttp it sends about twice as many
requests a second as over httpx2's own transport, which falls the more are in flight.

Loads httpx2 and aiohttp, so it is imported at the first send and not before.
"""

from __future__ import annotations

import os
import socket
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import aiohttp
import httpx2
from httpx_aiohttp.httpx2 import AiohttpTransport, Httpx2AiohttpClient

from core.errors import ConnectionFailed, ProviderError, ProviderTimeout, ProviderUnavailable
from llm.providers.base import ProviderCall, note_sent
from llm.providers.redact import redact
from llm.providers.transport import (
    CONNECT_SECONDS,
    IDLE_SECONDS,
    KEEP_ALIVE,
    certificates,
    failure_of,
    meaning_of,
)


def new_async_http_client() -> httpx2.AsyncClient:
    """A client for any number of keys and tasks of this loop; otherwise as `new_http_client`."""
    client = Httpx2AiohttpClient(
        verify=certificates(), timeout=CONNECT_SECONDS, follow_redirects=False
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))
    # The transport takes a session, but the client has no public way to hand it one.
    for transport in (client._transport, *client._mounts.values()):
        if isinstance(transport, AiohttpTransport):
            transport.client = _session_for(transport)
    return client


def attempt_timeout() -> httpx2.Timeout:
    """For the SDKs: the whole attempt has its deadline, so that only connecting needs one."""
    return httpx2.Timeout(None, connect=CONNECT_SECONDS)


def async_failure_of(error: BaseException, call: ProviderCall) -> ProviderError | None:
    """Our error for what broke on the way; None if `error` is nothing of the network's.

    The transport calls every lost connection a `ConnectTimeout`, which would be taken for a
    request that was never sent. So what aiohttp said comes first.
    """
    causes = _causes(error)
    for cause in causes:
        for kind, meaning, sent, words in _BROKEN:
            if isinstance(cause, kind):
                return meaning_of(meaning, words, sent, redact(_detail(cause), call.secret), call)
    return next((found for cause in causes if (found := failure_of(cause, call))), None)


_NOT_REACHED = "no connection came about"
# Most specific first.
_BROKEN: tuple[tuple[type[BaseException], type[ProviderError], bool, str], ...] = (
    (aiohttp.ClientProxyConnectionError, ConnectionFailed, False, "the proxy refused"),
    (aiohttp.ClientHttpProxyError, ConnectionFailed, False, "the proxy refused"),
    (aiohttp.ClientConnectorError, ConnectionFailed, False, _NOT_REACHED),
    (aiohttp.InvalidURL, ConnectionFailed, False, "base_url is not an address"),
    (aiohttp.ConnectionTimeoutError, ProviderTimeout, False, "no connection in time"),
    (aiohttp.ServerTimeoutError, ProviderTimeout, True, "no whole answer in time"),
    (aiohttp.ClientError, ProviderUnavailable, True, "the connection broke"),
)


def _detail(cause: BaseException) -> str:
    # aiohttp's own words do not say that a connection was refused.
    number = cause.os_error.errno if isinstance(cause, aiohttp.ClientConnectorError) else None
    return f"{cause}: {os.strerror(number)}" if number is not None and number > 0 else str(cause)


def _causes(error: BaseException) -> list[BaseException]:
    causes = [error]
    while (cause := causes[-1].__cause__) is not None and len(causes) < 5:
        causes.append(cause)
    return causes


class _Connector(aiohttp.TCPConnector):
    """Any number of connections. A request is written as soon as it has one: that is told."""

    async def connect(self, *args: Any, **kwargs: Any) -> Any:
        connection = await super().connect(*args, **kwargs)
        note_sent()
        return connection


def _session_for(transport: AiohttpTransport) -> Any:
    def session() -> aiohttp.ClientSession:
        connector = _Connector(
            limit=0,
            keepalive_timeout=IDLE_SECONDS,
            ssl=transport.ssl_context,
            socket_factory=_socket,
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return session


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    for option in KEEP_ALIVE:
        made.setsockopt(*option)
    return made
