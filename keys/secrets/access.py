"""Can the secrets of keys be had? They are fetched, and never shown."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypedDict

from core.errors import ConfigurationError, RouterError, SecretError
from core.settings import Settings
from keys.registry import parse_keys, read_keys_file
from keys.secrets.cache import MOST_FETCHES, CachedSecrets
from keys.secrets.env import EnvSecretStore
from keys.secrets.store import SecretStore, place_of
from keys.spec import KeySpec, did_you_mean


class SecretAccess(TypedDict, total=False):
    """What was found out about one key's secret; `error` and `kind` where it cannot be had."""

    key_id: str
    accessible: bool
    store: str
    variable: str
    place: str
    kind: str
    error: str


def check_access(
    keys: Iterable[KeySpec], store: SecretStore, settings: Settings
) -> list[SecretAccess]:
    """Fetch the secrets of several keys, some at a time, each as long as the store may take."""
    secrets = CachedSecrets(
        store, 1.0, stale_seconds=0, timeout_seconds=settings.secret_store_timeout_seconds
    )
    with ThreadPoolExecutor(MOST_FETCHES) as pool:
        found = list(pool.map(lambda key: _look(key, store, secrets, settings), keys))
    secrets.close()
    return found


def spec_of(key_id: str, settings: Settings) -> KeySpec:
    """The key of that name in `keys.json`, or one that is only a name.

    Raises:
        ConfigurationError: this can be no key's name.
    """
    for spec in _known(settings):
        if spec.key_id == key_id:
            return spec
    provider = key_id.removesuffix("-default") if key_id.endswith("-default") else "unknown"
    return KeySpec(key_id=key_id, model_name="unknown", provider=provider)


def unknown_id(key_id: str, settings: Settings) -> str | None:
    """What to tell of a name that `keys.json` lacks, which may be a slip; nothing without keys."""
    known = [spec.key_id for spec in _known(settings)]
    if not known or key_id in known:
        return None
    advice = did_you_mean(key_id, known, "python -m keys validate shows those it has")
    return f"{settings.keys_file} has no key {key_id!r}; {advice}"


def _known(settings: Settings) -> tuple[KeySpec, ...]:
    try:
        return parse_keys(read_keys_file(settings.keys_file), path=str(settings.keys_file))
    except ConfigurationError:
        return ()  # what is wrong with the file is for `python -m keys validate` to say


def _look(
    key: KeySpec, store: SecretStore, secrets: CachedSecrets, settings: Settings
) -> SecretAccess:
    result = SecretAccess(key_id=key.key_id, accessible=False, store=settings.secret_store_type)
    try:
        secrets.get(key)
        result["accessible"] = True
    except RouterError as error:
        result["kind"] = error.kind if isinstance(error, SecretError) else error.error_type
        result["error"] = str(error)
    if not isinstance(store, EnvSecretStore):
        result["place"] = place_of(store, key) or ""
    elif result["accessible"]:
        result["variable"] = store.variable_of(key) or ""
    return result
