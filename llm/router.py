"""RequestRouter: the front door. `send_one_shot` and `send_chat` route a prompt to a key.

>>> from llm.router import get_request_router
>>> router = get_request_router()                                       # doctest: +SKIP
>>> router.send_one_shot("Say hello.", "gemini-2.5-flash")["content"]   # doctest: +SKIP
'Hello!'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack
from uuid import uuid4

from conversation.identifiers import check_identifier
from core.content import NO_OPTIONS, Options
from core.events import RequestFinished, emit
from core.once import once
from core.types import ChatRequest, EmbeddingRequest, EmbedReply, Message, Reply
from llm.arguments import (
    checked,
    checked_dimensions,
    embeddable,
    mapping,
    some_texts,
    texts,
)
from llm.options import Extras, messages_of, options_of
from llm.parts import RouterParts
from llm.providers.abilities import needs_of
from llm.routing.drivers import run
from llm.routing.embedding import route_embeddings
from llm.routing.flow import route
from llm.routing.needs import able
from llm.routing.prompts import build_prompt, need_of, selection_of

if TYPE_CHECKING:
    from keys.explain import KeyExplanation


Messages = Sequence[Message | Mapping[str, Any]]


class Explained(TypedDict):
    """What `RequestRouter.explain` tells."""

    estimated_tokens: int
    ratio: float
    input_tokens: int
    keys: list[KeyExplanation]


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

    def send_one_shot(
        self,
        prompt: str | None = None,
        model_preference: str | None = None,
        system_prompt: str | None = None,
        expected_completion_tokens: int = 512,
        max_output_tokens: int = 2048,
        temperature: float | None = 0.7,
        *,
        user_id: str | None = None,
        timeout: float | None = None,
        max_wait: float = 0.0,
        priority: int = 0,
        fallback_models: Sequence[str] = (),
        workload: str | None = None,
        tags: Mapping[str, str] | None = None,
        allowed_providers: Sequence[str] | None = None,
        exclude_keys: Sequence[str] = (),
        messages: Messages | None = None,
        **extras: Unpack[Extras],
    ) -> Reply:
        """Send one prompt, without history.

        Args:
            prompt: what to ask.
            model_preference: the model to try first; None lets any configured key serve.
            system_prompt: how the model should behave.
            expected_completion_tokens: what the answer will probably have; it is reserved.
            max_output_tokens: the most that the answer may have.
            temperature: 0 to 2; None leaves it to the provider.
            user_id: on whose behalf; it counts against the user's limit, if there are any.
            timeout: seconds for the whole request with all its tries; by default
                `LLM_REQUEST_TIMEOUT_SECONDS`.
            max_wait: seconds to wait when every key is full; 0 refuses at once.
            priority: higher is served first among those that wait.
            fallback_models: what else may answer, in this order: when the preferred model has no
                room, fails, or refuses the prompt for its content.
            workload: `light`, `medium` or `heavy`: keys tagged so, or not tagged.
            tags: labels that a key must carry.
            allowed_providers: who may be asked; of one model's keys, those of the first are tried
                first. None allows all.
            exclude_keys: ids of keys that may not serve.
            messages: in the prompt's place, the whole exchange as dicts of `role` and `content`,
                with images and tool calls; see docs/requests.md.
            extras: tools, tool_choice, response_format, stop, top_p, seed, provider_options. Keys
                whose provider cannot do what is asked are left out; if none is left, the reply's
                error_type is `invalid_request`.

        Returns:
            A dict: `success, content, tool_calls, model, key_id, provider, tokens, conversation_id,
            attempts, duration_ms`, and on failure `error, error_type` and, where known,
            `retry_after`.

        Raises:
            core.errors.InvalidRequest: an argument is wrong. Nothing else is raised for what a
                provider, Redis or a secret store does.
        """
        return self._run(
            self._request(
                prompt,
                messages,
                fallback_models,
                tags,
                timeout,
                extras,
                allowed_providers=some_texts("allowed_providers", allowed_providers),
                exclude_keys=texts("exclude_keys", exclude_keys),
                system_prompt=system_prompt,
                model_preference=model_preference,
                workload=workload,
                expected_completion_tokens=expected_completion_tokens,
                max_output_tokens=max_output_tokens,
                temperature=temperature,
                max_wait=max_wait,
                priority=priority,
                user_id=user_id,
            )
        )

    def send_chat(
        self,
        conv_id: str,
        prompt: str | None = None,
        user_id: str | None = None,
        model_preference: str | None = None,
        expected_completion_tokens: int = 512,
        max_output_tokens: int = 2048,
        temperature: float | None = 0.7,
        system_prompt: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        max_wait: float = 0.0,
        priority: int = 0,
        fallback_models: Sequence[str] = (),
        workload: str | None = None,
        tags: Mapping[str, str] | None = None,
        allowed_providers: Sequence[str] | None = None,
        exclude_keys: Sequence[str] = (),
        messages: Messages | None = None,
        **extras: Unpack[Extras],
    ) -> Reply:
        """Send the next prompt of a conversation; its history goes along, cut to the model.

        The turn is appended when it succeeds; a failed one leaves the history as it was. Keys may
        change from turn to turn. Two turns sent at once both see the history before them.

        Args:
            conv_id: names the conversation; a new name begins one.
            user_id: whose it is; another user's conversation is refused.
            system_prompt: kept with the conversation from now on.
            metadata: JSON values kept with the conversation.
            messages: what is new, in the prompt's place: the results of tool calls, for example.
            prompt, model_preference, expected_completion_tokens, max_output_tokens, temperature,
            timeout, max_wait, priority, fallback_models, workload, tags, allowed_providers,
            exclude_keys, extras: as for `send_one_shot`.

        Returns, raises:
            As `send_one_shot`; `conversation_unavailable` where the history cannot be read.
        """
        request = self._request(
            prompt,
            messages,
            fallback_models,
            tags,
            timeout,
            extras,
            allowed_providers=some_texts("allowed_providers", allowed_providers),
            exclude_keys=texts("exclude_keys", exclude_keys),
            system_prompt=system_prompt,
            model_preference=model_preference,
            workload=workload,
            expected_completion_tokens=expected_completion_tokens,
            max_output_tokens=max_output_tokens,
            temperature=temperature,
            max_wait=max_wait,
            priority=priority,
            conv_id=check_identifier(conv_id, "conv_id"),
            user_id=user_id,
            metadata=mapping("metadata", metadata),
        )
        return self._run(request)

    def embed(
        self,
        texts: Sequence[str],
        model_preference: str | None = None,
        *,
        dimensions: int | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
        max_wait: float = 0.0,
        priority: int = 0,
        workload: str | None = None,
        tags: Mapping[str, str] | None = None,
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> EmbedReply:
        """Embed texts, in as many calls as the provider's limits ask for.

        Args:
            texts: what to embed; none may be empty.
            model_preference: the model; None takes the first configured one that makes embeddings.
                All texts go to one model.
            dimensions: the length of the vectors, where the model lets it be chosen.
            timeout: seconds for all calls together.
            user_id, max_wait, priority, workload, tags, provider_options: as for `send_one_shot`.

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
        request = EmbeddingRequest(
            self._plain_request(
                (),
                options_of(self._names(), provider_options=provider_options),
                (),
                tags,
                timeout,
                model_preference=model_preference,
                workload=workload,
                expected_completion_tokens=0,
                max_output_tokens=0,
                temperature=None,
                max_wait=max_wait,
                priority=priority,
                user_id=user_id,
            ),
            embeddable(texts),
            checked_dimensions(dimensions),
        )
        parts = self._parts
        reply = run(route_embeddings(request, parts.around), parts.driver, request.request.timeout)
        _emit_finished(reply, None)
        return reply

    def explain(
        self,
        prompt: str | None = None,
        model_preference: str | None = None,
        system_prompt: str | None = None,
        expected_completion_tokens: int = 512,
        max_output_tokens: int = 2048,
        *,
        fallback_models: Sequence[str] = (),
        workload: str | None = None,
        tags: Mapping[str, str] | None = None,
        allowed_providers: Sequence[str] | None = None,
        exclude_keys: Sequence[str] = (),
        messages: Messages | None = None,
        **extras: Unpack[Extras],
    ) -> Explained:
        """Tell for every key whether it would serve this prompt now, and why not. Reserves nothing.

        Args:
            As for `send_one_shot`.

        Returns:
            A dict: `estimated_tokens` of the prompt, the model's learned `ratio` of real to
            estimated ones, `input_tokens` that would be reserved, and `keys`, each with `verdict`
            ("chosen", "free", "passed over"), `why`, `free_in` seconds, `limits` and more.

        Raises:
            core.errors.InvalidRequest: an argument is wrong, or no allowed model can do it.
            core.errors.NoKeys: no configured key fits.
            core.errors.StorageError: Redis did not answer.
        """
        request = self._request(
            prompt,
            messages,
            fallback_models,
            tags,
            None,
            extras,
            allowed_providers=some_texts("allowed_providers", allowed_providers),
            exclude_keys=texts("exclude_keys", exclude_keys),
            system_prompt=system_prompt,
            model_preference=model_preference,
            workload=workload,
            expected_completion_tokens=expected_completion_tokens,
            max_output_tokens=max_output_tokens,
        )
        around, keys = self._parts.around, self._parts.driver.keys
        needs = needs_of(request.messages, request.options)
        selection = able(selection_of(request), needs, around.abilities_of, around.models_of)
        built = build_prompt(request, None, model_preference, around.tokens)
        keys.refresh_ratios(selection)
        ratio = around.ratio_of(selection)
        need = need_of(request, built, ratio)
        return Explained(
            estimated_tokens=built.tokens,
            ratio=ratio,
            input_tokens=need.input,
            keys=keys.explain(need, selection),
        )

    def health_check(self) -> dict[str, Any]:
        """Whether requests can be served now, with a reason for each part.

        Returns:
            `healthy`, and under `redis`, `keys`, `conversations`, `secrets` each a `healthy` and
            a `reason`.
        """
        from llm.health import health_of

        return health_of(self._parts)

    def close(self) -> None:
        """Give back connections and clients; the router is not used afterwards."""
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

    def _request(
        self,
        prompt: str | None,
        messages: Messages | None,
        fallback_models: Sequence[str],
        tags: Mapping[str, str] | None,
        timeout: float | None,
        extras: Extras,
        **asked: Any,
    ) -> ChatRequest:
        """The request of a caller's arguments, checked."""
        found = messages_of(prompt, messages, goes_on="conv_id" in asked)
        options = options_of(self._names(), **extras) if extras else NO_OPTIONS
        return self._plain_request(found, options, fallback_models, tags, timeout, **asked)

    def _plain_request(
        self,
        messages: tuple[Message, ...],
        options: Options,
        fallback_models: Sequence[str],
        tags: Mapping[str, str] | None,
        timeout: float | None,
        **asked: Any,
    ) -> ChatRequest:
        usual = self._parts.settings.llm_request_timeout_seconds
        return checked(
            ChatRequest(
                request_id=uuid4().hex,
                messages=messages,
                options=options,
                fallback_models=texts("fallback_models", fallback_models),
                tags=mapping("tags", tags),
                timeout=usual if timeout is None else timeout,
                **asked,
            )
        )

    def _run(self, request: ChatRequest) -> Reply:
        parts = self._parts
        reply = run(route(request, parts.around), parts.driver, request.timeout)
        _emit_finished(reply, request.conv_id)
        return reply

    def _names(self) -> tuple[str, ...]:
        return self._parts.driver.providers.names()


def _emit_finished(reply: Reply | EmbedReply, conv_id: str | None) -> None:
    emit(
        RequestFinished(
            request_id=reply["request_id"],
            outcome=reply.get("error_type", "success"),
            model=reply["model"],
            key_id=reply["key_id"],
            attempts=len(reply["attempts"]),
            input_tokens=reply["tokens"]["input"],
            output_tokens=reply["tokens"]["output"],
            duration_ms=reply["duration_ms"],
            error=reply.get("error"),
            conversation_id=conv_id,
        )
    )


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
