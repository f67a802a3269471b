"""The cache over a store: what is served when, who waits, and what a failing store means."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import (
    DeadlineExceeded,
    SecretDenied,
    SecretError,
    SecretMalformed,
    SecretNotFound,
    SecretNotWritable,
    SecretStoreDown,
)
from core.events import (
    SecretChanged,
    SecretNotRefreshed,
    SecretStoreFailing,
    SecretStoreRestored,
)
from keys.secrets.cache import MOST_FETCHES, CachedSecrets
from keys.spec import KeySpec
from tests.integration.routers import wait_for
from tests.keys.fakes import Clock, spec
from tests.keys.secrets.stores import Told, down, events_of, in_thread

A = spec("a")


def cache_of(store: Told, clock: Clock, **more: Any) -> CachedSecrets:
    return CachedSecrets(store, 100.0, clock, **{"chance": lambda: 0.0, **more})


def value(cache: CachedSecrets, key: KeySpec = A, timeout: float = 10.0) -> str:
    return cache.get(key, timeout).get_secret_value()


def test_a_secret_in_use_is_refreshed_in_the_background_before_it_expires() -> None:
    clock, store = Clock(), Told()
    cache = cache_of(store, clock)
    assert value(cache) == "one"
    store.answer = "two"
    clock.now += 74
    assert value(cache) == "one"
    assert store.fetches == 1
    clock.now += 1
    store.begins()
    with store.hanging(), events_of(SecretChanged) as events:
        assert value(cache) == "one", "nobody waits for the refreshing"
        store.begins()
        assert value(cache) == "one"
        assert store.fetches == 2, "one fetch is enough"
        store.open.set()
        wait_for(lambda: value(cache) == "two")
        wait_for(lambda: events == [SecretChanged("a")])
    clock.now += 74
    assert value(cache) == "two"
    assert store.fetches == 2, "its time began anew"


def test_secrets_do_not_all_expire_together() -> None:
    for chance, expires in ((0.0, 100.0), (0.5, 95.0), (1.0, 90.0)):
        clock, store = Clock(), Told()
        cache = cache_of(store, clock, chance=lambda chance=chance: chance)
        value(cache)
        store.answer = SecretNotFound("gone")
        clock.now += expires - 0.1
        assert value(cache) == "one"
        clock.now += 0.2
        with pytest.raises(SecretNotFound):
            value(cache)


def test_a_store_that_is_down_serves_what_is_cached_for_a_bounded_time_and_says_so() -> None:
    clock, store = Clock(), Told()
    cache = cache_of(store, clock, stale_seconds=1000.0)
    assert value(cache) == "one"
    store.answer = down()
    clock.now += 101
    with events_of(SecretStoreFailing, SecretStoreRestored) as events:
        for _ in range(5):
            assert value(cache) == "one"
        assert store.fetches == 2, "while it is down nobody else asks for a second"
        assert "the store is down; down for 0 s, cached secrets are served" in (
            cache.outage() or ""
        )
        clock.now += 997
        wait_for(lambda: value(cache) == "one" and store.fetches == 3)
        clock.now += 2
        with pytest.raises(SecretStoreDown, match="the store is down"):
            value(cache)
        store.answer = "two"
        clock.now += 2
        assert value(cache) == "two"
        assert cache.outage() is None
        failing, restored = events
    assert failing == SecretStoreFailing("the store", "the store is down", 1000.0)
    assert isinstance(restored, SecretStoreRestored)
    assert restored.seconds == pytest.approx(1001.0)


@pytest.mark.parametrize("kind", [SecretNotFound, SecretDenied, SecretMalformed])
def test_a_store_that_answers_otherwise_is_not_down(kind: type[SecretError]) -> None:
    clock, store = Clock(), Told()
    cache = cache_of(store, clock)
    value(cache)
    store.answer = kind("no more")
    clock.now += 80
    with events_of(SecretNotRefreshed, SecretStoreFailing) as events:
        for _ in range(3):
            assert value(cache) == "one", "until it expires"
            wait_for(lambda: len(events) == 1)
            clock.now += 2
        wait_for(lambda: store.fetches >= 3)
        clock.now += 20
        with pytest.raises(kind, match="no more"):
            value(cache)
        assert events == [SecretNotRefreshed("a", kind.kind, "no more")], "told once"
    assert cache.outage() is None


def test_a_store_that_hangs_costs_one_request_a_moment_and_the_others_nothing() -> None:
    clock, store = Clock(), Told()
    cache = cache_of(store, clock)
    value(cache)
    clock.now += 101
    with store.hanging():
        began = time.monotonic()
        assert value(cache) == "one"
        assert time.monotonic() - began < 3
        began = time.monotonic()
        for _ in range(100):
            assert value(cache) == "one"
        assert time.monotonic() - began < 0.5


def test_nobody_waits_longer_than_he_has_time() -> None:
    store = Told()
    cache = CachedSecrets(store, 100.0)
    with store.hanging():
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"the store gave the secret of key 'a'"):
            cache.get(A, 0.2)
        assert 0.15 < time.monotonic() - began < 1
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            cache.renew(A, SecretStr("x"), 0.2)
        assert time.monotonic() - began < 1
    assert cache.outage() is None, "one caller's haste is no outage"


def test_a_store_that_takes_too_long_is_down_and_the_next_key_need_not_find_out() -> None:
    store = Told()
    cache = CachedSecrets(store, 100.0, timeout_seconds=0.6)
    with store.hanging():
        with pytest.raises(SecretStoreDown, match=r"did not give the secret .* within 0.6 s"):
            cache.get(A, 5)
        began = time.monotonic()
        with pytest.raises(SecretStoreDown):
            cache.get(spec("b"), 5)
        assert time.monotonic() - began < 0.5
        assert store.fetched == ["a"]
    wait_for(lambda: cache.outage() is None)


def test_hanging_fetches_are_bounded_in_number() -> None:
    store = Told()
    cache = CachedSecrets(store, 100.0)
    with store.hanging():
        keys = [spec(f"k{number}") for number in range(3 * MOST_FETCHES)]
        threads = [in_thread(lambda key=key: cache.get(key, 0.3))[0] for key in keys]
        for thread in threads:
            thread.join()
        assert store.fetches == MOST_FETCHES
        assert sum(t.name == "secrets" for t in threading.enumerate()) <= 2 * MOST_FETCHES
    assert value(cache, keys[-1]) == "one", "they go on when the store does"


class TestRenewing:
    def test_another_secret_in_the_store_counts_at_once(self) -> None:
        store = Told()
        cache = cache_of(store, Clock())
        old = cache.get(A)
        store.answer = "two"
        assert cache.renew(A, old) is True
        assert value(cache) == "two"
        assert store.fetches == 2

    def test_the_same_secret_is_told_and_not_kept(self) -> None:
        store = Told()
        cache = cache_of(store, Clock())
        old = cache.get(A)
        assert cache.renew(A, old) is False
        store.answer = "two"
        assert value(cache) == "two"

    def test_who_comes_late_finds_what_another_fetched(self) -> None:
        store = Told()
        cache = cache_of(store, Clock())
        old = cache.get(A)
        store.answer = "two"
        assert cache.renew(A, old)
        assert cache.renew(A, old)
        assert store.fetches == 2

    def test_a_fetch_that_began_before_the_refusal_does_not_decide(self) -> None:
        clock, store = Clock(), Told()
        cache = cache_of(store, clock)
        old = cache.get(A)
        store.begins()
        clock.now += 80
        with store.hanging():
            cache.get(A)  # begins to refresh: the store has read the old one
            store.begins()
            store.answer = "two"
            thread, got = in_thread(lambda: cache.renew(A, old, 10))
            time.sleep(0.05)
            assert not got
        thread.join()
        assert got == [True]
        assert value(cache) == "two"

    def test_a_storm_of_refusals_is_two_fetches_at_most(self) -> None:
        store = Told()
        cache = cache_of(store, Clock())
        old = cache.get(A)
        store.answer = "two"
        threads = [in_thread(lambda: cache.renew(A, old, 10)) for _ in range(32)]
        for thread, _ in threads:
            thread.join()
        assert [got for _, got in threads] == [[True]] * 32
        assert store.fetches <= 3

    def test_who_waits_while_what_was_fetched_is_refused_fetches_again(self) -> None:
        store = Told()
        cache = cache_of(store, Clock())
        entry = cache._entry(A)
        waits = entry.changed.wait_for

        def refused_meanwhile(told: Callable[[], bool], timeout: float | None = None) -> bool:
            entry.changed.wait_for = waits  # type: ignore[method-assign]
            came = waits(told, timeout)
            # Another thread has its turn first, and the store still has what was refused.
            entry.changed.release()
            thread, got = in_thread(lambda: cache.renew(A, SecretStr("one"), 10))
            thread.join()
            entry.changed.acquire()
            assert got == [False]
            store.answer = "two"
            return came

        entry.changed.wait_for = refused_meanwhile  # type: ignore[method-assign, assignment]
        assert value(cache) == "two"
        assert store.fetches == 3

    def test_a_store_that_is_down_cannot_tell(self) -> None:
        clock, store = Clock(), Told()
        cache = cache_of(store, clock)
        old = cache.get(A)
        store.answer = down()
        for _ in range(2):
            with pytest.raises(SecretStoreDown):
                cache.renew(A, old)
        with pytest.raises(SecretStoreDown):
            value(cache)
        with pytest.raises(SecretStoreDown, match="secret of key 'b' cannot be had: the store is"):
            value(cache, spec("b"))
        assert store.fetches == 2, "what was refused is not served again"
        store.answer = "two"
        clock.now += 2
        assert value(cache) == "two"

    @pytest.mark.parametrize("patience", [0.05, 10.0])
    def test_a_store_that_hangs_cannot_tell(self, patience: float) -> None:
        store = Told()
        cache = cache_of(store, Clock(), timeout_seconds=0.1)
        old = cache.get(A)
        store.answer = "two"
        with store.hanging():
            with pytest.raises((DeadlineExceeded, SecretStoreDown)):
                cache.renew(A, old, patience)
            with pytest.raises((DeadlineExceeded, SecretStoreDown)):
                cache.get(A, patience)
        wait_for(lambda: cache.cached(A) is not None)
        assert value(cache) == "two", "what was refused is not served again"


class Writable(Told):
    def put(self, key: KeySpec, secret: SecretStr) -> None:
        self.answer = secret.get_secret_value()


def test_a_secret_that_was_written_counts_at_once() -> None:
    cache = cache_of(Writable(), Clock())
    assert value(cache) == "one"
    cache.put(A, SecretStr("two"))
    assert value(cache) == "two"


def test_a_store_that_is_only_read_says_where_to_write() -> None:
    store = Told()
    store.place_of = lambda key: f"secret/llm/{key.key_id}"  # type: ignore[attr-defined]
    with pytest.raises(SecretNotWritable, match="change secret/llm/a there"):
        cache_of(store, Clock()).put(A, SecretStr("two"))


def test_a_store_that_gives_no_secret_str_is_told_and_not_shown() -> None:
    class Careless:
        def fetch(self, key: KeySpec) -> str:
            return "plain-secret"

    with pytest.raises(SecretMalformed, match="must return one") as caught:
        CachedSecrets(Careless(), 100.0).get(A)  # type: ignore[arg-type]
    assert "plain-secret" not in str(caught.value)


def test_a_closed_cache_is_silent_and_empty() -> None:
    store = Told()
    cache = cache_of(store, Clock())
    value(cache)
    cache.close()
    assert "one" not in repr(vars(cache))
    store.answer = down()
    with events_of(SecretStoreFailing) as events, pytest.raises(SecretStoreDown):
        cache.get(A)
    assert events == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_fetches_for_itself() -> None:
    store = Told()
    cache = CachedSecrets(store, 100.0)
    b = spec("b")
    value(cache)
    reading, writing = os.pipe()
    with store.hanging():
        thread, _ = in_thread(lambda: cache.get(b, 10))
        wait_for(lambda: store.fetches == 2)
        child = os.fork()
        if child == 0:
            try:
                store.open = threading.Event()
                store.open.set()
                kept = cache.get(A, 5).get_secret_value() + cache.get(b, 5).get_secret_value()
                os.write(writing, kept.encode())
            finally:
                os._exit(0)
    thread.join()
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"oneone"
    os.waitpid(child, 0)
