"""Lists conversations from their index, and mends the index on the way."""

from __future__ import annotations

from conversation.border import answer, run, run_all
from conversation.codec import decode_conversation
from conversation.identifiers import check_identifier
from conversation.records import Metadata
from core.errors import InvalidRequest
from core.redis_calls import Calls
from lua import conversation_calls as calls
from lua.names import Names

MAX_PAGE = 1_000
_MAX_ROUNDS = 20
_WHAT = "the list of conversations"


def list_page(
    redis: Calls, names: Names, user_id: str | None, limit: int, offset: int
) -> list[Metadata]:
    """The conversations of everybody or of one user, the latest turn first.

    An entry whose conversation has expired, or belongs to somebody else, is dropped from the index
    and the next one takes its place; one call does so in at most 20 rounds.

    Raises:
        InvalidRequest: `limit` is not from 1 to 1,000, or `offset` is negative.
        ConversationUnavailable: Redis is out of reach, or a conversation is damaged.
    """
    if user_id is not None:
        check_identifier(user_id, "user_id")
    if not 1 <= limit <= MAX_PAGE or offset < 0:
        raise InvalidRequest(
            f"limit must be from 1 to {MAX_PAGE} and offset 0 or more, not {limit} and {offset}"
        )
    found: list[Metadata] = []
    for _ in range(_MAX_ROUNDS):
        call = calls.page_conversations_call(
            names, user_id=user_id, offset=offset + len(found), limit=limit - len(found)
        )
        flat = run(redis, _WHAT, call)
        entries = list(zip(flat[::2], flat[1::2], strict=True))
        alive = _alive(redis, names, user_id, [conv_id for conv_id, _ in entries])
        found.extend(alive.values())
        stale = [entry for entry in entries if entry[0] not in alive]
        if not stale:
            break
        drop = calls.unindex_conversations_call(names, stale, user_id=user_id, everywhere=False)
        run(redis, _WHAT, drop)
    return found


def _alive(
    redis: Calls, names: Names, user_id: str | None, conv_ids: list[str]
) -> dict[str, Metadata]:
    loads = [calls.load_conversation_call(names, conv_id, last=0) for conv_id in conv_ids]
    alive = {}
    for conv_id, result in zip(conv_ids, run_all(redis, _WHAT, loads), strict=True):
        metadata = decode_conversation(conv_id, answer(_WHAT, result)).metadata
        if metadata is not None and user_id in (None, metadata.user_id):
            alive[conv_id] = metadata
    return alive
