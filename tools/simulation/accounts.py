"""The keys: what each may use, what it used, and what a report says about it."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypedDict

from tools.simulation.quotas import Quota, Refusal
from tools.simulation.settings import KeySettings, SimulationSettings


class LimitReport(TypedDict):
    """`peak` is the most that was accepted in any window; `overshoot` how far that is too much."""

    limit: int | None
    peak: int
    overshoot: int


class KeyReport(TypedDict):
    """What one key did. `accepted_at` holds `[seconds since the epoch, tokens charged]`."""

    accepted: int
    refused: int
    refused_by: dict[str, int]
    faults: dict[str, int]
    tokens_in: int
    tokens_out: int
    in_flight: int
    concurrency_peak: int
    revoked: bool
    window_seconds: float
    limits: dict[str, LimitReport]
    accepted_at: list[tuple[float, int]]
    accepted_forgotten: int


class Totals(TypedDict):
    """The sums over all keys."""

    accepted: int
    refused: int
    tokens_in: int
    tokens_out: int
    overshoot: int


class Report(TypedDict):
    """What all keys did since the start or the last reset."""

    totals: Totals
    keys: dict[str, KeyReport]


def mask(secret: str) -> str:
    """A name for a key that nobody named: the same each time, and of no use to a thief.

    >>> mask("a key")
    'unnamed-8fa3aab2'
    """
    return "unnamed-" + hashlib.sha256(secret.encode()).hexdigest()[:8]


class Account:
    """One key's settings, counts and quotas."""

    def __init__(self, name: str, secret: str, settings: KeySettings, keep: int) -> None:
        self.name = name
        self.names = (name, secret)
        self.settings = settings
        self.revoked = False
        self.keep = keep
        self.quotas: dict[tuple[str, str], Quota] = {}
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forgets what was counted; requests under way stay under way."""
        self.quotas.clear()
        self.accepted = 0
        self.refused_by: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.tokens_in = 0
        self.tokens_out = 0
        self.concurrency_peak = self.in_flight
        self.accepted_at: deque[tuple[float, int]] = deque(maxlen=self.keep)

    @contextmanager
    def under_way(self, quota: Quota) -> Iterator[None]:
        """Counts a request as under way for as long as the block lasts."""
        self.in_flight += 1
        self.concurrency_peak = max(self.concurrency_peak, self.in_flight)
        quota.enter()
        try:
            yield
        finally:
            quota.leave()
            self.in_flight -= 1

    def admit(self, quota: Quota, now: float, tokens: int, input_tokens: int) -> Refusal | None:
        """Asks the quota and counts its answer."""
        refusal = quota.admit(now, tokens, input_tokens)
        if refusal is not None:
            self.refused_by[refusal.name] += 1
            return refusal
        self.accepted += 1
        self.accepted_at.append((now, tokens))
        return None

    def report(self, simulation: SimulationSettings, timestamps: bool) -> KeyReport:
        """This key's part of the report."""
        return KeyReport(
            accepted=self.accepted,
            refused=self.refused_by.total(),
            refused_by=dict(self.refused_by),
            faults=dict(self.faults),
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            in_flight=self.in_flight,
            concurrency_peak=self.concurrency_peak,
            revoked=self.revoked,
            window_seconds=self.settings.window_seconds or simulation.window_seconds,
            limits=self._limits(),
            accepted_at=list(self.accepted_at) if timestamps else [],
            accepted_forgotten=self.accepted - len(self.accepted_at),
        )

    def _limits(self) -> dict[str, LimitReport]:
        worst: dict[str, LimitReport] = {}
        for quota in self.quotas.values():
            for name, (limit, peak) in quota.peaks().items():
                peak = max(peak, worst[name]["peak"] if name in worst else 0)
                worst[name] = LimitReport(limit=limit, peak=peak, overshoot=_excess(limit, peak))
        return worst


def _excess(limit: int | None, peak: int) -> int:
    return 0 if limit is None else max(0, peak - limit)


class AccountBook:
    """All keys by secret. Keys that nobody configured appear when they are first used."""

    def __init__(self, simulation: SimulationSettings, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._simulation = simulation
        self._accounts: dict[str, Account] = {}
        self._shared: dict[tuple[str, str, str], Quota] = {}
        for secret, settings in simulation.keys.items():
            self.configure(secret, settings)

    def configure(self, secret: str, settings: KeySettings) -> Account:
        """Sets what a key may use. A key that was known starts anew, valid and with no counts.

        Raises:
            ValueError: if another key has that name.
        """
        name = settings.name or mask(secret)
        for other, account in self._accounts.items():
            if account.name == name and other != secret:
                raise ValueError(f"another key is already called {name!r}")
        account = Account(name, secret, settings, self._simulation.keep_accepted)
        self._accounts[secret] = account
        if settings.group is not None:
            for key in [key for key in self._shared if key[0] == settings.group]:
                del self._shared[key]
        return account

    def find(self, secret: str) -> Account:
        """The account of that key, made with the default limits if it is new."""
        account = self._accounts.get(secret)
        return account or self.configure(secret, replace(self._simulation.default, name=None))

    def revoke(self, secret_or_name: str) -> None:
        """Makes a key invalid from now on.

        Raises:
            KeyError: if there is no such key.
        """
        for account in self._accounts.values():
            if secret_or_name in account.names:
                account.revoked = True
                return
        raise KeyError("no key has that secret or name")

    def quota(self, account: Account, protocol: str, model: str) -> Quota:
        """What counts a request of that key and protocol, and of that model if they are apart."""
        settings = account.settings
        apart = (protocol, model if settings.per_model else "")
        quota = account.quotas.get(apart)
        if quota is None:
            if settings.group is None:
                quota = Quota(settings, self._simulation, protocol)
            else:
                shared = (settings.group, *apart)
                quota = self._shared.get(shared) or Quota(settings, self._simulation, protocol)
                self._shared[shared] = quota
            account.quotas[apart] = quota
        return quota

    def reset(self) -> None:
        """Forgets all counts and empties all windows; settings and revocations stay."""
        self._shared.clear()
        for account in self._accounts.values():
            account.clear()

    def report(self, timestamps: bool = False) -> Report:
        """What each key did, by name."""
        keys = {
            account.name: account.report(self._simulation, timestamps)
            for account in self._accounts.values()
        }
        # A set: keys of one group share a quota, which must not be counted twice.
        quotas = {quota for account in self._accounts.values() for quota in account.quotas.values()}
        totals = Totals(
            accepted=sum(key["accepted"] for key in keys.values()),
            refused=sum(key["refused"] for key in keys.values()),
            tokens_in=sum(key["tokens_in"] for key in keys.values()),
            tokens_out=sum(key["tokens_out"] for key in keys.values()),
            overshoot=sum(_excess(*peak) for quota in quotas for peak in quota.peaks().values()),
        )
        return Report(totals=totals, keys=keys)
