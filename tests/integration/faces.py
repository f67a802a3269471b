"""An AsyncRequestRouter behind the methods of the other router: one contract, tested for both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Self

from core.types import Reply, StreamChunk
from llm.async_router import AsyncRequestRouter
from llm.parts import RouterParts
from llm.reply_stream import AsyncReplyStream


class TaskRouter:
    """A router whose every request is made by a task of a loop that runs in a thread."""

    def __init__(self, router: AsyncRequestRouter, loop: asyncio.AbstractEventLoop) -> None:
        self.router = router
        self.loop = loop

    @property
    def _parts(self) -> RouterParts:
        return self.router._parts

    def send_one_shot(self, *args: Any, **kwargs: Any) -> Reply:
        return self._wait(self.router.send_one_shot(*args, **kwargs))

    def send_chat(self, *args: Any, **kwargs: Any) -> Reply:
        return self._wait(self.router.send_chat(*args, **kwargs))

    def stream_one_shot(self, *args: Any, **kwargs: Any) -> TaskReplyStream:
        return TaskReplyStream(self.router.stream_one_shot(*args, **kwargs), self._wait)

    def stream_chat(self, *args: Any, **kwargs: Any) -> TaskReplyStream:
        return TaskReplyStream(self.router.stream_chat(*args, **kwargs), self._wait)

    def embed(self, *args: Any, **kwargs: Any) -> Any:
        return self._wait(self.router.embed(*args, **kwargs))

    def explain(self, *args: Any, **kwargs: Any) -> Any:
        return self._wait(self.router.explain(*args, **kwargs))

    def health_check(self) -> dict[str, Any]:
        return self._wait(self.router.health_check())

    def close(self) -> None:
        self._wait(self.router.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)


class TaskReplyStream:
    """A stream that tasks read."""

    def __init__(self, stream: AsyncReplyStream, wait: Any) -> None:
        self._stream = stream
        self._wait = wait

    @property
    def reply(self) -> Reply | None:
        return self._stream.reply

    def __iter__(self) -> Iterator[StreamChunk]:
        return self

    def __next__(self) -> StreamChunk:
        async def following() -> StreamChunk | None:
            return await anext(self._stream, None)

        chunk = self._wait(following())
        if chunk is None:
            raise StopIteration
        found: StreamChunk = chunk
        return found

    def close(self) -> None:
        self._wait(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
