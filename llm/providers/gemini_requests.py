"""The body of a `generateContent`, as Gemini and the servers that speak its protocol take it. Pure.

It is the body of the REST API, not the SDK's arguments: the SDK's `extra_body` takes it as it is.
"""

from __future__ import annotations

from typing import Any

from llm.providers.base import ProviderCall
from llm.providers.turns import system_of, turns_of


def body_of(call: ProviderCall) -> dict[str, Any]:
    """What is posted to `models/...:generateContent`, and the same to `:streamGenerateContent`.

    Raises:
        RequestRejected: nothing is left to send.
    """
    body: dict[str, Any] = {"contents": _contents(call)}
    system = system_of(call)
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    config: dict[str, Any] = {"maxOutputTokens": call.max_output_tokens}
    if call.temperature is not None:
        config["temperature"] = call.temperature
    body["generationConfig"] = config
    return body


def _contents(call: ProviderCall) -> list[dict[str, Any]]:
    """The turns, those of one role in a row as the parts of one content."""
    contents: list[dict[str, Any]] = []
    for turn in turns_of(call):
        role = "model" if turn.role == "assistant" else "user"
        part = {"text": turn.content}
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"].append(part)
        else:
            contents.append({"role": role, "parts": [part]})
    return contents
