"""The request and reply types that every room shares. All of them are frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict

from core.content import NO_OPTIONS, Content, Options, ToolCall

Role = Literal["system", "user", "assistant", "tool"]
StopReason = Literal["stop", "length", "content_filter", "tool_calls", "other"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        content: a text, or parts of which some may be images.
        tool_calls: the calls that an assistant asks for.
        tool_call_id: of a tool's message, which call it answers.

    Example:
        >>> Message("user", "Hello").role
        'user'
    """

    role: Role
    content: Content
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a caller asks for: the one input of the routing flow.

    Token counts are in tokens, times in seconds. `model_preference` is tried first, then
    `fallback_models` in their order; without a preference any key may serve. Of one model's keys,
    those of the first of `allowed_providers` are tried first; empty allows all. `exclude_keys` are
    ids of keys that may not serve. A stream that is silent for `idle_timeout` is given up;
    `keep_partial` keeps the turn of one that was aborted.
    """

    request_id: str
    messages: tuple[Message, ...]
    system_prompt: str | None = None
    model_preference: str | None = None
    fallback_models: tuple[str, ...] = ()
    workload: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    allowed_providers: tuple[str, ...] = ()
    exclude_keys: tuple[str, ...] = ()
    expected_completion_tokens: int = 512
    max_output_tokens: int = 2048
    temperature: float | None = 0.7
    timeout: float = 120.0
    max_wait: float = 0.0
    priority: int = 0
    conv_id: str | None = None
    user_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    options: Options = NO_OPTIONS
    streamed: bool = False
    idle_timeout: float = 60.0
    keep_partial: bool = False


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """Texts whose vectors are asked for.

    Args:
        request: all else that a request has; it has no messages and expects no output.
        dimensions: the length of the vectors; None leaves it to the model.
    """

    request: ChatRequest
    texts: tuple[str, ...]
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a provider says it counted. `cached` is the part of `input` read from a cache."""

    input: int
    output: int
    cached: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class ProviderQuota:
    """What a provider said about one of its limits in a reply's headers.

    Args:
        dimension: what is limited.
        limit: the whole allowance, or None where it was not told.
        remaining: what is left of it.
        reset_seconds: seconds until it is whole again, or None.
    """

    dimension: Literal["requests", "tokens", "input_tokens", "output_tokens"]
    remaining: int
    limit: int | None = None
    reset_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """A provider's answer in our terms. `usage` is None where the provider told none."""

    content: str
    model: str
    stop_reason: StopReason
    usage: Usage | None
    quotas: tuple[ProviderQuota, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class EmbeddingReply:
    """A provider's vectors, one for each text and in their order."""

    vectors: tuple[list[float], ...]
    model: str
    usage: Usage | None
    quotas: tuple[ProviderQuota, ...] = ()


class TokenCounts(TypedDict):
    """Tokens of a whole request, as a reply shows them."""

    input: int
    output: int
    total: int


class Attempt(TypedDict):
    """One try on one key, as a reply shows it. `outcome` is "success" or an `error_type`."""

    key_id: str
    provider: str
    model: str
    outcome: str
    error: NotRequired[str]
    duration_ms: float


class EmbedReply(TypedDict):
    """What `embed` returns; on failure `partial` has the vectors of the first texts."""

    success: bool
    request_id: str
    embeddings: list[list[float]] | None
    model: str | None
    key_id: str | None
    key_ids: list[str]
    provider: str | None
    tokens: TokenCounts
    attempts: list[Attempt]
    duration_ms: float
    partial: NotRequired[list[list[float]]]
    error: NotRequired[str]
    error_type: NotRequired[str]
    retry_after: NotRequired[float]


class CalledFunction(TypedDict):
    """What a model wants to have called; `arguments` is JSON as it wrote it."""

    name: str
    arguments: str


class ReplyToolCall(TypedDict):
    """One tool call of a reply. Give it back unchanged in the assistant's message."""

    id: str
    type: Literal["function"]
    function: CalledFunction
    extra_content: NotRequired[dict[str, Any]]


class Reply(TypedDict):
    """What `send_one_shot` and `send_chat` return; on failure `success` is False."""

    success: bool
    request_id: str
    content: str | None
    tool_calls: list[ReplyToolCall]
    model: str | None
    key_id: str | None
    provider: str | None
    tokens: TokenCounts
    conversation_id: str | None
    attempts: list[Attempt]
    duration_ms: float
    stop_reason: NotRequired[StopReason]
    error: NotRequired[str]
    error_type: NotRequired[str]
    retry_after: NotRequired[float]
    reasons: NotRequired[list[str]]
    partial: NotRequired[str]


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """A piece of a streamed answer.

    Args:
        text: what was added to the answer; "" in the last chunk.
        reply: the whole reply, as `send_one_shot` returns it; in the last chunk alone.
    """

    text: str
    reply: Reply | None = None
