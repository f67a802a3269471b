"""Fits a conversation to a model's context window. Pure functions, no input or output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conversation.records import StoredMessage
from core.errors import InvalidRequest
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
    prompt: str,
    *,
    system_prompt: str | None,
    budget: int,
    count_tokens: Callable[[str], int],
) -> FittedPrompt:
    """Keep as many of the newest turns as fit beside the system prompt and the new prompt.

    A turn, a user's message with all that follows it up to the next, is kept whole or not at all;
    the first message kept is always a user's. Stored token counts are used as they are, so that
    only messages without one are counted anew.

    Args:
        history: oldest first, as `ConversationStore.load` gives it.
        budget: the most tokens of all together; see `context_windows.input_budget`.
        count_tokens: the tokens of one text.

    Raises:
        PromptTooLong: not even an empty history would fit.

    Example:
        >>> fit_prompt([], "Hello", system_prompt=None, budget=100, count_tokens=len).tokens
        9
    """
    used = _size(prompt, None, count_tokens)
    if system_prompt:
        used += _size(system_prompt, None, count_tokens)
    if used > budget:
        raise PromptTooLong(
            f"the prompt needs {used} tokens with its system prompt, and {max(budget, 0)} are free "
            "in the model's context window; shorten it, or lower max_output_tokens"
        )

    first = len(history)
    turn = 0
    for at in range(len(history) - 1, -1, -1):
        stored = history[at]
        turn += _size(stored.message.content, stored.tokens, count_tokens)
        if used + turn > budget:
            break
        if stored.message.role == "user":
            first, used, turn = at, used + turn, 0

    kept = tuple(stored.message for stored in history[first:])
    return FittedPrompt((*kept, Message("user", prompt)), used, dropped=first)


def _size(text: str, tokens: int | None, count_tokens: Callable[[str], int]) -> int:
    return (count_tokens(text) if tokens is None else tokens) + MESSAGE_OVERHEAD
