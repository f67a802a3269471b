"""One SDK client a key, all over one pool of connections, safe under threads and after a fork.

An SDK client is a thin shell that holds a key; connections and the TLS context, which cost 30 ms
and a megabyte, belong to the pool. So a key's first call finds warm connections, a rotated or
evicted client only has to be dropped (the last call that uses it keeps it alive), and what must
not be closed under a call is the pool alone: the last call out closes it. Tasks have a pool for
each event loop, since sockets belong to the loop that opened them.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import SecretStr

from core.errors import AuthenticationFailed, ConnectionFailed
from core.per_loop import PerLoop
from llm.providers.base import ProviderCall

if TYPE_CHECKING:
    import httpx2

ClientT = TypeVar("ClientT")
HttpT = TypeVar("HttpT")

MOST_CLIENTS = 2048


class _Clients(Generic[ClientT, HttpT]):
    """The SDK clients of one pool of connections, by key and address."""

    def __init__(self, connect: Callable[[ProviderCall, HttpT], ClientT], size: int) -> None:
        self._connect = connect
        self._size = size
        self._clients: OrderedDict[tuple[str, str | None], tuple[SecretStr, ClientT]] = (
            OrderedDict()
        )

    def __len__(self) -> int:
        return len(self._clients)

    def clear(self) -> None:
        self._clients.clear()

    def kept(self, call: ProviderCall) -> ClientT | None:
        """The client of the call's key, if it is there with this secret. For any thread at once."""
        name = (call.key_id, call.base_url)
        kept = self._clients.get(name)
        if kept is None or not (kept[0] is call.secret or kept[0] == call.secret):
            return None
        with suppress(KeyError):  # another thread may just have dropped it
            self._clients.move_to_end(name)
        return kept[1]

    def get(self, call: ProviderCall, pool: Callable[[], HttpT]) -> ClientT:
        """The client of the call's key, made where it is not there. For one thread at a time."""
        client = self.kept(call)
        if client is not None:
            return client
        name = (call.key_id, call.base_url)
        if not _fits_a_header(call.secret):
            raise AuthenticationFailed(
                f"{call.provider}: the secret of key {call.key_id} is empty or has characters "
                "(spaces, line ends, accents) that no header can carry",
                provider=call.provider,
                sent=False,
            )
        client = self._connect(call, pool())
        self._clients[name] = (call.secret, client)
        self._clients.move_to_end(name)
        if len(self._clients) > self._size:
            self._clients.popitem(last=False)
        return client


class ClientCache(Generic[ClientT]):
    """Keeps the SDK client of each (key, address) until its secret changes. For threads.

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
        self._clients: _Clients[ClientT, httpx2.Client] = _Clients(self._connect, self._size)
        self._http: httpx2.Client | None = None
        # An entry a call. To append and to pop are atomic, so that calls need no lock: under many
        # threads they would stand in a row before it, each waiting until the one before has run.
        self._users: list[None] = []
        self._closed = False

    def __len__(self) -> int:
        return len(self._clients)

    @contextmanager
    def lease(self, call: ProviderCall) -> Iterator[ClientT]:
        """The client of the call's key, open for as long as the block lasts.

        Raises:
            As `take`.
        """
        client = self.take(call)
        try:
            yield client
        finally:
            self.give_back()

    def take(self, call: ProviderCall) -> ClientT:
        """The client of the call's key, open until `give_back`.

        Raises:
            AuthenticationFailed: the secret is empty or cannot be put into a header.
            ConnectionFailed: the cache is closed.
        """
        # Before it is asked whether the cache is closed, as `close` looks at them after it has
        # closed: so one of the two sees the other.
        self._users.append(None)
        try:
            client = None if self._closed else self._clients.kept(call)
            if client is None:
                with self._lock:
                    if self._closed:
                        raise _closed(call)
                    client = self._clients.get(call, self._pool)
        except BaseException:
            self.give_back()
            raise
        return client

    def give_back(self) -> None:
        """A client that was taken is not used any more."""
        with suppress(IndexError):  # taken before a fork, and given back in the child
            self._users.pop()
        if self._closed:
            with self._lock:
                self._close_if_idle()

    def close(self) -> None:
        """Take no more calls; close the connections once no call uses them."""
        with self._lock:
            self._closed = True
            self._clients.clear()
            self._close_if_idle()

    def _pool(self) -> httpx2.Client:
        if self._http is None:
            from llm.providers.transport import new_http_client

            self._http = new_http_client()
        return self._http

    def _close_if_idle(self) -> None:
        if self._closed and not self._users and self._http is not None:
            self._http.close()
            self._http = None


class AsyncClientCache(Generic[ClientT]):
    """The same for tasks, with a pool of its own for each event loop.

    Args:
        connect: makes the client of a call's key over the loop's HTTP client.
    """

    def __init__(
        self,
        connect: Callable[[ProviderCall, httpx2.AsyncClient], ClientT],
        size: int = MOST_CLIENTS,
    ) -> None:
        self._pools: PerLoop[_Pool[ClientT]] = PerLoop(lambda: _Pool(_Clients(connect, size)))
        self._closed = False

    def take(self, call: ProviderCall) -> tuple[ClientT, _Pool[ClientT]]:
        """The client of the call's key, and the pool to be given back after the call.

        Raises:
            As `ClientCache.take`.
        """
        if self._closed:
            raise _closed(call)
        pool = self._pools()
        client = pool.clients.get(call, pool.open)
        pool.users += 1
        return client, pool

    async def aclose(self) -> None:
        """Take no more calls; close this loop's connections once no call uses them."""
        self._closed = True
        pool = self._pools.take()
        if pool is not None:
            pool.closing = True
            pool.clients.clear()
            await pool.close_if_idle()


class _Pool(Generic[ClientT]):
    """The connections of one event loop, and who uses them."""

    def __init__(self, clients: _Clients[ClientT, httpx2.AsyncClient]) -> None:
        self.clients = clients
        self.users = 0
        self.closing = False
        self._http: httpx2.AsyncClient | None = None

    def open(self) -> httpx2.AsyncClient:
        if self._http is None:
            from llm.providers.async_transport import new_async_http_client

            self._http = new_async_http_client()
        return self._http

    async def give_back(self) -> None:
        self.users -= 1
        if self.closing:
            await self.close_if_idle()

    async def close_if_idle(self) -> None:
        if self.users == 0 and self._http is not None:
            http, self._http = self._http, None
            await http.aclose()


def _closed(call: ProviderCall) -> ConnectionFailed:
    return ConnectionFailed(
        f"{call.provider}: the adapter is closed", provider=call.provider, sent=False
    )


def _fits_a_header(secret: SecretStr) -> bool:
    # Checked here because the HTTP library's own complaint would quote the secret.
    value = secret.get_secret_value()
    return bool(value) and value.isascii() and value.isprintable() and " " not in value
