"""The drivers for tasks: the twins of `drivers.run` and `drivers.stream`.

A provider is asked with the adapter's asynchronous side. What talks to Redis is the code that
threads use, run on the task (`core.bridge`). When a task is cancelled, the provider's connection
is closed and the flow settles; that is finished even if the task is cancelled once more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

from core.bridge import on_task
from core.deadlines import no_later_than
from core.errors import StreamInterrupted
from core.types import EmbeddingReply, ProviderReply, Reply, StreamChunk
from llm.providers.base import (
    AsyncAdapter,
    AsyncEmbeddingAdapter,
    AsyncProviderStream,
    AsyncStreamingAdapter,
    EmbeddingCall,
    ProviderAdapter,
    ProviderCall,
    take_sent,
)
from llm.providers.single import OnePiece
from llm.routing.border import so_far
from llm.routing.calls import call_of, checked_reply, checked_vectors
from llm.routing.drivers import Parts, Performer, embedding, left_until
from llm.routing.effects import Effect, Embed, OpenStream, Relay, Renew, Send, Sleep, StreamCut

_log = logging.getLogger(__name__)

T = TypeVar("T")
ReplyT = TypeVar("ReplyT")
CallT = TypeVar("CallT", bound=ProviderCall)

_finishing: set[asyncio.Task[Any]] = set()
"""What cancelled tasks have left to be settled: a loop alone keeps no task alive."""


async def run_async(flow: Generator[Effect, Any, ReplyT], parts: Parts, timeout: float) -> ReplyT:
    """Run a flow to its reply on this task. Whatever interrupts an effect is thrown into it.

    Args:
        timeout: seconds after which Redis is not waited for any more.
    """
    reply = await _advance(flow, TaskPerformer(parts), time.monotonic() + timeout)
    assert reply is not None, "only a streamed request is relayed"
    return reply


async def stream_async(
    flow: Generator[Effect, Any, Reply],
    parts: Parts,
    timeout: float,
    finished: Callable[[Reply], None],
) -> AsyncGenerator[StreamChunk, None]:
    """Run a flow whose request is streamed; gives the chunks, the last one with the reply.

    Args:
        finished: is told the reply, also where nobody reads any more.

    Raises:
        core.errors.StreamInterrupted: the stream broke after its first text.
    """
    performer, end = TaskPerformer(parts), time.monotonic() + timeout
    stopped: BaseException | None = None
    reply = await _advance(flow, performer, end)
    if reply is None:
        try:
            if performer.first is not None:
                yield StreamChunk(performer.first)
            async for text in performer.opened:
                yield StreamChunk(text)
            result = performer.streamed()
        except BaseException as raised:  # noqa: BLE001 - the flow settles and raises it
            stopped = None if isinstance(raised, Exception) else raised
            reply = await _to_the_end(_cut(flow, performer, end, raised))
        else:
            reply = await _advance(flow, performer, end, result)
    assert reply is not None
    finished(reply)
    if stopped is not None:
        raise stopped
    if "partial" in reply:
        raise StreamInterrupted(reply)
    yield StreamChunk("", reply)


async def all_settled() -> None:
    """Wait until nothing is left of the cancelled tasks of this loop."""
    loop = asyncio.get_running_loop()
    left = [task for task in _finishing if task.get_loop() is loop]
    await asyncio.gather(*left, return_exceptions=True)


async def _advance(
    flow: Generator[Effect, Any, ReplyT],
    performer: TaskPerformer,
    end: float,
    result: Any = None,
    error: BaseException | None = None,
) -> ReplyT | None:
    """Run a flow on to its reply, or until its stream is to be relayed: then None."""
    try:
        while True:
            effect = flow.send(result) if error is None else flow.throw(error)
            result = error = None
            if isinstance(effect, Relay):
                return None
            try:
                with no_later_than(end):
                    result = await performer.perform_on_task(effect)
            except GeneratorExit:
                flow.close()  # the loop is gone, and nothing can be awaited any more
                raise
            except Exception as raised:  # noqa: BLE001 - the flow settles and raises it
                error = raised
            except BaseException as raised:  # noqa: BLE001 - the same, but nothing may stop that
                return await _to_the_end(_advance(flow, performer, end, None, raised))
    except StopIteration as done:
        reply: ReplyT = done.value
        return reply


async def _cut(
    flow: Generator[Effect, Any, Reply], performer: TaskPerformer, end: float, raised: BaseException
) -> Reply | None:
    return await _advance(flow, performer, end, None, await performer.cut_on_task(raised))


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do what must be done whole, however often this task is cancelled meanwhile."""
    task = asyncio.get_running_loop().create_task(work)
    _finishing.add(task)
    task.add_done_callback(_finishing.discard)
    return await asyncio.shield(task)


class TaskPerformer(Performer):
    """Performs effects on a task.

    Attributes:
        opened: the stream that was opened.
    """

    opened: AsyncProviderStream

    async def perform_on_task(self, effect: Effect) -> Any:
        match effect:
            case Send() | Embed():
                return await self._send_on_task(effect)
            case OpenStream():
                return await self._open_on_task(effect.send)
            case Renew():
                return await asyncio.to_thread(self.perform, effect)
            case Sleep():
                return await asyncio.sleep(effect.seconds)
            case _:
                return await on_task(self.perform, effect)

    async def cut_on_task(self, raised: BaseException) -> StreamCut:
        """See `Performer.cut`."""
        await _close(self.opened)
        return StreamCut(self._cause_of(raised), so_far(self.opened.reply, self._key))

    def streamed(self) -> ProviderReply:
        """See `Performer.streamed`."""
        return checked_reply(self._key.provider, self.opened.reply())

    # -- inside --------------------------------------------------------------------------------

    async def _send_on_task(self, effect: Send | Embed) -> ProviderReply | EmbeddingReply:
        try:
            adapter, call = await self._call_on_task(effect)
            if isinstance(call, EmbeddingCall):
                return checked_vectors(call, await self._embed(adapter, call))
            return checked_reply(effect.key.provider, await self._ask(adapter, call))
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises
            found = self._cause_of(error)
        finally:
            self._sent_at = take_sent() or self._sent_at
        raise found

    async def _open_on_task(self, effect: Send) -> None:
        opened: AsyncProviderStream | None = None
        try:
            adapter, call = await self._call_on_task(effect)
            if isinstance(adapter, AsyncStreamingAdapter):
                opened = await adapter.astream(call)
            else:
                opened = OnePiece(
                    checked_reply(effect.key.provider, await self._ask(adapter, call))
                )
            self._sent_at = take_sent() or self._sent_at
            self.opened, self.first = opened, await anext(opened, None)
            if self.first is None:
                checked_reply(effect.key.provider, opened.reply())
            return
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises
            found = self._cause_of(error)
        except BaseException:
            if opened is not None:
                await _to_the_end(_close(opened))
            raise
        finally:
            self._sent_at = take_sent() or self._sent_at
        if opened is not None:
            await _close(opened)
        raise found

    async def _ask(self, adapter: ProviderAdapter, call: ProviderCall) -> ProviderReply:
        if isinstance(adapter, AsyncAdapter):
            return await adapter.asend(call)
        return await self._in_thread(adapter.send, call)

    async def _embed(self, adapter: ProviderAdapter, call: EmbeddingCall) -> EmbeddingReply:
        if isinstance(adapter, AsyncEmbeddingAdapter):
            return await adapter.aembed(call)
        return await self._in_thread(embedding(adapter, call).embed, call)

    async def _in_thread(self, ask: Callable[[CallT], T], call: CallT) -> T:
        # Its own thread's note of when it was sent is not seen here.
        reply, sent_at = await asyncio.to_thread(lambda: (ask(call), take_sent()))
        self._sent_at = sent_at or self._sent_at
        return reply

    async def _call_on_task(self, effect: Send | Embed) -> tuple[ProviderAdapter, ProviderCall]:
        parts, key, end = self._parts, effect.key, time.monotonic() + effect.timeout
        self._key, self._secret = key, None
        adapter = parts.providers.get(key.provider)
        self._secret = parts.secrets.cached(key)
        if self._secret is None:
            self._secret = await asyncio.to_thread(parts.secrets.get, key, effect.timeout)
        take_sent()
        self._sent_at = time.monotonic()
        return adapter, call_of(effect, self._secret, left_until(end, key.key_id))


async def _close(stream: AsyncProviderStream) -> None:
    try:
        await stream.aclose()
    except Exception:  # noqa: BLE001 - it is given up all the same
        _log.warning("a stream could not be closed")
