"""What the end of an attempt means: one table for every kind of failure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ModelForbidden,
    ProviderError,
    ProviderRateLimited,
    ProviderUnavailable,
    QuotaExhausted,
    RegionUnsupported,
    RequestRejected,
    RouterError,
    SecretDenied,
    SecretError,
    SecretStoreDown,
)
from lua.limiter_types import UNTIL_SOMEBODY_ACTS


class Subject(Enum):
    """Whom a failure concerns."""

    NOBODY = "nobody"
    KEY = "key"
    GROUP = "group"
    PROVIDER = "provider"


class Counted(Enum):
    """What the provider will have counted of a failed attempt."""

    NOTHING = "nothing"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a failure.

    Args:
        subject: who is avoided for the rest of this request.
        retry: whether another key may be tried.
        transient: whether the same key may be tried again where there is no other, after a
            pause.
        counted: what is charged for the attempt.
        state: the state that all processes see the subject in, or None to mark nobody.
        seconds: for how long; None until somebody acts. What the provider asks for wins.
    """

    subject: Subject
    retry: bool
    transient: bool
    counted: Counted
    state: str | None = None
    seconds: float | None = None

    def cooldown_ms(self, retry_after: float | None) -> int:
        """How long the subject is passed over, in ms; -1 until somebody acts."""
        if self.seconds is None:
            return UNTIL_SOMEBODY_ACTS
        return round(1000 * (self.seconds if retry_after is None else retry_after))


# Most specific first: the first row that the error is an instance of decides.
_TABLE: tuple[tuple[type[RouterError], Verdict], ...] = (
    (
        AuthenticationFailed,
        Verdict(Subject.KEY, True, False, Counted.REJECTED, "invalid", None),
    ),
    (
        ModelForbidden,
        Verdict(Subject.KEY, True, False, Counted.REJECTED, "invalid", 3600.0),
    ),
    (
        QuotaExhausted,
        Verdict(Subject.GROUP, True, False, Counted.REJECTED, "exhausted", 3600.0),
    ),
    (
        ProviderRateLimited,
        Verdict(Subject.GROUP, True, False, Counted.REJECTED, "throttled", 60.0),
    ),
    (RegionUnsupported, Verdict(Subject.PROVIDER, True, False, Counted.REJECTED)),
    (ConnectionFailed, Verdict(Subject.KEY, True, True, Counted.NOTHING)),
    (ProviderUnavailable, Verdict(Subject.KEY, True, True, Counted.UNKNOWN)),
    (RequestRejected, Verdict(Subject.NOBODY, False, False, Counted.REJECTED)),
    # This process's own trouble: the others may well have the secret, and are told nothing.
    (SecretStoreDown, Verdict(Subject.KEY, True, False, Counted.NOTHING)),
    (SecretDenied, Verdict(Subject.KEY, True, False, Counted.NOTHING)),
    # Short: it may be missing in this process alone, and all of them see the mark.
    (SecretError, Verdict(Subject.KEY, True, False, Counted.NOTHING, "throttled", 5.0)),
    (ConfigurationError, Verdict(Subject.KEY, True, False, Counted.NOTHING)),
    # Cancelled, or an adapter's own fault: whether it arrived is not known.
    (RouterError, Verdict(Subject.NOBODY, False, False, Counted.UNKNOWN)),
)


def verdict_on(error: RouterError) -> Verdict:
    """The verdict on a failed attempt.

    Example:
        >>> verdict_on(SecretError("no secret")).subject
        <Subject.KEY: 'key'>
    """
    verdict = next(verdict for kind, verdict in _TABLE if isinstance(error, kind))
    if isinstance(error, ProviderError) and not error.sent:
        return replace(verdict, counted=Counted.NOTHING)
    return verdict
