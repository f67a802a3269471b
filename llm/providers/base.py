"""What the router asks of a provider: one method. This is the place to plug in another one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from core.content import NO_OPTIONS, Options
from core.types import EmbeddingReply, Message, ProviderReply
from llm.providers.abilities import Ability
from llm.providers.embedding_limits import EmbeddingLimits

if TYPE_CHECKING:
    from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call of one key, complete.

    Args:
        provider: the provider's name in `keys.json`.
        key_id: the key's name; adapters keep one SDK client a key.
        secret: the API key, wrapped; it changes when the key is rotated.
        model: the provider's name of the model.
        messages: the conversation without system messages, oldest first.
        max_output_tokens: the most tokens that the answer may have.
        timeout: seconds that this attempt may take in all.
        base_url: another address that speaks the same protocol, or None.
        idle_timeout: seconds without a byte after which a stream that had begun is given up.
        options: tools, formats and the like; only what the adapter's abilities cover, and for each
            provider its `provider_options`.
    """

    provider: str
    key_id: str
    secret: SecretStr
    model: str
    messages: tuple[Message, ...]
    system_prompt: str | None
    max_output_tokens: int
    temperature: float | None
    timeout: float
    base_url: str | None = None
    idle_timeout: float = 60.0
    options: Options = NO_OPTIONS


@dataclass(frozen=True, slots=True)
class EmbeddingCall(ProviderCall):
    """One call for the vectors of texts: a call without messages.

    Args:
        texts: what to embed, none of them empty.
        dimensions: the length of the vectors; None leaves it to the model.
    """

    texts: tuple[str, ...] = ()
    dimensions: int | None = None


@runtime_checkable
class ProviderAdapter(Protocol):
    """Speaks one provider's protocol. Called from many threads at once."""

    def send(self, call: ProviderCall) -> ProviderReply:
        """Call the provider once, without any retry of its own.

        Raises:
            core.errors.ProviderError: the most specific one that fits.
        """

    def close(self) -> None:
        """Give back connections; the adapter is not used afterwards."""


class ProviderStream(Protocol):
    """An answer that arrives piece by piece: gives its texts, none of them empty.

    Going on raises `core.errors.ProviderError` where the stream breaks.
    """

    def __iter__(self) -> Self: ...

    def __next__(self) -> str: ...

    def reply(self) -> ProviderReply:
        """What has arrived: after the last piece the whole answer, before it the part so far.

        Raises:
            core.errors.ProviderError: the answer came to its end and is none.
        """

    def close(self) -> None:
        """Close the provider's connection now, if the answer is not whole yet."""


@runtime_checkable
class AbleAdapter(Protocol):
    """An adapter that does more than plain text. One that does not say so gets nothing else."""

    def abilities(self, model: str, base_url: str | None) -> frozenset[Ability]:
        """What it can do with a model at an address."""


@runtime_checkable
class EmbeddingAdapter(Protocol):
    """An adapter that makes embeddings as well."""

    def embed(self, call: EmbeddingCall) -> EmbeddingReply:
        """Call the provider once. Raises as `send`."""

    def embedding_limits(self, base_url: str | None) -> EmbeddingLimits:
        """How much one call may hold."""


class AsyncProviderStream(Protocol):
    """The same for a task."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> str: ...

    def reply(self) -> ProviderReply:
        """As `ProviderStream.reply`."""

    async def aclose(self) -> None:
        """As `ProviderStream.close`."""


@runtime_checkable
class StreamingAdapter(Protocol):
    """An adapter that can stream as well; of one that cannot, a stream is one single piece."""

    def stream(self, call: ProviderCall) -> ProviderStream:
        """Call the provider once; returns when it begins to answer. Raises as `send`."""


@runtime_checkable
class AsyncAdapter(Protocol):
    """An adapter with an asynchronous side; of one without it, `send` runs in a thread."""

    async def asend(self, call: ProviderCall) -> ProviderReply:
        """As `send`."""

    async def aclose(self) -> None:
        """Give back the connections of this event loop."""


@runtime_checkable
class AsyncEmbeddingAdapter(Protocol):
    """An adapter that makes embeddings for tasks; of one without it, `embed` runs in a thread."""

    async def aembed(self, call: EmbeddingCall) -> EmbeddingReply:
        """As `EmbeddingAdapter.embed`."""


@runtime_checkable
class AsyncStreamingAdapter(Protocol):
    """An adapter that streams to tasks."""

    async def astream(self, call: ProviderCall) -> AsyncProviderStream:
        """As `StreamingAdapter.stream`."""


# Of a thread, and of a task.
_sending: ContextVar[float | None] = ContextVar("sent_at", default=None)


def note_sent() -> None:
    """Tell that the request of this call has been written, now.

    The provider counts it from about then. An adapter that does not tell is taken to have sent it
    when it was called.
    """
    _sending.set(time.monotonic())


def take_sent() -> float | None:
    """When this call was written (monotonic seconds), told once; None if nobody told."""
    at = _sending.get()
    _sending.set(None)
    return at


AdapterFactory = Callable[[], ProviderAdapter]
