"""What Anthropic refuses in a message, in its words."""

from __future__ import annotations

import json
import re
from typing import Any

from tools.simulation.asking import IMAGE_CHARACTERS, Asked, Function, Json
from tools.simulation.faulty import InvalidRequest

_KNOWN = frozenset({
    "model", "messages", "max_tokens", "system", "stop_sequences", "stream", "tools",
    "tool_choice", "metadata", "thinking", "output_config", "service_tier", "container",
    "cache_control", "inference_geo", "context_management", "mcp_servers", "speed",
})  # fmt: skip
_SAMPLING = frozenset({"temperature", "top_p", "top_k"})
_LAST_WITH_SAMPLING = "2026-10-20"
_MEDIA = ("image/jpeg", "image/png", "image/gif", "image/webp")
_ID = re.compile(r"[a-zA-Z0-9_-]+")


def check(body: Json, version: str) -> Asked:
    """What a body asks for, in this version of the API. Raises InvalidRequest."""
    known = _KNOWN | _SAMPLING if version <= _LAST_WITH_SAMPLING else _KNOWN
    for name in body:
        if name not in known:
            raise InvalidRequest(f"{name}: Extra inputs are not permitted")
    messages = body["messages"]
    blocks = [_blocks(at, message) for at, message in enumerate(messages)]
    _check_tools(body, blocks)
    images = sum(_check_images(at, each) for at, each in enumerate(blocks))
    choice = body.get("tool_choice") or {}
    functions = tuple(
        Function(tool["name"], tool["input_schema"])
        for tool in body.get("tools") or []
        if tool.get("type", "custom") == "custom"
    )
    schema = _check_format(body.get("output_config") or {})
    beside = sum(len(json.dumps(body[name])) for name in ("tools", "output_config") if name in body)
    return Asked(
        functions=() if choice.get("type") == "none" else functions,
        must=choice.get("type") in ("any", "tool"),
        only=choice.get("name", ""),
        after_result=any(block.get("type") == "tool_result" for block in blocks[-1]),
        json_only=schema is not None,
        schema=schema,
        stop=tuple(body.get("stop_sequences") or ()),
        beside=beside + images * IMAGE_CHARACTERS,
    )


def _blocks(at: int, message: Json) -> list[Json]:
    role, content = message.get("role"), message.get("content")
    if role == "system":
        raise InvalidRequest(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` '
            'parameter, not "system" as an input message role.'
        )
    if role not in ("user", "assistant"):
        raise InvalidRequest(f"messages.{at}.role: Input should be 'user' or 'assistant'")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not content:
        raise InvalidRequest(f"messages.{at}: all messages must have non-empty content")
    for n, block in enumerate(content):
        if block.get("type") == "text" and not block.get("text"):
            raise InvalidRequest(
                f"messages.{at}.content.{n}: text content blocks must be non-empty"
            )
    blocks: list[Json] = content
    return blocks


def _check_tools(body: Json, messages: list[list[Json]]) -> None:
    asked: list[str] = []
    for at, blocks in enumerate(messages):
        results = [block["tool_use_id"] for block in blocks if block.get("type") == "tool_result"]
        missing = [call for call in asked if call not in results]
        if missing:
            raise InvalidRequest(
                f"messages.{at - 1}: `tool_use` ids were found without `tool_result` blocks "
                f"immediately after: {', '.join(missing)}. Each `tool_use` block must have a "
                "corresponding `tool_result` block in the next message."
            )
        for result in results:
            if result not in asked:
                raise InvalidRequest(
                    f"messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` "
                    f"blocks: {result}. Each `tool_result` block must have a corresponding "
                    "`tool_use` block in the previous message."
                )
        uses = [block for block in blocks if block.get("type") == "tool_use"]
        asked = [str(block["id"]) for block in uses]
        for use in uses:
            if not _ID.fullmatch(use["id"]):
                raise InvalidRequest(
                    f"messages.{at}.content.0.tool_use.id: String should match pattern "
                    "'^[a-zA-Z0-9_-]+$'"
                )
            if not isinstance(use.get("input"), dict):
                raise InvalidRequest(
                    f"messages.{at}.content.0.tool_use.input: Input should be a valid dictionary"
                )
        if (uses or results) and not body.get("tools"):
            raise InvalidRequest(
                "Requests which include `tool_use` or `tool_result` blocks must define `tools`."
            )


def _check_images(at: int, blocks: list[Json]) -> int:
    """The number of images in a message."""
    images = [(n, block) for n, block in enumerate(blocks) if block.get("type") == "image"]
    for n, image in images:
        source: Any = image.get("source") or {}
        where = f"messages.{at}.content.{n}.image.source"
        if source.get("type") == "base64" and source.get("media_type") not in _MEDIA:
            raise InvalidRequest(
                f"{where}.base64.media_type: Input should be 'image/jpeg', 'image/png', "
                "'image/gif' or 'image/webp'"
            )
        if source.get("type") == "url" and not str(source.get("url")).startswith("https://"):
            raise InvalidRequest("Only HTTPS URLs are supported.")
        if source.get("type") not in ("base64", "url"):
            raise InvalidRequest(f"{where}: Input tag found using 'type' does not match any")
    return len(images)


def _check_format(config: Json) -> Json | None:
    shape = config.get("format")
    if shape is None:
        return None
    if shape.get("type") != "json_schema":
        raise InvalidRequest("output_config.format.type: Input should be 'json_schema'")
    schema: Json = shape.get("schema") or {}
    if schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        raise InvalidRequest(
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be "
            "explicitly set to false"
        )
    return schema
