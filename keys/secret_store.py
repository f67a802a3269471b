"""Where the secrets of keys come from. A secret is wrapped in `SecretStr` from its first moment.

No message, repr or log line of this module holds a secret. Errors are raised outside the handlers
of foreign exceptions, so that none of these hangs on to an error as its context.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Protocol, TypedDict, runtime_checkable

from pydantic import SecretStr

from core.errors import ConfigurationError, SecretError
from core.settings import Settings, environment, get_settings
from keys.leaks import show
from keys.registry import parse_keys, read_keys_file
from keys.spec import KeySpec

_FAILURE_TTL_SECONDS = 1.0
_PLACEHOLDER = re.compile(
    r"(?i)<.*>|\{.*\}|\$.*|.*\.\.\.|x+|\*+|change[-_ ]?me|placeholder"
    r"|.*your[-_ ].*|(insert|replace|put|paste|enter)[-_ ].*|.*[-_ ]here"
)
_CLEAN = re.compile(r"[!#-&(-~]+")  # printable ASCII without spaces and quotes


@runtime_checkable
class SecretStore(Protocol):
    """Fetches secrets. Called from many threads at once; a call may take a network round trip."""

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key, read afresh.

        Raises:
            SecretError: it cannot be had; the message says why and never shows it.
        """


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

    def __init__(self, environment: Callable[[], Mapping[str, str]] = environment) -> None:
        self._environment = environment

    def fetch(self, key: KeySpec) -> SecretStr:
        """The secret of a key.

        Raises:
            SecretError: no variable is set, or what it holds cannot be a secret.
        """
        variable, secret = self._find(key)
        first, *others = key.secret_variables
        if secret is None:
            raise SecretError(
                f"there is no secret for key {key.key_id!r}: set {first} in the environment or in "
                f".env (looked for {', '.join(others)} too)"
            )
        fault = _fault_of(secret)
        if fault is not None:
            raise SecretError(f"the secret of key {key.key_id!r} is not usable: {variable} {fault}")
        return secret

    def variable_of(self, key: KeySpec) -> str | None:
        """The name of the variable that holds the key's secret, or None if none is set."""
        return self._find(key)[0]

    def _find(self, key: KeySpec) -> tuple[str | None, SecretStr | None]:
        values = self._environment()
        for name in key.secret_variables:
            if values.get(name):
                return name, SecretStr(values[name].strip())
        return None, None


class CachedSecrets:
    """Keeps what a store gave for a while. One fetch at a time for each key, from any thread.

    A failure is remembered for at most a second, so that a burst of requests does not become a
    burst of look-ups, and a secret that was added counts at once.

    Args:
        store: where secrets come from.
        ttl_seconds: how long a secret is kept; 0 fetches every time.
        clock: a monotonic clock in seconds, for tests.
    """

    def __init__(
        self,
        store: SecretStore,
        ttl_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._ttl_seconds = ttl_seconds
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[str, _Entry] = {}

    def get(self, key: KeySpec) -> SecretStr:
        """The secret of a key.

        Raises:
            SecretError: it cannot be had; errors of other types never leave a store.
        """
        with self._lock:
            entry = self._entries.get(key.key_id)
            if entry is None or entry.variables != key.secret_variables:
                entry = self._entries[key.key_id] = _Entry(key.secret_variables)
        with entry.lock:
            if self._clock() >= entry.until:
                self._refresh(entry, key)
            secret, problem = entry.secret, entry.problem
        if secret is None:
            raise SecretError(problem)
        return secret

    def cached(self, key: KeySpec) -> SecretStr | None:
        """The secret of a key if it is here and good; the store is not asked."""
        entry = self._entries.get(key.key_id)
        if entry is None or entry.variables != key.secret_variables or self._clock() >= entry.until:
            return None
        return entry.secret

    def forget(self, key_id: str) -> None:
        """Fetch this key's secret afresh next time, for instance after a provider refused it."""
        with self._lock:
            self._entries.pop(key_id, None)

    def _refresh(self, entry: _Entry, key: KeySpec) -> None:
        ttl_seconds = min(self._ttl_seconds, _FAILURE_TTL_SECONDS)
        entry.secret = None
        try:
            entry.secret = self._store.fetch(key)
            ttl_seconds = self._ttl_seconds
        except SecretError as error:
            entry.problem = str(error)
        except Exception as error:  # noqa: BLE001 - a foreign message may hold the secret itself
            name = type(error).__name__
            entry.problem = f"the secret of key {key.key_id!r} cannot be had: {name} in the store"
        entry.until = self._clock() + ttl_seconds


class _Entry:
    __slots__ = ("lock", "problem", "secret", "until", "variables")

    def __init__(self, variables: tuple[str, ...]) -> None:
        self.variables = variables
        self.lock = Lock()
        self.secret: SecretStr | None = None
        self.problem = ""
        self.until = float("-inf")


class SecretAccess(TypedDict, total=False):
    """What `test_secret_access` finds; `error` is there when `accessible` is False."""

    key_id: str
    accessible: bool
    store: str
    variable: str
    error: str


def get_secret_store(settings: Settings) -> SecretStore:
    """The store that `SECRET_STORE_TYPE` names. It does not cache: see `CachedSecrets`."""
    return EnvSecretStore()


def test_secret_access(key_id: str) -> SecretAccess:
    """Can the secret of this key be had? It is fetched, and never shown.

    Args:
        key_id: the key's name; it need not be in `keys.json` yet.

    Example:
        >>> test_secret_access("no-such-key")["accessible"]
        False
    """
    settings = get_settings()
    result = SecretAccess(key_id=key_id, accessible=False, store=settings.secret_store_type)
    try:
        key = _spec_of(key_id, settings)
        store = get_secret_store(settings)
        store.fetch(key)
    except ConfigurationError:
        result["key_id"] = show(key_id)
        result["error"] = "this cannot be a key_id; write one of keys.json, such as gemini-flash-01"
    except SecretError as error:
        result["error"] = str(error)
    else:
        result["accessible"] = True
        if isinstance(store, EnvSecretStore):
            result["variable"] = store.variable_of(key) or ""
    return result


test_secret_access.__test__ = False  # type: ignore[attr-defined]  # its name is no test of pytest's


def _spec_of(key_id: str, settings: Settings) -> KeySpec:
    try:
        known = parse_keys(read_keys_file(settings.keys_file), path=str(settings.keys_file))
    except ConfigurationError:
        known = ()  # what is wrong with the file is for `python -m keys validate` to say
    for spec in known:
        if spec.key_id == key_id:
            return spec
    provider = key_id.removesuffix("-default") if key_id.endswith("-default") else "unknown"
    return KeySpec(key_id=key_id, model_name="unknown", provider=provider)


def _fault_of(secret: SecretStr) -> str | None:
    value = secret.get_secret_value()
    if not value:
        return "is empty; put the API key there"
    if _PLACEHOLDER.fullmatch(value):
        return "holds a placeholder; put the API key itself there"
    if not _CLEAN.fullmatch(value):
        return "holds a space, a quote or a character outside ASCII; copy the API key again"
    return None
