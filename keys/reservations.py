"""What a reservation is, how it ends, and how it is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import RequestTooLarge
from core.types import ProviderQuota, Usage
from keys.policies import Need
from keys.pool import Plan
from lua.limiter_types import NEVER, WELL, Charge, LifeSign, Mark, NoRoom, Refusal, Shard, Weights

if TYPE_CHECKING:
    from keys.spec import KeySpec


@dataclass(frozen=True, slots=True)
class Attempt:
    """One reservation to be made: on which keys, for what, under which id.

    Args:
        lease_seconds: how long parallel slots and output are held if this process dies.
    """

    plan: Plan
    need: Need
    id: str
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """A key, and what is reserved on it for one attempt.

    Args:
        ready_at: the monotonic time (s) at which Redis counts the request; it is to be sent now.
        waited: seconds that it stood in the queue.
        secret_version: of the key's secret, as far as this process knows.
        lease_seconds: how long it holds what does not age if this process dies.
    """

    id: str
    key: KeySpec
    need: Need
    weights: Weights
    shard: Shard
    ready_at: float
    waited: float = 0.0
    secret_version: int = 0
    lease_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended.

    Args:
        charge: what it is charged in all.
        answered: whether the provider answered as hoped.
        marks: who is passed over from now on.
        late: seconds from `Reservation.ready_at` to the sending.
        usage: what the provider says it used.
        quotas: what the provider said of its limits.
        life_sign: what it tells of the service.
    """

    charge: Charge
    answered: bool
    marks: tuple[Mark, ...] = ()
    late: float = 0.0
    usage: Usage | None = None
    quotas: tuple[ProviderQuota, ...] = ()
    life_sign: LifeSign = WELL


@dataclass(frozen=True, slots=True)
class Refused:
    """No key has room, or none had any for as long as the request could wait.

    Args:
        retry_after: seconds until one has, at the latest; None if nobody knows.
        broken: open circuits alone stand in the way: the providers fail, no limit is met.
    """

    retry_after: float | None
    reason: str
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Overdrawn:
    """A request that its user's limit, or that of all users together, refused.

    Args:
        source: whose limit it was: "user" or "all_users".
        retry_after: seconds until both limits have room for a request again, exactly.
    """

    source: str
    retry_after: float


WORDS = {
    Refusal.FULL: "full",
    Refusal.IN_FLIGHT: "busy",
    Refusal.QUEUED: "with others waiting for them",
    Refusal.COOLING: "cooling down or out of rotation",
    Refusal.CIRCUIT: "with an open circuit, as they or their provider kept failing",
    Refusal.TOO_LARGE: "too small for this request",
}
"""Why keys were passed over, in words that follow their number."""


def refused(refusals: Sequence[NoRoom], need: Need) -> Refused:
    """What several calls without room amount to.

    Raises:
        RequestTooLarge: no candidate could ever admit so much.
    """
    if all(refusal.when_ms == NEVER for refusal in refusals):
        raise RequestTooLarge(
            f"the request needs about {need.input} input and up to {need.max_output} output "
            "tokens; that is more than any allowed key admits in a minute or a day: shorten it, "
            "lower max_output_tokens, or allow a key with larger limits"
        )
    waits = [r.wait_seconds for r in refusals if r.wait_seconds is not None]
    counts: dict[Refusal, int] = {}
    for refusal in refusals:
        for passed in refusal.passed_over:
            counts[passed.why] = counts.get(passed.why, 0) + 1
    reason = ", ".join(f"{counts[why]} {word}" for why, word in WORDS.items() if why in counts)
    broken = counts.keys() <= {Refusal.CIRCUIT, Refusal.TOO_LARGE}
    return Refused(min(waits) if waits else None, f"no key has room now: {reason}", broken)
