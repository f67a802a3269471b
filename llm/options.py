"""What a caller may ask for beyond a prompt, read and checked; each refusal names the argument."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from core.content import NO_OPTIONS, Options
from core.errors import InvalidRequest, UnknownArgument
from core.neutral import message_of
from core.neutral_options import response_format_of, tool_choice_of, tool_of
from core.reading import sendable
from core.tool_results import check_results
from core.types import Message

MOST_STOPS = 100
LARGEST_SEED = 2**63 - 1


class Extras(TypedDict, total=False):
    """The further arguments of `send_one_shot`, `send_chat` and `explain`; docs/requests.md.

    tools: functions that the model may ask to have called, as OpenAI writes them.
    tool_choice: `auto`, `none`, `required`, or one function by name.
    response_format: `{"type": "json_object"}`, or `json_schema` with its schema.
    stop: a text, or several, before which the answer ends.
    top_p: 0 to 1; leave the temperature to the provider then.
    seed: a whole number that makes answers repeatable, as far as the provider can.
    provider_options: by the provider's name, fields for its own request, as they are.
    """

    tools: Sequence[Mapping[str, Any]] | None
    tool_choice: str | Mapping[str, Any] | None
    response_format: Mapping[str, Any] | None
    stop: str | Sequence[str] | None
    top_p: float | None
    seed: int | None
    provider_options: Mapping[str, Mapping[str, Any]] | None


_MEANT = {
    "model": "model_preference", "models": "model_preference and fallback_models",
    "system": "system_prompt", "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens", "functions": "tools", "user": "user_id",
    "stream": "stream_one_shot or stream_chat, which are methods",
    "keep_partial": "it with stream_chat", "extra_body": "provider_options",
    "conversation_id": "send_chat's conv_id",
}  # fmt: skip
"""What other libraries call it, and what to write here."""


def check_names(extras: Mapping[str, Any]) -> None:
    """Refuse arguments that no request has, and say what was probably meant.

    Raises:
        UnknownArgument: there is one.
    """
    for name in extras:
        if name not in Extras.__annotations__:
            meant = _MEANT.get(name)
            hint = f"write {meant}" if meant else "see help() of the method for those there are"
            raise UnknownArgument(f"there is no argument {name!r}; {hint}")


# What the router reserves for, or says itself: another value would not be what was counted.
_OURS = {
    "openai": {
        "model": "model_preference", "messages": "messages", "input": "texts",
        "max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens",
        "n": "several requests", "stream": "stream_one_shot or stream_chat",
        "stream_options": "stream_one_shot or stream_chat",
    },
    "anthropic": {
        "model": "model_preference", "messages": "messages", "system": "system_prompt",
        "max_tokens": "max_output_tokens", "stream": "stream_one_shot or stream_chat",
    },
    "gemini": {
        "model": "model_preference", "contents": "messages", "requests": "texts",
        "systemInstruction": "system_prompt",
        "generationConfig.maxOutputTokens": "max_output_tokens",
        "generationConfig.candidateCount": "several requests",
    },
}  # fmt: skip


def options_of(
    providers: Collection[str],
    *,
    tools: Any = None,
    tool_choice: Any = None,
    response_format: Any = None,
    stop: Any = None,
    top_p: Any = None,
    seed: Any = None,
    provider_options: Any = None,
) -> Options:
    """The options of a caller's arguments.

    Args:
        providers: the names that `provider_options` may hold.

    Raises:
        InvalidRequest: an argument is wrong.
    """
    given = (tools, tool_choice, response_format, stop, top_p, seed, provider_options)
    if all(value is None for value in given):
        return NO_OPTIONS
    known = tuple(tool_of(tool, f"tools[{n}]") for n, tool in enumerate(_list("tools", tools)))
    names = [tool.name for tool in known]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"tools has two of one name: {', '.join(sorted(names))}")
    choice = None if tool_choice is None else tool_choice_of(tool_choice)
    if choice is not None and not known and choice.mode != "none":
        raise InvalidRequest("tool_choice is given without tools; give the tools as well")
    if choice is not None and choice.name is not None and choice.name not in names:
        raise InvalidRequest(f"tool_choice names {choice.name!r}; tools has {', '.join(names)}")
    if top_p is not None and (type(top_p) not in (int, float) or not 0 < top_p <= 1):
        raise InvalidRequest(f"top_p must be a number, more than 0 and at most 1, not {top_p!r}")
    if seed is not None and (type(seed) is not int or abs(seed) > LARGEST_SEED):
        raise InvalidRequest(f"seed must be a whole number of 64 bits, not {seed!r}")
    return Options(
        tools=known,
        tool_choice=choice,
        response_format=None if response_format is None else response_format_of(response_format),
        stop=_stop(stop),
        top_p=top_p,
        seed=seed,
        provider_options=_provider_options(provider_options, providers),
    )


def messages_of(prompt: Any, messages: Any, *, goes_on: bool) -> tuple[Message, ...]:
    """The messages of a request: its prompt as the user's, or those that were given.

    Args:
        goes_on: whether they go on with a conversation, whose tool calls they may answer.

    Raises:
        InvalidRequest: both are given or neither, or one is wrong.
    """
    if messages is None:
        return (Message("user", _prompt(prompt)),)
    if prompt is not None:
        raise InvalidRequest("give either a prompt or messages, not both")
    found = tuple(
        message_of(message, f"messages[{n}]")
        for n, message in enumerate(_list("messages", messages))
    )
    if not found:
        raise InvalidRequest("messages is empty; write what to ask")
    if found[-1].role not in ("user", "tool"):
        raise InvalidRequest(
            f"the last of messages is from {found[-1].role!r}; end with the user's question or "
            "with a tool's result"
        )
    if not any(message.role in ("user", "tool") for message in found) or not (
        goes_on or any(message.role == "user" for message in found)
    ):
        raise InvalidRequest("messages has no question of the user's")
    for n, message in enumerate(found):
        if message.role == "user" and not _says_something(message):
            raise InvalidRequest(f"messages[{n}].content is empty; write what to ask")
    if not goes_on:
        check_results(found)
    return found


def _prompt(prompt: Any) -> str:
    if prompt is None:
        raise InvalidRequest("give a prompt, or messages")
    if not isinstance(prompt, str):
        raise InvalidRequest(f"prompt must be a str, not {type(prompt).__name__}")
    if not prompt.strip():
        raise InvalidRequest("prompt is empty; write what to ask")
    return prompt


def _says_something(message: Message) -> bool:
    content = message.content
    return bool(content.strip() if isinstance(content, str) else content)


def _list(name: str, value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InvalidRequest(f"{name} must be a list, not {value!r}"[:200])
    return value


def _stop(stop: Any) -> tuple[str, ...]:
    found = (stop,) if isinstance(stop, str) else tuple(_list("stop", stop))
    if len(found) > MOST_STOPS:
        raise InvalidRequest(f"stop has {len(found)} texts; at most {MOST_STOPS} are allowed")
    for text in found:
        if not isinstance(text, str) or not text:
            raise InvalidRequest(f"stop must hold texts that are not empty, not {text!r}")
        sendable(text, "stop")
    return found


def _provider_options(value: Any, providers: Collection[str]) -> Mapping[str, Mapping[str, Any]]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"provider_options must be a dict by provider, not {value!r}")
    for provider, fields in value.items():
        where = f"provider_options[{provider!r}]"
        if provider not in providers:
            raise InvalidRequest(
                f"{where}: no provider is called so; known are {', '.join(sorted(providers))}"
            )
        if not isinstance(fields, Mapping):
            raise InvalidRequest(f"{where} must be a dict of the provider's fields, not {fields!r}")
        sendable(dict(fields), where)
        for name, instead in _OURS.get(provider, {}).items():
            if _holds(fields, name.split(".")):
                raise InvalidRequest(f"{where} must not hold {name}; use {instead}")
    return {provider: dict(fields) for provider, fields in value.items()}


def _holds(fields: Any, path: Sequence[str]) -> bool:
    for name in path:
        if not isinstance(fields, Mapping) or name not in fields:
            return False
        fields = fields[name]
    return True
