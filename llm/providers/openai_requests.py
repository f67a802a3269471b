"""The body of a chat completion, as OpenAI and servers of its protocol take it. Pure."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from llm.providers.base import ProviderCall
from llm.providers.translate import clean

OFFICIAL = "https://api.openai.com/v1"

# They refuse any temperature but 1, and `max_tokens` ("use max_completion_tokens instead").
_REASONING = re.compile(r"^(?:[\w.-]+/)?(?:ft:)?(?:o\d|gpt-(?:[5-9]|\d\d)|codex)(?!.*-chat)")
_OPENAI_HOSTS = ("api.openai.com", ".openai.azure.com", ".services.ai.azure.com")


def body_of(call: ProviderCall) -> dict[str, Any]:
    """What is posted to `/chat/completions`; a stream adds `stream` to it.

    The system prompt is the first message; a `tool` message goes as the user's, since ours carry
    no call ids. `max_completion_tokens` is sent to OpenAI and Azure and for reasoning models,
    `max_tokens`, which is all that many others know, elsewhere. Reasoning models get no
    temperature.
    """
    return {"model": call.model, "messages": _messages(call), **_options(call)}


def _messages(call: ProviderCall) -> list[dict[str, str]]:
    messages = []
    if call.system_prompt:
        messages.append({"role": "system", "content": clean(call.system_prompt)})
    for message in call.messages:
        role = "user" if message.role == "tool" else message.role
        messages.append({"role": role, "content": clean(message.content)})
    return messages


def _options(call: ProviderCall) -> dict[str, Any]:
    reasoning = _REASONING.match(call.model) is not None
    host = urlsplit(call.base_url or OFFICIAL).hostname or ""
    new_name = reasoning or host.endswith(_OPENAI_HOSTS)
    options: dict[str, Any] = {
        "max_completion_tokens" if new_name else "max_tokens": call.max_output_tokens
    }
    if call.temperature is not None and not reasoning:
        options["temperature"] = call.temperature
    return options
