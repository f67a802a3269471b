"""From a caller's arguments to the one ChatRequest, the same for both routers and for streams."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack
from uuid import uuid4

from conversation.identifiers import check_identifier
from core.content import NO_OPTIONS, Options
from core.types import ChatRequest, EmbeddingRequest, Message
from llm.arguments import (
    checked,
    checked_dimensions,
    embeddable,
    mapping,
    some_texts,
)
from llm.arguments import texts as texts_of
from llm.options import Extras, check_names, messages_of, options_of

if TYPE_CHECKING:
    from core.settings import Settings

Messages = Sequence[Message | Mapping[str, Any]]


class Requests:
    """Makes requests of arguments, checked.

    Args:
        providers: the names of all that are registered.
    """

    def __init__(self, settings: Settings, providers: Callable[[], tuple[str, ...]]) -> None:
        self._settings = settings
        self._providers = providers

    def one_shot(
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
        idle_timeout: float | None = None,
        messages: Messages | None = None,
        **extras: Unpack[Extras],
    ) -> ChatRequest:
        """Args:
        prompt: what to ask.
        model_preference: the model to try first; None lets any configured key serve.
        system_prompt: how the model should behave.
        expected_completion_tokens: what the answer will probably have; it is reserved.
        max_output_tokens: the most that the answer may have.
        temperature: 0 to 2; None leaves it to the provider.
        user_id: on whose behalf; it counts against the user's limit, if there are any.
        timeout: seconds for the whole request with all its tries, and a stream to its end; by
            default `LLM_REQUEST_TIMEOUT_SECONDS`.
        max_wait: seconds to wait when every key is full; 0 refuses at once.
        priority: higher is served first among those that wait.
        fallback_models: what else may answer, in this order: when the preferred model has no
            room, fails, or refuses the prompt for its content.
        workload: `light`, `medium` or `heavy`: keys tagged so, or not tagged.
        tags: labels that a key must carry.
        allowed_providers: who may be asked; of one model's keys, those of the first are tried
            first. None allows all.
        exclude_keys: ids of keys that may not serve.
        idle_timeout: of a stream, the seconds of silence after which it is given up; by
            default `LLM_STREAM_IDLE_SECONDS`.
        messages: in the prompt's place, the whole exchange as dicts of `role` and `content`,
            with images and tool calls; see docs/requests.md.
        extras: tools, tool_choice, response_format, stop, top_p, seed, provider_options. Keys
            whose provider cannot do what is asked are left out; if none is left, the reply's
            error_type is `invalid_request`.
        """
        return self._request(
            prompt,
            messages,
            extras,
            fallback_models,
            tags,
            timeout,
            idle_timeout,
            allowed_providers=some_texts("allowed_providers", allowed_providers),
            exclude_keys=texts_of("exclude_keys", exclude_keys),
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

    def chat(
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
        idle_timeout: float | None = None,
        keep_partial: bool = False,
        messages: Messages | None = None,
        **extras: Unpack[Extras],
    ) -> ChatRequest:
        """Args:
        conv_id: names the conversation; a new name begins one.
        user_id: whose it is; another user's conversation is refused.
        system_prompt: kept with the conversation from now on.
        metadata: JSON values kept with the conversation.
        keep_partial: of a stream, whether the turn is kept as far as it came when it is cut.
        prompt, model_preference, expected_completion_tokens, max_output_tokens, temperature,
            timeout, max_wait, priority, fallback_models, workload, tags, allowed_providers,
            exclude_keys, idle_timeout, messages, extras: as for `send_one_shot`.
        """
        return self._request(
            prompt,
            messages,
            extras,
            fallback_models,
            tags,
            timeout,
            idle_timeout,
            allowed_providers=some_texts("allowed_providers", allowed_providers),
            exclude_keys=texts_of("exclude_keys", exclude_keys),
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
            keep_partial=keep_partial,
        )

    def embedding(
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
        allowed_providers: Sequence[str] | None = None,
        exclude_keys: Sequence[str] = (),
        provider_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> EmbeddingRequest:
        """Args:
        texts: what to embed; none may be empty.
        model_preference: the model; None takes the first configured one that makes embeddings.
            All texts go to one model.
        dimensions: the length of the vectors, where the model lets it be chosen.
        timeout: seconds for all calls together.
        user_id, max_wait, priority, workload, tags, allowed_providers, exclude_keys,
            provider_options: as for `send_one_shot`.
        """
        options = options_of(self._providers(), provider_options=provider_options)
        request = self._checked(
            (),
            options,
            (),
            tags,
            timeout,
            allowed_providers=some_texts("allowed_providers", allowed_providers),
            exclude_keys=texts_of("exclude_keys", exclude_keys),
            model_preference=model_preference,
            workload=workload,
            expected_completion_tokens=0,
            max_output_tokens=0,
            temperature=None,
            max_wait=max_wait,
            priority=priority,
            user_id=user_id,
        )
        return EmbeddingRequest(request, embeddable(texts), checked_dimensions(dimensions))

    def _request(
        self,
        prompt: str | None,
        messages: Messages | None,
        extras: Extras,
        fallback_models: Sequence[str],
        tags: Mapping[str, str] | None,
        timeout: float | None,
        idle_timeout: float | None,
        **asked: Any,
    ) -> ChatRequest:
        found = messages_of(prompt, messages, goes_on="conv_id" in asked)
        check_names(extras)
        options = options_of(self._providers(), **extras) if extras else NO_OPTIONS
        if idle_timeout is None:
            idle_timeout = self._settings.llm_stream_idle_seconds
        return self._checked(
            found, options, fallback_models, tags, timeout, idle_timeout=idle_timeout, **asked
        )

    def _checked(
        self,
        messages: tuple[Message, ...],
        options: Options,
        fallback_models: Sequence[str],
        tags: Mapping[str, str] | None,
        timeout: float | None,
        **asked: Any,
    ) -> ChatRequest:
        usual = self._settings.llm_request_timeout_seconds
        return checked(
            ChatRequest(
                request_id=uuid4().hex,
                messages=messages,
                options=options,
                fallback_models=texts_of("fallback_models", fallback_models),
                tags=mapping("tags", tags),
                timeout=usual if timeout is None else timeout,
                **asked,
            )
        )


class Asked(Protocol):
    """A router: what has `requests`."""

    requests: Requests


RouterT = TypeVar("RouterT", bound=Asked)
Arguments = ParamSpec("Arguments")
Given = TypeVar("Given")
RequestT = TypeVar("RequestT")


def asking(
    form: Callable[Concatenate[Requests, Arguments], RequestT],
) -> Callable[
    [Callable[[RouterT, RequestT], Given]], Callable[Concatenate[RouterT, Arguments], Given]
]:
    """Give a router's method the arguments of one of the forms of `Requests`.

    So the arguments of all methods of both routers stand in one place. A wrong one is raised by
    the call itself, also where the method is asynchronous or a stream.
    """

    def give(
        method: Callable[[RouterT, RequestT], Given],
    ) -> Callable[Concatenate[RouterT, Arguments], Given]:
        @functools.wraps(method)
        def asked(self: RouterT, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Given:
            return method(self, form(self.requests, *args, **kwargs))

        returned = inspect.signature(method).return_annotation
        signature = inspect.signature(form).replace(return_annotation=returned)
        asked.__signature__ = signature  # type: ignore[attr-defined]
        asked.__doc__ = "\n\n".join(inspect.cleandoc(f.__doc__ or "") for f in (method, form))
        return asked

    return give
