"""The way of texts to their vectors: batch after batch, each routed as a chat request is.

All batches go to one model, since vectors of two models cannot be compared; each may be served by
another key. Of one call the user's limit counts one request.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conversation.records import Conversation
from core.errors import InvalidRequest, NoCapacity, ProviderError, RouterError
from core.types import (
    Attempt,
    ChatRequest,
    EmbeddingReply,
    EmbeddingRequest,
    EmbedReply,
    TokenCounts,
)
from keys.reservations import Reservation
from keys.selection import Selection
from llm.providers.abilities import Ability
from llm.routing.batches import batch_limits, split
from llm.routing.effects import Effect, Embed
from llm.routing.flow import Journey, Surroundings
from llm.routing.needs import able
from llm.routing.outcomes import answered_end
from llm.routing.prompts import Prompt, selection_of

if TYPE_CHECKING:
    from keys.spec import KeySpec

EmbeddingFlow = Generator[Effect, Any, EmbedReply]


def route_embeddings(request: EmbeddingRequest, around: Surroundings) -> EmbeddingFlow:
    """Route texts to their vectors; what a provider or Redis does is never raised."""
    return (yield from _Batches(request, around).run())


class _Batches:
    """One call for embeddings, and what has come of it so far."""

    def __init__(self, request: EmbeddingRequest, around: Surroundings) -> None:
        self._request = request
        self._around = around
        self._started = around.clock()
        self._attempts: list[Attempt] = []
        self._keys: list[KeySpec] = []
        self._vectors: list[list[float]] = []
        self._tokens = 0

    def run(self) -> EmbeddingFlow:
        try:
            yield from self._all()
        except RouterError as error:
            return self._failed(error)
        return self._reply(success=True, embeddings=self._vectors)

    def _all(self) -> Generator[Effect, Any, None]:
        asked, around = self._request, self._around
        selection = self._selection()
        model = next(iter(around.models_of(selection)), None)
        if model is not None:
            selection = replace(selection, models=(model,))
        sizes = [around.tokens.count(text, model) for text in asked.texts]
        keys = around.keys_of(selection)
        limits = batch_limits(
            map(around.embedding_limits_of, keys), keys, around.ratio_of(selection)
        )
        waited = 0.0
        for n, run in enumerate([range(len(sizes))] if limits is None else split(sizes, limits)):
            request = replace(asked.request, request_id=_id(asked.request, n))
            batch = _Batch(
                request,
                around,
                selection,
                tuple(asked.texts[at] for at in run),
                asked.dimensions,
                sum(sizes[at] for at in run),
                first=n == 0,
            )
            batch.go_on_from(self._started, waited)
            try:
                reply: EmbeddingReply = yield from batch.run()
            finally:
                self._attempts += batch.attempts
            waited = batch.waited
            self._keys.append(batch.served_by)
            self._vectors += reply.vectors
            self._tokens += reply.usage.input if reply.usage is not None else batch.tokens

    def _selection(self) -> Selection:
        """The keys that may serve. Raises InvalidRequest where those allowed make no embeddings."""
        around = self._around
        selection = replace(selection_of(self._request.request), serves="embeddings")
        others = replace(selection, serves="chat")
        if not around.models_of(selection) and (chatting := around.keys_of(others)):
            named = sorted({f"{key.model_name} ({key.provider})" for key in chatting})
            raise InvalidRequest(
                f"{', '.join(named[:10])} makes no embeddings; name an embedding model, such as "
                'text-embedding-3-small, or write "serves": "embeddings" into its entry of '
                "keys.json"
            )
        needs = frozenset({Ability.EMBEDDINGS})
        return able(selection, needs, around.abilities_of, around.models_of)

    def _failed(self, error: RouterError) -> EmbedReply:
        reply = self._reply(success=False, embeddings=None)
        reply["partial"] = self._vectors
        reply["error"], reply["error_type"] = str(error), error.error_type
        if isinstance(error, (NoCapacity, ProviderError)) and error.retry_after is not None:
            reply["retry_after"] = error.retry_after
        return reply

    def _reply(self, *, success: bool, embeddings: list[list[float]] | None) -> EmbedReply:
        last = self._attempts[-1] if self._attempts else None
        preferred = self._request.request.model_preference
        return EmbedReply(
            success=success,
            request_id=self._request.request.request_id,
            embeddings=embeddings,
            model=last["model"] if last else preferred,
            key_id=last["key_id"] if last else None,
            key_ids=list(dict.fromkeys(key.key_id for key in self._keys)),
            provider=last["provider"] if last else None,
            tokens=TokenCounts(input=self._tokens, output=0, total=self._tokens),
            attempts=self._attempts,
            duration_ms=round((self._around.clock() - self._started) * 1000, 3),
        )


class _Batch(Journey):
    """One batch on its way."""

    served_by: KeySpec

    def __init__(
        self,
        request: ChatRequest,
        around: Surroundings,
        selection: Selection,
        texts: tuple[str, ...],
        dimensions: int | None,
        tokens: int,
        *,
        first: bool,
    ) -> None:
        super().__init__(request, around)
        self.tokens = tokens
        self._chosen = selection
        self._texts = texts
        self._dimensions = dimensions
        self._first = first

    def go_on_from(self, started: float, waited: float) -> None:
        """Share the whole call's deadline and its patience."""
        self._started, self._waited = started, waited

    @property
    def waited(self) -> float:
        """Seconds that the call has waited for room so far."""
        return self._waited

    def _selection(self) -> Selection:
        return self._chosen

    def _admit(self) -> Generator[Effect, Any, Conversation | None]:
        return (yield from super()._admit()) if self._first else None

    def _prompt(self, conversation: Conversation | None, model: str | None) -> Prompt:
        return Prompt((), None, self.tokens)

    def _send(self, reservation: Reservation, prompt: Prompt) -> Embed:
        return Embed(
            key=reservation.key,
            texts=self._texts,
            dimensions=self._dimensions,
            timeout=self._time_left(),
            options=self.request.options,
        )

    def _answer(
        self, reservation: Reservation, reply: Any, prompt: Prompt, user_id: str | None
    ) -> Generator[Effect, Any, EmbeddingReply]:
        self.served_by = reservation.key
        yield from self._settle(reservation, answered_end(reservation, reply))
        found: EmbeddingReply = reply
        return found


def _id(request: ChatRequest, batch: int) -> str:
    """The batches' reservations need names of their own."""
    return request.request_id if batch == 0 else f"{request.request_id}-{batch}"
