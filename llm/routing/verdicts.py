"""What the end of an attempt means: one table for every kind of failure.

A verdict says whom the failure concerns, whether and where the request goes on, what the attempt is
charged, in which state all processes see the subject from now on, and what it tells the circuits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from core.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ContentBlocked,
    ModelForbidden,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RegionUnsupported,
    RequestRejected,
    RouterError,
    SecretDenied,
    SecretError,
    SecretStoreDown,
)
from lua.circuits import Pulse
from lua.limiter_types import UNTIL_SOMEBODY_ACTS
from lua.states import KeyState

PATIENT_SECONDS = 10.0
"""A service that has not answered for so long is failing; one that had less time may be well."""


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
        pulse: what it tells the circuits of the key and of its service.
        state: the state that all processes see the subject in, or None to mark nobody.
        seconds: for how long; None until somebody acts. What the provider asks for wins.
        longest: up to so many seconds it doubles each time that it follows another without an
            answer between them, where the provider names no time; None: it does not.
        escalate: whether the caller's fallback models, and only they, may be asked.
    """

    subject: Subject
    retry: bool
    transient: bool
    counted: Counted
    pulse: Pulse
    state: KeyState | None = None
    seconds: float | None = None
    longest: float | None = None
    escalate: bool = False

    def cooldown_ms(self, retry_after: float | None) -> int:
        """How long the subject is passed over, in ms; -1 until somebody acts."""
        if self.seconds is None:
            return UNTIL_SOMEBODY_ACTS
        return round(1000 * (self.seconds if retry_after is None else retry_after))

    def longest_ms(self, retry_after: float | None) -> int:
        """How long that may become, in ms; 0 where it does not grow."""
        return round(1000 * (self.longest or 0.0)) if retry_after is None else 0


def _goes_on(subject: Subject, state: KeyState | None = None, **more: Any) -> Verdict:
    """The service answered and refuses this subject: another may serve."""
    return Verdict(subject, True, False, Counted.REJECTED, Pulse.ANSWERED, state, **more)


def _may_pass(counted: Counted) -> Verdict:
    """The service failed: another key, or this one later; the circuits count it."""
    return Verdict(Subject.KEY, True, True, counted, Pulse.FAILED)


def _unasked(subject: Subject, state: KeyState | None = None, **more: Any) -> Verdict:
    """Nothing was sent, so that nothing is known of the service."""
    return Verdict(subject, True, False, Counted.NOTHING, Pulse.UNKNOWN, state, **more)


def _ends(counted: Counted, pulse: Pulse, **more: Any) -> Verdict:
    """No other key would help: it goes back to the caller, and marks nobody."""
    return Verdict(Subject.NOBODY, False, False, counted, pulse, **more)


# Most specific first: the first row that the error is an instance of decides.
_TABLE: tuple[tuple[type[RouterError], Verdict], ...] = (
    (AuthenticationFailed, _goes_on(Subject.KEY, KeyState.INVALID)),
    (ModelForbidden, _goes_on(Subject.KEY, KeyState.INVALID, seconds=3600.0)),
    (QuotaExhausted, _goes_on(Subject.GROUP, KeyState.EXHAUSTED, seconds=3600.0)),
    (
        ProviderRateLimited,
        _goes_on(Subject.GROUP, KeyState.THROTTLED, seconds=60.0, longest=900.0),
    ),
    (RegionUnsupported, _goes_on(Subject.PROVIDER)),
    (ConnectionFailed, _may_pass(Counted.NOTHING)),
    (ProviderUnavailable, _may_pass(Counted.UNKNOWN)),
    (ContentBlocked, _ends(Counted.REJECTED, Pulse.ANSWERED, escalate=True)),
    (RequestRejected, _ends(Counted.REJECTED, Pulse.ANSWERED)),
    # This process's own trouble: the others may well have the secret, and are told nothing.
    (SecretStoreDown, _unasked(Subject.KEY)),
    (SecretDenied, _unasked(Subject.KEY)),
    # Short: it may be missing in this process alone, and all of them see the mark.
    (SecretError, _unasked(Subject.KEY, KeyState.THROTTLED, seconds=5.0)),
    (ConfigurationError, _unasked(Subject.KEY)),
    # Cancelled, or an adapter's own fault: whether it arrived is not known.
    (RouterError, _ends(Counted.UNKNOWN, Pulse.UNKNOWN)),
)


def verdict_on(error: RouterError, given_seconds: float = PATIENT_SECONDS) -> Verdict:
    """The verdict on a failed attempt.

    Args:
        given_seconds: the time that the attempt was given. A caller in a hurry learns nothing of
            the service when its time is over.

    Example:
        >>> verdict_on(SecretError("no secret")).subject
        <Subject.KEY: 'key'>
    """
    verdict = next(verdict for kind, verdict in _TABLE if isinstance(error, kind))
    if isinstance(error, ProviderError) and not error.sent:
        verdict = replace(verdict, counted=Counted.NOTHING)
    if isinstance(error, ProviderTimeout) and given_seconds < PATIENT_SECONDS:
        verdict = replace(verdict, pulse=Pulse.UNKNOWN)
    return verdict
