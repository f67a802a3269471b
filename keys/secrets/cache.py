"""What stores gave, kept for a while: refreshed before it expires, and when a provider refuses it.

    fetched ---- 3/4 of its time ----- expired ----------------- gone
       |  served   |  served, refreshed   |  served while the      |
       |           |  in the background   |  store is down, alone  |

Every fetch runs on a thread of the cache's own, one at a time for a key, and a caller waits for it
no longer than it has time: no client library, name server or credential helper can hold a request
beyond its deadline. While the store is down one fetch a second asks whether it is back, and
nobody else waits for it.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from random import random
from typing import TypeVar

from pydantic import SecretStr

from core.errors import (
    ConfigurationError,
    DeadlineExceeded,
    RouterError,
    SecretError,
    SecretMalformed,
    SecretStoreDown,
)
from core.events import SecretChanged, SecretNotRefreshed, emit
from keys.secrets.entries import Entry, Kept
from keys.secrets.outages import Outages
from keys.secrets.store import SecretStore, name_of, put_secret
from keys.secrets.workers import Workers
from keys.spec import KeySpec

RaisedT = TypeVar("RaisedT", bound=RouterError)

MOST_FETCHES = 8
"""So many fetches run at a time in one process."""

FAILURE_SECONDS = 1.0
"""How long a failure is remembered: a burst of requests is no burst of look-ups."""

STALE_PATIENCE_SECONDS = 1.0
"""How long a request waits for a store that may be down, where an expired secret is at hand."""

_REFRESH_AT = 0.75
_JITTER = 0.1


class CachedSecrets:
    """Keeps what a store gave for a while. One fetch at a time for each key, from any thread.

    Args:
        store: where secrets come from.
        ttl_seconds: how long a secret is kept at most, up to a tenth less at random; 0 fetches
            every time.
        clock: a monotonic clock in seconds, for tests.
        stale_seconds: how long after that it is still served while the store is down.
        timeout_seconds: after so long a fetch counts as failed.
        chance: numbers from 0 to 1, so that keys and processes do not all expire together.
    """

    def __init__(
        self,
        store: SecretStore,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        stale_seconds: float = 3600.0,
        timeout_seconds: float = 10.0,
        chance: Callable[[], float] = random,
    ) -> None:
        self._store = store
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._stale_seconds = stale_seconds if ttl_seconds > 0 else 0.0
        self._timeout_seconds = timeout_seconds
        self._chance = chance
        self._closed = False
        self._outages = Outages(name_of(store), self._stale_seconds, FAILURE_SECONDS, clock)
        self._entries: dict[str, Entry] = {}
        self._start()
        # A child of fork has none of its parent's threads: what they were fetching never comes.
        restart = weakref.WeakMethod(self._start)
        os.register_at_fork(after_in_child=lambda: (again := restart()) and again())

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._workers = Workers(MOST_FETCHES, "secrets")
        self._outages.start()
        self._entries = {name: entry.copy() for name, entry in self._entries.items()}

    def get(self, key: KeySpec, timeout: float = math.inf) -> SecretStr:
        """The secret of a key, from the cache while it is good.

        Args:
            timeout: seconds that the caller has.

        Raises:
            SecretError: it cannot be had; errors of other types never leave a store.
            DeadlineExceeded: the caller's time was over before the store answered.
        """
        secret = self.cached(key)
        if secret is not None:
            return secret
        entry = self._entry(key)
        now = self._clock()
        with entry.changed:
            if entry.kept is not None and now < entry.kept.expires:
                return entry.kept.secret  # somebody was quicker
            if entry.problem is not None and now < entry.retry_at:
                return self._stale_or_raise(entry, entry.problem)
            if not self._outages.may_fetch():
                return self._stale_or_raise(entry, self._down(key))
            wanted = entry.ended + 1
            self._launch(entry)
            patience = min(timeout, self._timeout_seconds)
            if self._servable(entry):
                patience = min(patience, STALE_PATIENCE_SECONDS)
            if not entry.changed.wait_for(lambda: entry.ended >= wanted, patience):
                return self._stale_or_raise(entry, self._too_slow(key, patience, timeout))
            if entry.problem is not None:
                return self._stale_or_raise(entry, entry.problem)
            if entry.kept is not None:
                return entry.kept.secret
        # A provider has refused just this secret before its turn came here: `renew` let it go.
        return self.get(key, timeout - (self._clock() - now))

    def cached(self, key: KeySpec) -> SecretStr | None:
        """The secret of a key if it is here and good, without waiting for anything."""
        entry = self._entry(key)
        kept = entry.kept
        now = self._clock()
        if kept is None or now >= kept.expires:
            return None
        if now >= entry.refresh_at:
            self._refresh_soon(entry)
        return kept.secret

    def renew(self, key: KeySpec, refused: SecretStr, timeout: float = math.inf) -> bool:
        """Whether there is another secret than the one that a provider has just refused.

        It is read from the store at once, unless the cache has a newer one already. `get` gives
        what was found; the refused one is not served again, also where the store cannot tell.

        Raises:
            SecretError: the store cannot tell now.
            DeadlineExceeded: the caller's time was over before the store answered.
        """
        entry = self._entry(key)
        with entry.changed:
            if entry.kept is not None and entry.kept.secret != refused:
                return True
            if not self._outages.may_fetch():
                entry.kept = None
                raise self._down(key)
            # A fetch under way may have read the old secret just before it was changed.
            wanted = entry.begun + 1
            if entry.flying:
                entry.again = True
            else:
                self._launch(entry)

            def told() -> bool:
                newer = entry.kept is not None and entry.kept.secret != refused
                return newer or entry.ended >= wanted

            patience = min(timeout, self._timeout_seconds)
            if not entry.changed.wait_for(told, patience):
                entry.kept = None
                raise self._too_slow(key, patience, timeout)
            if entry.kept is not None and entry.kept.secret != refused:
                return True
            entry.kept = None
            if entry.problem is not None:
                raise _again(entry.problem)
            return False

    def put(self, key: KeySpec, secret: SecretStr) -> None:
        """Write a key's secret to the store, and use it from now on.

        Raises:
            SecretNotWritable: this store is changed elsewhere, or it could not be written.
        """
        put_secret(self._store, key, secret)
        self.forget(key.key_id)

    def forget(self, key_id: str) -> None:
        """Fetch this key's secret afresh next time, for instance after it was rotated."""
        with self._lock:
            self._entries.pop(key_id, None)

    def outage(self) -> str | None:
        """What is wrong with the store and how long cached secrets last; None if it is well."""
        return self._outages.told()

    def close(self) -> None:
        """Drop what is cached, and say no more; the store itself belongs to who made it."""
        self._closed = True
        with self._lock:
            self._entries.clear()

    def _entry(self, key: KeySpec) -> Entry:
        entry = self._entries.get(key.key_id)
        if entry is not None and entry.fits(key):
            return entry
        with self._lock:
            entry = self._entries.get(key.key_id)
            if entry is None or not entry.fits(key):
                entry = self._entries[key.key_id] = Entry(key)
            return entry

    def _refresh_soon(self, entry: Entry) -> None:
        with entry.changed:
            if self._clock() >= entry.refresh_at and self._outages.may_fetch():
                self._launch(entry)

    def _launch(self, entry: Entry) -> None:
        """Begin a fetch, unless one is under way; the entry's lock is held."""
        if not entry.flying:
            entry.flying = True
            entry.begun += 1
            try:
                self._workers.submit(lambda: self._fetch(entry))
            except RuntimeError:
                entry.fail(SecretStoreDown("there is no thread to fetch with"), self._clock() + 1)

    def _fetch(self, entry: Entry) -> None:
        secret, problem = self._ask(entry.key)
        now = self._clock()
        if isinstance(problem, SecretStoreDown):
            if not self._closed:
                self._outages.note_failure(str(problem))
        else:
            self._outages.note_answer()
        with entry.changed:
            before, known = entry.kept, entry.problem
            if secret is not None:
                life = self._ttl_seconds * (1 - _JITTER * self._chance())
                entry.succeed(Kept(secret, now + life), now + _REFRESH_AT * life)
            elif problem is not None:
                entry.fail(problem, now + min(self._ttl_seconds, FAILURE_SECONDS))
            if entry.again:
                entry.again = False
                self._launch(entry)
        if self._closed or before is None:
            return
        if secret is not None and before.secret != secret:
            emit(SecretChanged(entry.key.key_id))
        told = isinstance(problem, SecretStoreDown) or type(known) is type(problem)
        if problem is not None and now < before.expires and not told:
            emit(SecretNotRefreshed(entry.key.key_id, problem.kind, str(problem)))

    def _ask(self, key: KeySpec) -> tuple[SecretStr | None, SecretError | None]:
        try:
            secret: object = self._store.fetch(key)
            if isinstance(secret, SecretStr):
                return secret, None
            del secret
            return None, SecretMalformed(
                f"the store gave no SecretStr for key {key.key_id!r}; its fetch must return one"
            )
        except SecretError as error:
            return None, _again(error)
        except ConfigurationError as error:
            return None, SecretError(str(error))
        except Exception as error:  # noqa: BLE001 - a foreign message may hold the secret itself
            name = type(error).__name__
        return None, SecretStoreDown(
            f"the secret of key {key.key_id!r} cannot be had: {name} in the store"
        )

    def _down(self, key: KeySpec) -> SecretStoreDown:
        return SecretStoreDown(
            f"the secret of key {key.key_id!r} cannot be had: {self._outages.reason}"
        )

    def _too_slow(
        self, key: KeySpec, patience: float, timeout: float
    ) -> SecretError | DeadlineExceeded:
        if patience >= timeout:
            return DeadlineExceeded(
                f"the request's time was over before {name_of(self._store)} gave the secret of "
                f"key {key.key_id!r}"
            )
        problem = SecretStoreDown(
            f"{name_of(self._store)} did not give the secret of key {key.key_id!r} within "
            f"{patience:g} s"
        )
        self._outages.note_failure(str(problem))
        return problem

    def _servable(self, entry: Entry) -> bool:
        kept = entry.kept
        return kept is not None and self._clock() < kept.expires + self._stale_seconds

    def _stale_or_raise(self, entry: Entry, problem: SecretError | DeadlineExceeded) -> SecretStr:
        down = isinstance(problem, SecretStoreDown | DeadlineExceeded)
        if down and self._servable(entry) and entry.kept is not None:
            return entry.kept.secret
        raise _again(problem)


def _again(error: RaisedT) -> RaisedT:
    """The same error without the frames in which it was raised before."""
    return type(error)(str(error))
