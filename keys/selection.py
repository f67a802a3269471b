"""Which keys may serve a request, and in what order: pure functions over the registry."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
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
        providers: in the caller's order; empty allows every provider. Of one model's keys, those of
            the first are tried first.
        exclude: ids of keys that may not serve.
        rule: what else a key must fulfil.
        serves: what for.
    """

    models: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    workload: str | None = None
    providers: tuple[str, ...] = ()
    exclude: frozenset[str] = frozenset()
    rule: KeyRule | None = None
    serves: Purpose = "chat"

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes two selections the same."""
        tags = tuple(sorted(self.tags.items()))
        return (
            self.models,
            tags,
            self.workload,
            self.providers,
            self.exclude,
            self.rule,
            self.serves,
        )

    def describe(self) -> str:
        """The selection in words, for an error."""
        parts = []
        if self.models:
            parts.append("model " + " or ".join(self.models))
        if self.tags:
            parts.append("tags " + ", ".join(f"{k}={v}" for k, v in sorted(self.tags.items())))
        if self.workload:
            parts.append(f"workload {self.workload}")
        if self.providers:
            parts.append("provider " + " or ".join(self.providers))
        if self.exclude:
            count = len(self.exclude)
            parts.append(f"{count} key{'' if count == 1 else 's'} excluded")
        described = " with ".join(parts) or "any model"
        return described if self.serves == "chat" else f"embeddings of {described}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A key that may serve, and its tier: lower tiers are tried first."""

    key: KeySpec
    tier: int


def candidates_for(keys: Sequence[KeySpec], selection: Selection) -> tuple[Candidate, ...]:
    """The active keys that the selection allows, by the caller's order of models, then that of
    providers, then priority."""
    found = []
    for key in keys:
        if not key.active or key.purpose != selection.serves:
            continue
        if key.key_id in selection.exclude:
            continue
        if selection.providers and key.provider not in selection.providers:
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
        provider = selection.providers.index(key.provider) if selection.providers else 0
        found.append(((model, provider, key.priority), key))
    tiers = {rank: tier for tier, rank in enumerate(sorted({rank for rank, _ in found}))}
    found.sort(key=lambda entry: entry[0])
    return tuple(Candidate(key, tiers[rank]) for rank, key in found)


def first_of_each_model(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The roll-back switch: each model's first key alone."""
    seen: dict[str, Candidate] = {}
    for candidate in candidates:
        seen.setdefault(candidate.key.model_name, candidate)
    return tuple(seen.values())


def without(candidates: Sequence[Candidate], avoided: Collection[str]) -> tuple[Candidate, ...]:
    """Leave out the keys of which any subject, or the model at its service, is avoided."""
    return tuple(
        c
        for c in candidates
        if model_at(c.key) not in avoided and not any(s in avoided for s in subjects_of(c.key))
    )


class Subjects(NamedTuple):
    """The names under which a provider, a key, its group and its service are marked or avoided.

    A service is a provider at one address: what happens at one says nothing of another.
    """

    provider: str
    key: str
    group: str
    service: str


def subjects_of(key: KeySpec) -> Subjects:
    """A key's subjects.

    Example:
        >>> subjects_of(KeySpec(key_id="a", model_name="m", provider="openai")).group
        'g:openai/a'
    """
    return _subjects(key.provider, key.key_id, key.group, key.base_url)


@lru_cache(maxsize=8192)  # each attempt asks for them several times
def _subjects(provider: str, key_id: str, group: str, base_url: str | None) -> Subjects:
    return Subjects(
        f"p:{provider}",
        f"k:{key_id}",
        f"g:{provider}/{group}",
        _service(provider, base_url),
    )


def model_at(key: KeySpec) -> str:
    """The name under which a model is avoided at one service, while others of it are not.

    Example:
        >>> model_at(KeySpec(key_id="a", model_name="m", provider="openai"))
        'm:openai/m'
    """
    return f"m:{_service(key.provider, key.base_url)[2:]}/{key.model_name}"


@lru_cache(maxsize=1024)
def _service(provider: str, base_url: str | None) -> str:
    if base_url is None:
        return f"s:{provider}"
    try:
        parts = urlsplit(base_url)
        port = f":{parts.port}" if parts.port else ""
        return f"s:{provider}@{parts.hostname or ''}{port}"
    except ValueError:  # no address at all; the first request says so
        return f"s:{provider}@"
