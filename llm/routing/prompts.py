"""From a caller's request to the messages that are sent, fitted to a model's window. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from conversation.context_windows import input_budget
from conversation.records import Conversation
from conversation.window import PromptTooLong, fit_prompt, last_turn, without_broken_turns
from core.tool_results import check_results
from core.types import ChatRequest, Message
from keys.policies import Need
from keys.selection import Selection
from llm.tokens import TokenCounter


@dataclass(frozen=True, slots=True)
class Prompt:
    """What would be sent to one model, and how many tokens it is estimated to have."""

    messages: tuple[Message, ...]
    system_prompt: str | None
    tokens: int


def build_prompt(
    request: ChatRequest,
    conversation: Conversation | None,
    model: str | None,
    count: TokenCounter,
    longest: int | None = None,
) -> Prompt:
    """The prompt for `model`; a conversation's history is cut to its context window, and to what a
    key can admit.

    Args:
        longest: the most tokens that any allowed key admits at once; None for no bound.

    Raises:
        conversation.window.PromptTooLong: the new prompt alone does not fit beside its answer.
        InvalidRequest: a tool call is without its result, or a result without its call.
    """
    beside = count.count_options(request.options, model)
    if conversation is None:
        system = request.system_prompt
        tokens = count.count_messages(request.messages, system, model) + beside
        return Prompt(request.messages, system, tokens)
    system = request.system_prompt or conversation.system_prompt
    history = without_broken_turns(conversation.history)
    check_results((*last_turn(history), *request.messages))
    if model is None:
        tokens = count.count_messages((*conversation.messages, *request.messages), system) + beside
        return Prompt((*conversation.messages, *request.messages), system, tokens)

    def fitted_to(budget: int) -> Prompt:
        fitted = fit_prompt(
            history,
            request.messages,
            system_prompt=system,
            budget=budget,
            count_tokens=lambda message: count.count_message(message, model),
            beside=beside,
        )
        return Prompt(fitted.messages, system, fitted.tokens)

    window = input_budget(model, max_output_tokens=request.max_output_tokens)
    if longest is not None and longest < window:
        # What no key admits even without any history is refused where it is reserved.
        with suppress(PromptTooLong):
            return fitted_to(longest)
    return fitted_to(window)


def selection_of(request: ChatRequest) -> Selection:
    """Which keys a request allows."""
    models = tuple(m for m in (request.model_preference, *request.fallback_models) if m)
    return Selection(
        models,
        request.tags,
        request.workload,
        request.allowed_providers,
        frozenset(request.exclude_keys),
    )


def widest(models: Sequence[str], request: ChatRequest) -> str | None:
    """The model that takes the longest prompt, the first of several; None where there is none."""
    sizes = {
        model: input_budget(model, max_output_tokens=request.max_output_tokens) for model in models
    }
    return max(sizes, key=sizes.__getitem__, default=None)


def need_of(request: ChatRequest, prompt: Prompt, ratio: float) -> Need:
    """What a prompt and its answer are expected to use.

    Args:
        ratio: the model's real input tokens for each estimated one.
    """
    expected = min(request.expected_completion_tokens, request.max_output_tokens)
    return Need(
        input=math.ceil(prompt.tokens * ratio),
        expected_output=expected,
        max_output=request.max_output_tokens,
        estimated=prompt.tokens,
    )
