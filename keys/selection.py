"""Which keys may serve a request, and in what order: pure functions over the registry."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from keys.spec import KeySpec, Purpose


class KeyRule(Hashable, Protocol):
    """Something that a key must fulfil; equal rules allow the same keys."""

    def allows(self, key: KeySpec) -> bool:
        """Whether a key may serve."""


@dataclass(frozen=True)
class Selection:
    """What a caller allows.

    Args:
        models: in the caller's order; empty allows every model.
        tags: labels that a key must carry.
        workload: `light`, `medium` or `heavy`; a key without such a tag serves any.
        rule: what else a key must fulfil.
        serves: what for.
    """

    models: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    workload: str | None = None
    rule: KeyRule | None = None
    serves: Purpose = "chat"

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two selections the same."""
        tags = tuple(sorted(self.tags.items()))
        return self.models, tags, self.workload, self.rule, self.serves

    def describe(self) -> str:
        """The selection in words, for an error."""
        parts = []
        if self.models:
            parts.append("model " + " or ".join(self.models))
        if self.tags:
            parts.append("tags " + ", ".join(f"{k}={v}" for k, v in sorted(self.tags.items())))
        if self.workload:
            parts.append(f"workload {self.workload}")
        described = " with ".join(parts) or "any model"
        return described if self.serves == "chat" else f"embeddings of {described}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that may serve, and its tier: lower tiers are tried first."""

    key: KeySpec
    tier: int


def candidates_for(keys: Sequence[KeySpec], selection: Selection) -> tuple[Candidate, ...]:
    """The active keys that the selection allows, by the caller's model order, then priority."""
    found = []
    for key in keys:
        if not key.active or key.purpose != selection.serves:
            continue
        if selection.rule is not None and not selection.rule.allows(key):
            continue
        if selection.models and key.model_name not in selection.models:
            continue
        if any(key.tags.get(name) != value for name, value in selection.tags.items()):
            continue
        if selection.workload and key.tags.get("workload", selection.workload) != (
            selection.workload
        ):
            continue
        model = selection.models.index(key.model_name) if selection.models else 0
        found.append((model, key.priority, key))
    ranks = sorted({(model, priority) for model, priority, _ in found})
    tiers = {rank: tier for tier, rank in enumerate(ranks)}
    found.sort(key=lambda entry: entry[:2])
    return tuple(Candidate(key, tiers[model, priority]) for model, priority, key in found)


def first_of_each_model(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The roll-back switch: each model's first key alone."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(candidate.key.model_name, candidate)
    return tuple(seen.values())


def without(candidates: Sequence[Candidate], avoided: Collection[str]) -> tuple[Candidate, ...]:
    """Leave out the keys of which any subject (see `subjects_of`) is avoided."""
    return tuple(c for c in candidates if not any(s in avoided for s in subjects_of(c.key)))


class Subjects(NamedTuple):
    """The names under which a provider, a key and its group are marked or avoided."""

    provider: str
    key: str
    group: str


def subjects_of(key: KeySpec) -> Subjects:
    """A key's subjects.

    Example:
        >>> subjects_of(KeySpec(key_id="a", model_name="m", provider="openai")).group
        'g:openai/a'
    """
    return Subjects(f"p:{key.provider}", f"k:{key.key_id}", f"g:{key.provider}/{key.group}")
