"""The body of a message, as Anthropic and the servers that speak its protocol take it. Pure."""

from __future__ import annotations

import re
from typing import Any

from core.content import Content, ImagePart, Options, Part, Tool, ToolCall, ToolChoice, text_of
from core.types import Message
from llm.providers.base import ProviderCall
from llm.providers.merging import with_provider_options
from llm.providers.turns import arguments_of, system_of, turns_of

# The SDK's own version of the API, 2026-10-21, refuses a temperature for any model.
VERSION_WITH_TEMPERATURE = "2023-06-01"
MOST_TEMPERATURE = 1.0

# Claude took a temperature up to 4.6; 4.7 and the fifth generation refuse one in every version.
_WITH_TEMPERATURE = re.compile(r"claude-(?:[23]|instant|[a-z]+-4(?:-[0-6](?!\d)|-\d{8}|@|$))")
_NO_ID = re.compile(r"[^A-Za-z0-9_-]")
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}
_NO_PARAMETERS = {"type": "object", "properties": {}}


def body_of(call: ProviderCall) -> dict[str, Any]:
    """What is posted to `/v1/messages`, with `headers_of`; a stream adds `stream` to it.

    A temperature above 1 is sent as 1, and only to models that take one: Claude up to 4.6, in the
    API version that still allowed it, and what is not a Claude (`base_url`). With a `top_p` no
    temperature is sent, since newer ones refuse both together.

    Raises:
        RequestRejected: nothing is left to send.
    """
    turns = turns_of(call)
    body: dict[str, Any] = {
        "model": call.model,
        "messages": _messages(turns),
        "max_tokens": call.max_output_tokens,
        **_asked_for(call.options, turns),
    }
    system = system_of(call)
    if system:
        body["system"] = system
    if call.options.top_p is None and _takes_temperature(call):
        body["temperature"] = min(call.temperature or 0.0, MOST_TEMPERATURE)
    return with_provider_options(body, call)


def headers_of(call: ProviderCall) -> dict[str, str]:
    """The headers that go with the body, beside the SDK's own."""
    old = call.options.top_p is not None or _takes_temperature(call)
    return {"anthropic-version": VERSION_WITH_TEMPERATURE} if old else {}


def _takes_temperature(call: ProviderCall) -> bool:
    takes_one = "claude" not in call.model or _WITH_TEMPERATURE.search(call.model) is not None
    return call.temperature is not None and takes_one


def _messages(turns: list[Message]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for turn in turns:
        role = "assistant" if turn.role == "assistant" else "user"
        content = _content(turn)
        # The results of one turn's calls have to stand in one message.
        joined = messages and messages[-1]["role"] == role
        if joined and not (isinstance(content, str) and isinstance(messages[-1]["content"], str)):
            messages[-1]["content"] = [*_blocks(messages[-1]["content"]), *_blocks(content)]
        else:
            messages.append({"role": role, "content": content})
    return messages


def _content(turn: Message) -> str | list[dict[str, Any]]:
    if turn.role == "tool":
        result = {"type": "tool_result", "tool_use_id": _id(turn.tool_call_id or "")}
        text = text_of(turn.content)
        return [{**result, "content": text} if text else result]
    if isinstance(turn.content, str) and not turn.tool_calls:
        return turn.content
    return [*_blocks(_parts(turn.content)), *(_tool_use(each) for each in turn.tool_calls)]


def _parts(content: Content) -> str | list[dict[str, Any]]:
    return content if isinstance(content, str) else [_part(part) for part in content]


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    return content


def _part(part: Part) -> dict[str, Any]:
    if not isinstance(part, ImagePart):
        return {"type": "text", "text": part.text}
    if part.data is None:
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    source = {"type": "base64", "media_type": part.media_type, "data": part.data}
    return {"type": "image", "source": source}


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": _id(call.id), "name": call.name, "input": arguments_of(call)}


def _id(call_id: str) -> str:
    # "String should match pattern '^[a-zA-Z0-9_-]+$'"; other providers' ids may hold more.
    return _NO_ID.sub("_", call_id)


def _asked_for(options: Options, turns: list[Message]) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    called = {call.name: None for turn in turns for call in turn.tool_calls}
    if options.tools:
        asked["tools"] = [_tool(tool) for tool in options.tools]
        if options.tool_choice is not None:
            asked["tool_choice"] = _choice(options.tool_choice)
    elif called:
        # Calls in the history are refused without tools, though none shall be called now.
        asked["tools"] = [{"name": name, "input_schema": _NO_PARAMETERS} for name in called]
        asked["tool_choice"] = {"type": "none"}
    shape = options.response_format
    if shape is not None and shape.kind == "json_schema":
        asked["output_config"] = {"format": {"type": "json_schema", "schema": shape.schema}}
    if options.stop:
        asked["stop_sequences"] = list(options.stop)
    if options.top_p is not None:
        asked["top_p"] = options.top_p
    return asked


def _tool(tool: Tool) -> dict[str, Any]:
    given: dict[str, Any] = {
        "name": tool.name,
        "input_schema": {"type": "object", **(tool.parameters or _NO_PARAMETERS)},
    }
    if tool.description is not None:
        given["description"] = tool.description
    if tool.strict is not None:
        given["strict"] = tool.strict
    return given


def _choice(choice: ToolChoice) -> dict[str, Any]:
    if choice.mode == "function":
        return {"type": "tool", "name": choice.name}
    return {"type": _CHOICES[choice.mode]}
