"""Every error of the router, and the `error_type` that callers see in a reply.

    RouterError                         internal_error
    ├── ConfigurationError              invalid_request      settings or keys.json are wrong
    ├── InvalidRequest                  invalid_request      the caller's arguments are wrong
    │   ├── UnknownArgument             invalid_request      there is no argument of that name
    │   └── RequestTooLarge             invalid_request      no allowed key could ever admit it
    ├── NoKeys                          no_keys              nothing fits what the caller allows
    ├── NoCapacity                      rate_limited         every allowed key is full or cooling
    │   ├── CircuitsOpen                provider_unavailable every allowed key or provider fails
    │   └── UserRateLimited             user_rate_limited    a user, or all, asked too often
    ├── DeadlineExceeded                timeout              the caller's `timeout` has passed
    ├── RequestCancelled                cancelled
    ├── StreamInterrupted               internal_error       a stream broke; its type is the cause's
    ├── AdapterFault                    internal_error       an adapter broke its contract
    ├── SecretError                     secret_unavailable   a key's secret cannot be had
    │   ├── SecretNotFound              secret_unavailable   the store has none for the key
    │   ├── SecretDenied                secret_unavailable   the store does not let us read it
    │   ├── SecretStoreDown             secret_unavailable   sealed, out of reach, or too slow
    │   ├── SecretMalformed             secret_unavailable   what is there can be no API key
    │   └── SecretNotWritable           secret_unavailable   it is changed elsewhere, or not at all
    ├── StorageError                    redis_unavailable    Redis did not do what was asked
    │   └── ConversationUnavailable     conversation_unavailable
    └── ProviderError                   provider_unavailable an attempt at a provider failed
        ├── AuthenticationFailed        auth_failed          the secret is invalid or revoked
        ├── ModelForbidden              auth_failed          this key may not use this model
        ├── QuotaExhausted              quota_exhausted      billing, credit or spend limit
        ├── ProviderRateLimited         rate_limited         429: wait, then try again
        ├── ProviderUnavailable         provider_unavailable 408, 409, 5xx, 529, broken replies
        │   ├── ConnectionFailed        provider_unavailable nothing reached the provider
        │   └── ProviderTimeout         timeout              the provider did not answer in time
        ├── RegionUnsupported           provider_unavailable the provider refuses this region
        └── RequestRejected             invalid_request      400, 404, 413, 422: the caller's fault
            ├── ContextTooLong          context_too_long
            └── ContentBlocked          content_filtered     a safety filter refused

What a provider failure means for the key, and whether another key is tried, is decided in one
place: `llm/routing/verdicts.py`.
"""

from __future__ import annotations

from typing import ClassVar

from core.types import Reply, Usage


class RouterError(Exception):
    """Base of all errors that this project raises on purpose."""

    error_type: ClassVar[str] = "internal_error"


class ConfigurationError(RouterError, ValueError):
    """A setting or `keys.json` is wrong; the message says which, where, and what to write."""

    error_type = "invalid_request"


class InvalidRequest(RouterError, ValueError):
    """An argument of the caller is wrong."""

    error_type = "invalid_request"


class UnknownArgument(InvalidRequest, TypeError):
    """There is no argument of that name; a TypeError too, as Python itself raises it."""


class RequestTooLarge(InvalidRequest):
    """The request needs more than any allowed key could ever admit at once."""


class NoKeys(RouterError):
    """No configured key fits what the caller allows."""

    error_type = "no_keys"


class NoCapacity(RouterError):
    """Every allowed key is full, cooling down or out of rotation.

    Args:
        retry_after: seconds until the first of them has room again; None if that is not known.
    """

    error_type = "rate_limited"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CircuitsOpen(NoCapacity):
    """Every allowed key, or its provider, kept failing, and is left alone for a while."""

    error_type = "provider_unavailable"


class UserRateLimited(NoCapacity):
    """The user, or all users together, asked more often than they may; no key was touched."""

    error_type = "user_rate_limited"


class DeadlineExceeded(RouterError):
    """The time that the caller gave for the whole request is over."""

    error_type = "timeout"


class RequestCancelled(RouterError):
    """The request was cancelled before it was answered."""

    error_type = "cancelled"


class StreamInterrupted(RouterError):
    """A stream broke after a part of its answer had been handed out.

    Args:
        reply: as of a request that failed: `error`, `error_type`, `attempts`, `retry_after`.

    Attributes:
        partial: the text that had arrived.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.get("error", "the stream broke"))
        self.reply = reply
        self.partial = reply.get("partial", "")
        self.error_type = reply.get("error_type", "internal_error")  # type: ignore[misc]


class AdapterFault(RouterError):
    """A provider's adapter raised what is not one of these errors: a fault in its code."""


class SecretError(RouterError):
    """The secret of a key cannot be had. The message never contains a secret."""

    error_type = "secret_unavailable"
    kind: ClassVar[str] = "unavailable"


class SecretNotFound(SecretError):
    """The store answered, and holds no secret for this key."""

    kind = "not found"


class SecretDenied(SecretError):
    """The store does not let this program read the secret, or does not know the program."""

    kind = "denied"


class SecretStoreDown(SecretError):
    """The store is sealed, out of reach, overloaded or too slow; it may be well again soon."""

    kind = "store down"


class SecretMalformed(SecretError):
    """What the store holds for the key cannot be an API key."""

    kind = "malformed"


class SecretNotWritable(SecretError):
    """A secret could not be written: it is changed in another place, or the disk refused."""

    kind = "not writable"


class StorageError(RouterError):
    """Redis is out of reach, refuses writes, or answered nonsense."""

    error_type = "redis_unavailable"


class ConversationUnavailable(StorageError):
    """A conversation's history could not be read."""

    error_type = "conversation_unavailable"


class ProviderError(RouterError):
    """One attempt at a provider failed.

    Args:
        message: what the provider said, without any secret.
        provider: the provider's name, as in `keys.json`.
        status: the HTTP status, or None where there was none.
        code: the provider's own error code or type.
        retry_after: seconds the provider asked to wait, or None.
        sent: False only when it is certain that nothing reached the provider.
    """

    error_type = "provider_unavailable"

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        status: int | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.sent = sent


class AuthenticationFailed(ProviderError):
    """The provider does not accept the secret: it is wrong, revoked or expired."""

    error_type = "auth_failed"


class ModelForbidden(ProviderError):
    """The key is good, but may not use this model."""

    error_type = "auth_failed"


class QuotaExhausted(ProviderError):
    """Credit, billing or a spend limit is used up; waiting a minute will not help."""

    error_type = "quota_exhausted"


class ProviderRateLimited(ProviderError):
    """The provider counted too many requests or tokens."""

    error_type = "rate_limited"


class ProviderUnavailable(ProviderError):
    """The provider failed, for reasons of its own."""


class ConnectionFailed(ProviderUnavailable):
    """No connection to the provider came about."""


class ProviderTimeout(ProviderUnavailable):
    """The provider did not answer in time; it may still have counted the request."""

    error_type = "timeout"


class RegionUnsupported(ProviderError):
    """The provider does not serve the place that the request came from."""


class RequestRejected(ProviderError):
    """The provider understood the request and refuses it; another key would not help."""

    error_type = "invalid_request"


class ContextTooLong(RequestRejected):
    """The messages do not fit the model's context window."""

    error_type = "context_too_long"


class ContentBlocked(RequestRejected):
    """A safety filter refused the prompt or the answer.

    Args:
        reasons: the provider's own names for what was found.
        usage: what the provider counted all the same, or None.
    """

    error_type = "content_filtered"

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        reasons: tuple[str, ...] = (),
        status: int | None = None,
        code: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        super().__init__(message, provider=provider, status=status, code=code)
        self.reasons = reasons
        self.usage = usage
