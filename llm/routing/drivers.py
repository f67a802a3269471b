"""Drivers run a flow: they perform each effect and hand back what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from conversation.records import Conversation
from core.deadlines import no_later_than
from core.errors import AdapterFault, DeadlineExceeded, RouterError
from core.types import ProviderReply, Reply, Usage
from keys.reservations import Overdrawn
from llm.providers.base import ProviderCall, take_sent
from llm.providers.redact import redact
from llm.routing.effects import Admit, Effect, Renew, Reserve, Send, Settle, Sleep
from llm.routing.flow import Flow

if TYPE_CHECKING:
    from conversation.store import ConversationStore
    from keys.manager import KeyManager
    from keys.rate_limiter import RateLimiter
    from keys.secret_store import CachedSecrets
    from llm.providers.registry import ProviderRegistry


@dataclass(frozen=True)
class Parts:
    """What a driver performs effects with."""

    keys: KeyManager
    secrets: CachedSecrets
    providers: ProviderRegistry
    conversations: ConversationStore
    limiter: RateLimiter
    sleep: Callable[[float], None] = time.sleep


def run(flow: Flow, parts: Parts, timeout: float) -> Reply:
    """Run a flow to its reply on this thread. Whatever interrupts an effect is thrown into it.

    Args:
        timeout: seconds after which Redis is not waited for any more.
    """
    performer = _Performer(parts)
    with no_later_than(time.monotonic() + timeout):
        try:
            effect = next(flow)
            while True:
                try:
                    result = performer.perform(effect)
                except BaseException as error:  # noqa: BLE001 - the flow settles and raises it
                    effect = flow.throw(error)
                else:
                    effect = flow.send(result)
        except StopIteration as end:
            reply: Reply = end.value
            return reply


class _Performer:
    """Performs the effects of one flow, and remembers when its attempt was sent."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._sent_at: float | None = None
        self._secret: SecretStr | None = None

    def perform(self, effect: Effect) -> Any:
        match effect:
            case Admit():
                return self._admit(effect)
            case Reserve():
                return self._parts.keys.reserve(
                    effect.need,
                    effect.selection,
                    reservation_id=effect.reservation_id,
                    lease_seconds=effect.lease_seconds,
                    avoid=effect.avoid,
                    max_wait=effect.max_wait,
                    priority=effect.priority,
                )
            case Send():
                return self._send(effect)
            case Renew():
                return self._renew(effect)
            case Settle():
                return self._settle(effect)
            case Sleep():
                return self._parts.sleep(effect.seconds)

    def _admit(self, effect: Admit) -> Conversation | Overdrawn | None:
        limiter, store = self._parts.limiter, self._parts.conversations
        if effect.conv_id is None:
            return limiter.take(effect.user_id)
        take = limiter.take_call(effect.user_id)
        if take is None:
            return store.load(effect.conv_id)
        took, loaded = store.load_along(effect.conv_id, take)
        overdrawn = limiter.read_take(took)
        return store.read_load(effect.conv_id, loaded) if overdrawn is None else overdrawn

    def _send(self, effect: Send) -> ProviderReply:
        parts, key = self._parts, effect.key
        call: ProviderCall | None = None
        end = time.monotonic() + effect.timeout
        try:
            adapter = parts.providers.get(key.provider)
            self._secret = parts.secrets.get(key, max(0.0, end - time.monotonic()))
            call = ProviderCall(
                provider=key.provider,
                key_id=key.key_id,
                secret=self._secret,
                model=key.model_name,
                messages=effect.messages,
                system_prompt=effect.system_prompt,
                max_output_tokens=effect.max_output_tokens,
                temperature=effect.temperature,
                timeout=_left_until(end, key.key_id),
                base_url=key.base_url,
            )
            take_sent()
            self._sent_at = time.monotonic()
            return _checked(key.provider, adapter.send(call))
        except RouterError as error:
            if call is not None:
                error.args = (redact(str(error), call.secret),)
            raise
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises
            # Its text and its frames may hold the secret: only its kind and place are passed on.
            raise AdapterFault(f"the adapter of {key.provider} {_where(error)}") from None
        finally:
            self._sent_at = take_sent() or self._sent_at

    def _renew(self, effect: Renew) -> bool:
        if self._secret is None:
            return False
        return self._parts.secrets.renew(effect.key, self._secret, effect.timeout)

    def _settle(self, effect: Settle) -> RouterError | None:
        late = 0.0
        if self._sent_at is not None:
            late, self._sent_at = self._sent_at - effect.reservation.ready_at, None
        end = replace(effect.end, late=late)
        if effect.turn is None:
            self._parts.keys.settle(effect.reservation, end)
            return None
        store = self._parts.conversations
        also = [store.append_command(effect.turn), store.index_command(effect.turn)]
        appended, _listed = self._parts.keys.settle(effect.reservation, end, also)
        try:
            store.read_append(effect.turn, appended)
        except RouterError as error:
            return error
        return None


def _left_until(end: float, key_id: str) -> float:
    """What the secret has left of an attempt's time."""
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(f"the request's time was over when the secret of {key_id!r} came")
    return left


def _checked(provider: str, reply: Any) -> ProviderReply:
    """The reply of an adapter that keeps its contract."""
    right = isinstance(reply, ProviderReply) and isinstance(reply.content, str)
    if right and reply.usage is not None:
        usage = reply.usage
        right = isinstance(usage, Usage) and all(
            type(count) is int and count >= 0 for count in (usage.input, usage.output, usage.cached)
        )
    if not right:
        raise AdapterFault(f"the adapter of {provider} gave no right ProviderReply")
    found: ProviderReply = reply
    return found


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__} at {frame.filename}:{frame.lineno}"
