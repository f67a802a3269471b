"""What messages and requests can hold beside plain text. Frozen values in no provider's words.

`core.neutral` and `core.neutral_options` read them from the dicts that callers write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ToolChoiceMode = Literal["auto", "none", "required", "function"]
FormatKind = Literal["text", "json_object", "json_schema"]
Detail = Literal["auto", "low", "high"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A text among the parts of a content."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image: at an address, or its data.

    Args:
        url: where it is; None if `data` holds it.
        data: the image itself in base64.
        media_type: of `data`, such as `image/png`.
        detail: how closely to look, for the providers that ask.
    """

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: Detail | None = None


Part = TextPart | ImagePart
Content = str | tuple[Part, ...]


def text_of(content: Content) -> str:
    """The text of a content, its parts one after the other.

    Example:
        >>> text_of((TextPart("Look: "), ImagePart(url="https://example.com/a.png")))
        'Look: '
    """
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


def images_of(content: Content) -> tuple[ImagePart, ...]:
    """The images of a content."""
    if isinstance(content, str):
        return ()
    return tuple(part for part in content if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for.

    Args:
        id: names the call; its result carries the same.
        arguments: JSON, as the model wrote it: it may be no valid JSON at all.
        signature: what Gemini wants back with the call, unchanged.
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may ask to have called.

    Args:
        parameters: JSON Schema of its arguments; None for a function without any.
        strict: whether arguments must obey the schema; None leaves it to the provider.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether a tool is to be called: as the model likes, never, some one, or `name`."""

    mode: ToolChoiceMode
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What the answer has to be; `schema` is the JSON Schema of `json_schema`."""

    kind: FormatKind
    name: str = "answer"
    schema: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What a request asks for beyond its messages and the length of its answer.

    Args:
        stop: texts before which the answer ends.
        provider_options: by the provider's name, fields that are put into its request as they are.
    """

    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    stop: tuple[str, ...] = ()
    top_p: float | None = None
    seed: int | None = None
    provider_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


NO_OPTIONS = Options()
