"""RequestRouter: the front door. It routes a prompt to a key, for a whole answer or a stream.

>>> from llm.router import get_request_router
>>> router = get_request_router()                                       # doctest: +SKIP
>>> router.send_one_shot("Say hello.", "gemini-2.5-flash")["content"]   # doctest: +SKIP
'Hello!'
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from core.once import once
from core.types import ChatRequest, EmbeddingRequest, EmbedReply, Reply
from llm.explanations import Explained, explain
from llm.parts import RouterParts
from llm.reply_stream import ReplyStream
from llm.requests import Requests, asking
from llm.routing.drivers import run, stream
from llm.routing.embedding import route_embeddings
from llm.routing.flow import route
from llm.routing.replies import tell_finished


class RequestRouter:
    """Routes requests over many keys. One serves all threads of a process; close it at the end.

    Make it with `llm.factory.build_router` or `get_request_router`.

    Example:
        >>> with build_router() as router:                        # doctest: +SKIP
        ...     reply = router.send_one_shot("Say hello.")
        >>> reply["success"], reply["tokens"]["total"]            # doctest: +SKIP
        (True, 21)
    """

    def __init__(self, parts: RouterParts) -> None:
        self._parts = parts
        self.requests = Requests(parts.settings, parts.driver.providers.names)

    @asking(Requests.one_shot)
    def send_one_shot(self, request: ChatRequest) -> Reply:
        """Send one prompt, without history.

        Returns:
            A dict: `success, content, tool_calls, model, key_id, provider, tokens, conversation_id,
            attempts, duration_ms`, and on failure `error, error_type` and, where known,
            `retry_after`.

        Raises:
            core.errors.InvalidRequest: an argument is wrong. Nothing else is raised for what a
                provider, Redis or a secret store does.
        """
        return self._send(request)

    @asking(Requests.chat)
    def send_chat(self, request: ChatRequest) -> Reply:
        """Send the next prompt of a conversation; its history goes along, cut to the model.

        The turn is appended when it succeeds; a failed one leaves the history as it was. Keys may
        change from turn to turn. Two turns sent at once both see the history before them.

        Returns, raises:
            As `send_one_shot`; `conversation_unavailable` where the history cannot be read.
        """
        return self._send(request)

    @asking(Requests.one_shot)
    def stream_one_shot(self, request: ChatRequest) -> ReplyStream:
        """Send one prompt, and read its answer as it is written.

        Returns:
            An iterator of chunks: `text` is what was added; the last chunk alone has a `reply`,
            which is what `send_one_shot` would return, also for a request that was not answered.
            Until the first text, failures are retried on other keys. Nothing is sent before the
            first chunk is asked for. Who stops early closes the stream: with `with`, `close()`, or
            by letting it go; the provider's connection is closed at once.

        Raises:
            core.errors.InvalidRequest: an argument is wrong.
            core.errors.StreamInterrupted: while it is read: the stream broke after its first text.
                It has what arrived as `partial`, and the `reply`.

        Example:
            >>> for chunk in router.stream_one_shot("Say hello."):       # doctest: +SKIP
            ...     print(chunk.text, end="")
            Hello!
        """
        return self._stream(request)

    @asking(Requests.chat)
    def stream_chat(self, request: ChatRequest) -> ReplyStream:
        """Send the next prompt of a conversation, and read its answer as it is written.

        The turn is appended when the answer is whole. One that is cut, by whomever, is dropped and
        leaves the history as it was, or kept as far as it came with `keep_partial`.

        Returns, raises:
            As `stream_one_shot`.
        """
        return self._stream(request)

    @asking(Requests.embedding)
    def embed(self, request: EmbeddingRequest) -> EmbedReply:
        """Embed texts, in as many calls as the provider's limits ask for.

        Returns:
            A dict: `success, embeddings` (a list of numbers for each text, in their order)`, model,
            key_id` (the last that served)`, key_ids, provider, tokens, attempts, duration_ms`, and
            on failure `error, error_type`, where known `retry_after`, and as `partial` the vectors
            of the first texts, as far as it came.

        Raises:
            core.errors.InvalidRequest: an argument is wrong.

        Example:
            >>> router.embed(["Hello", "World"], "text-embedding-3-small")     # doctest: +SKIP
        """
        parts = self._parts
        reply = run(route_embeddings(request, parts.around), parts.driver, request.request.timeout)
        tell_finished(request.request, reply)
        return reply

    @asking(Requests.one_shot)
    def explain(self, request: ChatRequest) -> Explained:
        """Tell for every key whether it would serve this prompt now, and why not. Reserves nothing.

        Returns:
            A dict: `estimated_tokens` of the prompt, the model's learned `ratio` of real to
            estimated ones, `input_tokens` that would be reserved, and `keys`, each with `verdict`
            ("chosen", "free", "passed over"), `why`, `free_in` seconds, `limits` and more.

        Raises:
            core.errors.InvalidRequest: an argument is wrong, or no allowed model can do it.
            core.errors.NoKeys: no configured key fits.
            core.errors.StorageError: Redis did not answer.
        """
        return explain(self._parts, request)

    def health_check(self) -> dict[str, Any]:
        """Whether requests can be served now, with a reason for each part.

        Returns:
            `healthy`, and under `redis`, `keys`, `conversations`, `secrets` each a `healthy` and
            a `reason`.
        """
        from llm.health import health_of

        return health_of(self._parts)

    def close(self) -> None:
        """Give back connections and clients; the router is not used afterwards. If it was the
        process's, `get_request_router` makes a new one."""
        get_request_router.forget(self)
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _send(self, request: ChatRequest) -> Reply:
        parts = self._parts
        reply = run(route(request, parts.around), parts.driver, request.timeout)
        tell_finished(request, reply)
        return reply

    def _stream(self, request: ChatRequest) -> ReplyStream:
        parts = self._parts
        asked = replace(request, streamed=True)
        told = partial(tell_finished, asked)
        return ReplyStream(stream(route(asked, parts.around), parts.driver, asked.timeout, told))


@once
def get_request_router() -> RequestRouter:
    """The router of this process, made from the environment, `.env` and `keys.json` at first use.

    It shares its keys with `keys.manager.get_key_manager` and its Redis with all of the process.

    Raises:
        core.errors.ConfigurationError: a setting or `keys.json` is wrong or missing.
    """
    from llm.factory import build_process_router

    return build_process_router()


if __name__ == "__main__":
    from llm.health_command import health_main

    raise SystemExit(health_main())
