"""The dict that a caller gets, for an answer and for a failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.errors import (
    ContentBlocked,
    NoCapacity,
    ProviderError,
    RouterError,
)
from core.events import RequestFinished, emit
from core.neutral import call_as_dict
from core.types import Attempt, ChatRequest, EmbedReply, ProviderReply, Reply, TokenCounts

if TYPE_CHECKING:
    from keys.spec import KeySpec


@dataclass(frozen=True, slots=True)
class Partial:
    """The part of an answer that its caller has seen, and what it and its prompt have used."""

    content: str
    tokens: TokenCounts


def tell_finished(request: ChatRequest, reply: Reply | EmbedReply) -> None:
    """Emit the event of a request that has its reply."""
    emit(
        RequestFinished(
            request_id=request.request_id,
            outcome=reply.get("error_type", "success"),
            model=reply["model"],
            key_id=reply["key_id"],
            attempts=len(reply["attempts"]),
            input_tokens=reply["tokens"]["input"],
            output_tokens=reply["tokens"]["output"],
            duration_ms=reply["duration_ms"],
            error=reply.get("error"),
            conversation_id=request.conv_id,
        )
    )


def answered(
    request: ChatRequest,
    key: KeySpec,
    reply: ProviderReply,
    tokens: TokenCounts,
    attempts: list[Attempt],
    seconds: float,
) -> Reply:
    """The reply to a request that was answered."""
    return Reply(
        success=True,
        request_id=request.request_id,
        content=reply.content,
        tool_calls=[call_as_dict(call) for call in reply.tool_calls],
        model=key.model_name,
        key_id=key.key_id,
        provider=key.provider,
        tokens=tokens,
        conversation_id=request.conv_id,
        attempts=attempts,
        duration_ms=round(seconds * 1000, 3),
        stop_reason=reply.stop_reason,
    )


def failed(
    request: ChatRequest,
    error: RouterError,
    attempts: list[Attempt],
    seconds: float,
    partial: Partial | None = None,
) -> Reply:
    """The reply to a request that was not answered; `model` and `key_id` are the last tried."""
    last = attempts[-1] if attempts else None
    reply = Reply(
        success=False,
        request_id=request.request_id,
        content=None,
        tool_calls=[],
        model=last["model"] if last else request.model_preference,
        key_id=last["key_id"] if last else None,
        provider=last["provider"] if last else None,
        tokens=partial.tokens if partial else TokenCounts(input=0, output=0, total=0),
        conversation_id=request.conv_id,
        attempts=attempts,
        duration_ms=round(seconds * 1000, 3),
        error=str(error),
        error_type=error.error_type,
    )
    if isinstance(error, (NoCapacity, ProviderError)) and error.retry_after is not None:
        reply["retry_after"] = error.retry_after
    if isinstance(error, ContentBlocked):
        reply["reasons"] = list(error.reasons)
    if partial is not None:
        reply["partial"] = partial.content
    return reply
