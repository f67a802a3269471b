"""From an effect to a provider's call, and what an adapter must give back. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from core.content import ToolCall
from core.errors import AdapterFault
from core.types import EmbeddingReply, ProviderReply, Usage
from llm.providers.base import EmbeddingCall, ProviderCall
from llm.routing.effects import Embed, Send

if TYPE_CHECKING:
    from pydantic import SecretStr


def call_of(effect: Send | Embed, secret: SecretStr, timeout: float) -> ProviderCall:
    """The call that an effect asks for; an EmbeddingCall of an Embed.

    Args:
        timeout: seconds that the effect's own have left now.
    """
    key = effect.key
    shared: dict[str, Any] = {
        "provider": key.provider,
        "key_id": key.key_id,
        "secret": secret,
        "model": key.model_name,
        "timeout": timeout,
        "base_url": key.base_url,
        "options": effect.options,
    }
    if isinstance(effect, Embed):
        return EmbeddingCall(
            messages=(),
            system_prompt=None,
            max_output_tokens=0,
            temperature=None,
            texts=effect.texts,
            dimensions=effect.dimensions,
            **shared,
        )
    return ProviderCall(
        messages=effect.messages,
        system_prompt=effect.system_prompt,
        max_output_tokens=effect.max_output_tokens,
        temperature=effect.temperature,
        idle_timeout=effect.idle_timeout,
        **shared,
    )


def checked_reply(provider: str, reply: Any) -> ProviderReply:
    """The reply of an adapter that keeps its contract.

    Raises:
        AdapterFault: it does not.
    """
    right = isinstance(reply, ProviderReply) and isinstance(reply.content, str)
    right = right and all(isinstance(call, ToolCall) for call in reply.tool_calls)
    if not right or not _right_usage(reply.usage):
        raise AdapterFault(f"the adapter of {provider} gave no right ProviderReply")
    found: ProviderReply = reply
    return found


def checked_vectors(call: EmbeddingCall, reply: Any) -> EmbeddingReply:
    """The same for vectors: one for each text.

    Raises:
        AdapterFault: the adapter does not keep its contract.
    """
    right = isinstance(reply, EmbeddingReply) and len(reply.vectors) == len(call.texts)
    if not right or not all(map(len, reply.vectors)) or not _right_usage(reply.usage):
        raise AdapterFault(f"the adapter of {call.provider} gave no right EmbeddingReply")
    found: EmbeddingReply = reply
    return found


def _right_usage(usage: Any) -> bool:
    return usage is None or (
        isinstance(usage, Usage)
        and all(
            type(count) is int and count >= 0 for count in (usage.input, usage.output, usage.cached)
        )
    )
