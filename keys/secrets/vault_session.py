"""A client of HashiCorp Vault or OpenBao that logs in and stays logged in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from core.errors import ConfigurationError, SecretDenied
from core.settings import Settings

if TYPE_CHECKING:
    import hvac

T = TypeVar("T")

_LEAST_PAUSE_SECONDS = 1.0


class VaultSession:
    """One process's client. It logs in at the first call, and anew when its token is refused.

    A thread renews the token after two thirds of its life, also while nobody asks for secrets. A
    token that cannot be renewed any more is replaced by a new login; one that was given as
    `VAULT_TOKEN` serves until it expires.

    Args:
        settings: those that begin with `vault_`, and `secret_store_timeout_seconds`.
    """

    def __init__(self, settings: Settings) -> None:
        import hvac

        self._settings = settings
        token = settings.vault_token
        self.client = hvac.Client(
            url=settings.vault_addr,
            token="" if token is None else token.get_secret_value(),
            verify=True if settings.vault_cacert is None else str(settings.vault_cacert),
            timeout=settings.secret_store_timeout_seconds,
            namespace=settings.vault_namespace,
        )
        self._lock = threading.Lock()
        self._logins = 0
        self._over = threading.Event()  # the newest login, with its renewing
        self._closed = False

    def call(self, ask: Callable[[hvac.Client], T]) -> T:
        """What `ask` gets from a client that is logged in.

        Raises:
            hvac.exceptions.VaultError, requests.RequestException: what went wrong, unless a new
                login mended it.
            SecretDenied: there is nothing to log in with.
        """
        import hvac

        login = self._log_in(after=0)
        try:
            return ask(self.client)
        except hvac.exceptions.Forbidden:
            # The token may have been revoked, or have expired while the machine slept. Where a
            # policy forbids it, no login helps, and each would leave a token behind.
            if self._settings.vault_token is not None or self._is_good():
                raise
        self._log_in(after=login)
        return ask(self.client)

    def close(self) -> None:
        """End the renewing and close the connections. The token is left to expire."""
        with self._lock:
            self._closed = True
            self._over.set()
        self.client.adapter.close()

    def _log_in(self, after: int) -> int:
        """Log in, unless somebody has since login `after`; gives the number of the newest."""
        with self._lock:
            if self._logins == after:
                life, renewable = self._take_token()
                self._logins += 1
                self._over.set()
                self._over = threading.Event()
                if life > 0 and not self._closed:
                    stay = (self._logins, self._over, life, renewable)
                    threading.Thread(
                        target=self._stay, args=stay, name="vault-token", daemon=True
                    ).start()
            return self._logins

    def _is_good(self) -> bool:
        """Whether the Vault still knows the token."""
        import hvac

        try:
            self.client.auth.token.lookup_self()
        except hvac.exceptions.Forbidden:
            return False
        return True

    def _take_token(self) -> tuple[float, bool]:
        """Get a token, or look at the one that was given: its life in seconds, and can it grow?"""
        import hvac

        settings, auth = self._settings, self.client.auth
        if settings.vault_token is not None:
            try:
                found = auth.token.lookup_self()["data"]
            except hvac.exceptions.Forbidden:
                return 0.0, False  # it may be allowed to read secrets and nothing else
            return float(found["ttl"]) if found.get("renewable") else 0.0, True
        if settings.vault_role_id is not None:
            secret_id = settings.vault_secret_id
            answer = auth.approle.login(
                role_id=settings.vault_role_id,
                secret_id=None if secret_id is None else secret_id.get_secret_value(),
                mount_point=settings.vault_auth_mount or "approle",
            )
        else:
            answer = auth.kubernetes.login(
                role=settings.vault_kubernetes_role,
                jwt=_service_account_token(settings),
                mount_point=settings.vault_auth_mount or "kubernetes",
            )
        return float(answer["auth"]["lease_duration"]), bool(answer["auth"]["renewable"])

    def _stay(self, login: int, over: threading.Event, life: float, renewable: bool) -> None:
        """Keep a login alive, and follow it with a new one before it ends."""
        expires = time.monotonic() + life
        share = 2 / 3
        while (left := expires - time.monotonic()) > 0:
            if over.wait(max(left * share, _LEAST_PAUSE_SECONDS)):
                return
            share = 1 / 3  # of what is left, after a failure
            if renewable and (longer := self._renewed()) is not None:
                expires = time.monotonic() + longer
                if longer > life / 2:
                    share = 2 / 3
                    continue
                # Its longest life is near: it cannot grow much more.
            if self._settings.vault_token is None and self._replaced(login):
                return

    def _renewed(self) -> float | None:
        return self._quietly(
            lambda: float(self.client.auth.token.renew_self()["auth"]["lease_duration"])
        )

    def _replaced(self, login: int) -> bool:
        return self._quietly(lambda: self._log_in(after=login)) is not None

    def _quietly(self, ask: Callable[[], T]) -> T | None:
        """What `ask` gives, or None: that a Vault is down is told by those who need secrets."""
        try:
            return ask()
        except Exception:  # noqa: BLE001 - whatever hvac and requests raise
            return None


def check_login(settings: Settings) -> None:
    """Refuse settings from which it is not clear how to log in.

    Raises:
        ConfigurationError: none of the ways is set, or several are, or half of one.
    """
    ways: dict[str, Any] = {
        "VAULT_TOKEN": settings.vault_token,
        "VAULT_ROLE_ID": settings.vault_role_id,
        "VAULT_KUBERNETES_ROLE": settings.vault_kubernetes_role,
    }
    chosen = [name for name, value in ways.items() if value is not None]
    if len(chosen) != 1:
        found = " and ".join(chosen) if chosen else "none of them"
        raise ConfigurationError(
            "how to log in to the Vault is not clear: set one of VAULT_TOKEN, VAULT_ROLE_ID (with "
            f"VAULT_SECRET_ID) and VAULT_KUBERNETES_ROLE; {found} is set"
        )


def _service_account_token(settings: Settings) -> str:
    # Read at each login: Kubernetes replaces it every hour.
    path = settings.vault_kubernetes_token_file
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        kind = type(error).__name__
    raise SecretDenied(
        f"the service account's token {path} cannot be read ({kind}); is this a Kubernetes pod? "
        "VAULT_KUBERNETES_TOKEN_FILE names another file"
    )
