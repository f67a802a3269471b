"""Messages as callers write them: the dicts that OpenAI made usual, read and written.

Reading names what is wrong and where: `messages[2].content[0]: ...`.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import Any, get_args

from core.content import (
    Content,
    Detail,
    ImagePart,
    Part,
    TextPart,
    ToolCall,
    images_of,
    text_of,
)
from core.errors import InvalidRequest
from core.reading import a_mapping, a_text, wrong
from core.types import Message, ReplyToolCall, Role

MEDIA_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""The kinds of image that every provider with images takes."""

_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.*)", re.DOTALL)
_MESSAGE = ("role", "content", "tool_calls", "tool_call_id", "name", "refusal")


def message_of(value: object, where: str) -> Message:
    """A message from its dict; a Message is taken as it is.

    Args:
        where: how errors call it, such as `messages[0]`.

    Raises:
        InvalidRequest: it is none.

    Example:
        >>> message_of({"role": "user", "content": "Hello"}, "messages[0]").content
        'Hello'
    """
    if isinstance(value, Message):
        value = message_as_dict(value)
    given = a_mapping(value, where, _MESSAGE)
    role: Any = given.get("role")
    if role not in get_args(Role):
        raise wrong(f"{where}.role", role, "one of " + ", ".join(get_args(Role)))
    calls = given.get("tool_calls") or ()
    if calls and role != "assistant":
        raise InvalidRequest(f"{where}: only an assistant's message has tool_calls")
    call_id = given.get("tool_call_id")
    if role == "tool" and (not isinstance(call_id, str) or not call_id):
        raise wrong(f"{where}.tool_call_id", call_id, "the id of the call that this answers")
    if role != "tool" and call_id is not None:
        raise InvalidRequest(f"{where}: only a tool's message has a tool_call_id")
    if not isinstance(calls, (list, tuple)):
        raise wrong(f"{where}.tool_calls", calls, "a list of calls")
    content = _content(given.get("content"), f"{where}.content", missing_is_empty=bool(calls))
    if role != "user" and images_of(content):
        raise InvalidRequest(f"{where}: only a user's message has images")
    return Message(
        role,
        content,
        tuple(_call(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(calls)),
        call_id,
    )


def message_as_dict(message: Message) -> dict[str, Any]:
    """The dict of a message; `tool_calls` and `tool_call_id` only where it has them."""
    content: Any = message.content
    if not isinstance(content, str):
        content = [_part_as_dict(part) for part in content]
    given: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        given["tool_calls"] = [call_as_dict(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        given["tool_call_id"] = message.tool_call_id
    return given


def call_as_dict(call: ToolCall) -> ReplyToolCall:
    """The dict of a tool call, as replies and stored messages have it."""
    given: ReplyToolCall = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if call.signature is not None:
        # Where Google's own OpenAI-compatible API puts it.
        given["extra_content"] = {"google": {"thought_signature": call.signature}}
    return given


def _content(value: object, where: str, *, missing_is_empty: bool) -> Content:
    if value is None and missing_is_empty:
        return ""
    if isinstance(value, str):
        return a_text(value, where)
    if not isinstance(value, (list, tuple)):
        raise wrong(where, value, "a text or a list of parts")
    parts = tuple(_part(part, f"{where}[{at}]") for at, part in enumerate(value))
    # Without an image it is a text, for every provider and adapter.
    return parts if images_of(parts) else text_of(parts)


def _part(value: object, where: str) -> Part:
    if isinstance(value, (TextPart, ImagePart)):
        value = _part_as_dict(value)
    given = a_mapping(value, where, ("type", "text", "image_url"))
    kind = given.get("type")
    if kind == "text":
        return TextPart(a_text(given.get("text"), f"{where}.text"))
    if kind == "image_url":
        return _image(given.get("image_url"), f"{where}.image_url")
    raise wrong(f"{where}.type", kind, "'text' or 'image_url'")


def _image(value: object, where: str) -> ImagePart:
    given = a_mapping({"url": value} if isinstance(value, str) else value, where, ("url", "detail"))
    url, detail = given.get("url"), given.get("detail")
    if detail is not None and detail not in get_args(Detail):
        raise wrong(f"{where}.detail", detail, "one of " + ", ".join(get_args(Detail)))
    if isinstance(url, str) and url.startswith(("https://", "http://")):
        return ImagePart(url=a_text(url, f"{where}.url"), detail=detail)
    found = _DATA.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        shown = url[:30] if isinstance(url, str) else url
        raise wrong(
            f"{where}.url", shown, "an https address, or data:image/png;base64,... with the image"
        )
    media_type, data = found.groups()
    if media_type not in MEDIA_TYPES:
        raise wrong(f"{where}.url", f"data:{media_type}", "one of " + ", ".join(MEDIA_TYPES))
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"{where}.url: its data is no base64: {error}") from None
    if not data:
        raise InvalidRequest(f"{where}.url: the image is empty")
    return ImagePart(data=data, media_type=media_type, detail=detail)


def _part_as_dict(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    url = part.url if part.data is None else f"data:{part.media_type};base64,{part.data}"
    image = {"url": url} if part.detail is None else {"url": url, "detail": part.detail}
    return {"type": "image_url", "image_url": image}


def _call(value: object, where: str) -> ToolCall:
    if isinstance(value, ToolCall):
        value = call_as_dict(value)
    given = a_mapping(value, where, ("id", "type", "function", "index", "extra_content"))
    call_id = given.get("id")
    if not isinstance(call_id, str) or not call_id:
        raise wrong(f"{where}.id", call_id, "the id that the reply gave the call")
    function = a_mapping(given.get("function"), f"{where}.function", ("name", "arguments"))
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        raise wrong(f"{where}.function.arguments", arguments, "JSON as a text")
    extra = given.get("extra_content")
    google = extra.get("google") if isinstance(extra, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    if signature is not None and not isinstance(signature, str):
        raise wrong(f"{where}.extra_content.google.thought_signature", signature, "a text")
    return ToolCall(
        a_text(call_id, f"{where}.id"),
        # A model's own name may be longer than what others take.
        a_text(function.get("name"), f"{where}.function.name"),
        a_text(arguments, f"{where}.function.arguments"),
        signature,
    )
