"""Secrets in AWS Secrets Manager, through boto3."""

from __future__ import annotations

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
from keys.secrets.store import check_address
from keys.secrets.values import unwrapped
from keys.spec import KeySpec

_KINDS: dict[str, type[SecretError]] = {
    "ResourceNotFoundException": SecretNotFound,
    "InvalidRequestException": SecretNotFound,  # it is marked for deletion
    "AccessDeniedException": SecretDenied,
    "DecryptionFailure": SecretDenied,
    "UnrecognizedClientException": SecretDenied,
    "InvalidClientTokenId": SecretDenied,
    "InvalidSignatureException": SecretDenied,
    "SignatureDoesNotMatch": SecretDenied,
    "ExpiredTokenException": SecretDenied,
    "ExpiredToken": SecretDenied,
    "MissingAuthenticationToken": SecretDenied,
    "OptInRequired": SecretDenied,
    "InvalidParameterException": SecretMalformed,
}
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError")


class AwsSecretStore:
    """Secrets of `AWS_SECRET_PREFIX` + key id: JSON with a field `api_key`, or the API key itself.

    Credentials are found as boto3 finds them: the environment, the shared files, the role of the
    container or the machine.

    Args:
        settings: `aws_region`, `aws_secret_prefix`, `secret_store_timeout_seconds`.
    """

    name = "AWS Secrets Manager"

    def __init__(self, settings: Settings) -> None:
        self._region = settings.aws_region
        self._prefix = settings.aws_secret_prefix
        self._timeout = settings.secret_store_timeout_seconds
        self._client = PerProcess(self._connect)

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key, the version that AWS labels AWSCURRENT.

        Raises:
            SecretError: of the kind that AWS tells.
        """
        text = self._read(key)
        if isinstance(text, SecretError):
            raise text
        return unwrapped(key.key_id, self.place_of(key), text)

    def place_of(self, key: KeySpec) -> str:
        """The secret's name; AWS allows no colon in it, so `:` is written as `_`."""
        return f"{self._prefix}{key.key_id.replace(':', '_')}"

    def close(self) -> None:
        """Close the connections."""
        client = self._client.drop()
        if client is not None:
            client.close()

    def _read(self, key: KeySpec) -> SecretStr | SecretError:
        from botocore.exceptions import BotoCoreError, ClientError

        place = self.place_of(key)
        try:
            client = self._client.get()
            with quiet("botocore"):  # its parsers log whole replies
                answer = client.get_secret_value(SecretId=place)
        except ClientError as error:
            return self._refused(key, error)
        except BotoCoreError as error:
            kind, said = type(error).__name__, str(error)
        else:
            text = answer.get("SecretString")
            if isinstance(text, str):
                return SecretStr(text)
            if "SecretBinary" not in answer:
                return SecretStoreDown(f"what answered is not {self.name}; check the address")
            return SecretMalformed(
                f"the secret of key {key.key_id!r} is not usable: {place} holds bytes; store a text"
            )
        if kind in _NO_CREDENTIALS or "Token" in kind or "SSO" in kind:
            return SecretDenied(
                f"AWS cannot be asked for the secret of key {key.key_id!r}: boto3 found no usable "
                f"credentials ({kind}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
                "environment, or give the machine a role"
            )
        if kind == "SSLError":
            said = "its TLS certificate is not trusted; name the CA in AWS_CA_BUNDLE"
        return SecretStoreDown(f"{self.name} does not answer: {kind}: {said}")

    def _refused(self, key: KeySpec, error: Any) -> SecretError:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        place = self.place_of(key)
        kind = _KINDS.get(code)
        if kind is None:
            kind = SecretDenied if status in (401, 403) else SecretStoreDown
        if kind is SecretNotFound:
            return SecretNotFound(
                f"there is no secret for key {key.key_id!r}: AWS has none called {place} in "
                f"{self._client.get().meta.region_name} ({code}); create it, or set "
                "AWS_SECRET_PREFIX and AWS_REGION"
            )
        if kind is SecretDenied:
            return SecretDenied(
                f"AWS refuses to give {place}, the secret of key {key.key_id!r} ({code}); allow "
                "secretsmanager:GetSecretValue on it, and kms:Decrypt on its key"
            )
        if kind is SecretMalformed:
            return SecretMalformed(f"AWS does not understand the secret's name {place} ({code})")
        return SecretStoreDown(f"{self.name} does not answer: {code}, status {status}")

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        # No retry of its own: the cache asks again, and nobody waits longer than a request has.
        config = Config(
            connect_timeout=self._timeout,
            read_timeout=self._timeout,
            retries={"total_max_attempts": 1},
        )
        try:
            # A session of our own: boto3's default one may not be shared between threads.
            client = boto3.session.Session(region_name=self._region).client(
                "secretsmanager", config=config
            )
        except BotoCoreError as error:
            kind = type(error).__name__
        else:
            check_address(client.meta.endpoint_url, "the address of AWS Secrets Manager")
            return client
        raise ConfigurationError(
            f"AWS Secrets Manager cannot be used ({kind}); set AWS_REGION, such as eu-central-1"
        )
