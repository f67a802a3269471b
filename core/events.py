"""What happened, as frozen values. Logs and metrics subscribe; nobody else needs to know them.

Events never carry a secret, a prompt or an answer: only names, numbers and reasons.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, slots=True)
class AttemptFinished(Event):
    """One try on one key has ended; `outcome` is "success" or an `error_type`."""

    request_id: str
    key_id: str
    provider: str
    model: str
    outcome: str
    duration_ms: float
    error: str | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class RequestFinished(Event):
    """A request was answered; `outcome` is "success" or an `error_type`."""

    request_id: str
    outcome: str
    model: str | None
    key_id: str | None
    attempts: int
    input_tokens: int
    output_tokens: int
    duration_ms: float
    error: str | None = None
    conversation_id: str | None = None


@dataclass(frozen=True, slots=True)
class CapacityWaited(Event):
    """A request found every allowed key full. It `waited` so many seconds and was served, or it was
    refused, and has to wait so many (None: nobody knows)."""

    request_id: str
    waited: bool
    seconds: float | None


@dataclass(frozen=True, slots=True)
class UserRefused(Event):
    """A request was refused before anything was done for it: by the limit of its `source`, which is
    "user" or "all_users", for so many seconds."""

    request_id: str
    user_id: str | None
    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class KeyCooledDown(Event):
    """A key, group or provider is passed over. `seconds` is None when somebody must act first."""

    provider: str
    subject: str
    state: str
    seconds: float | None
    reason: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyChanged(Event):
    """Somebody changed a key for all processes: `act` is "register", "rotate", "revoke", "disable"
    or "enable"; `before` and `after` are its states."""

    key_id: str
    act: str
    before: str
    after: str
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class CircuitOpened(Event):
    """A key, or a whole service, kept failing: nothing is sent to it for a while. `subject` is the
    key's id, or the service: the provider, with its address where that is not the usual one."""

    provider: str
    subject: str
    reason: str
    request_id: str


@dataclass(frozen=True, slots=True)
class SettleFailed(Event):
    """A reservation could not be settled; it heals by ageing out of its window."""

    request_id: str
    key_id: str
    error: str


@dataclass(frozen=True, slots=True)
class ConversationNotSaved(Event):
    """An answered turn could not be appended to its conversation."""

    request_id: str
    conversation_id: str
    error: str


@dataclass(frozen=True, slots=True)
class KeysLoaded(Event):
    """`keys.json` was read and is in force."""

    path: str
    keys: int


@dataclass(frozen=True, slots=True)
class KeysRejected(Event):
    """An edit of `keys.json` was refused; the keys that were in force before stay so."""

    path: str
    error: str


@dataclass(frozen=True, slots=True)
class StorageDegraded(Event):
    """The limits hold for less than they should, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class RedisAway(Event):
    """Redis cannot do its work. Until it can, requests are admitted `locally`, within this
    process's share (one of `routers`), or, where `locally` is False, refused."""

    redis: str
    reason: str
    locally: bool
    routers: int


@dataclass(frozen=True, slots=True)
class RedisRecovering(Event):
    """Redis answers, but may not know all that was used: both it and this process's share must
    have room. `told` requests were told it that it did not know."""

    redis: str
    reason: str
    told: int


@dataclass(frozen=True, slots=True)
class RedisBack(Event):
    """Redis knows all that was used and decides alone again, after so many seconds."""

    redis: str
    seconds: float
    admitted_locally: int


@dataclass(frozen=True, slots=True)
class AdmittedLocally(Event):
    """A request was admitted while Redis was away."""

    key_id: str
    provider: str


@dataclass(frozen=True, slots=True)
class SecretStoreFailing(Event):
    """A secret store does not answer; cached secrets are served for so many seconds at most."""

    store: str
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SecretStoreRestored(Event):
    """A secret store that was failing for so many seconds answers again."""

    store: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SecretNotRefreshed(Event):
    """A secret in use could not be read again before it expires, though its store answered."""

    key_id: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class SecretChanged(Event):
    """The store holds another secret for a key than before; new requests use it."""

    key_id: str


Subscriber = Callable[[Event], None]
_subscribers: tuple[tuple[object, Subscriber], ...] = ()
_lock = threading.Lock()


def subscribe(subscriber: Subscriber) -> Callable[[], None]:
    """Call `subscriber` with every event from now on, on the thread that emits it.

    Returns:
        A function that ends the subscription.

    Example:
        >>> seen = []
        >>> stop = subscribe(seen.append)
        >>> emit(StorageDegraded("in process only"))
        >>> stop()
        >>> seen
        [StorageDegraded(reason='in process only')]
    """
    global _subscribers
    token = object()  # the same function may subscribe twice
    with _lock:
        _subscribers = (*_subscribers, (token, subscriber))

    def unsubscribe() -> None:
        global _subscribers
        with _lock:
            _subscribers = tuple(entry for entry in _subscribers if entry[0] is not token)

    return unsubscribe


def emit(event: Event) -> None:
    """Hand `event` to every subscriber. One that fails is logged and harms nobody else."""
    for _, subscriber in _subscribers:
        try:
            subscriber(event)
        except Exception:  # noqa: BLE001 - an observer's fault must not fail a request
            _log.exception("a subscriber failed on %s", type(event).__name__)
