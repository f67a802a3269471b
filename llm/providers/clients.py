"""One SDK client a key, all over one pool of connections, safe under threads and after a fork.

An SDK client is a thin shell that holds a key; connections and the TLS context, which cost 30 ms
and a megabyte, belong to the pool. So a key's first call finds warm connections, a rotated or
evicted client only has to be dropped (the last call that uses it keeps it alive), and what must
not be closed under a call is the pool alone: the last call out closes it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import SecretStr

from core.errors import AuthenticationFailed, ConnectionFailed
from llm.providers.base import ProviderCall

if TYPE_CHECKING:
    import httpx2

ClientT = TypeVar("ClientT")

MOST_CLIENTS = 2048


class ClientCache(Generic[ClientT]):
    """Keeps the SDK client of each (key, address) until its secret changes.

    Args:
        connect: makes the client of a call's key over the shared HTTP client.
        size: how many clients are kept; the one unused for longest goes first.

    Example:
        cache = ClientCache(connect)
        with cache.lease(call) as client:
            client.models.list()
    """

    def __init__(
        self, connect: Callable[[ProviderCall, httpx2.Client], ClientT], size: int = MOST_CLIENTS
    ) -> None:
        self._connect = connect
        self._size = size
        self._start()
        # A child of fork shares its parent's sockets: two processes would read each other's
        # answers. Nothing is closed there, as the parent still uses them.
        restart = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (again := restart()) and again())

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._clients: OrderedDict[tuple[str, str | None], tuple[SecretStr, ClientT]] = (
            OrderedDict()
        )
        self._http: httpx2.Client | None = None
        self._users = 0
        self._closed = False

    def __len__(self) -> int:
        return len(self._clients)

    @contextmanager
    def lease(self, call: ProviderCall) -> Iterator[ClientT]:
        """The client of the call's key, open for as long as the block lasts.

        Raises:
            AuthenticationFailed: the secret is empty or cannot be put into a header.
            ConnectionFailed: the cache is closed.
        """
        with self._lock:
            client = self._client(call)
            self._users += 1
        try:
            yield client
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_idle()

    def close(self) -> None:
        """Take no more calls; close the connections once no call uses them."""
        with self._lock:
            self._closed = True
            self._clients.clear()
            self._close_if_idle()

    def _client(self, call: ProviderCall) -> ClientT:
        if self._closed:
            raise ConnectionFailed(
                f"{call.provider}: the adapter is closed", provider=call.provider, sent=False
            )
        name = (call.key_id, call.base_url)
        kept = self._clients.get(name)
        if kept is not None and (kept[0] is call.secret or kept[0] == call.secret):
            self._clients.move_to_end(name)
            return kept[1]
        if not _fits_a_header(call.secret):
            raise AuthenticationFailed(
                f"{call.provider}: the secret of key {call.key_id} is empty or has characters "
                "(spaces, line ends, accents) that no header can carry",
                provider=call.provider,
                sent=False,
            )
        client = self._connect(call, self._pool())
        self._clients[name] = (call.secret, client)
        self._clients.move_to_end(name)
        if len(self._clients) > self._size:
            self._clients.popitem(last=False)
        return client

    def _pool(self) -> httpx2.Client:
        if self._http is None:
            from llm.providers.transport import new_http_client

            self._http = new_http_client()
        return self._http

    def _close_if_idle(self) -> None:
        if self._closed and self._users == 0 and self._http is not None:
            self._http.close()
            self._http = None


def _fits_a_header(secret: SecretStr) -> bool:
    # Checked here because the HTTP library's own complaint would quote the secret.
    value = secret.get_secret_value()
    return bool(value) and value.isascii() and value.isprintable() and " " not in value
