"""KeyManager: which key serves a request, what is reserved on it, and how each key fares.

The decision itself is one Lua call (`lua/reserve.lua`); this file prepares it, names its outcome
in the project's terms. What it is made of lies beside it: `choice.py` asks pool after pool,
`planner.py` keeps what does not change from request to request, `lifecycle.py` changes keys.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import SecretStr

from core.errors import ConfigurationError, StorageError
from core.events import KeyCooledDown, emit
from core.once import once
from core.redis_calls import Calls
from core.redis_connection import RedisConnection, shared_redis
from core.settings import Settings, get_settings
from keys.border import storage
from keys.choice import Choice
from keys.explain import KeyExplanation, explain_candidates
from keys.leaks import show
from keys.lifecycle import (
    HistoryEntry,
    KeyLifecycle,
    Rotation,
    clean,
    iso,
    where_of,
    who_am_i,
)
from keys.limiter import Limiter
from keys.outage import Outage
from keys.places import Places
from keys.planner import Planner
from keys.policies import Need
from keys.registry import KeyRegistry, parse_keys
from keys.reservations import End, Refused, Reservation
from keys.runtime import RuntimeKeys
from keys.secret_store import EnvSecretStore, SecretStore, get_secret_store
from keys.selection import (
    Selection,
    subjects_of,
)
from keys.spec import KeySpec
from keys.status import KeyStatus, describe, read_statuses
from lua import limiter_calls
from lua.circuits import USUAL_RULES, CircuitRules
from lua.limiter_types import CLEAR, IS_DISABLED, Geometry, Mark, Shard
from lua.loader import ScriptCall
from lua.names import Names

LONGEST = 10 * 365 * 86_400.0
"""Seconds: no cooldown is longer than ten years."""


class KeyManager:
    """Chooses, reserves, settles and reports. Safe under threads; shares its limits through Redis.

    Args:
        redis: the connection to the server that keeps the counters.
        registry: the keys of `keys.json`.
        window_seconds: the length of the providers' minute; 60 but in demos and tests.
        prefix: what all Redis keys begin with.
        rotate: False for the roll-back switch, by which each model's first key serves alone.
        rules: when circuits open, and for how long.
        store: gives the secret store, for keys whose secrets are stored from here.
        clock: Unix seconds, for the ends of the providers' days.
        admits_locally: whether requests go on, within this process's share of every limit, while
            Redis is away; else they are refused.
    """

    def __init__(
        self,
        redis: RedisConnection,
        registry: KeyRegistry,
        *,
        window_seconds: float = 60.0,
        prefix: str = "llm",
        rotate: bool = True,
        rules: CircuitRules = USUAL_RULES,
        store: Callable[[], SecretStore] = EnvSecretStore,
        clock: Callable[[], float] = time.time,
        admits_locally: bool = True,
    ) -> None:
        self._redis = redis
        self._registry = registry
        self._places = Places(Names(prefix), clustered=redis.clustered)
        self._geometry = Geometry(window_ms=round(window_seconds * 1000))
        self._limiter = Limiter(
            redis,
            self._places,
            self._geometry,
            rules=rules,
            clock=clock,
            admits_locally=admits_locally,
            keys=registry.keys,
        )
        self._store = store
        self._runtime = RuntimeKeys(lambda: self.calls, redis.clustered, registry, self._places)
        self._limiter.follow(self._runtime)
        self._lifecycle = KeyLifecycle(
            lambda: self.calls, registry, self._places, self._runtime, lambda: self._store()
        )
        self._planner = Planner(
            registry, self._runtime, self._places, self._geometry, rotate=rotate
        )
        self._choice = Choice(self._limiter, self._planner, self._runtime)

    @property
    def registry(self) -> KeyRegistry:
        """The keys as configured."""
        return self._registry

    @property
    def calls(self) -> Calls:
        """Commands on the Redis of the limits, which fail at once while it is known to be away; on
        a cluster, where each provider's limits have a node of their own, just its commands."""
        return self._redis if self._redis.clustered else self._limiter.calls(self._any_shard)

    def routers_while_away(self) -> int | None:
        """How many routers share the limits, while Redis is away and requests are admitted within
        this one's share; None else, and on a cluster."""
        if self._redis.clustered:
            return None
        outage = self._limiter.outage(self._any_shard)
        lives = outage.away is not None and outage.admits and outage.has_share
        return outage.routers if lives else None

    def outages(self) -> list[Outage]:
        """Whether Redis can be relied on, for each shard that was used."""
        return self._limiter.outages()

    @property
    def _any_shard(self) -> Shard:
        return self._places.shard("")  # one server has but one

    @property
    def window_seconds(self) -> float:
        """The length of a provider's minute, in seconds."""
        return self._geometry.window_ms / 1000

    def models_of(self, selection: Selection) -> tuple[str, ...]:
        """The models of the keys that a selection allows, in the order in which they are tried."""
        return self._planner.models_of(selection)

    def keys_of(self, selection: Selection) -> tuple[KeySpec, ...]:
        """The keys that a selection allows, in the order in which they are tried."""
        return self._planner.keys_of(selection)

    def ratio_of(self, selection: Selection) -> float:
        """Real input tokens for each estimated one, as learned by all processes: of the model that
        a selection prefers, else the largest of those that may serve. It is from 0.5 to 3, and 1
        for a model that nothing is known of."""
        models = selection.models[:1] or self.models_of(selection)
        return max((self._limiter.ratio_of(model) for model in models), default=1.0)

    def refresh_ratios(self, selection: Selection) -> None:
        """Read what all processes have learned of the estimates, as far as this one has sent
        nothing yet that told it.

        Raises:
            NoKeys: nothing that is configured fits the selection.
            StorageError: Redis did not answer.
        """
        shards = {pool.shard for pool in self._planner.rounds_for(selection, ()).in_order(0)}
        with storage("read what was learned of estimates"):
            for shard in shards:
                self._limiter.refresh_ratios(shard)

    # -- one request ---------------------------------------------------------------------------

    def reserve(
        self,
        need: Need,
        selection: Selection,
        *,
        reservation_id: str,
        lease_seconds: float,
        avoid: Collection[str] = (),
        max_wait: float = 0.0,
        priority: int = 0,
    ) -> Reservation | Refused:
        """Choose a key and reserve the estimated use on it: one round trip for up to 32 keys.

        Args:
            need: what the request is expected to use, in tokens.
            selection: what the caller allows.
            reservation_id: a new one for each attempt; the same one gets the same answer.
            lease_seconds: how long parallel slots and output are held if this process dies.
            avoid: names of keys, groups or providers (see `selection.subjects_of`) to leave out.
            max_wait: seconds to wait in the queue when no key has room.
            priority: higher is served first among those that wait.

        Raises:
            NoKeys: nothing that is configured fits the selection, or all of it is avoided.
            RequestTooLarge: no allowed key could ever admit so much at once.
            StorageError: Redis did not answer.
        """
        return self._choice.reserve(
            need,
            selection,
            reservation_id=reservation_id,
            lease_seconds=lease_seconds,
            avoid=avoid,
            max_wait=max_wait,
            priority=priority,
        )

    def settle(
        self, reservation: Reservation, end: End, also: Sequence[ScriptCall] = ()
    ) -> list[Any]:
        """Settle with what was used and mark what must be passed over, in one round trip.

        Args:
            also: further scripts that go along, such as a conversation's append.

        Returns:
            The results of `also`; for one that failed, its exception.

        Raises:
            StorageError: Redis did not answer; the reservation ages out of its window.
        """
        with storage("settle a reservation"):
            return self._limiter.settle(reservation, end, also)

    def settle_soon(self, reservation: Reservation, end: End) -> None:
        """Settle what succeeded without waiting for Redis's word.

        What this thread asks of Redis later is decided after it. Should Redis not have heard, it
        is told within seconds.

        Raises:
            StorageError: Redis is out of reach and may not be done without; the reservation ages
                out of its window.
        """
        with storage("settle a reservation"):
            self._limiter.settle_soon(reservation, end)

    # -- the pool ------------------------------------------------------------------------------

    def explain(self, need: Need, selection: Selection) -> list[KeyExplanation]:
        """For every key that the selection allows, whether it would serve a request now, and why
        not and from when on. Reserves nothing.

        Raises:
            NoKeys: nothing that is configured fits the selection.
            StorageError: Redis did not answer.
        """
        with storage("explain a choice"):
            self._runtime.refresh()
            pools = self._planner.rounds_for(selection, ()).in_order(0)
            return explain_candidates(self._limiter, pools, need)

    def mark_key_unhealthy(
        self, key_id: str, cooldown_seconds: float, reason: str = "marked by hand"
    ) -> None:
        """Pass a key over for a time, in all processes. A longer cooldown in force stays.

        Raises:
            ConfigurationError: no such key, or a negative time.
            StorageError: Redis did not answer.
        """
        if type(cooldown_seconds) not in (int, float) or not 0 <= cooldown_seconds < LONGEST:
            raise ConfigurationError(
                f"cooldown_seconds is {cooldown_seconds!r}; write 0 or more, at most {LONGEST:g}"
            )
        key = self._known(key_id)
        subject = subjects_of(key).key
        mark = Mark(subject, "throttled", round(cooldown_seconds * 1000), clean(reason))
        with storage("mark a key"):
            self._mark(key, [mark])
        emit(KeyCooledDown(key.provider, key_id, "throttled", cooldown_seconds, reason))

    def mark_key_healthy(self, key_id: str) -> None:
        """End a key's cooldown, or take it back into rotation; its circuit too.

        Raises:
            ConfigurationError: no such key, or somebody disabled it: see `enable`.
            StorageError: Redis did not answer.
        """
        key = self._known(key_id)
        subjects = subjects_of(key)
        fields = (subjects.key, subjects.group, f"c:{subjects.key}")
        marks = [Mark(field, "", CLEAR, "marked healthy") for field in fields]
        with storage("clear a key's mark"):
            ends = self._mark(key, marks)
        if IS_DISABLED in ends:
            raise ConfigurationError(f"key {key_id!r} is disabled; enable it instead")
        self._planner.forget()

    def _mark(self, key: KeySpec, marks: Sequence[Mark]) -> list[int]:
        shard = self._places.shard(key.provider)
        logs = [self._places.log_of(key.provider, m.field.removeprefix("c:")) for m in marks]
        return limiter_calls.mark(self.calls, shard, marks, who=who_am_i(), logs=logs)

    # -- the life of a key ---------------------------------------------------------------------

    def register_key(
        self,
        key: KeySpec | dict[str, Any],
        secret: str | SecretStr | None = None,
        *,
        by: str | None = None,
        reason: str = "",
    ) -> KeySpec:
        """Add a key for all processes that share the Redis; `keys.json` is not changed.

        Args:
            key: what `keys.json` would say of it.
            secret: stored in the secret store, if that can be written to; None if it is there.
            by: who does it, for the key's history; by default the login and the machine.

        Raises:
            ConfigurationError: the entry is wrong, its id is taken or was revoked, or the store
                cannot be written to.
            SecretError: the store did not take the secret.
            StorageError: Redis did not answer.

        Example:
            >>> manager.register_key(                                   # doctest: +SKIP
            ...     {"key_id": "b", "model_name": "gpt-4o-mini", "provider": "openai", "rpm": 500}
            ... )
        """
        with storage("register a key"):
            return self._lifecycle.register(key, _secret(secret), by or who_am_i(), reason)

    def rotate_key(
        self,
        key_id: str,
        new_secret: str | SecretStr | None = None,
        *,
        by: str | None = None,
        reason: str = "",
    ) -> Rotation:
        """Go over to a new secret. The key keeps its identity, its counters and its history.

        All processes forget the old one with their next reservation; requests under way end with
        it. A key that was Invalid is Available again.

        Args:
            new_secret: stored in the secret store. Where that cannot be written to, change it
                there first and leave this out: the answer says where.

        Raises:
            ConfigurationError: no such key, or it was revoked.
            SecretError: the store did not take the secret; nothing was changed.
            StorageError: Redis did not answer.
        """
        with storage("rotate a key"):
            return self._lifecycle.rotate(key_id, _secret(new_secret), by or who_am_i(), reason)

    def revoke_key(self, key_id: str, *, by: str | None = None, reason: str = "") -> None:
        """Take a key out of all processes for good; requests under way end. Its history stays, and
        its id is not given again. Revoke it at the provider too.

        Raises:
            ConfigurationError: no such key.
            StorageError: Redis did not answer.
        """
        with storage("revoke a key"):
            self._lifecycle.revoke(key_id, by or who_am_i(), reason)

    def disable(self, key_id: str, *, by: str | None = None, reason: str = "") -> bool:
        """Take a key out of use in all processes until it is enabled. Returns whether it was used.

        Raises:
            ConfigurationError: no such key, or it was revoked.
            StorageError: Redis did not answer.
        """
        with storage("disable a key"):
            return self._lifecycle.disable(key_id, by or who_am_i(), reason)

    def enable(self, key_id: str, *, by: str | None = None, reason: str = "") -> bool:
        """Take a key back into use in all processes, whatever kept it out. Returns whether anything
        did.

        Raises:
            ConfigurationError: no such key, it was revoked, or `active` is false in `keys.json`.
            StorageError: Redis did not answer.
        """
        with storage("enable a key"):
            return self._lifecycle.enable(key_id, by or who_am_i(), reason)

    def history(self, key_id: str, limit: int = 100) -> list[HistoryEntry]:
        """What changed the state of a key, of its group and of its provider: who, when, from what
        to what, why, and in which request. The oldest comes first.

        Raises:
            ConfigurationError: nothing is known of such a key.
            StorageError: Redis did not answer.
        """
        with storage("read a key's history"):
            return self._lifecycle.history(key_id, limit)

    def revoked_keys(self) -> dict[str, str]:
        """When keys were revoked (ISO 8601), by key id.

        Raises:
            StorageError: Redis did not answer.
        """
        with storage("read which keys were revoked"):
            self._runtime.refresh()
        return {key_id: iso(at_ms) for key_id, at_ms in self._runtime.revoked.items()}

    def secret_place(self, key_id: str) -> str:
        """Where a key's secret is looked up, in words; never the secret.

        Raises:
            ConfigurationError: no such key.
        """
        return where_of(self._store(), self._known(key_id))

    def use_secrets(self, store: SecretStore, forget: Callable[[str], None]) -> None:
        """Store secrets there from now on, and call `forget` with the id of each rotated key."""
        self._store = lambda: store
        self._runtime.on_rotation(forget)

    # -- this process alone --------------------------------------------------------------------

    def add_key(self, key: KeySpec | dict[str, Any]) -> KeySpec:
        """Add a key to this process at run time; `keys.json` is not changed.

        Raises:
            ConfigurationError: the entry is wrong, or its id is taken.
        """
        if not isinstance(key, KeySpec):
            (key,) = parse_keys(json.dumps({"keys": [key]}), path="add_key")
        if self._registry.get(key.key_id) is not None:
            raise ConfigurationError(
                f"there is a key {key.key_id!r} already; remove it first, or choose another key_id"
            )
        self._registry.add(key)
        return key

    def remove_key(self, key_id: str) -> None:
        """Take a key out of this process at run time; `keys.json` is not changed.

        Raises:
            ConfigurationError: no such key.
        """
        self._known(key_id)
        self._registry.remove(key_id)

    def reload_keys(self) -> int:
        """Read `keys.json` now, and return how many keys are in force.

        Raises:
            ConfigurationError: the file is wrong; the keys in force stay.
        """
        return self._registry.reload()

    def get_key_status(self, key_id: str) -> KeyStatus:
        """How one key fares: its use of each limit, and whether it is passed over and why.

        Raises:
            ConfigurationError: no such key.
            StorageError: Redis did not answer.
        """
        with storage("read what was changed at run time"):
            self._runtime.refresh()
        return self._statuses([self._known(key_id)])[0]

    def get_all_key_statuses(self) -> list[KeyStatus]:
        """The same for every key, in the order of `keys.json`; then those registered since."""
        with storage("read what was changed at run time"):
            self._runtime.refresh()
        return self._statuses(self._registry.keys())

    def health_check(self) -> dict[str, Any]:
        """Whether at least one key can serve now, with a count and a reason for each that cannot.

        Returns:
            `healthy`, `reason`, `total`, `available`, `unavailable` (key id to reason), and
            `keys_file` (a problem with the newest edit, or None).
        """
        try:
            return describe(self.get_all_key_statuses(), self._registry.problem)
        except StorageError as error:
            reason, healthy = str(error), self.routers_while_away() is not None
            if healthy:
                reason = "; ".join(outage.describe() for outage in self.outages())
            return {"healthy": healthy, "reason": reason, "keys_file": self._registry.problem}

    def close(self) -> None:
        """End the threads of the waiting room."""
        self._limiter.close()

    # -- inside --------------------------------------------------------------------------------

    def _known(self, key_id: str) -> KeySpec:
        key = self._registry.get(key_id)
        if key is None:
            known = ", ".join(k.key_id for k in self._registry.keys()[:20])
            raise ConfigurationError(f"there is no key {show(key_id)}; known are: {known}")
        return key

    def _statuses(self, keys: Sequence[KeySpec]) -> list[KeyStatus]:
        with storage("read the keys' status"):
            return read_statuses(
                self.calls, self._places, self._geometry, keys, self._registry.sources_of
            )


@once
def get_key_manager() -> KeyManager:
    """The KeyManager of this process, made from the settings at first use."""
    return build_key_manager(get_settings(), shared_redis())


def build_key_manager(
    settings: Settings, redis: RedisConnection, registry: KeyRegistry | None = None
) -> KeyManager:
    """A KeyManager from settings and a connection to Redis.

    Args:
        registry: the keys, by default those of `KEYS_FILE`.

    Raises:
        ConfigurationError: `keys.json` is missing or wrong.
    """
    return KeyManager(
        redis,
        registry or KeyRegistry(settings.keys_file),
        window_seconds=settings.rate_window_seconds,
        prefix=settings.redis_key_prefix,
        rotate=settings.llm_multi_key_router_enabled,
        rules=CircuitRules(
            failures=settings.llm_circuit_failures,
            open_ms=round(settings.llm_circuit_seconds * 1000),
        ),
        store=lambda: get_secret_store(settings),
        admits_locally=settings.llm_on_redis_down == "local",
    )


def _secret(given: str | SecretStr | None) -> SecretStr | None:
    return SecretStr(given) if isinstance(given, str) else given
