"""From a caller's arguments to the one ChatRequest, the same for both routers and for streams."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar
from uuid import uuid4

from conversation.identifiers import check_identifier
from core.settings import Settings
from core.types import ChatRequest, Message
from llm.arguments import checked, mapping, texts


class Requests:
    """Makes requests of arguments, checked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def one_shot(
        self,
        prompt: str,
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
        idle_timeout: float | None = None,
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
        fallback_models: what else may answer, in this order.
        workload: `light`, `medium` or `heavy`: keys tagged so, or not tagged.
        tags: labels that a key must carry.
        idle_timeout: of a stream, the seconds of silence after which it is given up; by
            default `LLM_STREAM_IDLE_SECONDS`.
        """
        return self._request(
            prompt,
            fallback_models,
            tags,
            timeout,
            idle_timeout,
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
        prompt: str,
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
        idle_timeout: float | None = None,
        keep_partial: bool = False,
    ) -> ChatRequest:
        """Args:
        conv_id: names the conversation; a new name begins one.
        user_id: whose it is; another user's conversation is refused.
        system_prompt: kept with the conversation from now on.
        metadata: JSON values kept with the conversation.
        keep_partial: of a stream, whether the turn is kept as far as it came when it is cut.
        prompt, model_preference, expected_completion_tokens, max_output_tokens, temperature,
        timeout, max_wait, priority, fallback_models, workload, tags, idle_timeout: as for
            `send_one_shot`.
        """
        return self._request(
            prompt,
            fallback_models,
            tags,
            timeout,
            idle_timeout,
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

    def _request(
        self,
        prompt: str,
        fallback_models: Sequence[str],
        tags: Mapping[str, str] | None,
        timeout: float | None,
        idle_timeout: float | None,
        **asked: Any,
    ) -> ChatRequest:
        usual = self._settings
        if timeout is None:
            timeout = usual.llm_request_timeout_seconds
        if idle_timeout is None:
            idle_timeout = usual.llm_stream_idle_seconds
        return checked(
            ChatRequest(
                request_id=uuid4().hex,
                messages=(Message("user", prompt),),
                fallback_models=texts("fallback_models", fallback_models),
                tags=mapping("tags", tags),
                timeout=timeout,
                idle_timeout=idle_timeout,
                **asked,
            )
        )


class Asked(Protocol):
    """A router: what has `requests`."""

    requests: Requests


RouterT = TypeVar("RouterT", bound=Asked)
Arguments = ParamSpec("Arguments")
Given = TypeVar("Given")


def asking(
    form: Callable[Concatenate[Requests, Arguments], ChatRequest],
) -> Callable[
    [Callable[[RouterT, ChatRequest], Given]], Callable[Concatenate[RouterT, Arguments], Given]
]:
    """Give a router's method the arguments of one of the forms of `Requests`.

    So the arguments of all methods of both routers stand in one place. A wrong one is raised by
    the call itself, also where the method is asynchronous or a stream.
    """

    def give(
        method: Callable[[RouterT, ChatRequest], Given],
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
