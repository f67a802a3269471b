"""What a user of the store sees."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conversation.store import ConversationStore
from core.errors import InvalidRequest
from core.types import Message
from lua.names import Names
from tests.conversation.conftest import turn


def contents(
    store: ConversationStore, conv_id: str = "chat", limit: int | None = None
) -> list[str]:
    return [message["content"] for message in store.get_history(conv_id, limit)]


def test_a_conversation_that_is_not_there_is_empty(store: ConversationStore) -> None:
    assert store.get_history("chat") == []
    assert store.get_metadata("chat") == {}
    assert store.exists("chat") is False
    assert store.truncate_history("chat") == 0
    assert store.delete_conversation("chat") is False
    conversation = store.load("chat")
    assert (conversation.messages, conversation.metadata) == ((), None)


def test_turns_come_back_oldest_first(store: ConversationStore) -> None:
    assert store.append_turn(turn(1)) is True
    assert store.append_turn(turn(2)) is True
    assert store.get_history("chat") == [
        {"role": "user", "content": "question 1"},
        {"role": "assistant", "content": "answer 1"},
        {"role": "user", "content": "question 2"},
        {"role": "assistant", "content": "answer 2"},
    ]
    assert store.load("chat").messages[-1] == Message("assistant", "answer 2")


def test_a_limit_takes_the_last_messages_beside_the_system_prompt(store: ConversationStore) -> None:
    store.append_turn(turn(1, system_prompt="Be brief."))
    store.append_turn(turn(2))
    assert contents(store, limit=1) == ["Be brief.", "answer 2"]
    assert contents(store, limit=0) == ["Be brief."]
    assert contents(store, limit=99) == contents(store)
    with pytest.raises(InvalidRequest, match="limit must be 0 or more"):
        store.get_history("chat", -1)


def test_what_is_noted_beside_a_message_is_loaded(store: ConversationStore) -> None:
    store.append_turn(turn(1, model="gpt-4o", prompt_tokens=3, answer_tokens=5))
    user, assistant = store.load("chat").history
    assert (user.tokens, user.model, user.request_id) == (3, None, "request-1")
    assert (assistant.tokens, assistant.model, assistant.request_id) == (5, "gpt-4o", "request-1")
    assert user.ts == assistant.ts


def test_load_reads_no_more_than_the_last_messages(
    client: Any, names: Names, connection: Any
) -> None:
    store = ConversationStore(connection, names, 100, max_messages=4)
    for n in range(5):
        store.append_turn(turn(n))
    conversation = store.load("chat")
    assert [message.content for message in conversation.messages] == [
        "question 3", "answer 3", "question 4", "answer 4",
    ]  # fmt: skip
    assert conversation.metadata is not None
    assert conversation.metadata.message_count == 10
    assert len(store.get_history("chat")) == 10


def test_metadata_are_kept_with_every_turn(store: ConversationStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    store.append_turn(turn(1, model="gpt-4o", user_id="alice", total_tokens=30))
    store.append_turn(turn(2, model="gemini-2.5-pro", total_tokens=50))
    meta = store.get_metadata("chat")
    created = datetime.fromisoformat(meta.pop("created_at"))
    updated = datetime.fromisoformat(meta.pop("updated_at"))
    assert before < created <= updated < before + timedelta(seconds=5)
    assert meta == {
        "conversation_id": "chat",
        "user_id": "alice",
        "message_count": 4,
        "total_tokens": 80,
        "last_model": "gemini-2.5-pro",
        "metadata": {},
    }


def test_a_created_conversation_is_there_without_messages(store: ConversationStore) -> None:
    assert store.create_conversation("chat", {"user_id": "alice", "tags": ["a"]}) is True
    assert store.exists("chat")
    assert store.get_history("chat") == []
    meta = store.get_metadata("chat")
    assert (meta["user_id"], meta["metadata"]) == ("alice", {"tags": ["a"]})
    assert (meta["message_count"], meta["total_tokens"]) == (0, 0)


def test_metadata_of_one_that_is_there_are_merged(store: ConversationStore) -> None:
    store.create_conversation("chat", {"a": 1, "b": {"deep": [1, {}, []]}})
    store.append_turn(turn(1, metadata={"b": None}))
    assert store.create_conversation("chat", {"c": 2**60}) is False
    assert store.get_metadata("chat")["metadata"] == {"a": 1, "b": None, "c": 2**60}
    assert len(store.get_history("chat")) == 2


def test_the_system_prompt_can_be_set_replaced_and_removed(store: ConversationStore) -> None:
    store.set_system_prompt("chat", "Be brief.")
    assert store.get_history("chat") == [{"role": "system", "content": "Be brief."}]
    store.append_turn(turn(1))
    assert store.load("chat").system_prompt == "Be brief."
    store.append_turn(turn(2, system_prompt="Be long."))
    assert store.load("chat").system_prompt == "Be long."
    store.set_system_prompt("chat", None)
    assert store.load("chat").system_prompt is None
    assert len(store.get_history("chat")) == 4


def test_truncation_keeps_the_system_prompt_and_the_newest(store: ConversationStore) -> None:
    for n in range(5):
        store.append_turn(turn(n, system_prompt="Be brief.", total_tokens=10))
    assert store.truncate_history("chat", keep_last_n=4) == 6
    assert contents(store) == ["Be brief.", "question 3", "answer 3", "question 4", "answer 4"]
    meta = store.get_metadata("chat")
    assert (meta["message_count"], meta["total_tokens"]) == (4, 50)
    assert store.truncate_history("chat", keep_last_n=4) == 0


def test_truncation_cuts_no_turn_in_two(store: ConversationStore) -> None:
    for n in range(5):
        store.append_turn(turn(n))
    assert store.truncate_history("chat", keep_last_n=3) == 8
    assert contents(store) == ["question 4", "answer 4"]


def test_truncation_to_nothing_leaves_a_conversation(store: ConversationStore) -> None:
    store.append_turn(turn(1, system_prompt="Be brief."))
    assert store.truncate_history("chat", keep_last_n=0) == 2
    assert contents(store) == ["Be brief."]
    store.append_turn(turn(2))
    assert contents(store) == ["Be brief.", "question 2", "answer 2"]
    with pytest.raises(InvalidRequest, match="keep_last_n"):
        store.truncate_history("chat", -1)


def test_a_deleted_conversation_begins_anew(store: ConversationStore) -> None:
    store.append_turn(turn(1, user_id="alice", system_prompt="Be brief.", metadata={"a": 1}))
    assert store.delete_conversation("chat") is True
    assert store.exists("chat") is False
    store.append_turn(turn(2, user_id="bob"))
    assert contents(store) == ["question 2", "answer 2"]
    assert store.get_metadata("chat")["metadata"] == {}


def test_a_turn_sent_twice_is_appended_once(
    store: ConversationStore, client: Any, connection: Any
) -> None:
    command = store.append_command(turn(1, total_tokens=7))
    first, again = command.run(connection), command.run(connection)
    assert store.read_append(turn(1), first) is True
    assert store.read_append(turn(1), again) is False
    assert len(store.get_history("chat")) == 2
    assert store.get_metadata("chat")["total_tokens"] == 7


def test_a_turn_that_arrives_again_after_deletion_stays_away(store: ConversationStore) -> None:
    store.append_turn(turn(1))
    store.delete_conversation("chat")
    assert store.append_turn(turn(1)) is False
    assert store.exists("chat") is False


def test_another_users_conversation_is_refused(store: ConversationStore) -> None:
    store.append_turn(turn(1, user_id="alice"))
    with pytest.raises(InvalidRequest, match="belongs to another user") as refusal:
        store.append_turn(turn(2, user_id="bob", metadata={"a": 1}, system_prompt="x"))
    assert "alice" not in str(refusal.value)
    with pytest.raises(InvalidRequest, match="belongs to another user"):
        store.create_conversation("chat", {"user_id": "bob"})
    conversation = store.load("chat")
    with pytest.raises(InvalidRequest, match="belongs to another user"):
        conversation.admit("bob")
    assert (len(conversation.messages), conversation.system_prompt) == (2, None)
    assert store.get_metadata("chat")["metadata"] == {}


def test_who_names_nobody_goes_on_with_the_owner(store: ConversationStore) -> None:
    store.append_turn(turn(1))
    assert store.load("chat").admit(None) is None
    assert store.load("chat").admit("alice") == "alice"
    store.append_turn(turn(2, user_id="alice"))
    assert store.load("chat").admit(None) == "alice"
    store.append_turn(turn(3))
    assert store.get_metadata("chat")["user_id"] == "alice"


def test_conversations_do_not_mix(store: ConversationStore) -> None:
    ids = ["a", "a}", "a{", "{a}", "%7B", "{", "a:meta", "conv:a", "a b", "ä", "日本"]
    for conv_id in ids:
        store.append_turn(turn(conv_id, conv_id))
    for conv_id in ids:
        assert contents(store, conv_id) == [f"question {conv_id}", f"answer {conv_id}"]
    assert {c["conversation_id"] for c in store.list_conversations()} == set(ids)
