"""What the adapters of the three SDKs share: clients, deadlines, streams and the way of errors."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from core.errors import ProviderError, ProviderTimeout
from core.types import ProviderReply, Usage
from llm.providers.arriving import Arriving, Assembler
from llm.providers.base import (
    AsyncProviderStream,
    ProviderCall,
    ProviderStream,
    note_sent,
    take_sent,
)
from llm.providers.clients import AsyncClientCache, ClientCache, ClientT
from llm.providers.loading import Loading
from llm.providers.translate import Answer, Refusal, Rule, failure

if TYPE_CHECKING:
    import httpx2

    from llm.providers.streams import Translate

AsyncClientT = TypeVar("AsyncClientT")
CallT = TypeVar("CallT", bound=ProviderCall)


class SdkAdapter(ABC, Generic[ClientT, AsyncClientT]):
    """A provider that is called through its own SDK, which is imported at the first send: in a
    thread where a task sends, since that takes a second or so.

    An SDK's exception holds the request with its key, and so do the frames of its traceback. None
    leaves this class, not even as the context of ours: errors are made from the plain answer.
    """

    rules: ClassVar[Sequence[Rule]]
    sdk: ClassVar[Loading]

    def __init__(self) -> None:
        self._clients = ClientCache(self._connect)
        self._async_clients = AsyncClientCache(self._connect_async)

    # -- for threads ---------------------------------------------------------------------------

    def send(self, call: ProviderCall) -> ProviderReply:
        """Call the provider once: no retry, no redirect, no second request for a long answer.

        Raises:
            core.errors.ProviderError: the most specific one that fits.
        """
        return self.read(call, self._answer(call, self._ask))

    def stream(self, call: ProviderCall) -> ProviderStream:
        """The same as a stream; returns when the provider begins to answer.

        Raises:
            As `send`.
        """
        opened = self._begin(call)
        if isinstance(opened, (Answer, ProviderError)):
            raise self._error(call, opened)
        return opened

    def close(self) -> None:
        """Take no more calls, and close the connections after the last one that is under way."""
        self._clients.close()

    # -- for tasks -----------------------------------------------------------------------------

    async def asend(self, call: ProviderCall) -> ProviderReply:
        """`send` for a task; cancelling it closes the provider's connection."""
        return self.read(call, await self._answer_async(call, self._ask_async))

    async def astream(self, call: ProviderCall) -> AsyncProviderStream:
        """`stream` for a task."""
        opened = await self._begin_async(call)
        if isinstance(opened, (Answer, ProviderError)):
            raise self._error(call, opened)
        return opened

    async def aclose(self) -> None:
        """`close` for the connections of this event loop."""
        await self._async_clients.aclose()

    # -- inside --------------------------------------------------------------------------------

    def _answer(self, call: CallT, ask: Callable[[ClientT, CallT], Answer]) -> Answer:
        """The answer of a success; raises what else came."""
        return self._success(call, self._exchange(call, ask))

    async def _answer_async(
        self, call: CallT, ask: Callable[[AsyncClientT, CallT], Awaitable[Answer]]
    ) -> Answer:
        """The same for tasks."""
        return self._success(call, await self._exchange_async(call, ask))

    def _exchange(
        self, call: CallT, ask: Callable[[ClientT, CallT], Answer]
    ) -> Answer | ProviderError:
        from llm.providers.transport import Deadline

        try:
            with self._clients.lease(call) as client, Deadline(call.timeout):
                return ask(client, call)
        except Exception as error:
            found = self._understood(error, call, _broken)
            if found is None:
                raise
            return found

    def _begin(self, call: ProviderCall) -> ProviderStream | Answer | ProviderError:
        from llm.providers.streams import ThreadStream
        from llm.providers.transport import Deadline

        taken = False
        try:
            client = self._clients.take(call)
            taken = True
            end = time.monotonic() + call.timeout
            with Deadline(call.timeout):
                response = self._open(client, call)
            arriving = Arriving(self, call, Answer.begun(response))
            give_back = self._clients.give_back
            return ThreadStream(arriving, call, end, _broken, response, give_back)
        except BaseException as error:
            if taken:
                self._clients.give_back()
            found = self._understood(error, call, _broken)
            if found is None:
                raise
            return found

    async def _exchange_async(
        self, call: CallT, ask: Callable[[AsyncClientT, CallT], Awaitable[Answer]]
    ) -> Answer | ProviderError:
        pool = None
        take_sent()
        try:
            async with asyncio.timeout(call.timeout):
                await self.sdk.done()
                client, pool = self._async_clients.take(call)
                return await ask(client, call)
        except TimeoutError:
            return _too_late(call)
        except Exception as error:
            found = self._understood(error, call, _broken_async)
            if found is None:
                raise
            return found
        finally:
            if pool is not None:
                await pool.give_back()

    async def _begin_async(
        self, call: ProviderCall
    ) -> AsyncProviderStream | Answer | ProviderError:
        pool, opened = None, False
        take_sent()
        try:
            end = time.monotonic() + call.timeout
            async with asyncio.timeout(call.timeout):
                await self.sdk.done()
                client, pool = self._async_clients.take(call)
                response = await self._open_async(client, call)
            from llm.providers.streams import TaskStream

            arriving = Arriving(self, call, Answer.begun(response))
            opened = True
            return TaskStream(arriving, call, end, _broken_async, response, pool.give_back)
        except TimeoutError:
            return _too_late(call)
        except Exception as error:
            found = self._understood(error, call, _broken_async)
            if found is None:
                raise
            return found
        finally:
            if pool is not None and not opened:
                await pool.give_back()

    def _understood(
        self, error: BaseException, call: ProviderCall, broken: Translate
    ) -> Answer | ProviderError | None:
        """What an exception from below tells; None for what is nothing of the provider's."""
        if isinstance(error, ProviderError):
            return error.with_traceback(None)
        answer = self._answer_in(error) if isinstance(error, Exception) else None
        return answer if answer is not None else broken(error, call)

    def _success(self, call: ProviderCall, answer: Answer | ProviderError) -> Answer:
        if isinstance(answer, ProviderError) or not 200 <= answer.status < 300:
            raise self._error(call, answer)
        return answer

    def _error(self, call: ProviderCall, answer: Answer | ProviderError) -> ProviderError:
        if isinstance(answer, ProviderError):
            return answer
        return failure(call, self._refusal(answer), self.rules)

    # -- of each provider ----------------------------------------------------------------------

    @abstractmethod
    def _connect(self, call: ProviderCall, http: httpx2.Client) -> ClientT:
        """A client for the call's key and address over `http`, deaf to the environment."""

    @abstractmethod
    def _connect_async(self, call: ProviderCall, http: httpx2.AsyncClient) -> AsyncClientT:
        """The same for tasks."""

    @abstractmethod
    def _ask(self, client: ClientT, call: ProviderCall) -> Answer:
        """The provider's answer; what the SDK raises for any other status is raised."""

    @abstractmethod
    async def _ask_async(self, client: AsyncClientT, call: ProviderCall) -> Answer:
        """The same for tasks."""

    @abstractmethod
    def _open(self, client: ClientT, call: ProviderCall) -> Any:
        """The SDK's response that streams; what it raises for a refusal is raised."""

    @abstractmethod
    async def _open_async(self, client: AsyncClientT, call: ProviderCall) -> Any:
        """The same for tasks."""

    @abstractmethod
    def _answer_in(self, error: Exception) -> Answer | None:
        """The provider's answer that an exception of the SDK holds, if it is one of these."""

    @abstractmethod
    def _refusal(self, answer: Answer) -> Refusal:
        """What an answer that is no success says."""

    @abstractmethod
    def read(self, call: ProviderCall, answer: Answer) -> ProviderReply:
        """The reply in a success. Raises ContentBlocked or ProviderUnavailable."""

    @abstractmethod
    def usage_in(self, body: dict[str, Any]) -> Usage | None:
        """What a success, or the part of one that arrived, says of its tokens."""

    @abstractmethod
    def assembler(self, call: ProviderCall) -> Assembler:
        """What puts a stream of this provider together."""


def _broken(error: BaseException, call: ProviderCall) -> ProviderError | None:
    from llm.providers.transport import failure_of

    found = failure_of(error, call)
    if found is None and error.__cause__ is not None:
        found = failure_of(error.__cause__, call)
    return found


def _broken_async(error: BaseException, call: ProviderCall) -> ProviderError | None:
    from llm.providers.async_transport import async_failure_of

    return async_failure_of(error, call)


def _too_late(call: ProviderCall) -> ProviderTimeout:
    """The deadline of a task's attempt is over: whether it was sent, the transport has told."""
    sent_at = take_sent()
    if sent_at is not None:
        note_sent()
    words = "no connection in time" if sent_at is None else "no whole answer in time"
    return ProviderTimeout(
        f"{call.provider}: {words}", provider=call.provider, sent=sent_at is not None
    )
