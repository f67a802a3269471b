"""Conversations in Redis: read in one round trip, appended to in one step, never half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conversation.border import answer, done, named, run, run_all
from conversation.codec import decode_conversation, encode_fields, encode_turn
from conversation.identifiers import check_identifier
from conversation.listing import list_page
from conversation.records import Conversation, HistoryMessage, Turn
from core.errors import InvalidRequest
from core.neutral import message_as_dict
from core.redis_calls import Calls
from core.redis_connection import shared_redis
from core.settings import get_settings
from lua import conversation_calls as calls
from lua.loader import ScriptCall
from lua.names import Names


class ConversationStore:
    """Stores conversations; safe to share between threads.

    Every method may raise `ConversationUnavailable` (Redis is out of reach, or an entry there is
    damaged) and `InvalidRequest` (a wrong argument, or another user's conversation).

    Args:
        redis: runs commands on Redis, as `core.redis_connection.open_redis` gives it.
        names: the key names.
        ttl_seconds: life of a conversation after its creation and after each turn.
        max_messages: how many of the last messages `load` reads at most.

    Example:
        >>> store = ConversationStore(redis, Names("llm"), 86_400)  # doctest: +SKIP
        >>> store.append_turn(Turn("chat-1", "request-1", "Hello", "Hi!"))  # doctest: +SKIP
        True
        >>> store.get_history("chat-1", limit=1)  # doctest: +SKIP
        [{'role': 'assistant', 'content': 'Hi!'}]
    """

    def __init__(
        self, redis: Calls, names: Names, ttl_seconds: int, *, max_messages: int = 2_000
    ) -> None:
        if ttl_seconds < 1 or max_messages < 1:
            raise InvalidRequest("ttl_seconds and max_messages must be 1 or more")
        self._redis = redis
        self._names = names
        self._ttl_ms = ttl_seconds * 1000
        self._max_messages = max_messages

    def load(self, conv_id: str) -> Conversation:
        """Read system prompt, last messages and metadata in one round trip."""
        return self.read_load(conv_id, self._run(conv_id, self.load_command(conv_id)))

    def load_command(self, conv_id: str) -> ScriptCall:
        """`load` for a pipeline of the caller's; hand its result to `read_load`."""
        return self._load_call(conv_id, self._max_messages)

    def read_load(self, conv_id: str, result: Any) -> Conversation:
        """What `load_command` found."""
        return decode_conversation(conv_id, answer(named(conv_id), result))

    def load_along(self, conv_id: str, other: ScriptCall) -> tuple[Any, Any]:
        """Run another script and `load_command` in one round trip. Returns both results.

        They are as Redis gave them: one that failed is an exception. `read_load` takes the second.
        """
        commands = [other, self.load_command(conv_id)]
        result, loaded = run_all(self._redis, named(conv_id), commands)
        return result, loaded

    def append_turn(self, turn: Turn) -> bool:
        """Append a turn whole, in one round trip.

        After an error it may be called again with the same turn.

        Returns:
            False if this request's turn was appended before, and True otherwise.
        """
        commands = [self.append_command(turn), self.index_command(turn)]
        appended, indexed = run_all(self._redis, named(turn.conv_id), commands)
        result = self.read_append(turn, appended)
        answer(named(turn.conv_id), indexed)
        return result

    def append_command(self, turn: Turn) -> ScriptCall:
        """The append for a pipeline of the caller's; hand its result to `read_append`.

        Put `index_command` behind it, so that the conversation is listed.
        """
        return calls.append_turn_call(
            self._names,
            turn.conv_id,
            request_id=turn.request_id,
            user_id=turn.user_id,
            messages=encode_turn(turn),
            tokens=turn.total_tokens,
            fields=encode_fields(
                metadata=turn.metadata, system_prompt=turn.system_prompt, last_model=turn.model
            ),
            ttl_ms=self._ttl_ms,
        )

    def index_command(self, turn: Turn) -> ScriptCall:
        """Lists the turn's conversation. Its result need not be read: the next turn heals it."""
        return self._index_call(turn.conv_id, turn.user_id)

    def read_append(self, turn: Turn, result: Any) -> bool:
        """What `append_command` did; as `append_turn`."""
        outcome, _length = answer(named(turn.conv_id), result)
        return done(turn.conv_id, outcome)

    def create_conversation(
        self,
        conv_id: str,
        metadata: Mapping[str, Any] | None = None,
        *,
        user_id: str | None = None,
        system_prompt: str | None = None,
    ) -> bool:
        """Create a conversation, or add metadata to one that is there. A turn creates it as well.

        Args:
            metadata: JSON values by name; `user_id` among them names the owner.

        Returns:
            True if it is new; False if it was there, whose metadata are merged name by name.
        """
        fields = encode_fields(metadata=metadata, system_prompt=system_prompt)
        own = dict(metadata or {})
        owner = own.get("user_id") if user_id is None else user_id
        if owner is not None:
            check_identifier(owner, "user_id")
        fields.pop("m:user_id", None)
        create = calls.create_conversation_call(
            self._names,
            check_identifier(conv_id, "conv_id"),
            user_id=owner,
            fields=fields,
            ttl_ms=self._ttl_ms,
        )
        commands = [create, self._index_call(conv_id, owner)]
        created, indexed = run_all(self._redis, named(conv_id), commands)
        outcome = done(conv_id, answer(named(conv_id), created))
        answer(named(conv_id), indexed)
        return outcome

    def set_system_prompt(self, conv_id: str, system_prompt: str | None) -> None:
        """Set the system prompt for all turns to come; None removes it. Creates if need be."""
        cleared = "" if system_prompt is None else system_prompt
        self.create_conversation(conv_id, system_prompt=cleared)

    def get_history(self, conv_id: str, limit: int | None = None) -> list[HistoryMessage]:
        """The last `limit` messages (None: all), oldest first, after the system prompt if set.

        A conversation that is not there has no messages. They are what `messages=` takes: content
        is a text or a list of parts; `tool_calls` and `tool_call_id` are there where they apply.
        """
        if limit is not None and limit < 0:
            raise InvalidRequest(f"limit must be 0 or more, not {limit}")
        conversation = self._read(conv_id, limit)
        history: list[Any] = []
        if conversation.system_prompt is not None:
            history.append({"role": "system", "content": conversation.system_prompt})
        history.extend(message_as_dict(message) for message in conversation.messages)
        return history

    def get_metadata(self, conv_id: str) -> dict[str, Any]:
        """What is known of a conversation; {} for one that is not there.

        Returns:
            `conversation_id, user_id, message_count, total_tokens, last_model, created_at,
            updated_at` (ISO 8601, UTC) and the caller's own under `metadata`.
        """
        metadata = self._read(conv_id, 0).metadata
        return {} if metadata is None else metadata.as_dict()

    def exists(self, conv_id: str) -> bool:
        """Whether the conversation is there."""
        return self._read(conv_id, 0).metadata is not None

    def truncate_history(self, conv_id: str, keep_last_n: int = 20) -> int:
        """Forget all but the last messages; the system prompt stays, and no turn is cut in two.

        A turn is a question with all that follows it, tool calls and their results included. One
        that would be cut goes whole; the last one stays whole if 2 or more are to be kept.

        Returns:
            How many messages were removed.
        """
        if keep_last_n < 0:
            raise InvalidRequest(f"keep_last_n must be 0 or more, not {keep_last_n}")
        check_identifier(conv_id, "conv_id")
        call = calls.truncate_conversation_call(self._names, conv_id, keep_last_n=keep_last_n)
        return max(0, int(self._run(conv_id, call)))

    def delete_conversation(self, conv_id: str) -> bool:
        """Delete a conversation, also a damaged one. Returns whether there was anything."""
        check_identifier(conv_id, "conv_id")
        removed, owner = self._run(conv_id, calls.delete_conversation_call(self._names, conv_id))
        entry = calls.unindex_conversations_call(
            self._names, [(conv_id, "")], user_id=owner or None, everywhere=True
        )
        self._run(conv_id, entry)
        return bool(removed)

    def list_conversations(
        self, user_id: str | None = None, limit: int = 100, offset: int = 0
    ) -> list[dict[str, Any]]:
        """The metadata of all or of a user's conversations, the latest turn first.

        Args:
            limit: how many at most, 1 to 1,000.
            offset: how many to leave out.
        """
        page = list_page(self._redis, self._names, user_id, limit, offset)
        return [metadata.as_dict() for metadata in page]

    def _read(self, conv_id: str, last: int | None) -> Conversation:
        return self.read_load(conv_id, self._run(conv_id, self._load_call(conv_id, last)))

    def _load_call(self, conv_id: str, last: int | None) -> ScriptCall:
        check_identifier(conv_id, "conv_id")
        return calls.load_conversation_call(self._names, conv_id, last=last)

    def _index_call(self, conv_id: str, user_id: str | None) -> ScriptCall:
        return calls.index_conversation_call(
            self._names, conv_id, user_id=user_id, ttl_ms=self._ttl_ms
        )

    def _run(self, conv_id: str, call: ScriptCall) -> Any:
        return run(self._redis, named(conv_id), call)


def get_conversation_store() -> ConversationStore:
    """The store of this process, on the Redis that the settings name.

    Raises:
        ConfigurationError: a setting is wrong.
        StorageError: Redis cannot be reached or started.

    Example:
        >>> get_conversation_store().get_history("user_123_session")  # doctest: +SKIP
        []
    """
    settings = get_settings()
    return ConversationStore(
        shared_redis(), Names(settings.redis_key_prefix), settings.conversation_ttl_seconds
    )
