"""The secrets of keys: what programs use of `keys.secrets`, in one place."""

from __future__ import annotations

from core.errors import ConfigurationError
from core.settings import Settings, get_settings
from keys.leaks import show
from keys.secrets.access import SecretAccess, check_access, spec_of
from keys.secrets.cache import CachedSecrets
from keys.secrets.env import EnvSecretStore
from keys.secrets.store import SecretStore, WritableStore, close_store

__all__ = [
    "CachedSecrets",
    "EnvSecretStore",
    "SecretAccess",
    "SecretStore",
    "WritableStore",
    "build_secrets",
    "close_store",
    "get_secret_store",
    "test_secret_access",
]


def get_secret_store(settings: Settings) -> SecretStore:
    """The store that `SECRET_STORE_TYPE` names. It does not cache: see `build_secrets`.

    Raises:
        ConfigurationError: one of the store's own settings is missing or wrong.
    """
    match settings.secret_store_type:
        case "vault":
            from keys.secrets.vault import VaultSecretStore

            return VaultSecretStore(settings)
        case "aws":
            from keys.secrets.aws import AwsSecretStore

            return AwsSecretStore(settings)
        case "azure":
            from keys.secrets.azure import AzureSecretStore

            return AzureSecretStore(settings)
        case "file":
            from keys.secrets.file import FileSecretStore

            return FileSecretStore(settings)
    return EnvSecretStore()


def build_secrets(settings: Settings, store: SecretStore) -> CachedSecrets:
    """The cache over a store, with the times that the settings give."""
    return CachedSecrets(
        store,
        settings.secret_cache_ttl_seconds,
        stale_seconds=settings.secret_stale_seconds,
        timeout_seconds=settings.secret_store_timeout_seconds,
    )


def test_secret_access(key_id: str) -> SecretAccess:
    """Can the secret of this key be had? It is fetched, and never shown.

    Args:
        key_id: the key's name; it need not be in `keys.json` yet.

    Returns:
        `key_id`, `accessible`, `store`, where the secret lies (`variable` or `place`), and where it
        cannot be had its `error` and the error's `kind`: "not found", "denied", "store down",
        "malformed".

    Example:
        >>> test_secret_access("no-such-key")["accessible"]
        False
    """
    settings = get_settings()
    try:
        key = spec_of(key_id, settings)
    except ConfigurationError:
        return SecretAccess(
            key_id=show(key_id),
            accessible=False,
            store=settings.secret_store_type,
            error="this cannot be a key_id; write one of keys.json, such as gemini-flash-01",
        )
    try:
        store = get_secret_store(settings)
    except ConfigurationError as error:
        return SecretAccess(
            key_id=key_id, accessible=False, store=settings.secret_store_type, error=str(error)
        )
    try:
        return check_access([key], store, settings)[0]
    finally:
        close_store(store)


test_secret_access.__test__ = False  # type: ignore[attr-defined]  # its name is no test of pytest's
