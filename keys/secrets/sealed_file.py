"""One encrypted file: read by many, written by one at a time, and never half written."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from core.errors import (
    ConfigurationError,
    SecretDenied,
    SecretMalformed,
    SecretNotFound,
    SecretNotWritable,
    SecretStoreDown,
)
from core.whole_files import replace_whole

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

if sys.platform != "win32":
    import fcntl

LOCK_SECONDS = 10.0
"""How long a writer waits for another."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PAUSE_SECONDS = 0.02


class SealedFile:
    """A text in a file that is encrypted with Fernet: AES-128 in CBC mode, and an HMAC over it.

    Args:
        path: the file.
        keys: what `LLM_ENCRYPTION_KEY` holds: one or several Fernet keys. The first encrypts, all
            decrypt, so that a key can be replaced while old and new programs run.

    Raises:
        ConfigurationError: there is no key, or one of them is none.
    """

    def __init__(self, path: Path, keys: SecretStr | None) -> None:
        self.path = path
        self._keys = _checked(keys)

    def read(self) -> SecretStr:
        """The text.

        Raises:
            SecretNotFound: there is no file yet.
            SecretDenied: others may read or write the file, or we may not.
            SecretMalformed: no key opens it, or it was changed by somebody without a key.
            SecretStoreDown: the disk does not give it.
        """
        from cryptography.fernet import InvalidToken, MultiFernet

        sealed = self._sealed()
        try:
            return SecretStr(MultiFernet(self._fernets()).decrypt(sealed).decode())
        except (InvalidToken, UnicodeDecodeError):
            pass
        raise SecretMalformed(
            f"{self.path} cannot be decrypted: no key of LLM_ENCRYPTION_KEY made it, or it was "
            "damaged"
        )

    def write(self, text: SecretStr) -> None:
        """Put a text in the file's place, as a whole; call it within `locked`.

        Raises:
            SecretNotWritable: it cannot be written; what was there is there still.
        """
        sealed = self._fernets()[0].encrypt(text.get_secret_value().encode())
        try:
            replace_whole(self.path, sealed, 0o600)
        except OSError as error:
            said = error.strerror
        else:
            return
        raise SecretNotWritable(
            f"{self.path} cannot be written: {said}; what it held is there still"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only writer, in all processes of this machine.

        Raises:
            SecretNotWritable: the lock cannot be had, or another writer does not let go of it.
        """
        lock = Path(os.path.realpath(self.path)).with_name(f".{self.path.name}.lock")
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            said = error.strerror
        else:
            try:
                self._wait_for(descriptor, lock)
                yield
            finally:
                os.close(descriptor)
            return
        raise SecretNotWritable(f"{self.path} cannot be written: {lock}: {said}")

    def _wait_for(self, descriptor: int, lock: Path) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                pass
            if time.monotonic() >= deadline:
                raise SecretNotWritable(
                    f"{self.path} was not written: another writer has held {lock} for "
                    f"{LOCK_SECONDS:g} s"
                )
            time.sleep(_PAUSE_SECONDS)

    def _sealed(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                found = os.fstat(file.fileno())
                if not found.st_mode & _OTHERS and found.st_uid in (os.geteuid(), 0):
                    return file.read()
        except FileNotFoundError:
            raise SecretNotFound(
                f"there is no file {self.path} with secrets; make it with: "
                "python -m keys secret set KEY_ID"
            ) from None
        except PermissionError:
            raise SecretDenied(f"{self.path} may not be read by this user") from None
        except OSError as error:
            raise SecretStoreDown(f"{self.path} cannot be read: {error.strerror}") from None
        if found.st_mode & _OTHERS:
            raise SecretDenied(
                f"{self.path} may be read or written by others (its mode is "
                f"{stat.S_IMODE(found.st_mode):04o}); allow its owner alone: chmod 600 {self.path}"
            )
        raise SecretDenied(f"{self.path} belongs to another user, who may change it at any time")

    def _fernets(self) -> list[Fernet]:
        from cryptography.fernet import Fernet

        return [Fernet(key.get_secret_value()) for key in self._keys]


def new_key() -> SecretStr:
    """A new key for `LLM_ENCRYPTION_KEY`."""
    from cryptography.fernet import Fernet

    return SecretStr(Fernet.generate_key().decode())


def _checked(keys: SecretStr | None) -> list[SecretStr]:
    import base64

    found = [] if keys is None else keys.get_secret_value().replace(",", " ").split()
    for number, key in enumerate(found, 1):
        try:
            right = len(base64.urlsafe_b64decode(key)) == 32
        except ValueError:
            right = False
        if not right:
            del key, found
            raise ConfigurationError(
                f"the {number}. key in LLM_ENCRYPTION_KEY is none; "
                "make one with: python -m keys secret new-key"
            )
    if not found:
        raise ConfigurationError(
            "LLM_ENCRYPTION_KEY is not set; make a key with: python -m keys secret new-key"
        )
    return [SecretStr(key) for key in found]
