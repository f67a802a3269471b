"""Secrets in environment variables and `.env`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import SecretStr

from core.errors import SecretNotFound
from core.settings import environment
from keys.secrets.values import checked
from keys.spec import KeySpec


class EnvSecretStore:
    """Secrets in environment variables and `.env`.

    For the key `gemini-flash-01` it looks at `API_KEY_GEMINI_FLASH_01`, then at a variable that is
    named exactly like the key. For `<provider>-default`, the name that `python -m keys init`
    writes, the provider's usual variable comes last, such as `OPENAI_API_KEY`.

    Args:
        environment: gives the variables; called at each fetch, so that a changed `.env` counts.

    Example:
        >>> store = EnvSecretStore(lambda: {"API_KEY_A": "s3cr3t"})
        >>> store.fetch(KeySpec(key_id="a", model_name="m", provider="openai"))
        SecretStr('**********')
    """

    name = "the environment"

    def __init__(self, environment: Callable[[], Mapping[str, str]] = environment) -> None:
        self._environment = environment

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key.

        Raises:
            SecretNotFound: no variable is set.
            SecretMalformed: what it holds cannot be a secret.
        """
        variable, secret = self._find(key)
        first, *others = key.secret_variables
        if variable is None or secret is None:
            raise SecretNotFound(
                f"there is no secret for key {key.key_id!r}: set {first} in the environment or in "
                f".env (looked for {', '.join(others)} too)"
            )
        return checked(key.key_id, variable, secret)

    def variable_of(self, key: KeySpec) -> str | None:
        """The name of the variable that holds the key's secret, or None if none is set."""
        return self._find(key)[0]

    def place_of(self, key: KeySpec) -> str:
        """Where the key's secret lies, or belongs."""
        return self.variable_of(key) or key.secret_name

    def _find(self, key: KeySpec) -> tuple[str | None, SecretStr | None]:
        values = self._environment()
        for name in key.secret_variables:
            if values.get(name):
                return name, SecretStr(values[name])
        return None, None
