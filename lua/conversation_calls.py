"""One typed Python function for each script of the conversations: it packs keys and arguments.

Each returns a `ScriptCall`, to be run alone or in a pipeline; what a call answers is said at it.
`fields` are set in the metadata as they stand. Times are in milliseconds; `now_ms` replaces the
clock of Redis in tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import chain

from lua.loader import ScriptCall, load
from lua.names import Names

TURN_MARK_MS = 600_000
"""How long a turn that is sent twice is recognised. redis-py sends again within seconds."""

EXPIRED_PER_TURN = 100
"""Expired entries that one turn drops from a list. It adds one, so a list can only shrink."""


class Outcome(IntEnum):
    """What a script that writes did; the numbers are those of the Lua files."""

    DONE = 1
    WAS_THERE = 0
    ANOTHER_USERS = -1


def append_turn_call(
    names: Names,
    conv_id: str,
    *,
    request_id: str,
    user_id: str | None,
    messages: Sequence[str],
    tokens: int,
    fields: Mapping[str, str],
    ttl_ms: int,
    now_ms: int | None = None,
) -> ScriptCall:
    """Append the messages (JSON objects) of a turn. Answers [Outcome, messages now]."""
    return ScriptCall(
        load("append_turn"),
        (
            names.conversation(conv_id),
            names.messages(conv_id),
            names.turn(conv_id, request_id),
        ),
        (
            _or_empty(now_ms),
            ttl_ms,
            TURN_MARK_MS,
            user_id or "",
            tokens,
            len(messages),
            *messages,
            *chain.from_iterable(fields.items()),
        ),
    )


def load_conversation_call(names: Names, conv_id: str, *, last: int | None) -> ScriptCall:
    """Read metadata and the `last` messages (None: all).

    Answers [] for no such conversation, else [messages in all, [field, value, ...], [JSON, ...]].
    """
    return ScriptCall(
        load("load_conversation"),
        (names.conversation(conv_id), names.messages(conv_id)),
        (-1 if last is None else last,),
    )


def create_conversation_call(
    names: Names,
    conv_id: str,
    *,
    user_id: str | None,
    fields: Mapping[str, str],
    ttl_ms: int,
    now_ms: int | None = None,
) -> ScriptCall:
    """Create a conversation, or describe one that is there. Answers an Outcome."""
    return ScriptCall(
        load("create_conversation"),
        (names.conversation(conv_id), names.messages(conv_id)),
        (_or_empty(now_ms), ttl_ms, user_id or "", *chain.from_iterable(fields.items())),
    )


def truncate_conversation_call(
    names: Names, conv_id: str, *, keep_last_n: int, now_ms: int | None = None
) -> ScriptCall:
    """Keep the last messages. Answers how many were removed; -1 for no such conversation."""
    return ScriptCall(
        load("truncate_conversation"),
        (names.conversation(conv_id), names.messages(conv_id)),
        (_or_empty(now_ms), keep_last_n),
    )


def delete_conversation_call(names: Names, conv_id: str) -> ScriptCall:
    """Delete metadata and messages. Answers [keys removed, user id or ""]."""
    return ScriptCall(
        load("delete_conversation"), (names.conversation(conv_id), names.messages(conv_id)), ()
    )


def index_conversation_call(
    names: Names, conv_id: str, *, user_id: str | None, ttl_ms: int, now_ms: int | None = None
) -> ScriptCall:
    """Enter a conversation into the lists. Answers when it expires (ms)."""
    return ScriptCall(
        load("index_conversation"),
        _lists(names, user_id),
        (_or_empty(now_ms), ttl_ms, conv_id, EXPIRED_PER_TURN),
    )


def page_conversations_call(
    names: Names, *, user_id: str | None, offset: int, limit: int
) -> ScriptCall:
    """Read a page of all or a user's conversations. Answers [conversation id, score, ...]."""
    return ScriptCall(load("page_conversations"), (names.conversations(user_id),), (offset, limit))


def unindex_conversations_call(
    names: Names, entries: Sequence[tuple[str, str]], *, user_id: str | None, everywhere: bool
) -> ScriptCall:
    """Take (conversation id, score seen or "") out of a list, or `everywhere` out of both."""
    return ScriptCall(
        load("unindex_conversations"),
        _lists(names, user_id) if everywhere else (names.conversations(user_id),),
        tuple(chain.from_iterable(entries)),
    )


def _lists(names: Names, user_id: str | None) -> tuple[str, ...]:
    everybody = (names.conversations(),)
    return everybody if user_id is None else (*everybody, names.conversations(user_id))


def _or_empty(now_ms: int | None) -> int | str:
    return "" if now_ms is None else now_ms
