"""The body of a chat completion, as OpenAI and servers of its protocol take it. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from core.content import ImagePart, Options, ResponseFormat, Tool, text_of
from core.neutral import message_as_dict
from core.types import Message
from llm.providers.base import ProviderCall
from llm.providers.merging import with_provider_options
from llm.providers.translate import clean
from llm.providers.turns import cleaned

OFFICIAL = "https://api.openai.com/v1"

# They refuse any temperature but 1, and `max_tokens` ("use max_completion_tokens instead").
_REASONING = re.compile(r"^(?:[\w.-]+/)?(?:ft:)?(?:o\d|gpt-(?:[5-9]|\d\d)|codex)(?!.*-chat)")
_GOOGLE = "generativelanguage.googleapis.com"
OPENAI_HOSTS = ("api.openai.com", ".openai.azure.com", ".services.ai.azure.com")


def body_of(call: ProviderCall) -> dict[str, Any]:
    """What is posted to `/chat/completions`; a stream adds `stream` to it.

    The system prompt is the first message; a `tool` message without a call's id goes as the
    user's. `max_completion_tokens` is sent to OpenAI and Azure and for reasoning models,
    `max_tokens`, which is all that many others know, elsewhere. Reasoning models get no
    temperature.
    """
    body = {
        "model": call.model,
        "messages": _messages(call),
        **_limits(call),
        **_asked_for(call.options),
    }
    return with_provider_options(body, call)


def host_of(call: ProviderCall) -> str:
    """The host that the call goes to."""
    return urlsplit(call.base_url or OFFICIAL).hostname or ""


def _messages(call: ProviderCall) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    if call.system_prompt:
        messages.append({"role": "system", "content": clean(call.system_prompt)})
    with_signatures = host_of(call) == _GOOGLE
    messages.extend(_message(message, with_signatures) for message in call.messages)
    return messages


def _message(message: Message, with_signatures: bool) -> dict[str, Any]:
    role = message.role
    if role == "tool" and message.tool_call_id is None:
        role = "user"
    if isinstance(message.content, str) and not message.tool_calls and role != "tool":
        return {"role": role, "content": clean(message.content)}
    content = message.content
    if not any(isinstance(part, ImagePart) for part in content):
        content = text_of(content)  # all that some compatible servers take
    given = message_as_dict(replace(message, role=role, content=cleaned(content)))
    if message.tool_calls:
        given["content"] = given["content"] or None
        if not with_signatures:
            for call in given["tool_calls"]:
                call.pop("extra_content", None)
    return given


def _asked_for(options: Options) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    if options.tools:
        asked["tools"] = [_tool(tool) for tool in options.tools]
    choice = options.tool_choice
    if choice is not None and choice.mode == "function":
        asked["tool_choice"] = {"type": "function", "function": {"name": choice.name}}
    elif choice is not None:
        asked["tool_choice"] = choice.mode
    if options.response_format is not None:
        asked["response_format"] = _format(options.response_format)
    if options.stop:
        asked["stop"] = list(options.stop)
    if options.top_p is not None:
        asked["top_p"] = options.top_p
    if options.seed is not None:
        asked["seed"] = options.seed
    return asked


def _tool(tool: Tool) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict,
    }
    known = {name: value for name, value in function.items() if value is not None}
    return {"type": "function", "function": known}


def _format(shape: ResponseFormat) -> dict[str, Any]:
    if shape.kind != "json_schema":
        return {"type": shape.kind}
    schema = {
        "name": shape.name,
        "description": shape.description,
        "schema": shape.schema,
        "strict": shape.strict,
    }
    known = {name: value for name, value in schema.items() if value is not None}
    return {"type": "json_schema", "json_schema": known}


def _limits(call: ProviderCall) -> dict[str, Any]:
    reasoning = _REASONING.match(call.model) is not None
    new_name = reasoning or host_of(call).endswith(OPENAI_HOSTS)
    options: dict[str, Any] = {
        "max_completion_tokens" if new_name else "max_tokens": call.max_output_tokens
    }
    if call.temperature is not None and not reasoning:
        options["temperature"] = call.temperature
    return options
