"""An answer that arrives as a stream: what is heard, what it amounts to, and whether it is whole.

No input or output here: the synchronous and the asynchronous stream feed it with bytes.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any, Protocol

from core.errors import ProviderError
from core.types import ProviderReply, Usage
from llm.providers.base import ProviderCall
from llm.providers.sse import EventReader
from llm.providers.translate import Answer, nonsense

STREAM_TYPE = "text/event-stream"


class Assembler(Protocol):
    """Puts a provider's events together to the body that it would have sent without a stream."""

    @property
    def whole(self) -> bool:
        """Whether the answer has come to its end, so that nothing is missed if the rest breaks."""

    @property
    def closing(self) -> bool:
        """Whether the provider said that nothing follows."""

    def take(self, event: str, data: Any) -> str:
        """The text that an event adds, "" for none.

        Args:
            data: the event's JSON.

        Raises:
            ProviderError: the event is an error.
        """

    def body(self) -> dict[str, Any]:
        """The body so far."""


class Dialect(Protocol):
    """What of an adapter reads whole answers."""

    def assembler(self, call: ProviderCall) -> Assembler: ...

    def read(self, call: ProviderCall, answer: Answer) -> ProviderReply: ...

    def usage_in(self, body: dict[str, Any]) -> Usage | None: ...


class Arriving:
    """One answer as far as it has arrived.

    Attributes:
        failure: why the stream broke; it is set once all that came before it was handed out.
        done: whether nothing more is to be read.

    Args:
        answer: status and headers; its body is empty.
    """

    def __init__(self, dialect: Dialect, call: ProviderCall, answer: Answer) -> None:
        self.failure: ProviderError | None = None
        self.done = False
        self._dialect = dialect
        self._call = call
        self._answer = answer
        self._events = EventReader(call.provider)
        self._assembler = dialect.assembler(call)
        self._texts: list[str] = []
        self._unread: deque[str] = deque()
        self._ended = False
        self._broken: ProviderError | None = None
        self._raw = bytearray()
        # Some servers know no streams, and answer whole.
        self._whole = STREAM_TYPE not in answer.headers.get("content-type", STREAM_TYPE)
        self._reply: ProviderReply | None = None

    @property
    def closing(self) -> bool:
        """Whether the provider said that nothing follows."""
        return self._assembler.closing

    def feed(self, data: bytes) -> None:
        """Take bytes as they arrived."""
        if self._whole:
            self._raw += data
        else:
            self._events.feed(data)

    def end(self, broken: ProviderError | None = None) -> None:
        """The connection came to its end, or broke: that harms nothing if the answer is whole."""
        self._ended, self._broken = True, broken
        self._events.end()

    def piece(self) -> str | None:
        """The next text; None where more must be read, or `done`, or there is a `failure`."""
        return self._unread.popleft() if self._unread else self._next()

    def reply(self) -> ProviderReply:
        """The whole answer, or the part that has arrived."""
        # What has arrived was produced, whether or not somebody reads it.
        while (text := self._next()) is not None:
            self._unread.append(text)
        if self._reply is not None:
            return self._reply
        body = self._assembler.body()
        model = body.get("model") or body.get("modelVersion")
        return ProviderReply(
            content="".join(self._texts),
            model=model if isinstance(model, str) and model else self._call.model,
            stop_reason="other",
            usage=self._dialect.usage_in(body),
        )

    # -- inside --------------------------------------------------------------------------------

    def _next(self) -> str | None:
        """The next text of what has arrived; see `piece`."""
        if self.done:
            return None
        try:
            while (event := self._events.next_event()) is not None:
                text = self._take(*event)
                if text:
                    return text
            if self._ended:
                self.done = True
                return self._finish()
        except ProviderError as error:
            self.done = True
            self.failure = error.with_traceback(None)
        return None

    def _take(self, event: str, text: str) -> str:
        data: Any = None
        if not text.startswith("[DONE]"):
            try:
                data = json.loads(text)
            except (ValueError, RecursionError):
                raise self._nonsense("an event is no JSON", text) from None
            if not isinstance(data, dict):
                raise self._nonsense("an event is no JSON object", text)
        piece = self._assembler.take(event, data)
        if piece:
            self._texts.append(piece)
        return piece

    def _finish(self) -> str | None:
        if self._broken is not None and not self._assembler.whole:
            raise self._broken
        if self._whole:
            body: bytes = bytes(self._raw)
        elif self._assembler.whole:
            body = json.dumps(self._assembler.body()).encode()
        else:
            raise self._nonsense("the stream ended before the answer did", "")
        answer = Answer(self._answer.status, self._answer.headers, body)
        self._reply = self._dialect.read(self._call, answer)
        return (self._reply.content or None) if self._whole else None

    def _nonsense(self, missing: str, text: str) -> ProviderError:
        answer = Answer(self._answer.status, self._answer.headers, text or "".join(self._texts))
        return nonsense(self._call, answer, missing)
