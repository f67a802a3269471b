"""Drivers run a flow: they perform each effect and hand back what came of it.

A driver of a stream hands its caller the texts on the way. Whatever ends the caller's reading, it
first closes the provider's connection, then lets the flow settle.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from conversation.records import Conversation
from core.deadlines import no_later_than
from core.errors import AdapterFault, DeadlineExceeded, RouterError, StreamInterrupted
from core.types import EmbeddingReply, ProviderReply, Reply, StreamChunk
from keys.reservations import Overdrawn
from llm.providers.base import (
    EmbeddingAdapter,
    EmbeddingCall,
    ProviderAdapter,
    ProviderCall,
    ProviderStream,
    StreamingAdapter,
    take_sent,
)
from llm.providers.single import OnePiece
from llm.routing.border import cause_of, so_far
from llm.routing.calls import call_of, checked_reply, checked_vectors
from llm.routing.effects import (
    Admit,
    Effect,
    Embed,
    OpenStream,
    Relay,
    Renew,
    Reserve,
    Send,
    Settle,
    Sleep,
    StreamCut,
)

if TYPE_CHECKING:
    from pydantic import SecretStr

    from conversation.store import ConversationStore
    from keys.manager import KeyManager
    from keys.rate_limiter import RateLimiter
    from keys.secret_store import CachedSecrets
    from keys.spec import KeySpec
    from llm.providers.registry import ProviderRegistry

_log = logging.getLogger(__name__)


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
    reply = _advance(flow, Performer(parts), time.monotonic() + timeout)
    assert reply is not None, "only a streamed request is relayed"
    return reply


def stream(
    flow: Generator[Effect, Any, Reply],
    parts: Parts,
    timeout: float,
    finished: Callable[[Reply], None],
) -> Generator[StreamChunk, None, None]:
    """Run a flow whose request is streamed; gives the chunks, the last one with the reply.

    Args:
        finished: is told the reply, also where nobody reads any more.

    Raises:
        core.errors.StreamInterrupted: the stream broke after its first text.
    """
    performer = Performer(parts)
    end = time.monotonic() + timeout
    stopped: BaseException | None = None
    reply = _advance(flow, performer, end)
    if reply is None:
        try:
            if performer.first is not None:
                yield StreamChunk(performer.first)
            for text in performer.stream:
                yield StreamChunk(text)
            result = performer.streamed()
        except BaseException as raised:  # noqa: BLE001 - the flow settles and raises it
            stopped = None if isinstance(raised, Exception) else raised
            reply = _advance(flow, performer, end, error=performer.cut(raised))
        else:
            reply = _advance(flow, performer, end, result)
    assert reply is not None
    finished(reply)
    if stopped is not None:
        raise stopped
    if "partial" in reply:
        raise StreamInterrupted(reply)
    yield StreamChunk("", reply)


def _advance(
    flow: Generator[Effect, Any, ReplyT],
    performer: Performer,
    end: float,
    result: Any = None,
    error: BaseException | None = None,
) -> ReplyT | None:
    """Run a flow on to its reply, or until its stream is to be relayed: then None."""
    try:
        with no_later_than(end):
            while True:
                effect = flow.send(result) if error is None else flow.throw(error)
                result = error = None
                if isinstance(effect, Relay):
                    return None
                try:
                    result = performer.perform(effect)
                except BaseException as raised:  # noqa: BLE001 - the flow settles and raises it
                    error = raised
    except StopIteration as done:
        reply: ReplyT = done.value
        return reply


class Performer:
    """Performs the effects of one flow, and remembers when its attempt was sent.

    Attributes:
        stream: the stream that was opened.
        first: its first text, read ahead; None where there is none.
    """

    stream: ProviderStream

    def __init__(self, parts: Parts) -> None:
        self.first: str | None = None
        self._parts = parts
        self._sent_at: float | None = None
        self._key: KeySpec
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
            case OpenStream():
                return self._open(effect.send)
            case Relay():
                raise AssertionError("the driver of a stream relays it")
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

    # -- a stream ------------------------------------------------------------------------------

    def streamed(self) -> ProviderReply:
        """The answer of the stream that has come to its end."""
        return checked_reply(self._key.provider, self.stream.reply())

    def cut(self, raised: BaseException) -> StreamCut:
        """End the stream because of what was raised while it was read."""
        _close(self.stream)
        return StreamCut(self._cause_of(raised), so_far(self.stream.reply, self._key))

    # -- inside --------------------------------------------------------------------------------

    def _send(self, effect: Send | Embed) -> ProviderReply | EmbeddingReply:
        try:
            adapter, call = self._call_for(effect)
            take_sent()
            self._sent_at = time.monotonic()
            if not isinstance(call, EmbeddingCall):
                return checked_reply(effect.key.provider, adapter.send(call))
            return checked_vectors(call, embedding(adapter, call).embed(call))
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises
            found = self._cause_of(error)
        finally:
            self._sent_at = take_sent() or self._sent_at
        raise found

    def _open(self, effect: Send) -> None:
        opened: ProviderStream | None = None
        try:
            adapter, call = self._call_for(effect)
            take_sent()
            self._sent_at = time.monotonic()
            if isinstance(adapter, StreamingAdapter):
                opened = adapter.stream(call)
            else:
                opened = OnePiece(checked_reply(effect.key.provider, adapter.send(call)))
            self._sent_at = take_sent() or self._sent_at
            self.stream, self.first = opened, next(opened, None)
            if self.first is None:
                checked_reply(effect.key.provider, opened.reply())
            return
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises
            found = self._cause_of(error)
        except BaseException:
            _close(opened)
            raise
        finally:
            self._sent_at = take_sent() or self._sent_at
        _close(opened)
        raise found

    def _call_for(self, effect: Send | Embed) -> tuple[ProviderAdapter, ProviderCall]:
        key, end = effect.key, time.monotonic() + effect.timeout
        self._key, self._secret = key, None
        adapter = self._parts.providers.get(key.provider)
        self._secret = self._parts.secrets.get(key, effect.timeout)
        return adapter, call_of(effect, self._secret, left_until(end, key.key_id))

    def _cause_of(self, error: BaseException) -> RouterError:
        """Our error for what was raised while the provider was asked."""
        return cause_of(error, self._key, self._secret)

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
            # A failure is waited for, as what it says of the key decides where to go next.
            keys = self._parts.keys
            settle = keys.settle_soon if end.answered else keys.settle
            settle(effect.reservation, end)
            return None
        store = self._parts.conversations
        also = [store.append_command(effect.turn), store.index_command(effect.turn)]
        appended, _listed = self._parts.keys.settle(effect.reservation, end, also)
        try:
            store.read_append(effect.turn, appended)
        except RouterError as error:
            return error
        return None


def _close(stream: ProviderStream | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except Exception:  # noqa: BLE001 - it is given up all the same
        _log.warning("a stream could not be closed")


def embedding(adapter: ProviderAdapter, call: EmbeddingCall) -> EmbeddingAdapter:
    """The adapter, which must make embeddings."""
    if not isinstance(adapter, EmbeddingAdapter):
        raise AdapterFault(f"the adapter of {call.provider} has no method embed")
    return adapter


def left_until(end: float, key_id: str) -> float:
    """What the secret has left of an attempt's time."""
    left = end - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded(f"the request's time was over when the secret of {key_id!r} came")
    return left
