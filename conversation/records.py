"""What a conversation is made of. All of them are frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

from conversation.identifiers import check_identifier, check_system_prompt
from core.content import ToolCall
from core.errors import InvalidRequest
from core.types import Message, ReplyToolCall


class HistoryMessage(TypedDict):
    """One message as `get_history` shows it; content is a text or a list of parts."""

    role: str
    content: Any
    tool_calls: NotRequired[list[ReplyToolCall]]
    tool_call_id: NotRequired[str]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message with what was noted beside it.

    Args:
        tokens: tokens of what it holds alone, or None if nobody counted them.
        ts: when its turn was appended, in ms by the clock of Redis.
        model: the model that wrote it; None for a user's message.
    """

    message: Message
    tokens: int | None = None
    ts: int | None = None
    request_id: str | None = None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer, ready to be appended.

    Args:
        request_id: names the turn; sent twice within ten minutes, it is appended once.
        prompt: the user's text; or messages, each with its tokens, where it is more than a text.
        user_id: whose the conversation is; take it from `Conversation.admit`.
        prompt_tokens, answer_tokens: tokens of each alone, or None if not counted.
        total_tokens: what the whole request used, history included, as the provider counted.
        system_prompt: replaces the conversation's from now on; "" removes it, None keeps it.
        metadata: merged into the caller's own metadata, name by name.
        tool_calls: what the answer asks to have called.

    Raises:
        InvalidRequest: a name, text or count is of a wrong kind.
    """

    conv_id: str
    request_id: str
    prompt: str | tuple[StoredMessage, ...]
    answer: str
    model: str | None = None
    user_id: str | None = None
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    total_tokens: int = 0
    system_prompt: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def asked(self) -> tuple[StoredMessage, ...]:
        """What was asked, as messages."""
        if isinstance(self.prompt, str):
            return (StoredMessage(Message("user", self.prompt), self.prompt_tokens),)
        return self.prompt

    def __post_init__(self) -> None:
        check_identifier(self.conv_id, "conv_id")
        check_identifier(self.request_id, "request_id")
        if self.user_id is not None:
            check_identifier(self.user_id, "user_id")
        for name in ("prompt", "answer", "model"):
            text = getattr(self, name)
            other = (name == "model" and text is None) or (name == "prompt" and _messages(text))
            if not isinstance(text, str) and not other:
                raise InvalidRequest(f"the {name} of a turn must be a str, not {text!r}")
        if self.system_prompt is not None:
            check_system_prompt(self.system_prompt)
        for name in ("prompt_tokens", "answer_tokens", "total_tokens"):
            count = getattr(self, name)
            if count is not None and (type(count) is not int or count < 0):
                raise InvalidRequest(f"{name} must be an int of 0 or more, not {count!r}")


def _messages(prompt: object) -> bool:
    return (
        isinstance(prompt, tuple)
        and bool(prompt)
        and all(isinstance(each, StoredMessage) for each in prompt)
    )


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a conversation. `own` is the caller's; times are ISO 8601, UTC.

    `message_count` is what is stored now; `total_tokens` is what all its turns have used, also
    those that were truncated since.
    """

    conv_id: str
    message_count: int
    total_tokens: int
    created_at: str
    updated_at: str
    last_model: str | None = None
    user_id: str | None = None
    own: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As `get_metadata` shows it."""
        return {
            "conversation_id": self.conv_id,
            "user_id": self.user_id,
            "message_count": self.message_count,
            "total_tokens": self.total_tokens,
            "last_model": self.last_model,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "metadata": dict(self.own),
        }


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it was at one moment; `metadata` is None for one that is not there."""

    conv_id: str
    system_prompt: str | None = None
    history: tuple[StoredMessage, ...] = ()
    metadata: Metadata | None = None

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages that were read, oldest first, without the system prompt."""
        return tuple(stored.message for stored in self.history)

    def admit(self, user_id: str | None) -> str | None:
        """Whose the next turn is: `user_id`, or the owner where the caller names nobody.

        Raises:
            InvalidRequest: the conversation belongs to another user.

        Example:
            >>> Conversation("chat-1").admit("alice")
            'alice'
        """
        owner = self.metadata.user_id if self.metadata is not None else None
        if user_id is not None and owner is not None and user_id != owner:
            raise another_users(self.conv_id)
        return owner if user_id is None else user_id


def another_users(conv_id: str) -> InvalidRequest:
    """The refusal to mix two users in one conversation; it does not tell who the owner is."""
    return InvalidRequest(f"conversation {conv_id!r} belongs to another user")
