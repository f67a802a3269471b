"""Tool calls and their results belong together: every provider refuses one without the other."""

from __future__ import annotations

from collections.abc import Iterable

from core.errors import InvalidRequest
from core.types import Message


def check_results(messages: Iterable[Message]) -> None:
    """Check that each result follows its call, and that no call is left without one.

    Raises:
        InvalidRequest: not so; the message names the call.

    Example:
        >>> check_results([Message("tool", "12 C", tool_call_id="call_1")])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        core.errors.InvalidRequest: a tool's message answers 'call_1', but no call right before...
    """
    awaited: dict[str, str] = {}
    for message in messages:
        if message.tool_call_id is not None:
            if awaited.pop(message.tool_call_id, None) is None:
                raise InvalidRequest(
                    f"a tool's message answers {message.tool_call_id!r}, but no call right before "
                    "it has this id: send the assistant's message with its tool_calls first"
                )
            continue
        _check_none(awaited)
        awaited = {call.id: call.name for call in message.tool_calls}
    _check_none(awaited)


def _check_none(awaited: dict[str, str]) -> None:
    if awaited:
        calls = ", ".join(f"{name} ({call_id})" for call_id, name in awaited.items())
        raise InvalidRequest(
            f"the results of these tool calls are missing: {calls}; send each as a message of role "
            "'tool' with its tool_call_id, before anything else is asked"
        )
