"""One client a key, one pool for all; nothing is closed under a call."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from core.errors import ConnectionFailed
from llm.providers.base import ProviderCall
from llm.providers.clients import ClientCache
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import OPENAI, Dialect, call_of, new_secret
from tests.providers.scripted import Reply, ScriptedServer

if TYPE_CHECKING:
    import httpx2


class Client:
    def __init__(self, call: ProviderCall, http: httpx2.Client) -> None:
        self.secret = call.secret
        self.http = http


@pytest.fixture
def cache() -> Iterator[ClientCache[Client]]:
    made = ClientCache(Client, size=3)
    yield made
    made.close()


def call(key_id: str = "a", **changes: Any) -> ProviderCall:
    return call_of(OPENAI, "http://x", key_id=key_id, **changes)


def test_a_key_keeps_its_client(cache: ClientCache[Client]) -> None:
    secret = new_secret()
    with cache.lease(call(secret=SecretStr(secret))) as first:
        pass
    with cache.lease(call(secret=SecretStr(secret))) as second:
        assert second is first
    assert len(cache) == 1


def test_keys_and_addresses_have_clients_of_their_own_over_one_pool(
    cache: ClientCache[Client],
) -> None:
    secret = SecretStr(new_secret())
    calls = [call("a", secret=secret), call("b", secret=secret)]
    calls.append(call("a", secret=secret, base_url="http://y"))
    clients = []
    for each in calls:
        with cache.lease(each) as client:
            clients.append(client)
    assert len({id(client) for client in clients}) == 3
    assert len({id(client.http) for client in clients}) == 1


def test_a_rotated_secret_gets_a_new_client_and_the_old_one_goes_after_its_last_call(
    cache: ClientCache[Client],
) -> None:
    with cache.lease(call(secret=SecretStr("old-" + new_secret()))) as old:
        gone = weakref.ref(old)
        with cache.lease(call(secret=SecretStr("new-" + new_secret()))) as new:
            assert new is not old
            assert new.secret.get_secret_value().startswith("new-")
        assert not old.http.is_closed
        assert len(cache) == 1
    del old
    gc.collect()
    assert gone() is None


def test_the_cache_is_bounded_and_forgets_the_longest_unused(cache: ClientCache[Client]) -> None:
    secret = SecretStr(new_secret())
    used: dict[str, Client] = {}
    for key in ("a", "b", "c", "a", "d"):
        with cache.lease(call(key, secret=secret)) as used[key]:
            pass
    assert len(cache) == 3
    with cache.lease(call("a", secret=secret)) as again:
        assert again is used["a"]
    with cache.lease(call("b", secret=secret)) as again:
        assert again is not used["b"]


def test_closing_waits_for_the_last_call(cache: ClientCache[Client]) -> None:
    with cache.lease(call("a")) as first, cache.lease(call("b")):
        cache.close()
        assert not first.http.is_closed
    assert first.http.is_closed


def test_closing_under_many_threads_closes_once_and_under_nobody() -> None:
    secret = SecretStr(new_secret())
    for _ in range(50):
        cache = ClientCache(Client, size=3)
        pools: list[httpx2.Client] = []
        began = threading.Barrier(9)
        wrong: list[str] = []

        def work(cache: ClientCache[Client] = cache, began: threading.Barrier = began) -> None:
            began.wait(10)
            for number in range(1_000):
                try:
                    with cache.lease(call(f"k{number % 5}", secret=secret)) as client:
                        pools.append(client.http)  # noqa: B023 - of this round
                        if client.http.is_closed:
                            wrong.append("closed under a call")  # noqa: B023 - the same
                except ConnectionFailed:
                    return

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        began.wait(10)
        cache.close()
        for thread in threads:
            thread.join(20)
        assert not wrong
        assert len({id(pool) for pool in pools}) <= 1
        assert all(pool.is_closed for pool in pools), "the last call out closes"
        assert cache._http is None


def test_a_child_may_give_back_what_was_taken_before_the_fork(cache: ClientCache[Client]) -> None:
    cache.take(call())
    cache._start()  # as it is run in a child
    cache.give_back()
    with cache.lease(call()) as client:
        assert not client.http.is_closed


def test_a_closed_cache_takes_no_calls(cache: ClientCache[Client]) -> None:
    cache.close()
    with pytest.raises(ConnectionFailed, match="closed") as failed, cache.lease(call()):
        pass
    assert failed.value.sent is False


def test_an_adapter_can_be_closed_twice_and_unused(dialect: Dialect) -> None:
    adapter = dialect.adapter()
    adapter.close()
    adapter.close()
    with pytest.raises(ConnectionFailed, match="closed"):
        adapter.send(call_of(dialect, "http://x"))


def test_a_call_under_way_survives_the_close(
    server: ScriptedServer, dialect: Dialect, fresh: SdkAdapter[Any, Any]
) -> None:
    arrived, answer = threading.Event(), threading.Event()

    def wait(_: object) -> Reply:
        arrived.set()
        answer.wait(10)
        return Reply(dialect.success)

    server.default = wait
    replies: list[str] = []
    thread = threading.Thread(
        target=lambda: replies.append(fresh.send(call_of(dialect, server.url)).content)
    )
    thread.start()
    assert arrived.wait(10)
    fresh.close()
    answer.set()
    thread.join(10)
    assert replies == ["Hi."]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_with_connections_of_its_own(
    server: ScriptedServer, dialect: Dialect, fresh: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply(dialect.success)
    secret = SecretStr(new_secret())
    fresh.send(call_of(dialect, server.url, secret=secret))
    before = fresh._clients._http
    fresh._clients._lock.acquire()
    child = os.fork()
    if child == 0:
        # The child must not come back: it would run the rest of the tests as well.
        try:
            clients = fresh._clients
            anew = clients._http is None and len(clients) == 0 and not clients._lock.locked()
        finally:
            os._exit(0 if anew else 1)
    fresh._clients._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert fresh._clients._http is before
    assert fresh.send(call_of(dialect, server.url, secret=secret)).content == "Hi."
    assert server.connections == 1
