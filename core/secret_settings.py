"""The settings of the secret stores; a part of `core.settings.Settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

_ONE_YEAR = 31_536_000
_NAME = r"^[A-Za-z0-9_.@/-]{1,200}$"
_NAME_HINT = "1 to 200 letters, digits, _ . @ / or -"


class SecretSettings(BaseSettings):
    """Where the keys' secrets are, and how long what was read may be used."""

    secret_store_type: Literal["env", "vault", "aws", "azure", "file"] = Field(
        "env", description="env, vault, aws, azure or file"
    )
    secret_cache_ttl_seconds: float = Field(
        300.0, ge=0, le=_ONE_YEAR, description="0 (no cache) to 31536000 (a year)"
    )
    secret_stale_seconds: float = Field(
        3600.0, ge=0, le=_ONE_YEAR, description="0 (never) to 31536000 (a year)"
    )
    secret_store_timeout_seconds: float = Field(
        10.0, gt=0, le=60, description="more than 0, at most 60"
    )

    secrets_file: Path = Field(Path("secrets.enc"), description="the path of an encrypted file")
    llm_encryption_key: SecretStr | None = Field(
        None,
        repr=False,
        description="one or several keys that python -m keys secret new-key made, with commas "
        "between them; the first encrypts",
    )

    vault_addr: str | None = Field(
        None,
        pattern=r"^https?://[^\s@]+$",
        description="https://host:8200; http:// on this machine alone",
    )
    vault_token: SecretStr | None = Field(None, repr=False, description="a token of the Vault")
    vault_secret_path: str = Field(
        "secret/llm",
        pattern=r"^/?[^\s/?#%]+(/[^\s/?#%]+)*/?$",
        description="the mount and a folder in it, such as secret/llm",
    )
    vault_namespace: str | None = Field(
        None, pattern=r"^[^\s]+$", description="a namespace such as team-a, or empty"
    )
    vault_kv_version: Literal["1", "2"] | None = Field(
        None, description="1 or 2, or empty to ask the Vault"
    )
    vault_role_id: str | None = Field(
        None, repr=False, description="the role id of an AppRole; VAULT_SECRET_ID goes with it"
    )
    vault_secret_id: SecretStr | None = Field(
        None, repr=False, description="the secret id of an AppRole, beside VAULT_ROLE_ID"
    )
    vault_kubernetes_role: str | None = Field(
        None, pattern=_NAME, description=f"{_NAME_HINT}, or empty"
    )
    vault_kubernetes_token_file: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        description="the path of the service account's token",
    )
    vault_auth_mount: str | None = Field(
        None, pattern=_NAME, description=f"{_NAME_HINT}; empty for approle or kubernetes"
    )
    vault_cacert: Path | None = Field(
        None, description="the path of a file with the CA certificates to trust, or empty"
    )

    aws_region: str | None = Field(
        None, pattern=r"^[a-z0-9-]{1,40}$", description="a region such as eu-central-1"
    )
    aws_secret_prefix: str = Field(
        "llm/",
        pattern=r"^[A-Za-z0-9/_+=.@-]{0,200}$",
        description="up to 200 letters, digits and / _ + = . @ -",
    )

    azure_vault_url: str | None = Field(
        None,
        pattern=r"^https://[^\s/@?#]+/?$",
        description="https://<name>.vault.azure.net",
    )
    azure_secret_prefix: str = Field(
        "llm-",
        pattern=r"^[A-Za-z0-9-]{0,60}$",
        description="up to 60 letters, digits and -",
    )
    azure_tenant_id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.-]+$", description="a tenant's id, or empty"
    )
    azure_client_id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9.-]+$", description="an application's or identity's id, or empty"
    )
    azure_client_secret: SecretStr | None = Field(
        None, repr=False, description="the application's secret, or empty"
    )
