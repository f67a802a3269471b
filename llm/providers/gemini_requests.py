"""The body of a `generateContent`, as Gemini and the servers that speak its protocol take it. Pure.

It is the body of the REST API, not the SDK's arguments: the SDK's `extra_body` takes it as it is.
"""

from __future__ import annotations

import json
import mimetypes
import re
from typing import Any
from urllib.parse import urlsplit

from core.content import ImagePart, Options, Part, Tool, ToolChoice, text_of
from core.types import Message
from llm.providers.base import ProviderCall
from llm.providers.merging import with_provider_options
from llm.providers.turns import arguments_of, system_of, turns_of

_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "function": "ANY"}

# From the third generation on a call without its signature is refused; Google names this word for
# calls that another model made (ai.google.dev/gemini-api/docs/thought-signatures).
_SIGNED = re.compile(r"gemini-(?:[3-9]|\d\d)")
_NO_SIGNATURE = "skip_thought_signature_validator"


def body_of(call: ProviderCall) -> dict[str, Any]:
    """What is posted to `models/...:generateContent`, and the same to `:streamGenerateContent`.

    Raises:
        RequestRejected: nothing is left to send.
    """
    body: dict[str, Any] = {"contents": _contents(call), **_tools(call.options)}
    system = system_of(call)
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    config: dict[str, Any] = {"maxOutputTokens": call.max_output_tokens}
    if call.temperature is not None:
        config["temperature"] = call.temperature
    body["generationConfig"] = config | _config(call.options)
    return with_provider_options(body, call)


def _contents(call: ProviderCall) -> list[dict[str, Any]]:
    """The turns, those of one role in a row as the parts of one content."""
    contents: list[dict[str, Any]] = []
    signed = _SIGNED.match(call.model.rpartition("/")[2]) is not None
    names: dict[str, str] = {}
    for turn in turns_of(call):
        names.update((each.id, each.name) for each in turn.tool_calls)
        role = "model" if turn.role == "assistant" else "user"
        parts = [_result(turn, names)] if turn.role == "tool" else _parts(turn, signed)
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    return contents


def _parts(turn: Message, signed: bool) -> list[dict[str, Any]]:
    if isinstance(turn.content, str):
        parts = [{"text": turn.content}] if turn.content else []
    else:
        parts = [_part(part) for part in turn.content]
    missing = signed and all(call.signature is None for call in turn.tool_calls)
    for at, call in enumerate(turn.tool_calls):
        called = {"id": call.id, "name": call.name, "args": arguments_of(call)}
        part: dict[str, Any] = {"functionCall": called}
        # Of calls side by side, the first alone carries one.
        signature = _NO_SIGNATURE if missing and at == 0 else call.signature
        if signature is not None:
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _part(part: Part) -> dict[str, Any]:
    if not isinstance(part, ImagePart):
        return {"text": part.text}
    if part.data is not None:
        return {"inlineData": {"mimeType": part.media_type, "data": part.data}}
    kind, _ = mimetypes.guess_type(urlsplit(part.url or "").path)
    there = {"fileUri": part.url}
    return {"fileData": there if kind is None else {**there, "mimeType": kind}}


def _result(turn: Message, names: dict[str, str]) -> dict[str, Any]:
    call_id, text = turn.tool_call_id or "", text_of(turn.content)
    try:
        response = json.loads(text)
    except (ValueError, RecursionError):
        response = text
    if not isinstance(response, dict):
        response = {"output": response}
    name = names.get(call_id, call_id)
    return {"functionResponse": {"id": call_id, "name": name, "response": response}}


def _tools(options: Options) -> dict[str, Any]:
    if not options.tools:
        return {}
    asked: dict[str, Any] = {
        "tools": [{"functionDeclarations": [_declaration(tool) for tool in options.tools]}]
    }
    if options.tool_choice is not None:
        asked["toolConfig"] = {"functionCallingConfig": _calling(options.tool_choice)}
    return asked


def _declaration(tool: Tool) -> dict[str, Any]:
    given: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        given["description"] = tool.description
    if tool.parameters is not None:
        given["parametersJsonSchema"] = tool.parameters
    return given


def _calling(choice: ToolChoice) -> dict[str, Any]:
    calling: dict[str, Any] = {"mode": _MODES[choice.mode]}
    if choice.name is not None:
        calling["allowedFunctionNames"] = [choice.name]
    return calling


def _config(options: Options) -> dict[str, Any]:
    config: dict[str, Any] = {}
    shape = options.response_format
    if shape is not None and shape.kind != "text":
        config["responseMimeType"] = "application/json"
        if shape.kind == "json_schema":
            config["responseJsonSchema"] = shape.schema
    if options.stop:
        config["stopSequences"] = list(options.stop)
    if options.top_p is not None:
        config["topP"] = options.top_p
    if options.seed is not None:
        config["seed"] = options.seed
    return config
