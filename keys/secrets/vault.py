"""Secrets in HashiCorp Vault or OpenBao, through hvac."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

from core.errors import (
    ConfigurationError,
    SecretDenied,
    SecretError,
    SecretMalformed,
    SecretNotFound,
    SecretStoreDown,
)
from core.settings import Settings
from keys.secrets.per_process import PerProcess
from keys.secrets.store import check_address
from keys.secrets.values import unwrapped
from keys.secrets.vault_session import VaultSession, check_login
from keys.spec import KeySpec

if TYPE_CHECKING:
    import hvac

_Mount = tuple[str, Literal["1", "2"]]


class VaultSecretStore:
    """Secrets under `VAULT_SECRET_PATH` in a key-value engine, in the field `api_key`.

    Which part of the path is the engine's mount, and which version it has, is asked of the Vault
    as its own command line does; `VAULT_KV_VERSION` says it where a policy forbids to ask.

    Args:
        settings: those that begin with `vault_`, and `secret_store_timeout_seconds`.

    Raises:
        ConfigurationError: the address is missing or not safe, or it is not clear how to log in.
    """

    name = "the Vault"

    def __init__(self, settings: Settings) -> None:
        if settings.vault_addr is None:
            raise ConfigurationError(
                "VAULT_ADDR is not set; write the Vault's address, such as https://host:8200"
            )
        check_address(settings.vault_addr, "VAULT_ADDR")
        check_login(settings)
        self._folder = settings.vault_secret_path.strip("/")
        self._version = settings.vault_kv_version
        self._session = PerProcess(lambda: VaultSession(settings))
        self._mount: _Mount | None = None

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key, its newest version.

        Raises:
            SecretError: of the kind that the Vault tells.
        """
        if {"", ".", ".."} & set(key.key_id.split("/")):
            raise SecretMalformed(f"key {key.key_id!r} can be no path in a Vault; rename the key")
        found = self._read(key)
        if isinstance(found, SecretError):
            raise found
        return unwrapped(key.key_id, self.place_of(key), found)

    def place_of(self, key: KeySpec) -> str:
        """The secret's path, as `vault kv get` takes it."""
        return f"{self._folder}/{key.key_id}"

    def close(self) -> None:
        """End the renewing of the token and close the connections."""
        session = self._session.drop()
        if session is not None:
            session.close()

    def _read(self, key: KeySpec) -> SecretStr | SecretError:
        import hvac
        import requests

        try:
            answer = self._session.get().call(lambda client: self._answer(client, key))
            fields = answer["data"] if self._kv_version() == "1" else answer["data"]["data"]
            if isinstance(fields, dict):
                return SecretStr(json.dumps(fields))
        except SecretError as error:
            return error
        except hvac.exceptions.VaultError as error:
            return self._refused(key, error)
        except requests.exceptions.SSLError:
            return SecretStoreDown(
                "the Vault's TLS certificate is not trusted; name the CA's file in VAULT_CACERT"
            )
        except requests.exceptions.RequestException as error:
            return SecretStoreDown(f"{self.name} does not answer: {type(error).__name__}")
        except (KeyError, TypeError, ValueError, OSError) as error:
            if isinstance(error, OSError):
                return SecretStoreDown(f"{self.name} cannot be asked: {error.strerror or error}")
        return SecretStoreDown(f"{self.name} answered what no Vault answers; check VAULT_ADDR")

    def _answer(self, client: hvac.Client, key: KeySpec) -> Any:
        if self._mount is None:
            self._mount = self._find_mount(client)
        mount, version = self._mount
        path = self.place_of(key).removeprefix(mount).strip("/")
        if version == "1":
            return client.secrets.kv.v1.read_secret(path=path, mount_point=mount)
        return client.secrets.kv.v2.read_secret_version(
            path=path, mount_point=mount, raise_on_deleted_version=True
        )

    def _find_mount(self, client: hvac.Client) -> _Mount:
        """The engine's mount and its version."""
        if self._version is not None:
            return self._folder.partition("/")[0], self._version
        found = client.adapter.get(f"/v1/sys/internal/ui/mounts/{self._folder}")["data"]
        options = found.get("options") or {}
        return str(found["path"]).strip("/"), "2" if options.get("version") == "2" else "1"

    def _kv_version(self) -> str:
        return "2" if self._mount is None else self._mount[1]

    def _refused(self, key: KeySpec, error: hvac.exceptions.VaultError) -> SecretError:
        import hvac

        place = self.place_of(key)
        logging_in = "/auth/" in str(error.url)
        said = type(error).__name__
        match error:
            case hvac.exceptions.InvalidPath() if not logging_in:
                return SecretNotFound(
                    f"there is no secret for key {key.key_id!r} in the Vault at {place}; write it "
                    f"with: vault kv put {place} api_key=-"
                )
            case (
                hvac.exceptions.Unauthorized()
                | hvac.exceptions.Forbidden()
                | hvac.exceptions.InvalidRequest()
                | hvac.exceptions.InvalidPath()
            ):
                if logging_in:
                    return SecretDenied(
                        f"the Vault refuses the login at {error.url} ({said}); check the "
                        "credentials, VAULT_AUTH_MOUNT and VAULT_NAMESPACE"
                    )
                return SecretDenied(
                    f"the Vault refuses to give {place}, the secret of key {key.key_id!r} "
                    f"({said}); allow read on it, or renew the token"
                )
            case hvac.exceptions.VaultDown():
                return SecretStoreDown("the Vault is sealed; unseal it")
            case hvac.exceptions.VaultNotInitialized():
                return SecretStoreDown("the Vault is not initialised")
        return SecretStoreDown(f"{self.name} does not answer as it should: {said}")
