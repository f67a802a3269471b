"""How conversations become what Anthropic and Gemini take."""

from __future__ import annotations

import pytest

from core.errors import RequestRejected
from core.types import Message
from llm.providers.turns import system_of, turns_of
from tests.providers.dialects import ANTHROPIC, call_of


def turns(*messages: Message) -> list[tuple[str, str]]:
    call = call_of(ANTHROPIC, None, messages=messages)
    return [(turn.role, turn.content) for turn in turns_of(call)]


def test_a_conversation_stays_as_it_is() -> None:
    assert turns(Message("user", "a"), Message("assistant", "b"), Message("user", "c")) == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]


def test_answers_before_the_first_question_go() -> None:
    cut = (Message("assistant", "the end of a long answer"), Message("user", "and now?"))
    assert turns(*cut) == [("user", "and now?")]


def test_empty_messages_go() -> None:
    cut = (
        Message("user", "a"),
        Message("assistant", ""),
        Message("user", " \n"),
        Message("user", "b"),
    )
    assert turns(*cut) == [("user", "a"), ("user", "b")]


def test_tool_messages_are_the_users() -> None:
    assert turns(Message("user", "a"), Message("tool", "42")) == [("user", "a"), ("user", "42")]


@pytest.mark.parametrize(
    "messages", [(), (Message("user", "  "),), (Message("assistant", "b"),)], ids=["none", "", "a"]
)
def test_without_a_question_the_caller_is_told(messages: tuple[Message, ...]) -> None:
    with pytest.raises(RequestRejected, match="no message of the user's") as failed:
        turns(*messages)
    assert failed.value.sent is False


def test_system_texts_are_joined() -> None:
    messages = (Message("system", "Be kind."), Message("user", "a"))
    call = call_of(ANTHROPIC, None, messages=messages, system_prompt="Be short.")
    assert system_of(call) == "Be short.\n\nBe kind."
    assert system_of(call_of(ANTHROPIC, None)) == ""
