"""What OpenAI refuses in a chat completion or an embedding, in its words."""

from __future__ import annotations

import json
import re
from typing import Any

from tools.simulation.asking import IMAGE_CHARACTERS, Asked, Function, Json
from tools.simulation.faulty import InvalidRequest

MOST_TEXTS = 2_048
MOST_TOKENS = 300_000

_KNOWN = frozenset({
    "model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "n",
    "stop", "seed", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls",
    "response_format", "user", "metadata", "store", "logprobs", "top_logprobs", "logit_bias",
    "presence_penalty", "frequency_penalty", "reasoning_effort", "verbosity", "service_tier",
    "modalities", "prediction", "safety_identifier", "prompt_cache_key", "web_search_options",
})  # fmt: skip
_REASONING = re.compile(r"(?:o\d|gpt-5)(?!.*-chat)")
_NOT_FOR_REASONING = ("temperature", "top_p", "stop", "max_tokens", "presence_penalty")
_PARTS = "'text', 'image_url', 'input_audio', 'refusal', 'audio', and 'file'"


def check(body: Json) -> Asked:
    """What a body asks for. Raises InvalidRequest."""
    for name in body:
        if name not in _KNOWN:
            raise InvalidRequest(f"Unrecognized request argument supplied: {name}")
    if _REASONING.match(body["model"]):
        for name in _NOT_FOR_REASONING:
            if name in body:
                detail = f"Unsupported parameter: '{name}' is not supported with this model."
                raise InvalidRequest(detail, name, row="unsupported_parameter")
    stop = body.get("stop") or []
    stop = [stop] if isinstance(stop, str) else stop
    if len(stop) > 4:
        raise InvalidRequest(_too_long("stop", 4, len(stop)), "stop")
    functions = tuple(_function(tool, at) for at, tool in enumerate(body.get("tools") or []))
    choice = body.get("tool_choice")
    if choice is not None and not functions:
        raise InvalidRequest("'tool_choice' is only allowed when 'tools' are specified.")
    messages = body["messages"]
    _check_tools(messages)
    images = sum(_check_parts(at, message) for at, message in enumerate(messages))
    shape = body.get("response_format") or {"type": "text"}
    schema = _check_format(shape, messages)
    beside = sum(
        len(json.dumps(body[name])) for name in ("tools", "response_format") if name in body
    )
    return Asked(
        functions=() if choice == "none" else functions,
        must=choice == "required" or isinstance(choice, dict),
        only=choice["function"]["name"] if isinstance(choice, dict) else "",
        after_result=messages[-1].get("role") == "tool",
        json_only=shape["type"] != "text",
        schema=schema,
        stop=tuple(stop),
        beside=beside + images * IMAGE_CHARACTERS,
    )


def check_texts(inputs: list[Any], tokens: int) -> None:
    """Refuse too many texts, empty ones, and too many tokens together."""
    if len(inputs) > MOST_TEXTS:
        raise InvalidRequest(_too_long("input", MOST_TEXTS, len(inputs)), "input")
    for at, text in enumerate(inputs):
        if text == "":
            raise InvalidRequest(
                f"Invalid 'input[{at}]': input cannot be an empty string.", "input"
            )
    if tokens > MOST_TOKENS:
        detail = f"Requested {tokens} tokens, max {MOST_TOKENS} tokens per request"
        raise InvalidRequest(detail, row="max_tokens_per_request")


def _too_long(name: str, most: int, length: int) -> str:
    return (
        f"Invalid '{name}': array too long. Expected an array with maximum length {most}, but got "
        f"an array with length {length} instead."
    )


def _function(tool: Any, at: int) -> Function:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or not function.get("name"):
        raise InvalidRequest(f"Missing required parameter: 'tools[{at}].function.name'.", "tools")
    return Function(function["name"], function.get("parameters") or {})


def _check_tools(messages: list[Json]) -> None:
    open_calls: list[str] = []
    for message in messages:
        if message.get("role") == "tool":
            if message.get("tool_call_id") not in open_calls:
                raise InvalidRequest(
                    "Invalid parameter: messages with role 'tool' must be a response to a "
                    "preceeding message with 'tool_calls'.",
                    "messages",
                )
            open_calls.remove(message["tool_call_id"])
            continue
        _check_answered(open_calls)
        calls = message.get("tool_calls")
        if calls == []:
            raise InvalidRequest("Invalid 'messages': empty array of tool_calls.", "messages")
        open_calls = [call["id"] for call in calls or []]
    _check_answered(open_calls)


def _check_answered(open_calls: list[str]) -> None:
    if open_calls:
        raise InvalidRequest(
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            + ", ".join(open_calls),
            "messages",
        )


def _check_parts(at: int, message: Json) -> int:
    """The number of images in a message."""
    content = message.get("content")
    if content is None and not message.get("tool_calls"):
        raise InvalidRequest(
            f"Invalid value for 'content': expected a string, got null. (messages[{at}])"
        )
    images = 0
    for part in content if isinstance(content, list) else []:
        if part.get("type") == "image_url":
            url = (part.get("image_url") or {}).get("url", "")
            if not url.startswith(("https://", "http://", "data:image/")):
                raise InvalidRequest(f"Invalid 'messages[{at}].content': no image URL.", "messages")
            images += 1
        elif part.get("type") != "text":
            raise InvalidRequest(
                f"Invalid value: '{part.get('type')}'. Supported values are: {_PARTS}.", "messages"
            )
    return images


def _check_format(shape: Json, messages: list[Json]) -> Json | None:
    if shape.get("type") == "json_object" and "json" not in json.dumps(messages).lower():
        raise InvalidRequest(
            "'messages' must contain the word 'json' in some form, to use 'response_format' of "
            "type 'json_object'.",
            "messages",
        )
    if shape.get("type") != "json_schema":
        return None
    inner = shape.get("json_schema") or {}
    if not inner.get("name"):
        name = "response_format.json_schema.name"
        raise InvalidRequest(f"Missing required parameter: '{name}'.", name)
    schema: Json = inner.get("schema") or {}
    if inner.get("strict") and schema.get("additionalProperties") is not False:
        raise InvalidRequest(
            f"Invalid schema for response_format '{inner['name']}': In context=(), "
            "'additionalProperties' is required to be supplied and to be false.",
            "response_format",
        )
    return schema
