"""Listing, and how the index mends itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from conversation.store import ConversationStore
from core.errors import InvalidRequest
from lua import conversation_calls as calls
from lua.names import Names
from tests.conversation.conftest import TTL_SECONDS, turn


def listed(store: ConversationStore, *args: Any, **kwargs: Any) -> list[str]:
    return [entry["conversation_id"] for entry in store.list_conversations(*args, **kwargs)]


def append_apart(store: ConversationStore, *conv_ids: str, **more: Any) -> None:
    """Append a turn to each, in different milliseconds, so that their order is known."""
    for conv_id in conv_ids:
        store.append_turn(turn(f"{conv_id}-{time.monotonic_ns()}", conv_id, **more))
        time.sleep(0.002)


def test_the_latest_turn_comes_first(store: ConversationStore) -> None:
    append_apart(store, "a", "b", "c", "a")
    assert listed(store) == ["a", "c", "b"]
    assert store.list_conversations()[0] == store.get_metadata("a")


def test_each_user_has_a_list(store: ConversationStore) -> None:
    append_apart(store, "a1", "a2", user_id="alice")
    append_apart(store, "b1", user_id="bob")
    append_apart(store, "nobodys")
    assert listed(store, "alice") == ["a2", "a1"]
    assert listed(store, user_id="bob") == ["b1"]
    assert listed(store, "carol") == []
    assert listed(store) == ["nobodys", "b1", "a2", "a1"]


def test_pages(store: ConversationStore) -> None:
    append_apart(store, *"abcde")
    assert listed(store, limit=2) == ["e", "d"]
    assert listed(store, limit=2, offset=2) == ["c", "b"]
    assert listed(store, limit=2, offset=4) == ["a"]
    assert listed(store, limit=2, offset=6) == []


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (1001, 0), (1, -1)])
def test_a_page_out_of_range_is_refused(store: ConversationStore, limit: int, offset: int) -> None:
    with pytest.raises(InvalidRequest, match="limit must be from 1 to 1000"):
        store.list_conversations(limit=limit, offset=offset)


def test_a_deleted_conversation_leaves_the_lists(
    store: ConversationStore, client: Any, names: Names
) -> None:
    append_apart(store, "a", "b", user_id="alice")
    store.delete_conversation("a")
    assert client.zrange(names.conversations(), 0, -1) == ["b"]
    assert client.zrange(names.conversations("alice"), 0, -1) == ["b"]


def test_what_vanished_by_other_hands_is_dropped_and_replaced(
    store: ConversationStore, client: Any, names: Names
) -> None:
    append_apart(store, *"abcdef")
    for conv_id in "fdb":
        client.delete(names.conversation(conv_id), names.messages(conv_id))
    assert listed(store, limit=3) == ["e", "c", "a"]
    assert client.zrange(names.conversations(), 0, -1) == ["a", "c", "e"]


def test_an_entry_under_a_wrong_user_is_dropped(
    store: ConversationStore, client: Any, names: Names
) -> None:
    append_apart(store, "a", user_id="alice")
    with pytest.raises(InvalidRequest):
        append_apart(store, "a", user_id="bob")
    assert client.zcard(names.conversations("bob")) == 1
    assert listed(store, "bob") == []
    assert client.zcard(names.conversations("bob")) == 0
    assert listed(store, "alice") == ["a"]


def test_a_turn_whose_listing_failed_is_listed_by_the_next(
    store: ConversationStore, client: Any, connection: Any
) -> None:
    store.append_command(turn(1)).run(connection)
    assert listed(store) == []
    store.append_turn(turn(2))
    assert listed(store) == ["chat"]


def test_an_entry_that_came_alive_again_is_not_dropped(
    client: Any, names: Names, connection: Any
) -> None:
    def index(now_ms: int) -> int:
        call = calls.index_conversation_call(
            names, "chat", user_id=None, ttl_ms=1000, now_ms=now_ms
        )
        return int(call.run(connection))

    seen = str(index(5_000))
    index(5_500)
    drop = calls.unindex_conversations_call(names, [("chat", seen)], user_id=None, everywhere=False)
    assert drop.run(connection) == 0
    assert client.zscore(names.conversations(), "chat") == 6_500


def test_every_turn_drops_some_expired_entries(client: Any, names: Names, connection: Any) -> None:
    dead = {f"dead-{n}": n for n in range(calls.EXPIRED_PER_TURN + 50)}
    for key in (names.conversations(), names.conversations("alice")):
        client.zadd(key, dead)
    store = ConversationStore(connection, names, TTL_SECONDS)
    for n, left in enumerate([50, 0, 0]):
        store.append_turn(turn(n, user_id="alice"))
        assert client.zcard(names.conversations()) == left + 1
        assert client.zcard(names.conversations("alice")) == left + 1


def test_a_list_goes_with_its_last_conversation(client: Any, names: Names, connection: Any) -> None:
    ConversationStore(connection, names, 500).append_turn(turn(1, "long"))
    ConversationStore(connection, names, 5).append_turn(turn(1, "short"))
    assert 495_000 < client.pttl(names.conversations()) <= 500_000


def test_an_expired_conversation_is_gone_everywhere(
    client: Any, names: Names, connection: Any
) -> None:
    store = ConversationStore(connection, names, 1)
    ConversationStore(connection, names, 100).append_turn(turn(1, "long"))
    store.append_turn(turn(1, "short", user_id="alice"))
    assert listed(store) == ["long", "short"]
    time.sleep(1.05)
    assert listed(store, "alice") == []
    assert listed(store) == ["long"]
    assert store.exists("short") is False
    assert store.get_history("short") == []
    assert client.zcard(names.conversations()) == 1
    assert client.exists(names.conversation("short"), names.messages("short")) == 0
