"""What `stream_one_shot` and `stream_chat` return: an iterator of chunks that can be closed."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Self

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
        self.reply: Reply | None = None

    def __next__(self) -> StreamChunk:
        chunk = next(self._chunks)
        if chunk.reply is not None:
            self.reply = chunk.reply
        return chunk

    def close(self) -> None:
        """Read no more; a second time, or after the last chunk, it does nothing."""
        self._chunks.close()

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
        if inspect.getgeneratorstate(self._chunks) != inspect.GEN_SUSPENDED:
            return  # it has ended, or was never begun
        # Not here: the collector may have come in the middle of code that holds a lock.
        closing = threading.Thread(target=self._chunks.close, name="llm-router close", daemon=True)
        try:
            closing.start()
        except RuntimeError:
            self._chunks.close()  # the interpreter is ending


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
        self.reply: Reply | None = None

    async def __anext__(self) -> StreamChunk:
        chunk = await anext(self._chunks)
        if chunk.reply is not None:
            self.reply = chunk.reply
        return chunk

    async def aclose(self) -> None:
        """Read no more; a second time, or after the last chunk, it does nothing."""
        await self._chunks.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
