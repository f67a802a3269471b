"""Conversations as Anthropic and Gemini take them: from the user first, and never empty."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import dropwhile

from core.errors import RequestRejected
from core.types import Message, Role
from llm.providers.base import ProviderCall
from llm.providers.translate import clean


def system_of(call: ProviderCall) -> str:
    """The system prompt and any system messages, as one text; empty if there are none."""
    texts = [call.system_prompt or ""]
    texts += [message.content for message in call.messages if message.role == "system"]
    return clean("\n\n".join(text for text in texts if text.strip()))


def turns_of(call: ProviderCall) -> list[Message]:
    """The messages that can be sent, each from `user` or `assistant`.

    Empty ones go: an answer that was cut before its first word is stored as such, and would be
    refused from then on. So do answers before the first question, which truncating a history can
    leave. A `tool` message becomes the user's, since ours carry no call ids.

    Raises:
        RequestRejected: nothing is left.
    """
    turns = list(dropwhile(lambda turn: turn.role == "assistant", _spoken(call)))
    if not turns:
        raise RequestRejected(
            f"{call.provider}: there is no message of the user's with any text",
            provider=call.provider,
            sent=False,
        )
    return turns


def _spoken(call: ProviderCall) -> Iterator[Message]:
    for message in call.messages:
        if message.role != "system" and message.content.strip():
            role: Role = "user" if message.role == "tool" else message.role
            yield Message(role, clean(message.content))
