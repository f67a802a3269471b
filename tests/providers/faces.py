"""The asynchronous side of an adapter behind the methods of the other one: one test for both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from functools import cache
from typing import Any

from core.types import ProviderReply
from llm.providers.base import AsyncProviderStream, ProviderCall
from llm.providers.sdk import SdkAdapter


@cache
def running_loop() -> asyncio.AbstractEventLoop:
    """One loop for all tests of this process, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


class Tasks:
    """An adapter whose calls are made by tasks."""

    def __init__(self, adapter: SdkAdapter[Any, Any], loop: asyncio.AbstractEventLoop) -> None:
        self._adapter = adapter
        self._loop = loop

    def send(self, call: ProviderCall) -> ProviderReply:
        return self._wait(self._adapter.asend(call))

    def stream(self, call: ProviderCall) -> TaskPieces:
        return TaskPieces(self._wait(self._adapter.astream(call)), self._wait)

    def close(self) -> None:
        self._wait(self._adapter.aclose())

    def _wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


class TaskPieces:
    """A stream that is read by tasks."""

    def __init__(self, stream: AsyncProviderStream, wait: Any) -> None:
        self._stream = stream
        self._wait = wait

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        async def following() -> str | None:
            return await anext(self._stream, None)

        piece = self._wait(following())
        if piece is None:
            raise StopIteration
        text: str = piece
        return text

    def reply(self) -> ProviderReply:
        return self._stream.reply()

    def close(self) -> None:
        self._wait(self._stream.aclose())
