"""Promises of the Lua scripts: time to live, one slot, one round trip, healing."""

from __future__ import annotations

from typing import Any

import pytest
from redis.crc import key_slot

from conversation.store import ConversationStore
from core.errors import ConversationUnavailable
from lua import conversation_calls as calls
from lua.loader import ScriptCall
from lua.names import Names
from tests.conversation.conftest import TTL_SECONDS, turn


def lives(client: Any, names: Names) -> tuple[int, int]:
    return client.pttl(names.conversation("chat")), client.pttl(names.messages("chat"))


def test_both_keys_expire_at_the_same_moment(
    store: ConversationStore, server: Any, names: Names, redis_server: Any
) -> None:
    ConversationStore(redis_server, names, TTL_SECONDS).append_turn(turn(1))
    ends = {server.pexpiretime(key) for key in (names.conversation("chat"), names.messages("chat"))}
    assert len(ends) == 1
    assert min(ends) > 0


def test_every_turn_gives_the_full_life_again(client: Any, names: Names, connection: Any) -> None:
    ConversationStore(connection, names, 10).append_turn(turn(1))
    ConversationStore(connection, names, TTL_SECONDS).append_turn(turn(2))
    for life in lives(client, names):
        assert TTL_SECONDS * 1000 - 2_000 < life <= TTL_SECONDS * 1000


def test_only_creation_and_turns_give_life(client: Any, names: Names, connection: Any) -> None:
    short, long = (ConversationStore(connection, names, ttl) for ttl in (10, TTL_SECONDS))
    short.create_conversation("chat")
    assert 8_000 < lives(client, names)[0] <= 10_000
    short.append_turn(turn(1))
    long.create_conversation("chat", {"a": 1})
    long.set_system_prompt("chat", "Be brief.")
    long.truncate_history("chat", 1)
    long.get_history("chat")
    assert 8_000 < lives(client, names)[0] <= 10_000


def test_the_mark_of_a_turn_goes_by_itself(
    store: ConversationStore, client: Any, names: Names
) -> None:
    store.append_turn(turn(1))
    assert 0 < client.pttl(names.turn("chat", "request-1")) <= calls.TURN_MARK_MS


def test_an_injected_time_is_the_only_one(client: Any, names: Names, connection: Any) -> None:
    now = int(client.time()[0]) * 1000 + 5_000
    call = calls.append_turn_call(
        names,
        "chat",
        request_id="1",
        user_id=None,
        messages=['{"role":"user","content":"q"}', '{"role":"assistant","content":"a"}'],
        tokens=0,
        fields={},
        ttl_ms=60_000,
        now_ms=now,
    )
    call.run(connection)
    assert [m.ts for m in ConversationStore(connection, names, 1).load("chat").history] == [
        now,
        now,
    ]
    assert client.hget(names.conversation("chat"), "created_ms") == str(now)
    assert 60_000 < client.pttl(names.messages("chat")) <= 65_000


@pytest.mark.parametrize("lost", ["meta", "messages"])
def test_half_a_conversation_is_none(
    store: ConversationStore, client: Any, names: Names, lost: str
) -> None:
    store.append_turn(turn(1, user_id="alice", system_prompt="Old.", total_tokens=5))
    client.delete(names.conversation("chat") if lost == "meta" else names.messages("chat"))
    assert store.exists("chat") is False
    assert store.get_history("chat") == []
    assert store.list_conversations() == []
    assert store.truncate_history("chat") == 0
    store.append_turn(turn(2, user_id="bob"))
    assert len(store.get_history("chat")) == 2
    meta = store.get_metadata("chat")
    assert (meta["user_id"], meta["total_tokens"]) == ("bob", 0)


def test_flushed_scripts_are_sent_again(store: ConversationStore, client: Any) -> None:
    for n in range(3):
        client.script_flush()
        store.append_turn(turn(n))
    client.script_flush()
    assert len(store.load("chat").messages) == 6
    client.script_flush()
    assert len(store.list_conversations()) == 1
    client.script_flush()
    assert store.truncate_history("chat", 2) == 4
    client.script_flush()
    assert store.delete_conversation("chat") is True


@pytest.mark.parametrize("odd", ["plain", "{", "}", "a}b", "{}", "a{b}c", "}{", "%7B"])
def test_every_script_stays_in_one_slot_of_a_cluster(
    store: ConversationStore, names: Names, odd: str
) -> None:
    t = turn(odd, odd, user_id=odd)
    load: list[ScriptCall] = [
        store.append_command(t),
        store.index_command(t),
        store.load_command(odd),
        calls.create_conversation_call(names, odd, user_id=odd, fields={}, ttl_ms=1),
        calls.truncate_conversation_call(names, odd, keep_last_n=1),
        calls.delete_conversation_call(names, odd),
        calls.unindex_conversations_call(names, [(odd, "")], user_id=odd, everywhere=True),
    ]
    for call in load:
        assert len({key_slot(key.encode()) for key in call.keys}) == 1, call.script


def test_conversations_spread_over_a_cluster(names: Names) -> None:
    slots = {key_slot(names.messages(f"chat-{n}").encode()) for n in range(100)}
    assert len(slots) > 90


class CountedConnection:
    """Passes commands on; each of its calls is one round trip."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.round_trips = 0

    def call(self, *command: Any) -> Any:
        self.round_trips += 1
        return self._connection.call(*command)

    def call_many(self, commands: Any) -> Any:
        self.round_trips += 1
        return self._connection.call_many(commands)


@pytest.mark.usefixtures("server")
def test_load_and_append_are_one_round_trip_each(redis_server: Any, names: Names) -> None:
    counted = CountedConnection(redis_server)
    store = ConversationStore(counted, names, TTL_SECONDS)
    store.append_turn(turn(1))
    store.load("chat")
    counted.round_trips = 0
    store.load("chat")
    assert counted.round_trips == 1
    store.append_turn(turn(2))
    assert counted.round_trips == 2


def test_the_count_in_redis_is_that_of_the_list(
    store: ConversationStore, client: Any, names: Names, connection: Any
) -> None:
    def count() -> tuple[Any, Any]:
        field = client.hget(names.conversation("chat"), "message_count")
        return field, client.llen(names.messages("chat"))

    for n in range(3):
        store.append_turn(turn(n))
    assert count() == ("6", 6)
    store.truncate_history("chat", 4)
    assert count() == ("4", 4)
    assert calls.truncate_conversation_call(names, "chat", keep_last_n=9).run(connection) == 0
    assert count() == ("4", 4)


def test_braces_in_a_name_leave_its_hash_tag_whole(names: Names) -> None:
    assert names.messages("a{b}%") == "test:{conv:a%7Bb%7D%25}:messages"


def test_without_memory_the_history_stays_as_it_was(
    server: Any, names: Names, redis_server: Any
) -> None:
    store = ConversationStore(redis_server, names, TTL_SECONDS)
    store.append_turn(turn(1, total_tokens=5))
    before = (store.get_history("chat"), store.get_metadata("chat"))
    server.config_set("maxmemory", 1)
    try:
        with pytest.raises(ConversationUnavailable, match="memory"):
            store.append_turn(turn(2, total_tokens=5))
        assert (store.get_history("chat"), store.get_metadata("chat")) == before
    finally:
        server.config_set("maxmemory", 0)
    assert store.append_turn(turn(2)) is True
