"""A prompt or messages: one of them, and each refusal says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import InvalidRequest
from core.types import Message
from llm.options import messages_of

CALL = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
ASKED = {"role": "user", "content": "What time is it?"}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "12:00"}


def test_a_prompt_is_the_user_s_message() -> None:
    assert messages_of("Hello", None, goes_on=False) == (Message("user", "Hello"),)


@pytest.mark.parametrize(
    ("prompt", "messages", "word"),
    [
        (None, None, "give a prompt, or messages"),
        ("Hello", [ASKED], "not both"),
        ("Hello", [], "not both"),
        (None, [], "messages is empty"),
        (None, "Hello", "messages must be a list"),
        (None, {"role": "user"}, "messages must be a list"),
        (None, [ASKED, {"role": "assistant", "content": "b"}], "the last of messages"),
        (None, [{"role": "system", "content": "b"}], "the last of messages"),
        (None, [{"role": "user", "content": "  "}], r"messages\[0\]\.content is empty"),
        (None, [{"role": "user", "content": []}], r"messages\[0\]\.content is empty"),
        (None, [ASKED, CALLING, ASKED], "results of these tool calls are missing"),
        (None, [CALLING, RESULT], "no question"),
        (None, [RESULT], "no question"),
    ],
)
def test_what_cannot_be_asked(prompt: Any, messages: Any, word: str) -> None:
    with pytest.raises(InvalidRequest, match=word):
        messages_of(prompt, messages, goes_on=False)


def test_a_conversation_goes_on_with_a_result() -> None:
    (message,) = messages_of(None, [RESULT], goes_on=True)
    assert message.tool_call_id == "1"


def test_messages_of_our_own_kind_are_taken() -> None:
    message = Message("user", "Hello")
    assert messages_of(None, [message], goes_on=False) == (message,)
