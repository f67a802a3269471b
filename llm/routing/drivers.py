"""Drivers run a flow: they perform each effect and hand back what came of it."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from conversation.records import Conversation
from core.deadlines import no_later_than
from core.errors import AdapterFault, DeadlineExceeded, RouterError
from core.types import EmbeddingReply, ProviderReply
from keys.reservations import Overdrawn
from llm.providers.base import EmbeddingAdapter, EmbeddingCall, ProviderCall, take_sent
from llm.providers.redact import redact
from llm.routing.calls import call_of, checked_reply, checked_vectors
from llm.routing.effects import Admit, Effect, Embed, Renew, Reserve, Send, Settle, Sleep

if TYPE_CHECKING:
    from conversation.store import ConversationStore
    from keys.manager import KeyManager
    from keys.rate_limiter import RateLimiter
    from keys.secret_store import CachedSecrets
    from llm.providers.registry import ProviderRegistry


ReplyT = TypeVar("ReplyT")


@dataclass(frozen=True)
class Parts:
    """What a driver performs effects with."""

    keys: KeyManager
    secrets: CachedSecrets
    providers: ProviderRegistry
    conversations: ConversationStore
    limiter: RateLimiter
    sleep: Callable[[float], None] = time.sleep


def run(flow: Generator[Effect, Any, ReplyT], parts: Parts, timeout: float) -> ReplyT:
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
            reply: ReplyT = end.value
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
            case Send() | Embed():
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

    def _send(self, effect: Send | Embed) -> ProviderReply | EmbeddingReply:
        parts, key = self._parts, effect.key
        call: ProviderCall | None = None
        end = time.monotonic() + effect.timeout
        try:
            adapter = parts.providers.get(key.provider)
            self._secret = parts.secrets.get(key, max(0.0, end - time.monotonic()))
            call = call_of(effect, self._secret, _left_until(end, key.key_id))
            take_sent()
            self._sent_at = time.monotonic()
            if not isinstance(call, EmbeddingCall):
                return checked_reply(key.provider, adapter.send(call))
            if not isinstance(adapter, EmbeddingAdapter):
                raise AdapterFault(f"the adapter of {key.provider} has no method embed")
            return checked_vectors(call, adapter.embed(call))
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


def _where(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"raised {type(error).__name__} at {frame.filename}:{frame.lineno}"
