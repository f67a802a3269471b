"""Messages and metadata as Redis holds them, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, get_args

from conversation.identifiers import check_system_prompt, encode_metadata
from conversation.records import Conversation, Metadata, StoredMessage, Turn
from core.errors import ConversationUnavailable, InvalidRequest
from core.neutral import message_as_dict, message_of
from core.types import Message, Role

_OWN = "m:"
_MORE = {"tool_calls", "tool_call_id"}
_FIELDS = ("role", "content", *_MORE)


def encode_turn(turn: Turn) -> tuple[str, ...]:
    """The messages of a turn as JSON, the answer last; the script adds the time."""
    answer = Message("assistant", turn.answer, turn.tool_calls)
    return (
        *(_encode_message(each.message, turn.request_id, each.tokens) for each in turn.asked),
        _encode_message(answer, turn.request_id, turn.answer_tokens, turn.model),
    )


def encode_fields(
    *,
    metadata: Mapping[str, Any] | None = None,
    system_prompt: str | None = None,
    last_model: str | None = None,
) -> dict[str, str]:
    """The metadata fields to set; what is None stays as it is.

    Raises:
        InvalidRequest: the metadata is not JSON, or the system prompt is no str.
    """
    fields = {_OWN + name: text for name, text in encode_metadata(metadata).items()}
    if system_prompt is not None:
        fields["system_prompt"] = _dumps(check_system_prompt(system_prompt))
    if last_model is not None:
        fields["last_model"] = _dumps(last_model)
    return fields


def decode_conversation(conv_id: str, reply: Sequence[Any]) -> Conversation:
    """What load_conversation.lua answered.

    Raises:
        ConversationUnavailable: an entry is not what this module writes.
    """
    if not reply:
        return Conversation(conv_id)
    length, flat, messages = reply
    metadata, system_prompt = _decode_metadata(conv_id, length, flat)
    first = length - len(messages)
    history = tuple(_decode_message(conv_id, first + at, text) for at, text in enumerate(messages))
    return Conversation(conv_id, system_prompt, history, metadata)


def _encode_message(
    message: Message, request_id: str, tokens: int | None, model: str | None = None
) -> str:
    # The role comes first: truncate_conversation.lua looks for it there.
    record: dict[str, Any] = {**message_as_dict(message), "request_id": request_id}
    if tokens is not None:
        record["tokens"] = tokens
    if model is not None:
        record["model"] = model
    return _dumps(record)


def _dumps(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate is no UTF-8; escaped, it survives.
        return json.dumps(value, separators=(",", ":"))
    return text


def _decode_message(conv_id: str, index: int, text: str) -> StoredMessage:
    record = _loads(text)
    if not isinstance(record, dict):
        raise _damaged(conv_id, f"message {index}")
    tokens = record.get("tokens")
    if tokens is not None and (type(tokens) is not int or tokens < 0):
        raise _damaged(conv_id, f"the token count of message {index}")
    return StoredMessage(
        _message_in(record, conv_id, index),
        tokens,
        record.get("ts"),
        record.get("request_id"),
        record.get("model"),
    )


def _message_in(record: Mapping[str, Any], conv_id: str, index: int) -> Message:
    role, content = record.get("role"), record.get("content")
    if role in get_args(Role) and isinstance(content, str) and not _MORE & record.keys():
        return Message(role, content)  # type: ignore[arg-type]  # it is one of the roles
    try:
        fields = {name: record[name] for name in _FIELDS if name in record}
        return message_of(fields, f"message {index}")
    except InvalidRequest:
        raise _damaged(conv_id, f"message {index}") from None


def _decode_metadata(conv_id: str, length: int, flat: Sequence[str]) -> tuple[Metadata, str | None]:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    own = {}
    for name, text in fields.items():
        if name.startswith(_OWN):
            own[name.removeprefix(_OWN)] = _loads(text)
    system_prompt = _loads(fields["system_prompt"]) if "system_prompt" in fields else None
    last_model = _loads(fields["last_model"]) if "last_model" in fields else None
    texts = isinstance(system_prompt, str | None) and isinstance(last_model, str | None)
    if not texts or _BROKEN in own.values():
        raise _damaged(conv_id, "a metadata field")
    try:
        metadata = Metadata(
            conv_id=conv_id,
            message_count=length,
            total_tokens=int(fields["total_tokens"]),
            created_at=_iso(fields["created_ms"]),
            updated_at=_iso(fields["updated_ms"]),
            last_model=last_model,
            user_id=fields.get("user_id"),
            own=own,
        )
    except (KeyError, ValueError, OverflowError, OSError):
        raise _damaged(conv_id, "a count or a time of the metadata") from None
    return metadata, system_prompt or None


class _Broken:
    """Stands for text that is not JSON, where None would be a value."""


_BROKEN = _Broken()


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _BROKEN


def _iso(milliseconds: str) -> str:
    moment = datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds")


def _damaged(conv_id: str, what: str) -> ConversationUnavailable:
    return ConversationUnavailable(
        f"conversation {conv_id!r}: {what} is damaged; delete_conversation removes it whole"
    )
