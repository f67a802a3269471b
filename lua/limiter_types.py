"""What the limiter's scripts are given and what they answer, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from lua.circuits import CLOSED, USUAL_RULES, Circuit, CircuitRules, Pulse

SLOTS = 120
"""Sub-buckets a window. More make the window tighter and a refusal dearer."""

COUNTED_SLOTS = SLOTS + 2
"""One slot more than a window, so that every window of any phase is covered, and one for the time
that a request needs from its reservation to the provider."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The ring's measures. All processes that share a Redis use the same.

    Example:
        >>> Geometry(window_ms=60_000).slot_ms
        500.0
    """

    window_ms: int = 60_000
    slots: int = SLOTS
    counted: int = COUNTED_SLOTS

    @property
    def slot_ms(self) -> float:
        return self.window_ms / self.slots

    @property
    def args(self) -> tuple[int, int, int]:
        return self.window_ms, self.slots, self.counted


class Refusal(IntEnum):
    """Why a candidate was passed over; the numbers are those of candidates.lua."""

    COOLING = 1
    TOO_LARGE = 2
    FULL = 3
    IN_FLIGHT = 4
    QUEUED = 5
    CIRCUIT = 6


NEVER = -2
UNTIL_SOMEBODY_ACTS = -1
CLEAR = -2
IS_DISABLED = -3

UNREAD = -1
"""A reservation that did not read how often keys were changed at run time."""


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A candidate (its index from 0) that could not serve, and until when (Redis ms, -1 open)."""

    candidate: int
    why: Refusal
    until_ms: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """A key was chosen and charged: the candidate's index from 0 and the slot of the charge."""

    now_ms: int
    candidate: int
    slot: int
    passed_over: tuple[PassedOver, ...]
    changes: int = UNREAD


@dataclass(frozen=True, slots=True)
class NoRoom:
    """No candidate has room. `when_ms` is the next opening, -1 unknown, NEVER for none."""

    now_ms: int
    when_ms: int
    passed_over: tuple[PassedOver, ...]
    changes: int = UNREAD

    @property
    def wait_seconds(self) -> float | None:
        """Seconds until the next opening, by the clock of Redis; None if it is not known."""
        return None if self.when_ms < 0 else max(0, self.when_ms - self.now_ms) / 1000


@dataclass(frozen=True, slots=True)
class Waits:
    """The request stands in the queue. `looks` are the candidates (from 0) for which nobody else
    will call `wake`, each with the Redis ms at which to do it."""

    now_ms: int
    looks: tuple[tuple[int, int], ...]
    changes: int = UNREAD


class GroupKeys(NamedTuple):
    """The Redis keys of one quota group, in the order in which the scripts take them."""

    ring: str
    leases: str
    queue: str


class LogKeys(NamedTuple):
    """The Redis keys of the logs in which a key's changes of state are kept."""

    key: str
    group: str
    service: str


@dataclass(frozen=True, slots=True)
class Shard:
    """The Redis keys that the groups of one shard share.

    Args:
        hears_all: whether PUBLISH tells the number of all listeners; not so on a cluster.
        keys: what was changed of keys at run time.
    """

    tag: str
    health: str
    waiters: str
    deadlines: str
    ratios: str
    routers: str
    hears_all: bool = True
    keys: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How a request may wait: how long (ms), with what priority, and where it is told its turn."""

    max_wait_ms: int
    priority: int
    channel: str


NO_PATIENCE = Patience(0, 0, "")


@dataclass(frozen=True, slots=True)
class Weights:
    """What one request would add under one provider's policy, in tokens; `day_end_ms` is when the
    provider's day ends (Unix ms)."""

    tokens: int
    input: int
    output: int
    day_end_ms: int


@dataclass(frozen=True, slots=True)
class Charge:
    """What a settled request is to be charged in all: requests (0 or 1) and tokens."""

    requests: int
    tokens: int
    input: int
    output: int


@dataclass(frozen=True, slots=True)
class Mark:
    """Pass a subject over for so many ms, for a reason.

    Args:
        field: "k:<key id>", "g:<provider>/<group>" or "p:<provider>".
        milliseconds: UNTIL_SOMEBODY_ACTS, or CLEAR to end it.
        longest: it doubles up to so many ms where it follows another without an answer between
            them; 0 keeps to `milliseconds`.
    """

    field: str
    state: str
    milliseconds: int
    reason: str
    longest: int = 0

    @property
    def args(self) -> tuple[str, str, int, int, str]:
        return self.field, self.state, self.milliseconds, self.longest, self.reason


@dataclass(frozen=True, slots=True)
class LifeSign:
    """What an attempt tells of the service that was asked.

    Args:
        wait_ms: how long a failing service asked to be left alone; 0 if it named no time.
        why: how it failed.
    """

    pulse: Pulse = Pulse.ANSWERED
    wait_ms: int = 0
    why: str = ""


WELL = LifeSign()


@dataclass(frozen=True, slots=True)
class Told:
    """What a provider's headers said is used of each limit, whoever used it; -1 untold."""

    requests: int = -1
    tokens: int = -1
    input: int = -1
    output: int = -1


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an answer teaches of a model's estimates: the input tokens estimated before any
    correction, and the real ones."""

    model: str
    estimated: int = 0
    real: int = 0


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one attempt.

    Args:
        charge: what it is charged in all.
        subjects: the key's, "p:<provider>|k:<key id>|g:<provider>/<group>|s:<service>".
        answered: whether the provider answered as hoped.
        late_ms: from the reservation to the sending.
        marks: who is passed over from now on.
        secret_version: of the secret that was used; see `keys.runtime`.
    """

    charge: Charge
    subjects: str
    lesson: Lesson
    answered: bool = True
    late_ms: int = 0
    told: Told = Told()
    marks: tuple[Mark, ...] = ()
    life_sign: LifeSign = WELL
    rules: CircuitRules = USUAL_RULES
    secret_version: int = 0


@dataclass(frozen=True, slots=True)
class Settled:
    """What a settlement answered.

    Args:
        ratio: the model's ratio of real to estimated input tokens; None if it taught nothing.
        key_opened: it opened the key's circuit.
        service_opened: it opened that of the whole service.
    """

    ratio: float | None = None
    key_opened: bool = False
    service_opened: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A waiting request is reserved on the key of this field ("k:<key id>") from `at_ms` on."""

    key_field: str
    at_ms: int
    now_ms: int

    @property
    def delay_seconds(self) -> float:
        """Seconds from when this was told until the request may be sent."""
        return max(0, self.at_ms - self.now_ms) / 1000


@dataclass(frozen=True, slots=True)
class GroupUse:
    """What a key's quota group has used in the last window and today."""

    requests: int
    tokens: int
    input: int
    output: int
    held_output: int
    in_flight: int
    requests_today: int
    tokens_today: int
    blocked_until_ms: int
    state: str
    reason: str
    key_circuit: Circuit = CLOSED
    service_circuit: Circuit = CLOSED


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why reserve.lua would choose a candidate or pass it over.

    Args:
        why: None where it has room now.
        until_ms: when it would be free (Redis ms); -1 nobody knows, NEVER, 0 now.
        room: the share of its scarcest limit that would be left.
        share: the part of its limits that it may use after a cooldown.
        waiting: requests that wait for its group.
    """

    why: Refusal | None
    until_ms: int
    room: float
    share: float
    waiting: int
    use: GroupUse
