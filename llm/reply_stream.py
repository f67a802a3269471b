"""What `stream_one_shot` and `stream_chat` return: an iterator of chunks that can be closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Any, Self

from core.types import Reply, StreamChunk


class ReplyStream(Iterator[StreamChunk]):
    """The chunks of one answer, for one thread at a time.

    Whoever stops before the last chunk should close it, or read it in a `with` block: that closes
    the provider's connection and settles what was produced. A stream that is let go of is closed
    by a thread of its own.

    Attributes:
        reply: the reply, once the last chunk was read.

    Example:
        >>> with router.stream_one_shot("Say hello.") as stream:     # doctest: +SKIP
        ...     for chunk in stream:
        ...         print(chunk.text, end="")
        Hello!
    """

    def __init__(self, chunks: Generator[StreamChunk, None, None]) -> None:
        self._chunks = chunks
        self._begun = False
        self.reply: Reply | None = None

    def __next__(self) -> StreamChunk:
        if not self._begun:
            self._begun = True
            _open.add(self._chunks)
        try:
            chunk = next(self._chunks)
        except BaseException:
            _open.discard(self._chunks)
            raise
        if chunk.reply is not None:
            self.reply = chunk.reply
        return chunk

    def close(self) -> None:
        """Read no more; a second time, or after the last chunk, it does nothing."""
        _close(self._chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._chunks not in _open:
            return  # it has ended, or was never begun
        # Not here: the collector may have come in the middle of code that holds a lock.
        closing = threading.Thread(
            target=_close, args=(self._chunks,), name="llm-router close", daemon=True
        )
        try:
            closing.start()
        except RuntimeError:
            _close(self._chunks)  # the interpreter is ending


class AsyncReplyStream(AsyncIterator[StreamChunk]):
    """The chunks of one answer, for one task at a time; as `ReplyStream`, with `async`.

    A stream that is let go of is closed by its loop.

    Example:
        >>> async with router.stream_one_shot("Say hello.") as stream:     # doctest: +SKIP
        ...     async for chunk in stream:
        ...         print(chunk.text, end="")
        Hello!
    """

    def __init__(self, chunks: AsyncGenerator[StreamChunk, None]) -> None:
        self._chunks = chunks
        self._loop: asyncio.AbstractEventLoop | None = None
        self.reply: Reply | None = None

    async def __anext__(self) -> StreamChunk:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            _open.add(self._chunks)
        try:
            chunk = await anext(self._chunks)
        except BaseException:
            _open.discard(self._chunks)
            raise
        if chunk.reply is not None:
            self.reply = chunk.reply
        return chunk

    async def aclose(self) -> None:
        """Read no more; a second time, or after the last chunk, it does nothing."""
        await _aclose(self._chunks)

    def __del__(self) -> None:
        if self._loop is None or self._chunks not in _open:
            return
        try:
            self._loop.call_soon_threadsafe(_aclose_soon, self._chunks)
        except RuntimeError:
            _open.discard(self._chunks)  # the loop is gone: what is reserved ages out

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


_open: set[Any] = set()
"""Streams that were begun and have not ended. They are held here because a collector that finds a
stream in a cycle would end its parts in any order, the flow before it could settle."""


def _close(chunks: Generator[StreamChunk, None, None]) -> None:
    try:
        chunks.close()
    finally:
        _open.discard(chunks)


async def _aclose(chunks: AsyncGenerator[StreamChunk, None]) -> None:
    try:
        await chunks.aclose()
    finally:
        _open.discard(chunks)


_closing: set[asyncio.Task[None]] = set()


def _aclose_soon(chunks: AsyncGenerator[StreamChunk, None]) -> None:
    task = asyncio.get_running_loop().create_task(_aclose(chunks))
    _closing.add(task)
    task.add_done_callback(_closing.discard)
