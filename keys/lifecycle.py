"""The life of a key while traffic runs: registered, rotated, disabled, enabled, revoked.

Each change is one script on the shard of the key's provider (`lua/lifecycle.lua`), which checks it
against the table of states and keeps a log. All processes learn of it with their next reservation.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypedDict

from pydantic import SecretStr

from core.errors import ConfigurationError
from core.events import KeyChanged, emit
from core.redis_calls import Calls
from keys.leaks import show
from keys.places import Places
from keys.registry import KeyRegistry, parse_keys
from keys.runtime import RuntimeKeys
from keys.secrets.store import SecretStore, name_of, place_of, put_secret
from keys.spec import KeySpec
from lua.lifecycle_calls import (
    MOST_ENTRIES,
    Act,
    Changed,
    LogEntry,
    Outcome,
    change_call,
    read_changed,
    read_logs,
    touch_call,
)


class HistoryEntry(TypedDict):
    """One change of a key's state.

    `subject` says whose it was: the key's, its quota group's, its provider's, or a circuit's.
    `until` is None where the new state has no end of its own.
    """

    at: str
    who: str
    subject: str
    before: str
    after: str
    until: str | None
    why: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did.

    Args:
        version: how often the key's secret has been rotated.
        stored: whether the new secret was written to the secret store from here.
        where: where the secret lies; if it was not stored, change it there.
    """

    key_id: str
    version: int
    stored: bool
    where: str


class KeyLifecycle:
    """Changes keys for all processes that share a Redis. Every method may raise redis-py's errors.

    Args:
        calls: gives the commands on the Redis of the limits.
        store: gives the secret store; asked when a secret is to be stored.
    """

    def __init__(
        self,
        calls: Callable[[], Calls],
        registry: KeyRegistry,
        places: Places,
        runtime: RuntimeKeys,
        store: Callable[[], SecretStore],
    ) -> None:
        self._calls = calls
        self._registry = registry
        self._places = places
        self._runtime = runtime
        self._store = store

    def register(
        self, key: KeySpec | dict[str, Any], secret: SecretStr | None, who: str, why: str
    ) -> KeySpec:
        """Add a key for all processes; see `KeyManager.register_key`."""
        spec = key if isinstance(key, KeySpec) else _parsed(key)
        self._runtime.refresh()
        known = self._registry.sources_of(spec.key_id)
        if known:
            self._refuse(spec.key_id, Outcome.REVOKED if "revoked" in known else _KNOWN)
        self._registry.check(spec)
        if secret is not None:
            put_secret(self._store(), spec, secret)
        if self._runtime.clustered:
            self._calls().call("SADD", self._places.registered(), spec.provider)
        text = json.dumps(spec.model_dump(exclude_unset=True))
        self._change(spec, "register", who, why, text=text)
        return spec

    def rotate(self, key_id: str, secret: SecretStr | None, who: str, why: str) -> Rotation:
        """Go over to a new secret; see `KeyManager.rotate_key`."""
        key = self._known(key_id)
        if secret is not None:
            put_secret(self._store(), key, secret)
        changed = self._change(key, "rotate", who, why)
        return Rotation(key_id, changed.version, secret is not None, where_of(self._store(), key))

    def revoke(self, key_id: str, who: str, why: str) -> None:
        """Take a key out for good; see `KeyManager.revoke_key`."""
        self._change(self._known(key_id), "revoke", who, why)

    def disable(self, key_id: str, who: str, why: str) -> bool:
        """Take a key out of use; see `KeyManager.disable`."""
        return self._change(self._known(key_id), "disable", who, why).outcome is Outcome.DONE

    def enable(self, key_id: str, who: str, why: str) -> bool:
        """Take a key back into use; see `KeyManager.enable`."""
        key = self._known(key_id)
        if not key.active:
            raise ConfigurationError(
                f"key {key_id!r} has active: false where it is described ("
                f"{self._registry.sources_of(key_id)[0]}); that wins: change it there"
            )
        return self._change(key, "enable", who, why).outcome is Outcome.DONE

    def history(self, key_id: str, limit: int) -> list[HistoryEntry]:
        """The changes of a key, its group and its provider; see `KeyManager.history`."""
        self._runtime.refresh()
        key = self._registry.find(key_id)
        if key is not None:
            logs = list(self._places.logs(key))
        else:  # a key that is gone: its own log is all that is left
            providers = self._runtime.providers()
            logs = list({self._places.log_of(provider, f"k:{key_id}") for provider in providers})
        entries = read_logs(self._calls(), logs, min(limit, MOST_ENTRIES))
        if not entries and key is None:
            self._known(key_id)
        return [_told(entry) for entry in entries]

    # -- inside --------------------------------------------------------------------------------

    def _change(self, key: KeySpec, act: Act, who: str, why: str, *, text: str = "") -> Changed:
        shard, log = self._places.shard(key.provider), self._places.logs(key).key
        known = bool({"keys.json", "this process"} & set(self._registry.sources_of(key.key_id)))
        call = change_call(
            shard, log, act, key.key_id, known=known, who=who, why=clean(why), spec=text
        )
        changed = read_changed(call.run(self._calls()))
        if changed.outcome not in (Outcome.DONE, Outcome.WAS_SO):
            self._refuse(key.key_id, changed.outcome, changed)
        if changed.outcome is Outcome.DONE:
            self._tell_other_shards(shard.tag)
            emit(KeyChanged(key.key_id, act, changed.before, changed.after, who, clean(why)))
        self._runtime.refresh()
        return changed

    def _tell_other_shards(self, tag: str) -> None:
        others = {self._places.shard(k.provider) for k in self._registry.every_key()}
        for shard in others:
            if shard.tag != tag:
                touch_call(shard).run(self._calls())

    def _known(self, key_id: str) -> KeySpec:
        key = self._registry.find(key_id)
        if key is None:
            self._runtime.refresh()
            key = self._registry.find(key_id)
        if key is None:
            if "revoked" in self._registry.sources_of(key_id):
                self._refuse(key_id, Outcome.REVOKED)
            known = ", ".join(k.key_id for k in self._registry.keys()[:20])
            raise ConfigurationError(f"there is no key {show(key_id)}; known are: {known}")
        return key

    def _refuse(self, key_id: str, outcome: Outcome, changed: Changed | None = None) -> None:
        if outcome is Outcome.NOT_ALLOWED and changed is not None:
            raise ConfigurationError(
                f"key {key_id!r} is {changed.before}; from there it cannot become {changed.after}"
            )
        raise ConfigurationError(f"key {show(key_id)} {_REFUSALS[outcome]}")


_KNOWN = Outcome.KNOWN_ALREADY
_REFUSALS = {
    Outcome.UNKNOWN: "is not known to Redis any more: register it again",
    Outcome.KNOWN_ALREADY: "is there already: rotate it, or choose another key_id",
    Outcome.REVOKED: "was revoked, which is for good: register a new one under another key_id",
}


def who_am_i() -> str:
    """Who changes a key, for its history: login and machine.

    Example:
        >>> "@" in who_am_i()
        True
    """
    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # no such user in this container
        login = str(os.getuid())
    return f"{login}@{socket.gethostname()}"


def where_of(store: SecretStore, key: KeySpec) -> str:
    """Where a store looks a key's secret up, in words."""
    return place_of(store, key) or f"the {name_of(store)}, under {key.key_id}"


def clean(text: str) -> str:
    """A reason on one line, of at most 200 characters."""
    return " ".join(text.split())[:200]


def _parsed(entry: dict[str, Any]) -> KeySpec:
    (spec,) = parse_keys(json.dumps({"keys": [entry]}), path="register_key")
    return spec


def _told(entry: LogEntry) -> HistoryEntry:
    return HistoryEntry(
        at=iso(entry.at_ms),
        who=entry.who,
        subject=_in_words(entry.subject),
        before=entry.before,
        after=entry.after,
        until=iso(entry.until_ms) if entry.until_ms > 0 else None,
        why=entry.why,
        request_id=entry.request_id,
    )


def _in_words(subject: str) -> str:
    """Whose state it was, such as "group openai/team-a"."""
    kind, _, name = subject.partition(":")
    if kind == "c":
        return "circuit of " + _in_words(name).removeprefix("service ")
    return f"{_KINDS[kind]} {name}"


_KINDS = {"k": "key", "g": "group", "p": "provider", "s": "service"}


def iso(milliseconds: int) -> str:
    """A time of Redis as people and programs read it.

    Example:
        >>> iso(1_800_000_000_000)
        '2027-01-15T08:00:00.000Z'
    """
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
