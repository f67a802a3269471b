"""What `ApiKeyRouter` puts between its programs and the core: keys, secrets, foreign adapters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from core.errors import AdapterFault, ConfigurationError, SecretMalformed, SecretNotFound
from core.types import ProviderReply, Usage
from keys.registry import KeyRegistry
from keys.secrets.store import SecretStore, WritableStore
from keys.spec import KeySpec
from llm.api_key_types import Message, ProviderAdapter, RegisteredKey, RequestIntent
from llm.providers.base import ProviderCall

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "max_parallel", "base_url", "priority")
"""What of a key's metadata goes to the limiter."""

PROVIDER_TAG = "provider"
_MODEL = "@"


class OwnKeys(KeyRegistry):
    """Keys that this process registered; there is no file."""

    def __init__(self) -> None:
        super().__init__(Path("no keys.json"))

    def reload(self) -> int:
        """Nothing: there is no file to read."""
        return len(self.keys())

    def _changed(self) -> bool:
        return False


def spec_of(key: RegisteredKey, model: str) -> KeySpec:
    """The core's key for one model; all models of a key share its counters."""
    limits = {name: key.metadata[name] for name in LIMITS if name in key.metadata}
    return KeySpec(
        key_id=f"{key.id}{_MODEL}{model}",
        model_name=model,
        provider=key.provider_id,
        quota_group=str(key.metadata.get("quota_group", key.id)),
        tags={PROVIDER_TAG: key.provider_id},
        **limits,
    )


def id_of(key_id: str | None) -> str:
    """The registered key behind a key of the core."""
    return (key_id or "").partition(_MODEL)[0]


class SealedSecrets:
    """Secrets of this process, encrypted with Fernet as soon as they are given.

    Args:
        encryption_key: a Fernet key; None for a new one.
    """

    name = "the sealed secrets of this process"

    def __init__(self, encryption_key: str | None = None) -> None:
        from cryptography.fernet import Fernet

        try:
            self._fernet: Fernet = Fernet(encryption_key or Fernet.generate_key())
        except ValueError:
            raise ConfigurationError(
                "encryption_key is no Fernet key; make one with: python -m keys secret new-key"
            ) from None
        self._sealed: dict[str, bytes] = {}

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key. Raises SecretNotFound where none was put."""
        sealed = self._sealed.get(key.key_id)
        if sealed is None:
            raise SecretNotFound(f"no secret was registered for key {key.key_id!r}")
        return SecretStr(self._fernet.decrypt(sealed).decode())

    def put(self, key: KeySpec, secret: SecretStr) -> None:
        """Keep a secret. Raises SecretMalformed where no header could carry it."""
        value = secret.get_secret_value()
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise SecretMalformed(
                f"the secret of key {key.key_id!r} is empty, or holds a space or a character "
                "outside ASCII; copy the API key again"
            )
        self._sealed[key.key_id] = self._fernet.encrypt(value.encode())


class OnePerKey:
    """A store that has one secret for all models of a key."""

    def __init__(self, store: WritableStore) -> None:
        self._store = store
        self.name = getattr(store, "name", type(store).__name__)

    def fetch(self, key: KeySpec) -> SecretStr:
        """See `SecretStore.fetch`."""
        return self._store.fetch(_behind(key))

    def put(self, key: KeySpec, secret: SecretStr) -> None:
        """See `WritableStore.put`."""
        self._store.put(_behind(key), secret)


def _behind(key: KeySpec) -> KeySpec:
    return KeySpec(key_id=id_of(key.key_id), model_name="any", provider=key.provider)


class ForeignAdapter:
    """An adapter with `execute_request` in the form that the core calls."""

    def __init__(self, adapter: ProviderAdapter) -> None:
        self._adapter = adapter

    async def asend(self, call: ProviderCall) -> ProviderReply:
        """Call the provider once."""
        messages = [Message(m.role, str(m.content)) for m in call.messages]
        parameters: Mapping[str, Any] = {
            "temperature": call.temperature,
            "max_tokens": call.max_output_tokens,
            "timeout": call.timeout,
        }
        intent = RequestIntent(call.model, messages, call.provider, parameters)
        response = await self._adapter.execute_request(intent, call.secret.get_secret_value())
        content = getattr(response, "content", None)
        if not isinstance(content, str):
            raise AdapterFault(f"execute_request of {call.provider} gave no SystemResponse")
        tokens = getattr(getattr(response, "metadata", None), "token_usage", None)
        usage = Usage(tokens.input, tokens.output) if tokens and tokens.total else None
        return ProviderReply(content, call.model, "stop", usage)

    def send(self, call: ProviderCall) -> ProviderReply:
        """Refuse: such an adapter serves tasks alone."""
        raise ConfigurationError(f"the adapter of {call.provider} is asynchronous")

    async def aclose(self) -> None:
        """Nothing of ours is open."""

    def close(self) -> None:
        """Nothing of ours is open."""


def store_of(store: SecretStore | None, encryption_key: str | None) -> OnePerKey:
    """The encrypted store of a router."""
    if isinstance(store, WritableStore):
        return OnePerKey(store)
    return OnePerKey(SealedSecrets(encryption_key))
