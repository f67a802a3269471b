"""Turns with tool calls: stored, read, cut only at their borders; and what was stored before."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.codec import decode_conversation
from conversation.records import StoredMessage, Turn
from conversation.store import ConversationStore
from conversation.window import PromptTooLong, fit_prompt, without_broken_turns
from core.content import ImagePart, TextPart, ToolCall
from core.errors import ConversationUnavailable, InvalidRequest
from core.tool_results import check_results
from core.types import Message

CALL = ToolCall("call_1", "weather", '{"place": "Oslo"}', signature="c2ln")
RESULT = Message("tool", "3 C", tool_call_id="call_1")
PICTURE = Message("user", (TextPart("What?"), ImagePart(data="YQ==", media_type="image/png")))


def question(n: int) -> Turn:
    return Turn("chat", f"q{n}", f"question {n}", "", tool_calls=(CALL,))


def result(n: int) -> Turn:
    return Turn("chat", f"r{n}", (StoredMessage(RESULT, 3),), f"answer {n}")


def roles(store: ConversationStore) -> list[str]:
    return [message["role"] for message in store.get_history("chat")]


def test_calls_results_and_images_come_back_as_they_were(store: ConversationStore) -> None:
    store.append_turn(question(1))
    store.append_turn(result(1))
    store.append_turn(Turn("chat", "p", (StoredMessage(PICTURE),), "a dot"))
    loaded = store.load("chat")
    assert loaded.messages == (
        Message("user", "question 1"),
        Message("assistant", "", (CALL,)),
        RESULT,
        Message("assistant", "answer 1"),
        PICTURE,
        Message("assistant", "a dot"),
    )
    assert [stored.tokens for stored in loaded.history][2] == 3
    assert store.get_metadata("chat")["message_count"] == 6


def test_several_messages_are_one_turn_and_are_appended_once(store: ConversationStore) -> None:
    asked = tuple(StoredMessage(Message("user", text)) for text in ("a", "b", "c"))
    turn = Turn("chat", "1", asked, "d", system_prompt="Be short.", metadata={"x": 1})
    assert store.append_turn(turn)
    assert not store.append_turn(turn)
    assert roles(store) == ["system", "user", "user", "user", "assistant"]
    assert store.get_metadata("chat")["metadata"] == {"x": 1}


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (8, ["user", "assistant", "tool", "assistant"] * 2),
        (7, ["user", "assistant", "tool", "assistant"]),
        (5, ["user", "assistant", "tool", "assistant"]),
        (4, ["user", "assistant", "tool", "assistant"]),
        (3, ["user", "assistant", "tool", "assistant"]),
        (2, ["user", "assistant", "tool", "assistant"]),
        (1, []),
        (0, []),
    ],
)
def test_truncating_never_parts_a_result_from_its_call(
    store: ConversationStore, keep: int, left: list[str]
) -> None:
    for n in (1, 2):
        store.append_turn(question(n))
        store.append_turn(result(n))
    removed = store.truncate_history("chat", keep_last_n=keep)
    assert roles(store) == left
    assert removed == 8 - len(left)
    assert store.get_metadata("chat").get("message_count", 0) == len(left)


def test_what_was_stored_before_still_loads() -> None:
    old = [
        '{"role":"user","content":"q","request_id":"1","tokens":1,"ts":1}',
        '{"role":"assistant","content":"a","request_id":"1","model":"m","ts":1}',
        '{"role":"tool","content":"42","request_id":"1","ts":1}',
    ]
    fields = ["created_ms", "1", "updated_ms", "1", "message_count", "3", "total_tokens", "5"]
    loaded = decode_conversation("chat", [3, fields, old])
    assert loaded.messages == (
        Message("user", "q"), Message("assistant", "a"), Message("tool", "42")
    )  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "assistant", "content": "", "tool_calls": [{"id": 5}]},
        {"role": "assistant", "content": "", "tool_calls": 5},
        {"role": "tool", "content": "", "tool_call_id": 5},
        {"role": "user", "content": [{"type": "video"}]},
        {"role": "user", "content": None},
    ],
)
def test_a_damaged_message_is_named(wrong: object) -> None:
    fields = ["created_ms", "1", "updated_ms", "1", "message_count", "1", "total_tokens", "5"]
    with pytest.raises(ConversationUnavailable, match="message 0 is damaged"):
        decode_conversation("chat", [1, fields, [json.dumps(wrong)]])


@pytest.mark.parametrize("prompt", [5, (), ("a",), [StoredMessage(RESULT)]])
def test_a_turn_of_neither_text_nor_messages(prompt: object) -> None:
    with pytest.raises(InvalidRequest, match="prompt"):
        Turn("chat", "1", prompt, "a")  # type: ignore[arg-type]


def stored(message: Message, tokens: int = 5) -> StoredMessage:
    return StoredMessage(message, tokens)


TOOL_TURN = [
    stored(Message("user", "q")),
    stored(Message("assistant", "", (CALL,))),
    stored(RESULT),
    stored(Message("assistant", "a")),
]
PLAIN_TURN = [stored(Message("user", "q")), stored(Message("assistant", "a"))]
OPEN_TURN = TOOL_TURN[:2]


@given(
    turns=st.lists(st.sampled_from([TOOL_TURN, PLAIN_TURN]), max_size=8),
    budget=st.integers(0, 200),
    goes_on=st.booleans(),
)
def test_a_fitted_history_is_one_that_providers_take(
    turns: list[list[StoredMessage]], budget: int, goes_on: bool
) -> None:
    history = [each for turn in turns for each in turn] + (OPEN_TURN if goes_on else [])
    asked = [RESULT] if goes_on else [Message("user", "new")]
    try:
        fitted = fit_prompt(
            history, asked, system_prompt=None, budget=budget, count_tokens=lambda _: 5, beside=10
        )
    except PromptTooLong:
        assert budget < 10 + 9 * len(OPEN_TURN if goes_on else []) + 9
        return
    check_results(fitted.messages)
    assert fitted.messages[0].role == "user"
    assert fitted.tokens == 10 + 9 * len(fitted.messages) <= budget
    if goes_on:
        assert fitted.messages[-3:] == (*(each.message for each in OPEN_TURN), RESULT)


def test_a_turn_whose_results_never_came_is_left_out() -> None:
    history = [*PLAIN_TURN, *OPEN_TURN, *TOOL_TURN, *PLAIN_TURN]
    assert without_broken_turns(history) == [*PLAIN_TURN, *TOOL_TURN, *PLAIN_TURN]
    assert without_broken_turns([*TOOL_TURN, *OPEN_TURN]) == [*TOOL_TURN, *OPEN_TURN]
    assert without_broken_turns([TOOL_TURN[2], *TOOL_TURN]) == TOOL_TURN
    assert without_broken_turns(PLAIN_TURN) is PLAIN_TURN


def test_a_system_message_stays_with_its_question() -> None:
    with_system = [stored(Message("system", "s")), *PLAIN_TURN]

    def fit(budget: int) -> list[str]:
        fitted = fit_prompt(
            [*PLAIN_TURN, *with_system],
            [Message("user", "new")],
            system_prompt=None,
            budget=budget,
            count_tokens=lambda _: 5,
        )
        return [message.role for message in fitted.messages]

    assert fit(9 * 4) == ["system", "user", "assistant", "user"]
    assert fit(9 * 4 - 1) == ["user"]
