"""The two forms of a stream from a provider: one for a thread, one for a task.

Both only read bytes, each with its deadline, and hand them to `arriving.Arriving`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Protocol

from core.errors import ProviderError, ProviderTimeout
from core.types import ProviderReply
from llm.providers.arriving import Arriving
from llm.providers.base import ProviderCall
from llm.providers.transport import Deadline

DRAIN_SECONDS = 0.2
"""So long the end of the connection is waited for once the answer has ended, to use it again."""

Translate = Callable[[BaseException, ProviderCall], ProviderError | None]


class Response(Protocol):
    """What is read of an SDK's streamed response."""

    def iter_bytes(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class AsyncResponse(Protocol):
    """What is read of an SDK's asynchronous streamed response."""

    def aiter_bytes(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None: ...


class _Stream:
    """What both forms share."""

    def __init__(
        self, arriving: Arriving, call: ProviderCall, end: float, translate: Translate
    ) -> None:
        self._arriving = arriving
        self._call = call
        self._end = end
        self._translate = translate
        self._closed = False

    def reply(self) -> ProviderReply:
        """See `base.ProviderStream`."""
        return self._arriving.reply()

    def _seconds(self) -> float:
        left = self._end - time.monotonic()
        return min(left, DRAIN_SECONDS if self._arriving.closing else self._call.idle_timeout)

    def _broke(self, error: BaseException) -> None:
        """Take note of what a read raised; raises what is nothing of the network's."""
        found = self._translate(error, self._call)
        if found is None:
            raise error
        if isinstance(found, ProviderTimeout):
            found = self._stalled()
        self._arriving.end(found)

    def _stalled(self) -> ProviderTimeout:
        over = time.monotonic() >= self._end
        idle = f"nothing arrived for {self._call.idle_timeout:g} s"
        text = "no whole answer in time" if over else idle
        return ProviderTimeout(f"{self._call.provider}: {text}", provider=self._call.provider)


class ThreadStream(_Stream):
    """A stream that a thread reads.

    Args:
        end: monotonic seconds at which the whole attempt is over.
        release: called once the response is closed.
    """

    def __init__(
        self,
        arriving: Arriving,
        call: ProviderCall,
        end: float,
        translate: Translate,
        response: Response,
        release: Callable[[], None],
    ) -> None:
        super().__init__(arriving, call, end, translate)
        self._response = response
        self._bytes = response.iter_bytes()
        self._release = release

    def __iter__(self) -> ThreadStream:
        return self

    def __next__(self) -> str:
        arriving = self._arriving
        while self._closed or (text := arriving.piece()) is None:
            if arriving.failure is not None:
                self.close()
                raise arriving.failure
            if arriving.done or self._closed:
                self.close()
                raise StopIteration
            self._read()
        return text

    def close(self) -> None:
        """See `base.ProviderStream`."""
        if not self._closed:
            self._closed = True
            try:
                self._response.close()
            finally:
                self._release()

    def _read(self) -> None:
        try:
            with Deadline(self._seconds()):
                data = next(self._bytes, None)
        except Exception as error:  # noqa: BLE001 - raised again where it is our own fault
            self._broke(error)
            return
        if data is None:
            self._arriving.end()
        else:
            self._arriving.feed(data)


class TaskStream(_Stream):
    """A stream that a task reads; as `ThreadStream`."""

    def __init__(
        self,
        arriving: Arriving,
        call: ProviderCall,
        end: float,
        translate: Translate,
        response: AsyncResponse,
        release: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(arriving, call, end, translate)
        self._response = response
        self._bytes = response.aiter_bytes()
        self._release = release

    def __aiter__(self) -> TaskStream:
        return self

    async def __anext__(self) -> str:
        arriving = self._arriving
        while self._closed or (text := arriving.piece()) is None:
            if arriving.failure is not None:
                await self.aclose()
                raise arriving.failure
            if arriving.done or self._closed:
                await self.aclose()
                raise StopAsyncIteration
            await self._read()
        return text

    async def aclose(self) -> None:
        """See `base.AsyncProviderStream`."""
        if not self._closed:
            self._closed = True
            try:
                await self._response.aclose()
            finally:
                await self._release()

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._seconds()):
                data = await anext(self._bytes, None)
        except TimeoutError:
            self._arriving.end(self._stalled())
        except Exception as error:  # noqa: BLE001 - raised again where it is our own fault
            self._broke(error)
        else:
            if data is None:
                self._arriving.end()
            else:
                self._arriving.feed(data)
