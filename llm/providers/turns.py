"""Conversations as Anthropic and Gemini take them: from the user first, and never empty."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import dropwhile
from typing import Any

from core.content import Content, TextPart, ToolCall, images_of, text_of
from core.errors import RequestRejected
from core.types import Message
from llm.providers.base import ProviderCall
from llm.providers.translate import clean


def system_of(call: ProviderCall) -> str:
    """The system prompt and any system messages, as one text; empty if there are none."""
    texts = [call.system_prompt or ""]
    texts += [text_of(message.content) for message in call.messages if message.role == "system"]
    return clean("\n\n".join(text for text in texts if text.strip()))


def turns_of(call: ProviderCall) -> list[Message]:
    """The messages that can be sent, from `user`, `assistant`, or `tool` with the id of its call.

    Empty ones go: an answer that was cut before its first word is stored as such, and would be
    refused from then on. So do answers before the first question, which truncating a history can
    leave. A `tool` message without a call's id becomes the user's.

    Raises:
        RequestRejected: nothing is left.
    """
    turns = list(dropwhile(lambda turn: turn.role != "user", _spoken(call)))
    if not turns:
        raise RequestRejected(
            f"{call.provider}: there is no message of the user's with any text",
            provider=call.provider,
            sent=False,
        )
    return turns


def cleaned(content: Content) -> Content:
    """The content without halves of characters, and without parts that are empty texts."""
    if isinstance(content, str):
        return clean(content)
    parts = (replace(p, text=clean(p.text)) if isinstance(p, TextPart) else p for p in content)
    return tuple(p for p in parts if not isinstance(p, TextPart) or p.text)


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """A call's arguments as an object, which Anthropic and Gemini want; what is none is kept as
    the text that it is."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = call.arguments
    return arguments if isinstance(arguments, dict) else {"arguments": arguments}


def _spoken(call: ProviderCall) -> Iterator[Message]:
    for message in call.messages:
        answers = message.role == "tool" and message.tool_call_id is not None
        empty = not text_of(message.content).strip() and not images_of(message.content)
        if message.role == "system" or (empty and not answers and not message.tool_calls):
            continue
        turn = replace(message, content=cleaned(message.content))
        yield replace(turn, role="user") if message.role == "tool" and not answers else turn
