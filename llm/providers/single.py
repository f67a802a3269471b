"""A whole reply in the form of a stream, for adapters that cannot stream."""

from __future__ import annotations

from typing import Self

from core.types import ProviderReply


class OnePiece:
    """A stream of one piece, for threads and for tasks; see `base.ProviderStream`.

    Example:
        >>> list(OnePiece(ProviderReply("Hi.", "m", "stop", None)))
        ['Hi.']
    """

    def __init__(self, reply: ProviderReply) -> None:
        self._reply = reply
        self._given = not reply.content

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        if self._given:
            raise StopIteration
        self._given = True
        return self._reply.content

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if self._given:
            raise StopAsyncIteration
        return next(self)

    def reply(self) -> ProviderReply:
        """The reply."""
        return self._reply

    def close(self) -> None:
        """Nothing: it has arrived."""

    async def aclose(self) -> None:
        """Nothing: it has arrived."""
