"""Refuses wrong arguments before anything is done, each with its name and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from conversation.identifiers import check_identifier, encode_metadata
from core.errors import InvalidRequest
from core.types import ChatRequest

MOST_TOKENS = 100_000_000
MOST_PRIORITY = 1_000
MOST_DIMENSIONS = 100_000

LONGEST = 86_400.0
"""Seconds: no request may take or wait for more than a day."""

WORKLOADS = ("light", "medium", "heavy")


def checked(request: ChatRequest) -> ChatRequest:
    """The request itself, if its arguments are right.

    Raises:
        InvalidRequest: one is wrong; the message names it.
    """
    for message in request.messages:
        if isinstance(message.content, str):
            _sendable("prompt", message.content)
    if isinstance(request.system_prompt, str):
        _sendable("system_prompt", request.system_prompt)
    for name in ("system_prompt", "model_preference"):
        value = getattr(request, name)
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidRequest(f"{name} must be a text or None, not {value!r}")
    for name, what in (
        ("fallback_models", "names of models"),
        ("allowed_providers", "names of providers"),
        ("exclude_keys", "ids of keys"),
    ):
        for text in getattr(request, name):
            if not isinstance(text, str) or not text:
                raise InvalidRequest(f"{name} must hold {what}, not {text!r}")
    least = 1 if request.messages else 0  # embeddings have no output
    for name in ("expected_completion_tokens", "max_output_tokens"):
        _whole(name, getattr(request, name), at_least=least, at_most=MOST_TOKENS)
    _whole("priority", request.priority, at_least=-MOST_PRIORITY, at_most=MOST_PRIORITY)
    _number("timeout", request.timeout, above=0.0, at_most=LONGEST)
    _number("idle_timeout", request.idle_timeout, above=0.0, at_most=LONGEST)
    if not isinstance(request.keep_partial, bool):
        raise InvalidRequest(f"keep_partial must be True or False, not {request.keep_partial!r}")
    _number("max_wait", request.max_wait, above=None, at_most=LONGEST)
    if request.temperature is not None:
        _number("temperature", request.temperature, above=None, at_most=2.0)
    if request.workload is not None and request.workload not in WORKLOADS:
        raise InvalidRequest(f"workload is {request.workload!r}; write one of {WORKLOADS}")
    _labels(request.tags)
    if request.user_id is not None:
        check_identifier(request.user_id, "user_id")
    encode_metadata(request.metadata)
    return request


def embeddable(value: Any) -> tuple[str, ...]:
    """The texts that a caller wants to have embedded.

    Raises:
        InvalidRequest: they are none, or one is empty or no text.
    """
    found = texts("texts", value)
    if not found:
        raise InvalidRequest("texts is empty; give at least one text")
    for at, text in enumerate(found):
        if not isinstance(text, str) or not text.strip():
            raise InvalidRequest(f"texts[{at}] must be a text that is not empty, not {text!r}")
        _sendable(f"texts[{at}]", text)
    return found


def checked_dimensions(value: Any) -> int | None:
    """The length of the vectors, or None.

    Raises:
        InvalidRequest: it is none.
    """
    if value is not None:
        _whole("dimensions", value, at_least=1, at_most=MOST_DIMENSIONS)
    found: int | None = value
    return found


def texts(name: str, value: Any) -> tuple[Any, ...]:
    """What a caller gave as a sequence of texts, as a tuple; its items are checked later.

    Raises:
        InvalidRequest: it is one text, or nothing that can be gone through.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidRequest(f"{name} must be a list of texts, not {value!r}")
    return tuple(value)


def some_texts(name: str, value: Any) -> tuple[Any, ...]:
    """The same for what may be left out (None) but not be empty, which would allow nothing.

    Raises:
        InvalidRequest: it is empty, one text, or nothing that can be gone through.
    """
    if value is None:
        return ()
    found = texts(name, value)
    if not found:
        raise InvalidRequest(f"{name} is empty and so allows none; name some, or leave it out")
    return found


def mapping(name: str, value: Any) -> dict[Any, Any]:
    """What a caller gave as a mapping or None, as a dict; its items are checked later.

    Raises:
        InvalidRequest: it is no mapping.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{name} must be a dict, not {value!r}")
    return dict(value)


def _sendable(name: str, text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{name} holds half a character at position {error.start}, which cannot be sent; "
            "decode its source as UTF-8 or UTF-16"
        ) from None


def _whole(name: str, value: Any, *, at_least: int, at_most: int) -> None:
    if type(value) is not int or not at_least <= value <= at_most:
        raise InvalidRequest(
            f"{name} must be a whole number from {at_least} to {at_most}, not {value!r}"
        )


def _number(name: str, value: Any, *, above: float | None, at_most: float | None = None) -> None:
    right = type(value) in (int, float) and value == value and abs(value) != float("inf")
    right = right and (value > above if above is not None else value >= 0)
    right = right and (at_most is None or value <= at_most)
    if not right:
        lower = f"more than {above:g}" if above is not None else "0 or more"
        upper = "" if at_most is None else f" and at most {at_most:g}"
        raise InvalidRequest(f"{name} must be a number, {lower}{upper}, not {value!r}")


def _labels(tags: Mapping[Any, Any]) -> None:
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidRequest(f"tags must map texts to texts, not {name!r} to {value!r}")
