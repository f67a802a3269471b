"""Which adapter speaks to which provider; the place to register one of your own."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import cache

from core.errors import ConfigurationError
from keys.spec import KeySpec
from llm.providers.abilities import EVERYTHING, NOTHING, Ability
from llm.providers.base import (
    AbleAdapter,
    AdapterFactory,
    AsyncAdapter,
    EmbeddingAdapter,
    ProviderAdapter,
)
from llm.providers.embedding_limits import EmbeddingLimits

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class ProviderRegistry:
    """Adapters by the provider's name in `keys.json`, each made when it is first asked for.

    Example:
        >>> ProviderRegistry().names()
        ('anthropic', 'gemini', 'openai')
    """

    def __init__(
        self, adapters: Mapping[str, ProviderAdapter | AdapterFactory] | None = None
    ) -> None:
        self._lock = threading.Lock()
        self._factories: dict[str, AdapterFactory] = {}
        self._adapters: dict[str, ProviderAdapter] = {}
        given = _built_in() if adapters is None else adapters
        for name, adapter in given.items():
            self.register(name, adapter)

    def register(self, name: str, adapter: ProviderAdapter | AdapterFactory) -> None:
        """Add a provider, or put another adapter in its place.

        Args:
            name: as `provider` in `keys.json`: small letters, digits, `_`, `-`.
            adapter: an adapter, or a class or function without arguments that makes one.

        Raises:
            ConfigurationError: the name or the adapter is not of that kind.
        """
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"provider name {name!r}: use a small letter, then small letters, digits, _ or -"
            )
        ready = not isinstance(adapter, type) and isinstance(adapter, ProviderAdapter)
        if not ready and not callable(adapter):
            raise ConfigurationError(
                f"the adapter of provider {name!r} needs the methods send and close, "
                "or must be a function that makes such an adapter"
            )
        with self._lock:
            replaced = self._adapters.pop(name, None)
            self._factories.pop(name, None)
            if isinstance(adapter, ProviderAdapter) and ready:
                self._adapters[name] = adapter
            elif callable(adapter):
                self._factories[name] = adapter
        if replaced is not None and replaced is not adapter:
            replaced.close()

    def get(self, name: str) -> ProviderAdapter:
        """The adapter of a provider.

        Raises:
            ConfigurationError: nobody registered that name; the message lists the known ones.
        """
        adapter = self._adapters.get(name)
        if adapter is not None:
            return adapter
        with self._lock:
            if name not in self._adapters:
                self._adapters[name] = self._make(name)
            return self._adapters[name]

    def abilities_of(self, key: KeySpec) -> frozenset[Ability]:
        """What a key's provider and model can do beyond plain text, as its adapter says."""
        try:
            adapter = self.get(key.provider)
        except ConfigurationError:
            return EVERYTHING  # the request will say better what is wrong
        if isinstance(adapter, AbleAdapter):
            return adapter.abilities(key.model_name, key.base_url)
        return NOTHING

    def embedding_limits_of(self, key: KeySpec) -> EmbeddingLimits:
        """How much one call for embeddings on a key may hold, as its adapter says."""
        adapter = self.get(key.provider)
        if isinstance(adapter, EmbeddingAdapter):
            return adapter.embedding_limits(key.base_url)
        return EmbeddingLimits(1, 1)

    def names(self) -> tuple[str, ...]:
        """All registered names, sorted."""
        with self._lock:
            return tuple(sorted(self._factories.keys() | self._adapters.keys()))

    def fresh(self) -> ProviderRegistry:
        """The same providers for another router: adapters that factories make are its own."""
        with self._lock:
            ready = {n: a for n, a in self._adapters.items() if n not in self._factories}
            return ProviderRegistry({**self._factories, **ready})

    def close(self) -> None:
        """Close the adapters that factories made; they can be made anew.

        An adapter that was registered ready-made belongs to who made it, and is left open.
        """
        with self._lock:
            made = [self._adapters.pop(name) for name in self._factories if name in self._adapters]
        for adapter in made:
            adapter.close()

    async def aclose(self) -> None:
        """Close the adapters that factories made, with their connections of this event loop."""
        with self._lock:
            made = [self._adapters[name] for name in self._factories if name in self._adapters]
        for adapter in made:
            if isinstance(adapter, AsyncAdapter):
                await adapter.aclose()
        self.close()

    def _make(self, name: str) -> ProviderAdapter:
        factory = self._factories.get(name)
        if factory is None:
            known = sorted(self._factories.keys() | self._adapters.keys())
            raise ConfigurationError(
                f"no provider is called {name!r}; known are {', '.join(known)}. "
                "Add yours with llm.providers.registry.register_provider"
            )
        adapter: object = factory()
        if not isinstance(adapter, ProviderAdapter):
            raise ConfigurationError(
                f"the factory of provider {name!r} made no adapter: send and close are missing"
            )
        return adapter


@cache
def get_provider_registry() -> ProviderRegistry:
    """The registry of this process, with `openai`, `anthropic` and `gemini` in it."""
    return ProviderRegistry()


def register_provider(name: str, adapter: ProviderAdapter | AdapterFactory) -> None:
    """Add a provider for this process; see `ProviderRegistry.register` and docs/providers.md.

    Example:
        register_provider("echo", EchoAdapter)
    """
    get_provider_registry().register(name, adapter)


def _built_in() -> dict[str, AdapterFactory]:
    return {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}


def _openai() -> ProviderAdapter:
    from llm.providers.openai import OpenAIAdapter

    return OpenAIAdapter()


def _anthropic() -> ProviderAdapter:
    from llm.providers.anthropic import AnthropicAdapter

    return AnthropicAdapter()


def _gemini() -> ProviderAdapter:
    from llm.providers.gemini import GeminiAdapter

    return GeminiAdapter()
