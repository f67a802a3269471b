"""What Gemini refuses in a `generateContent` or a batch of embeddings, in its words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from tools.simulation.asking import IMAGE_CHARACTERS, Asked, Function, Json
from tools.simulation.faulty import InvalidRequest

MOST_REQUESTS = 100

_KNOWN = frozenset({
    "contents", "systemInstruction", "generationConfig", "tools", "toolConfig",
    "safetySettings", "cachedContent", "model", "labels", "serviceTier",
})  # fmt: skip
_CONFIG = frozenset({
    "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences",
    "seed", "responseMimeType", "responseSchema", "responseJsonSchema", "responseModalities",
    "presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs", "thinkingConfig",
    "mediaResolution", "speechConfig", "enableEnhancedCivicAnswers",
})  # fmt: skip
_PART = frozenset({
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "thought",
    "thoughtSignature",
})  # fmt: skip
_NO_TOOLS_WITH_JSON = re.compile(r"gemini-[12]")
SIGNED = re.compile(r"gemini-(?:[3-9]|\d\d)")


def check(body: Json, model: str) -> Asked:
    """What a body asks for. Raises InvalidRequest."""
    _check_names(body, _KNOWN, "")
    config = body.get("generationConfig") or {}
    _check_names(config, _CONFIG, " at 'generation_config'")
    contents = body["contents"]
    for at, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model"):
            raise InvalidRequest("Please use a valid role: user, model.")
        for n, part in enumerate(content.get("parts") or []):
            _check_names(part, _PART, f" at 'contents[{at}].parts[{n}]'")
    _check_calls(contents, signed=SIGNED.match(model) is not None)
    declared = [
        each for tool in body.get("tools") or [] for each in tool.get("functionDeclarations") or []
    ]
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    as_json = config.get("responseMimeType") == "application/json"
    if declared and as_json and _NO_TOOLS_WITH_JSON.match(model):
        raise InvalidRequest(
            "Function calling with a response mime type: 'application/json' is unsupported"
        )
    schema = config.get("responseJsonSchema")
    if schema is not None and not as_json:
        raise InvalidRequest(
            "Response schema can only be set with response mime type `application/json`."
        )
    names = calling.get("allowedFunctionNames") or [""]
    parts = [part for content in contents for part in content.get("parts") or []]
    images = sum("inlineData" in part or "fileData" in part for part in parts)
    beside = len(json.dumps(declared)) if declared else 0
    beside += len(json.dumps(schema)) if schema else 0
    return Asked(
        functions=()
        if calling.get("mode") == "NONE"
        else tuple(Function(each["name"], _parameters(each)) for each in declared),
        must=calling.get("mode") == "ANY",
        only=names[0],
        after_result=any("functionResponse" in part for part in contents[-1].get("parts") or []),
        json_only=as_json,
        schema=schema,
        stop=tuple(config.get("stopSequences") or ()),
        beside=beside + images * IMAGE_CHARACTERS,
    )


def check_batch(requests: list[Any]) -> None:
    """Refuse too many texts at once, and empty ones."""
    if len(requests) > MOST_REQUESTS:
        raise InvalidRequest(
            "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch\n"
        )
    for at, request in enumerate(requests):
        parts = (request.get("content") or {}).get("parts") or []
        if not any(part.get("text") for part in parts):
            raise InvalidRequest(
                f"* BatchEmbedContentsRequest.requests[{at}].content: contents must not be empty\n"
            )


def _parameters(declared: Json) -> Json:
    # The API takes a field's name in both spellings, and the SDK sends this one in the second.
    for name in ("parametersJsonSchema", "parameters_json_schema"):
        if declared.get(name):
            parameters: Json = declared[name]
            return parameters
    return {}


def _check_names(given: Json, known: frozenset[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise InvalidRequest(
                f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.'
            )


def _check_calls(contents: list[Json], *, signed: bool) -> None:
    calls = 0
    for content in contents:
        parts = content.get("parts") or []
        results = len(list(_holding(parts, "functionResponse")))
        if results != calls:
            raise InvalidRequest(
                "Please ensure that the number of function response parts is equal to the number "
                "of function call parts of the function call turn."
            )
        asked = list(_holding(parts, "functionCall"))
        calls = len(asked)
        if signed and asked and not asked[0].get("thoughtSignature"):
            raise InvalidRequest(
                "Function call is missing a thought_signature in functionCall parts. This is "
                "required for tools to work correctly, and missing thought_signature may lead to "
                "degraded model performance."
            )
    if calls:
        raise InvalidRequest(
            "Please ensure that function call turn is followed by a function response turn."
        )


def _holding(parts: Iterable[Json], name: str) -> Iterable[Json]:
    return (part for part in parts if name in part)
