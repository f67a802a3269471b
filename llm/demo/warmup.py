"""Pays for the first use of the SDKs, which takes seconds, before anything is measured."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence

from pydantic import SecretStr

from core.types import Message
from keys.spec import KeySpec
from llm.demo.stopping import Stopping
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry

NAME = "warm-up"

_MODULES = ("openai", "anthropic", "google.genai")


class WarmUp:
    """Imports the SDKs on a thread from now on; `finish` then sends one call through each."""

    def __init__(self, adapters: ProviderRegistry, stopping: Stopping) -> None:
        self._adapters = adapters
        self._stopping = stopping
        self._importing = threading.Thread(target=_import_all, name=NAME, daemon=True)
        self._importing.start()

    def finish(self, keys: Sequence[KeySpec]) -> None:
        """Wait for the imports, then send one call to each provider, with a key of its own.

        Raises:
            core.errors.ProviderError: a call failed.
            KeyboardInterrupt: from `stopping`.
        """
        self._stopping.join(self._importing)
        for provider in dict.fromkeys(key.provider for key in keys):
            self._stopping.check()
            key = next(key for key in keys if key.provider == provider)
            self._adapters.get(provider).send(
                ProviderCall(
                    provider=provider,
                    key_id=NAME,
                    secret=SecretStr(f"{NAME}-{provider}"),
                    model=key.model_name,
                    messages=(Message("user", "Hello"),),
                    system_prompt=None,
                    max_output_tokens=1,
                    temperature=None,
                    timeout=20.0,
                    base_url=key.base_url,
                )
            )


def _import_all() -> None:
    for module in _MODULES:
        importlib.import_module(module)
