"""The body of a message, as Anthropic and the servers that speak its protocol take it. Pure."""

from __future__ import annotations

import re
from typing import Any

from llm.providers.base import ProviderCall
from llm.providers.turns import system_of, turns_of

# The SDK's own version of the API, 2026-10-21, refuses a temperature for any model.
VERSION_WITH_TEMPERATURE = "2023-06-01"
MOST_TEMPERATURE = 1.0

# Claude took a temperature up to 4.6; 4.7 and the fifth generation refuse one in every version.
_WITH_TEMPERATURE = re.compile(r"claude-(?:[23]|instant|[a-z]+-4(?:-[0-6](?!\d)|-\d{8}|@|$))")


def body_of(call: ProviderCall) -> dict[str, Any]:
    """What is posted to `/v1/messages`, with `headers_of`; a stream adds `stream` to it.

    A temperature above 1 is sent as 1, and only to models that take one: Claude up to 4.6, in the
    API version that still allowed it, and what is not a Claude (`base_url`).

    Raises:
        RequestRejected: nothing is left to send.
    """
    body: dict[str, Any] = {
        "model": call.model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in turns_of(call)],
        "max_tokens": call.max_output_tokens,
    }
    system = system_of(call)
    if system:
        body["system"] = system
    if _takes_temperature(call):
        body["temperature"] = min(call.temperature or 0.0, MOST_TEMPERATURE)
    return body


def headers_of(call: ProviderCall) -> dict[str, str]:
    """The headers that go with the body, beside the SDK's own."""
    return {"anthropic-version": VERSION_WITH_TEMPERATURE} if _takes_temperature(call) else {}


def _takes_temperature(call: ProviderCall) -> bool:
    takes_one = "claude" not in call.model or _WITH_TEMPERATURE.search(call.model) is not None
    return call.temperature is not None and takes_one
