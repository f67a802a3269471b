"""What the flow asks a driver to do. Frozen values: the flow decides, the driver performs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conversation.records import Turn
from core.content import NO_OPTIONS, Options
from core.errors import RouterError
from core.types import Message, ProviderReply
from keys.policies import Need
from keys.reservations import End, Reservation
from keys.selection import Selection

if TYPE_CHECKING:
    from keys.spec import KeySpec


@dataclass(frozen=True, slots=True)
class Admit:
    """Take a request from the users' limits, and read the conversation in the same round trip.

    Gives an Overdrawn if they refuse, else the Conversation, or None without a `conv_id`.
    """

    user_id: str | None
    conv_id: str | None


@dataclass(frozen=True, slots=True)
class Reserve:
    """Choose a key and reserve on it, waiting for room for at most `max_wait` seconds.

    Gives a Reservation or a Refused.
    """

    need: Need
    selection: Selection
    reservation_id: str
    lease_seconds: float
    avoid: frozenset[str] = frozenset()
    max_wait: float = 0.0
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Send:
    """Call the provider once with the key's secret. Gives a ProviderReply.

    `timeout` is for both: to have the secret and to be answered.
    """

    key: KeySpec
    messages: tuple[Message, ...]
    system_prompt: str | None
    max_output_tokens: int
    temperature: float | None
    timeout: float
    options: Options = NO_OPTIONS
    idle_timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Call the provider once for a stream. Done when its first text is there, or all of it."""

    send: Send


@dataclass(frozen=True, slots=True)
class Relay:
    """Hand the caller the texts of the opened stream as they arrive. Gives a ProviderReply.

    Throws a StreamCut where the stream or the caller ends before the answer.
    """


@dataclass(frozen=True, slots=True)
class Embed:
    """Ask the provider for the vectors of texts, once. Gives an EmbeddingReply."""

    key: KeySpec
    texts: tuple[str, ...]
    dimensions: int | None
    timeout: float
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class Renew:
    """Read the key's secret again after a provider refused it. Gives whether there is another."""

    key: KeySpec
    timeout: float


@dataclass(frozen=True, slots=True)
class Settle:
    """Settle a reservation, mark what failed, and append a turn, in one round trip.

    Gives the error that kept the turn from being appended, or None.
    """

    reservation: Reservation
    end: End
    turn: Turn | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait so many seconds."""

    seconds: float


Effect = Admit | Reserve | Send | OpenStream | Relay | Embed | Renew | Settle | Sleep


class StreamCut(Exception):
    """A stream ended before its answer did.

    Args:
        cause: what broke it; RequestCancelled where the caller stopped.
        so_far: what had arrived, and what the provider said of its tokens until then.
    """

    def __init__(self, cause: RouterError, so_far: ProviderReply) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.so_far = so_far
