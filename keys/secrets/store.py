"""What is asked of a secret store: one method. The place to plug in another one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from pydantic import SecretStr

from core.errors import ConfigurationError, SecretNotWritable
from keys.spec import KeySpec

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


@runtime_checkable
class SecretStore(Protocol):
    """Fetches secrets. Called from several threads at once; a call may take network round trips.

    A store may offer more: `put` makes it a `WritableStore`, `place_of(key)` names where a key's
    secret lies (never the secret), `name` what messages call the store, and `close()` gives back
    what it holds.
    """

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key, read afresh.

        Raises:
            SecretNotFound: there is none.
            SecretDenied: the store does not let us read it.
            SecretStoreDown: the store is sealed, out of reach or too slow.
            SecretMalformed: what is there cannot be an API key.
        """


@runtime_checkable
class WritableStore(SecretStore, Protocol):
    """A store that can be written to from here."""

    def put(self, key: KeySpec, secret: SecretStr) -> None:
        """Keep a secret for a key, in the place of an older one.

        Raises:
            SecretNotWritable: it cannot be written; what was there is there still.
            SecretMalformed: the value cannot be an API key.
        """


def put_secret(store: SecretStore, key: KeySpec, secret: SecretStr) -> None:
    """Write a key's secret to a store that can be written to.

    Raises:
        SecretNotWritable: this store is changed elsewhere; the message says where.
    """
    if not isinstance(store, WritableStore):
        place = place_of(store, key) or f"the secret of key {key.key_id!r}"
        raise SecretNotWritable(
            f"the router only reads from {name_of(store)}: change {place} there; running programs "
            "take the new secret up when the old one is refused, or expires in their cache"
        )
    store.put(key, secret)


def place_of(store: SecretStore, key: KeySpec) -> str | None:
    """Where a key's secret lies in this store, for people to read; None if the store is silent."""
    tell = getattr(store, "place_of", None)
    return None if tell is None else str(tell(key))


def name_of(store: SecretStore) -> str:
    """What messages call a store."""
    return str(getattr(store, "name", type(store).__name__))


def close_store(store: SecretStore) -> None:
    """Give back what a store holds, where it holds anything."""
    close = getattr(store, "close", None)
    if close is not None:
        close()


def check_address(url: str, setting: str) -> None:
    """Let secrets travel over TLS alone, but for a server on this machine.

    Raises:
        ConfigurationError: the address is plain http to another machine.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"{setting} is {url!r}: secrets would travel in the clear; write https://, or put a "
            "proxy that speaks TLS on this machine and name it by 127.0.0.1"
        )
