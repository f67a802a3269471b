"""AsyncRequestRouter: the same front door for tasks.

>>> from llm.async_router import get_async_request_router
>>> async def hello():
...     async with get_async_request_router() as router:
...         return (await router.send_one_shot("Say hello."))["content"]
>>> asyncio.run(hello())                                                # doctest: +SKIP
'Hello!'
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from core.bridge import on_task
from core.once import once
from core.types import ChatRequest, EmbeddingRequest, EmbedReply, Reply
from llm.explanations import Explained, explain
from llm.parts import RouterParts
from llm.reply_stream import AsyncReplyStream
from llm.requests import Requests, asking
from llm.routing.embedding import route_embeddings
from llm.routing.flow import route
from llm.routing.replies import tell_finished
from llm.routing.task_drivers import all_settled, run_async, stream_async


class AsyncRequestRouter:
    """Routes requests of tasks over many keys: as `RequestRouter`, with `await`.

    It has the same methods, arguments, replies and errors, and shares limits, conversations and
    keys with every other router on the same Redis. Cancelling a task closes the provider's
    connection and settles. Make it with `llm.factory.build_async_router` or
    `get_async_request_router`, and close it in the loop that used it.

    Example:
        >>> async with build_async_router() as router:            # doctest: +SKIP
        ...     reply = await router.send_one_shot("Say hello.")
        >>> reply["success"]                                      # doctest: +SKIP
        True
    """

    def __init__(self, parts: RouterParts) -> None:
        self._parts = parts
        self.requests = Requests(parts.settings, parts.driver.providers.names)

    @asking(Requests.one_shot)
    async def send_one_shot(self, request: ChatRequest) -> Reply:
        """Send one prompt, without history. See `RequestRouter.send_one_shot`."""
        return await self._send(request)

    @asking(Requests.chat)
    async def send_chat(self, request: ChatRequest) -> Reply:
        """Send the next prompt of a conversation. See `RequestRouter.send_chat`."""
        return await self._send(request)

    @asking(Requests.one_shot)
    def stream_one_shot(self, request: ChatRequest) -> AsyncReplyStream:
        """Send one prompt, and read its answer as it is written: with `async for`.

        See `RequestRouter.stream_one_shot`.

        Example:
            >>> async for chunk in router.stream_one_shot("Say hello."):   # doctest: +SKIP
            ...     print(chunk.text, end="")
            Hello!
        """
        return self._stream(request)

    @asking(Requests.chat)
    def stream_chat(self, request: ChatRequest) -> AsyncReplyStream:
        """Send the next prompt of a conversation, and read its answer as it is written.

        See `RequestRouter.stream_chat`.
        """
        return self._stream(request)

    @asking(Requests.embedding)
    async def embed(self, request: EmbeddingRequest) -> EmbedReply:
        """Embed texts. See `RequestRouter.embed`."""
        parts = self._parts
        flow = route_embeddings(request, parts.around)
        reply = await run_async(flow, parts.driver, request.request.timeout)
        tell_finished(request.request, reply)
        return reply

    @asking(Requests.one_shot)
    async def explain(self, request: ChatRequest) -> Explained:
        """Tell of every key whether it would serve this prompt. See `RequestRouter.explain`."""
        return await on_task(explain, self._parts, request)

    async def health_check(self) -> dict[str, Any]:
        """Whether requests can be served now. See `RequestRouter.health_check`."""
        from llm.health import health_of

        return await asyncio.to_thread(health_of, self._parts)

    async def aclose(self) -> None:
        """Give back connections and clients; the router is not used afterwards. If it was the
        process's, `get_async_request_router` makes a new one."""
        get_async_request_router.forget(self)
        await all_settled()
        await self._parts.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def _send(self, request: ChatRequest) -> Reply:
        parts = self._parts
        reply = await run_async(route(request, parts.around), parts.driver, request.timeout)
        tell_finished(request, reply)
        return reply

    def _stream(self, request: ChatRequest) -> AsyncReplyStream:
        parts = self._parts
        asked = replace(request, streamed=True)
        told = partial(tell_finished, asked)
        flow = route(asked, parts.around)
        return AsyncReplyStream(stream_async(flow, parts.driver, asked.timeout, told))


@once
def get_async_request_router() -> AsyncRequestRouter:
    """The router for the tasks of this process, made from the environment at first use.

    It shares its keys with `keys.manager.get_key_manager` and its Redis with all of the process.

    Raises:
        core.errors.ConfigurationError: a setting or `keys.json` is wrong or missing.
    """
    from llm.factory import build_process_async_router

    return build_process_async_router()
