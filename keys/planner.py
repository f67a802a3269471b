"""The keys that a selection allows, sorted and packed for the limiter, kept between requests."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

from core.errors import NoKeys
from keys.border import storage
from keys.places import Places
from keys.registry import KeyRegistry
from keys.rounds import Rounds, plan_rounds
from keys.runtime import RuntimeKeys
from keys.selection import Selection, candidates_for, first_of_each_model, without
from keys.spec import KeySpec
from lua.limiter_types import Geometry

MOST_SELECTIONS = 256
"""So many selections are kept packed; more are packed anew."""


class Planner:
    """Plans which keys are asked for a selection. Safe under threads.

    Args:
        runtime: the keys that were registered at run time.
        rotate: False for the roll-back switch, by which each model's first key serves alone.
    """

    def __init__(
        self,
        registry: KeyRegistry,
        runtime: RuntimeKeys,
        places: Places,
        geometry: Geometry,
        *,
        rotate: bool = True,
    ) -> None:
        self._registry = registry
        self._runtime = runtime
        self._places = places
        self._geometry = geometry
        self._rotate = rotate
        self._rounds: dict[tuple[object, ...], Rounds] = {}
        self._rounds_without: dict[tuple[object, ...], Rounds] = {}
        self._lock = threading.Lock()

    def models_of(self, selection: Selection) -> tuple[str, ...]:
        """The models of the keys that a selection allows, in the order in which they are tried."""
        try:
            return self.rounds_for(selection, ()).models
        except NoKeys:
            return ()

    def keys_of(self, selection: Selection) -> tuple[KeySpec, ...]:
        """The keys that a selection allows, in the order in which they are tried."""
        _, keys = self._registry.snapshot()
        return tuple(candidate.key for candidate in candidates_for(keys, selection))

    def rounds_for(
        self, selection: Selection, avoid: Collection[str], *, ask: bool = False
    ) -> Rounds:
        """What to ask for a selection.

        Args:
            avoid: names of keys, groups or providers (see `selection.subjects_of`) to leave out.
            ask: where nothing fits, see first whether a key was registered meanwhile.

        Raises:
            NoKeys: nothing that is configured fits the selection, or all of it is avoided.
        """
        version, keys = self._registry.snapshot()
        place = (version, *selection.identity)
        # Of exclusions there are as many as callers like; they must not push out the others.
        kept = self._rounds_without if selection.exclude else self._rounds
        rounds = None if avoid else kept.get(place)
        if rounds is not None:
            return rounds
        allowed = candidates_for(keys, selection)
        if not allowed and ask:
            with storage("look for keys that were registered"):
                if self._runtime.look():
                    return self.rounds_for(selection, avoid)
        if not allowed:
            raise NoKeys(_nothing_fits(keys, selection))
        if not self._rotate:
            allowed = first_of_each_model(allowed)
        candidates = without(allowed, avoid)
        if not candidates:
            raise NoKeys(f"every key for {selection.describe()} was tried and failed")
        rounds = plan_rounds(candidates, self._places, self._geometry)
        if not avoid:
            with self._lock:
                if len(kept) >= MOST_SELECTIONS:
                    kept.clear()
                kept[place] = rounds
        return rounds

    def forget(self) -> None:
        """Plan anew, without what was remembered of keys that were passed over."""
        with self._lock:
            self._rounds.clear()
            self._rounds_without.clear()


def _nothing_fits(keys: Sequence[KeySpec], selection: Selection) -> str:
    active = [key for key in keys if key.active]
    told = {"models": {key.model_name for key in active}}
    if selection.providers:
        told["providers"] = {key.provider for key in active}
    configured = "; ".join(
        f"configured {what}: {', '.join(sorted(names)) or 'none'}" for what, names in told.items()
    )
    return f"no active key serves {selection.describe()}; {configured}"
