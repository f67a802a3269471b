"""What `ApiKeyRouter` is given and what it gives back, as its programs know them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from core.types import Attempt, Role

OBJECTIVES = ("fairness", "cost", "reliability", "speed")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a request."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class RequestIntent:
    """What is asked for.

    Args:
        model: the provider's name of the model.
        messages: oldest first; Message or dicts with `role` and `content`.
        provider_id: whose keys may serve; None for any registered provider.
        parameters: `temperature`, `max_tokens`, `expected_tokens`, `timeout`, `max_wait`.
    """

    model: str
    messages: list[Message]
    provider_id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoutingObjective:
    """By what a key is to be chosen; see `api_key_router.tiers_of`."""

    primary: str = "fairness"
    secondary: list[str] = field(default_factory=list)
    weights: Mapping[str, float] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one request."""

    input: int
    output: int

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class ResponseMetadata:
    """How a response came about."""

    key_used: str
    provider_id: str = ""
    model_used: str = ""
    token_usage: TokenUsage = TokenUsage(0, 0)
    cost_actual: Decimal = Decimal(0)
    attempts: tuple[Attempt, ...] = ()
    response_time_ms: float = 0.0
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class SystemResponse:
    """An answer. An adapter of one's own needs to give no more than `content`."""

    content: str
    key_used: str = ""
    cost: Decimal = Decimal(0)
    metadata: ResponseMetadata = ResponseMetadata("")


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """What a request will probably cost, in US dollars."""

    amount: Decimal
    currency: str = "USD"


@dataclass(frozen=True, slots=True)
class RegisteredKey:
    """A key that was registered. It never holds the secret."""

    id: str
    provider_id: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Settings in the program's own words; what is not said here comes from the environment.

    Args:
        max_decisions, max_transitions: taken, and kept by the audit stream's own bounds.
    """

    max_decisions: int = 1000
    max_transitions: int = 1000
    default_cooldown_seconds: int = 60
    default_objective: str = "fairness"
    log_level: str | None = None
    encryption_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class RedisStateStore:
    """Which Redis keeps the state."""

    redis_url: str = field(repr=False)


class ProviderAdapter:
    """Base of an asynchronous adapter of one's own; see docs/async.md."""

    async def execute_request(self, intent: RequestIntent, key: str) -> SystemResponse:
        """Call the provider once with this secret."""
        raise NotImplementedError

    async def estimate_cost(self, request_intent: RequestIntent) -> CostEstimate:
        """What the request will probably cost."""
        return CostEstimate(Decimal(0))


class NoEligibleKeysError(Exception):
    """No registered key can serve now: none fits, or all are full or passed over.

    Args:
        retry_after: seconds until one has room, where that is known.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BudgetExceededError(Exception):
    """The request would exceed a budget."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.details = {"reason": message}


class SystemError(Exception):
    """A request failed.

    Args:
        category: an `error_type`, such as "timeout" or "invalid_request".
        partial: of a stream, the text that had arrived.
    """

    def __init__(self, category: str, message: str, partial: str = "") -> None:
        super().__init__(message)
        self.category = category
        self.message = message
        self.partial = partial
