"""Any text goes in and comes out again; what cannot is refused, what is damaged is named."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversation.codec import decode_conversation, encode_fields, encode_turn
from conversation.records import Turn
from conversation.store import ConversationStore
from core.errors import ConversationUnavailable, InvalidRequest
from core.redis_connection import open_redis
from lua.names import Names
from tests.conversation.conftest import turn

ANY_TEXT = st.text(st.characters(exclude_categories=[]))


def joined(text: str) -> str:
    """JSON makes one character of two surrogates that belong together."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@given(prompt=ANY_TEXT, answer=ANY_TEXT, system=ANY_TEXT.filter(bool))
def test_any_text_survives_the_encoding(prompt: str, answer: str, system: str) -> None:
    t = Turn("chat", "1", prompt, answer, system_prompt=system)
    flat = {"created_ms": "1", "updated_ms": "1", "total_tokens": "0"}
    flat |= encode_fields(system_prompt=t.system_prompt)
    pairs = [part for pair in flat.items() for part in pair]
    conversation = decode_conversation("chat", [2, pairs, list(encode_turn(t))])
    assert [m.content for m in conversation.messages] == [joined(prompt), joined(answer)]
    assert conversation.system_prompt == joined(system)
    for text in encode_turn(t):
        text.encode()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(prompt=ANY_TEXT, answer=ANY_TEXT)
def test_any_text_survives_redis(store: ConversationStore, prompt: str, answer: str) -> None:
    store.delete_conversation("chat")
    assert store.append_turn(Turn("chat", uuid4().hex, prompt, answer))
    assert [m.content for m in store.load("chat").messages] == [joined(prompt), joined(answer)]


@pytest.mark.parametrize(
    "text",
    ["", "\x00", "a\x00b", "\ud800", "\udfff tail", "😀", "é" * 10, '"}\\', "]]", "\u2028", "\r\n"],
)
def test_odd_texts(store: ConversationStore, text: str) -> None:
    store.append_turn(Turn("chat", "1", text, text, metadata={"text": text}))
    assert [m["content"] for m in store.get_history("chat")] == [text, text]
    assert store.get_metadata("chat")["metadata"] == {"text": text}


def test_a_megabyte(store: ConversationStore) -> None:
    text = "Ünï 😀 " * 100_000
    store.append_turn(Turn("chat", "1", text, text))
    assert [m["content"] for m in store.get_history("chat")] == [text, text]


GARBAGE = [
    "no json", "", "[]", "1", "null", "{}", '{"role":"user"}', '{"role":"king","content":""}',
    '{"role":[],"content":""}', '{"role":"user","content":1}', '{"role":"user","content":null}',
    '{"role":"user","content":"","tokens":"5"}', '{"role":"user","content":"","tokens":-1}',
    '{"role":"user","content":"","tokens":true}', "[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_a_damaged_message_is_named(
    store: ConversationStore, client: Any, names: Names, garbage: str
) -> None:
    for n in range(2):
        store.append_turn(turn(n))
    client.lset(names.messages("chat"), 2, garbage)
    with pytest.raises(ConversationUnavailable, match=r"'chat'.* message 2"):
        store.load("chat")
    with pytest.raises(ConversationUnavailable, match=r"'chat'.* message 2"):
        store.get_history("chat", limit=2)
    assert len(store.get_history("chat", limit=1)) == 1
    assert store.delete_conversation("chat") is True


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("total_tokens", "many"),
        ("total_tokens", "1.5"),
        ("created_ms", "yesterday"),
        ("created_ms", "9" * 30),
        ("updated_ms", ""),
        ("system_prompt", "no json"),
        ("system_prompt", "5"),
        ("last_model", "no json"),
        ("m:own", "no json"),
    ],
)
def test_damaged_metadata_are_named(
    store: ConversationStore, client: Any, names: Names, field: str, value: str
) -> None:
    store.append_turn(turn(1))
    client.hset(names.conversation("chat"), field, value)
    for read in (store.load, store.get_history, store.get_metadata, store.exists):
        with pytest.raises(ConversationUnavailable, match="'chat'"):
            read("chat")
    with pytest.raises(ConversationUnavailable, match="'chat'"):
        store.list_conversations()
    assert store.delete_conversation("chat") is True
    assert store.list_conversations() == []


def test_a_damaged_total_stops_the_append_before_it_writes(
    store: ConversationStore, client: Any, names: Names
) -> None:
    store.append_turn(turn(1))
    client.hset(names.conversation("chat"), "total_tokens", "many")
    with pytest.raises(ConversationUnavailable, match="total_tokens"):
        store.append_turn(turn(2))
    assert client.llen(names.messages("chat")) == 2


@pytest.mark.parametrize("which", ["conversation", "messages"])
def test_a_key_of_a_wrong_type_is_an_error_and_can_be_deleted(
    store: ConversationStore, client: Any, names: Names, which: str
) -> None:
    client.set(getattr(names, which)("chat"), "a string")
    for use in (store.load, lambda c: store.append_turn(turn(1, c)), store.create_conversation):
        with pytest.raises(ConversationUnavailable, match="'chat': WRONGTYPE"):
            use("chat")
    assert client.exists(names.conversation("chat"), names.messages("chat")) == 1
    assert store.delete_conversation("chat") is True
    assert store.append_turn(turn(2)) is True


@pytest.mark.parametrize("quick", [True, False])
def test_bytes_that_are_no_utf8_leave_the_connection_usable(
    server: Any, redis_server: Any, names: Names, quick: bool
) -> None:
    store = ConversationStore(redis_server, names, 100)
    store.append_turn(turn(1, "good"))
    store.append_turn(turn(1, "bad"))
    server.hset(names.conversation("bad"), "m:x", b"\xff\xfe")
    for _ in range(5):
        with pytest.raises(ConversationUnavailable, match="'bad'"):
            store.load("bad")
        with pytest.raises(ConversationUnavailable, match="list of conversations"):
            store.list_conversations()
        assert len(store.get_history("good")) == 2


def test_redis_out_of_reach(settings: Any) -> None:
    away = open_redis(settings(redis_url="unix:///tmp/no-such-socket"))
    store = ConversationStore(away, Names("test"), 100)
    for use in (
        lambda: store.load("chat"),
        lambda: store.append_turn(turn(1)),
        lambda: store.create_conversation("chat"),
        lambda: store.truncate_history("chat"),
        lambda: store.delete_conversation("chat"),
        store.list_conversations,
    ):
        with pytest.raises(ConversationUnavailable) as error:
            use()
        assert error.value.error_type == "conversation_unavailable"
        assert error.value.__cause__ is not None


BAD_IDENTIFIERS = [
    "",
    "a\nb",
    "a\x00",
    "\x7f",
    "\x85",
    "\ud800",
    "x" * 513,
    "é" * 257,
    None,
    5,
    b"a",
]


@pytest.mark.parametrize("bad", BAD_IDENTIFIERS, ids=range(len(BAD_IDENTIFIERS)))
def test_bad_names_are_refused(store: ConversationStore, bad: Any) -> None:
    for use in (
        store.load,
        store.load_command,
        store.get_history,
        store.get_metadata,
        store.exists,
        store.create_conversation,
        store.truncate_history,
        store.delete_conversation,
        lambda name: store.set_system_prompt(name, "x"),
        lambda name: Turn(name, "1", "q", "a"),
        lambda name: Turn("chat", name, "q", "a"),
    ):
        with pytest.raises(InvalidRequest):
            use(bad)
    if bad is not None:
        with pytest.raises(InvalidRequest):
            Turn("chat", "1", "q", "a", user_id=bad)
        with pytest.raises(InvalidRequest):
            store.list_conversations(bad)


def test_the_longest_name(store: ConversationStore) -> None:
    store.append_turn(turn(1, "é" * 256))
    assert store.exists("é" * 256)


@pytest.mark.parametrize(
    "metadata",
    [
        {"a": object()},
        {"a": float("nan")},
        {"a": b"bytes"},
        {1: "number"},
        {"": 1},
        {"\ud800": 1},
        {"a": "x" * 70_000},
        ["a"],
    ],
    ids=range(8),
)
def test_bad_metadata_are_refused(store: ConversationStore, metadata: Any) -> None:
    with pytest.raises(InvalidRequest, match="metadata"):
        store.create_conversation("chat", metadata)
    with pytest.raises(InvalidRequest, match="metadata"):
        store.append_turn(turn(1, metadata=metadata))
    assert store.exists("chat") is False


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": None},
        {"answer": b"a"},
        {"prompt_tokens": -1},
        {"answer_tokens": 1.5},
        {"total_tokens": True},
        {"system_prompt": 5},
        {"model": 5},
    ],
    ids=str,
)
def test_a_wrong_turn_is_refused(wrong: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"conv_id": "c", "request_id": "r", "prompt": "q", "answer": "a"}
    with pytest.raises(InvalidRequest):
        Turn(**(fields | wrong))


@pytest.mark.parametrize("model", ["", "\ud800", "a\nb"])
def test_an_odd_name_of_a_model_costs_no_turn(store: ConversationStore, model: str) -> None:
    assert store.append_turn(turn(1, model=model)) is True
    assert store.get_metadata("chat")["last_model"] == model
    assert store.load("chat").history[-1].model == model


def test_unicode_is_stored_readable(store: ConversationStore, client: Any, names: Names) -> None:
    store.append_turn(Turn("chat", "1", "日本", "\ud800"))
    readable, escaped = client.lrange(names.messages("chat"), 0, -1)
    assert "日本" in readable
    assert json.loads(escaped)["content"] == "\ud800"
