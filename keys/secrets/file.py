"""Secrets in one encrypted file, for a machine without a vault."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from core.errors import SecretError, SecretMalformed, SecretNotFound
from core.settings import Settings
from keys.secrets.sealed_file import SealedFile
from keys.secrets.values import checked
from keys.spec import KeySpec

_VERSION = 1


class FileSecretStore:
    """Secrets in `SECRETS_FILE`, encrypted as a whole: it does not tell whose secrets it holds.

    Args:
        settings: `secrets_file`, `llm_encryption_key`.

    Raises:
        ConfigurationError: `LLM_ENCRYPTION_KEY` is missing or wrong.
    """

    name = "the encrypted file"

    def __init__(self, settings: Settings) -> None:
        self._file = SealedFile(settings.secrets_file, settings.llm_encryption_key)

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key.

        Raises:
            SecretError: of the kind that was found.
        """
        entry = self._secrets().get(key.key_id)
        if entry is None:
            raise SecretNotFound(
                f"there is no secret for key {key.key_id!r} in {self._file.path}; add it with: "
                f"python -m keys secret set {key.key_id}"
            )
        return checked(key.key_id, str(self._file.path), entry[0])

    def put(self, key: KeySpec, secret: SecretStr) -> None:
        """Keep a secret for a key, in the place of an older one.

        Raises:
            SecretNotWritable: it cannot be written; what was there is there still.
            SecretMalformed: the value cannot be an API key.
            SecretError: what is there cannot be read, and is left alone.
        """
        secret = checked(key.key_id, "what was given", secret)
        with self._changing() as secrets:
            secrets[key.key_id] = (secret, datetime.now(UTC).isoformat(timespec="seconds"))

    def remove(self, key_id: str) -> None:
        """Forget a key's secret.

        Raises:
            SecretNotFound: there is none.
            SecretNotWritable: the file cannot be written; what was there is there still.
        """
        with self._changing() as secrets:
            if secrets.pop(key_id, None) is None:
                raise SecretNotFound(f"there is no secret for key {key_id!r} in {self._file.path}")

    def names(self) -> dict[str, str]:
        """When each key's secret was put there, by key id, as ISO 8601 in UTC.

        Raises:
            SecretError: the file cannot be read.
        """
        return {key_id: changed for key_id, (_, changed) in sorted(self._secrets().items())}

    def reencrypt(self) -> int:
        """Encrypt all secrets with the first key of `LLM_ENCRYPTION_KEY`; gives their number.

        Raises:
            SecretError: the file cannot be read or written; what was there is there still.
        """
        with self._file.locked():
            secrets = self._secrets()
            self._write(secrets)
        return len(secrets)

    def place_of(self, key: KeySpec) -> str:
        """The file."""
        return f"{self._file.path}, under {key.key_id}"

    @contextmanager
    def _changing(self) -> Iterator[_Secrets]:
        with self._file.locked():
            try:
                secrets = self._secrets()
            except SecretNotFound:
                secrets = {}
            yield secrets
            self._write(secrets)

    def _secrets(self) -> _Secrets:
        try:
            return _parsed(self._file.read())
        except SecretError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise SecretMalformed(
            f"{self._file.path} holds something else than secrets of version {_VERSION}; a newer "
            "router may have written it"
        )

    def _write(self, secrets: _Secrets) -> None:
        self._file.write(
            SecretStr(
                json.dumps(
                    {
                        "version": _VERSION,
                        "secrets": {
                            key_id: {"api_key": secret.get_secret_value(), "changed": changed}
                            for key_id, (secret, changed) in secrets.items()
                        },
                    }
                )
            )
        )


_Secrets = dict[str, tuple[SecretStr, str]]


def _parsed(text: SecretStr) -> _Secrets:
    content: dict[str, Any] = json.loads(text.get_secret_value())
    if content["version"] != _VERSION:
        raise ValueError("another version")
    return {
        key_id: (SecretStr(entry["api_key"]), str(entry["changed"]))
        for key_id, entry in content["secrets"].items()
    }
