"""Drivers run a flow: they perform each effect and hand back what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conversation.records import Conversation
from conversation.store import ConversationStore
from core.errors import AdapterFault, RouterError
from core.types import ProviderReply, Reply
from keys.manager import KeyManager
from keys.rate_limiter import Overdrawn, RateLimiter
from keys.secret_store import CachedSecrets
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry
from llm.routing.effects import Admit, Effect, Reserve, Send, Settle, Sleep
from llm.routing.flow import Flow


@dataclass(frozen=True)
class Parts:
    """What a driver performs effects with."""

    keys: KeyManager
    secrets: CachedSecrets
    providers: ProviderRegistry
    conversations: ConversationStore
    limiter: RateLimiter
    sleep: Callable[[float], None] = time.sleep


def run(flow: Flow, parts: Parts) -> Reply:
    """Run a flow to its reply on this thread. Whatever interrupts an effect is thrown into it."""
    try:
        effect = next(flow)
        while True:
            try:
                result = perform(effect, parts)
            except BaseException as error:  # noqa: BLE001 - the flow settles and raises it again
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as end:
        reply: Reply = end.value
        return reply


def perform(effect: Effect, parts: Parts) -> Any:
    """Perform one effect."""
    match effect:
        case Admit():
            return _admit(effect, parts)
        case Reserve():
            return parts.keys.reserve(
                effect.need,
                effect.selection,
                reservation_id=effect.reservation_id,
                lease_seconds=effect.lease_seconds,
                avoid=effect.avoid,
                max_wait=effect.max_wait,
                priority=effect.priority,
            )
        case Send():
            return _send(effect, parts)
        case Settle():
            return _settle(effect, parts)
        case Sleep():
            return parts.sleep(effect.seconds)


def _admit(effect: Admit, parts: Parts) -> Conversation | Overdrawn | None:
    limiter, store = parts.limiter, parts.conversations
    if effect.conv_id is None:
        return limiter.take(effect.user_id)
    take = limiter.take_call(effect.user_id)
    if take is None:
        return store.load(effect.conv_id)
    took, loaded = store.load_along(effect.conv_id, take)
    overdrawn = limiter.read_take(took)
    return store.read_load(effect.conv_id, loaded) if overdrawn is None else overdrawn


def _send(effect: Send, parts: Parts) -> ProviderReply:
    key = effect.key
    adapter = parts.providers.get(key.provider)
    call = ProviderCall(
        provider=key.provider,
        key_id=key.key_id,
        secret=parts.secrets.get(key),
        model=key.model_name,
        messages=effect.messages,
        system_prompt=effect.system_prompt,
        max_output_tokens=effect.max_output_tokens,
        temperature=effect.temperature,
        timeout=effect.timeout,
        base_url=key.base_url,
    )
    try:
        return adapter.send(call)
    except RouterError:
        raise
    except Exception as error:  # noqa: BLE001 - an adapter may be anybody's
        # Its text and its frames may hold the secret: only its kind and place are passed on.
        raise AdapterFault(f"the adapter of {key.provider} {_where(error)}") from None


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__} at {frame.filename}:{frame.lineno}"


def _settle(effect: Settle, parts: Parts) -> RouterError | None:
    if effect.turn is None:
        parts.keys.settle(effect.reservation, effect.charge, effect.marks, late=effect.late)
        return None
    store = parts.conversations
    also = [store.append_command(effect.turn), store.index_command(effect.turn)]
    appended, _listed = parts.keys.settle(
        effect.reservation, effect.charge, effect.marks, also=also, late=effect.late
    )
    try:
        store.read_append(effect.turn, appended)
    except RouterError as error:
        return error
    return None
