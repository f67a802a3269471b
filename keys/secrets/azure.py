"""Secrets in Azure Key Vault, through azure-keyvault-secrets and azure-identity."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

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
from keys.secrets.quiet import quiet
from keys.secrets.values import unwrapped
from keys.spec import KeySpec


class AzureSecretStore:
    """Secrets called `AZURE_SECRET_PREFIX` + key id: the API key, or JSON with `api_key` in it.

    With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET` it logs in as that
    application; else as azure-identity's `DefaultAzureCredential` finds: a workload's identity, a
    machine's (`AZURE_CLIENT_ID` names which), or who is logged in with `az login`.

    Args:
        settings: those that begin with `azure_`, and `secret_store_timeout_seconds`.
        transport: a class or function that makes azure-core transports in the place of its own,
            from `connection_timeout` and `read_timeout` in seconds.

    Raises:
        ConfigurationError: `AZURE_VAULT_URL` is missing, or an application is half named.
    """

    name = "Azure Key Vault"

    def __init__(self, settings: Settings, transport: Callable[..., Any] | None = None) -> None:
        if settings.azure_vault_url is None:
            raise ConfigurationError(
                "AZURE_VAULT_URL is not set; write https://<name>.vault.azure.net"
            )
        named = (settings.azure_tenant_id, settings.azure_client_id)
        if settings.azure_client_secret is not None and None in named:
            raise ConfigurationError(
                "AZURE_CLIENT_SECRET is set, but not who it belongs to; set AZURE_TENANT_ID and "
                "AZURE_CLIENT_ID too"
            )
        self._settings = settings
        self._transport = transport
        self._clients = PerProcess(self._connect)

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key, its newest version.

        Raises:
            SecretError: of the kind that Azure tells.
        """
        text = self._read(key)
        if isinstance(text, SecretError):
            raise text
        return unwrapped(key.key_id, self.place_of(key), text)

    def place_of(self, key: KeySpec) -> str:
        """The secret's name; Azure allows letters, digits and `-` in it, all else becomes `-`."""
        return self._settings.azure_secret_prefix + re.sub(r"[^A-Za-z0-9]+", "-", key.key_id)

    def close(self) -> None:
        """Close the connections."""
        client = self._clients.drop()
        if client is not None:
            client.close()

    def _read(self, key: KeySpec) -> SecretStr | SecretError:
        from azure.core import exceptions

        place = self.place_of(key)
        try:
            client = self._clients.get()
            with quiet("azure"), quiet("msal"):
                value = client.get_secret(place).value
        except exceptions.ResourceNotFoundError:
            return SecretNotFound(
                f"there is no secret for key {key.key_id!r}: Azure Key Vault has none called "
                f"{place}; create it, or set AZURE_SECRET_PREFIX and AZURE_VAULT_URL"
            )
        except exceptions.ClientAuthenticationError as error:
            return SecretDenied(
                f"Azure refuses the login ({type(error).__name__}); set AZURE_TENANT_ID, "
                "AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or give the machine an identity"
            )
        except exceptions.HttpResponseError as error:
            return self._refused(key, error)
        except exceptions.AzureError as error:
            said = type(error).__name__
        except ValueError:
            # The challenge's resource is not that of the address: some other server answered.
            said = "what answered is no vault of that name; check AZURE_VAULT_URL"
        else:
            if value:
                return SecretStr(value)
            return SecretMalformed(
                f"the secret of key {key.key_id!r} is not usable: {place} is empty; put the API "
                "key there"
            )
        return SecretStoreDown(f"{self.name} does not answer: {said}")

    def _refused(self, key: KeySpec, error: Any) -> SecretError:
        place, status = self.place_of(key), error.status_code
        code = getattr(getattr(error, "error", None), "code", None) or f"status {status}"
        if status in (401, 403):
            return SecretDenied(
                f"Azure refuses to give {place}, the secret of key {key.key_id!r} ({code}); allow "
                "the identity to get secrets (role Key Vault Secrets User), and enable the secret"
            )
        if status == 400:
            return SecretMalformed(f"Azure does not understand the secret's name {place} ({code})")
        return SecretStoreDown(f"{self.name} does not answer: {code}, status {status}")

    def _connect(self) -> Any:
        from azure.core.pipeline.transport import RequestsTransport
        from azure.identity import ClientSecretCredential, DefaultAzureCredential
        from azure.keyvault.secrets import SecretClient

        settings = self._settings
        seconds = settings.secret_store_timeout_seconds
        make = self._transport or RequestsTransport
        # No retry of theirs: the cache asks again, and nobody waits longer than a request has.
        options: dict[str, Any] = {
            "retry_total": 0,
            "transport": make(connection_timeout=seconds, read_timeout=seconds),
        }
        credential: Any
        if settings.azure_client_secret is not None:
            credential = ClientSecretCredential(
                settings.azure_tenant_id or "",
                settings.azure_client_id or "",
                settings.azure_client_secret.get_secret_value(),
                **options,
            )
        else:
            if settings.azure_client_id is not None:
                options["managed_identity_client_id"] = settings.azure_client_id
            credential = DefaultAzureCredential(process_timeout=max(1, int(seconds)), **options)
        transport = make(connection_timeout=seconds, read_timeout=seconds)
        return SecretClient(
            settings.azure_vault_url or "", credential, retry_total=0, transport=transport
        )
