"""Fits a conversation to a model's context window. Pure functions, no input or output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from conversation.records import StoredMessage
from core.errors import InvalidRequest
from core.tool_results import check_results
from core.types import Message

MESSAGE_OVERHEAD = 4
"""Tokens that a provider adds to a message for its role and borders."""


class PromptTooLong(InvalidRequest):
    """System prompt and prompt alone are more than the model takes."""

    error_type = "context_too_long"


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """What to send.

    Args:
        messages: the history that was kept, then the new prompt; without the system prompt.
        tokens: all of it, the system prompt included.
        dropped: how many of the oldest messages were left out.
    """

    messages: tuple[Message, ...]
    tokens: int
    dropped: int


def fit_prompt(
    history: Sequence[StoredMessage],
    asked: Sequence[Message],
    *,
    system_prompt: str | None,
    budget: int,
    count_tokens: Callable[[Message], int],
    beside: int = 0,
) -> FittedPrompt:
    """Keep as many of the newest turns as fit beside the system prompt and what is asked now.

    A turn, a user's message with all that follows it up to the next, is kept whole or not at all:
    so a tool's result never loses its call. The first message kept is always a user's, or a system
    message before it. Where what is asked goes on with the last turn, as a tool's result does, that
    turn stays. Stored token counts are used as they are, so that only messages without one are
    counted anew.

    Args:
        history: oldest first, as `ConversationStore.load` gives it.
        asked: the new messages; at least one.
        budget: the most tokens of all together; see `context_windows.input_budget`.
        count_tokens: the tokens of what one message holds.
        beside: tokens of what goes along and is no message, such as tools.

    Raises:
        PromptTooLong: not even the shortest history would fit.

    Example:
        >>> asked = [Message("user", "Hello")]
        >>> fit_prompt(
        ...     [], asked, system_prompt=None, budget=100, count_tokens=lambda m: len(m.content)
        ... ).tokens
        9
    """
    used = beside + sum(count_tokens(message) + MESSAGE_OVERHEAD for message in asked)
    if system_prompt:
        used += count_tokens(Message("system", system_prompt)) + MESSAGE_OVERHEAD
    first = open_turn(history, asked)
    used += sum(_size(stored, count_tokens) for stored in history[first:])
    if used > budget:
        raise PromptTooLong(
            f"the prompt needs {used} tokens with its system prompt, and {max(budget, 0)} are free "
            "in the model's context window; shorten it, or lower max_output_tokens"
        )

    turn = 0
    for at in range(first - 1, -1, -1):
        turn += _size(history[at], count_tokens)
        if used + turn > budget:
            break
        if begins_turn(history, at):
            first, used, turn = at, used + turn, 0

    kept = tuple(stored.message for stored in history[first:])
    return FittedPrompt((*kept, *asked), used, dropped=first)


def open_turn(history: Sequence[StoredMessage], asked: Sequence[Message]) -> int:
    """Where the turn begins that `asked` goes on with; the history's end where it begins one."""
    goes_on = asked[0].role not in ("user", "system")
    return len(history) - (len(last_turn(history)) if goes_on else 0)


def last_turn(history: Sequence[StoredMessage]) -> tuple[Message, ...]:
    """The messages of the last turn."""
    first = len(history)
    while first > 0:
        first -= 1
        if begins_turn(history, first):
            break
    return tuple(stored.message for stored in history[first:])


def without_broken_turns(history: Sequence[StoredMessage]) -> Sequence[StoredMessage]:
    """The history without turns, before the last, in which a call has no result.

    Two turns that were sent at once can leave one: the second ended before the first one's results
    came. Every provider would refuse the whole history for it.
    """
    if not any(stored.message.tool_calls for stored in history):
        return history
    starts = [at for at in range(len(history)) if begins_turn(history, at)]
    kept: list[StoredMessage] = []
    for first, end in pairwise([0, *starts, len(history)]):
        turn = history[first:end]
        if end == len(history) or _is_whole(turn):
            kept += turn
    return kept


def _is_whole(turn: Sequence[StoredMessage]) -> bool:
    try:
        check_results(stored.message for stored in turn)
    except InvalidRequest:
        return False
    return True


def begins_turn(history: Sequence[StoredMessage], at: int) -> bool:
    """Whether a turn begins with this message: a user's, or a system message before one."""
    if history[at].message.role not in ("user", "system"):
        return False
    return at == 0 or history[at - 1].message.role != "system"


def _size(stored: StoredMessage, count_tokens: Callable[[Message], int]) -> int:
    known = stored.tokens
    return (count_tokens(stored.message) if known is None else known) + MESSAGE_OVERHEAD
