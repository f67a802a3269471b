"""What a request asks for beyond an answer's text: tools, a format, texts to stop at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

IMAGE_CHARACTERS = 3_400
"""What an image counts, as characters: 850 tokens at four characters each."""

_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Function:
    """A tool that is offered, and the JSON Schema of its arguments."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for beside a text.

    Args:
        functions: the tools that are offered.
        must: a tool has to be called.
        only: the tool that may be called, or "" for any.
        after_result: the last message is a tool's result, so that the model goes on with a text.
        json_only: the answer is to be JSON, by `schema` where there is one.
        beside: characters that count as input and are in no message.
    """

    functions: tuple[Function, ...] = ()
    must: bool = False
    only: str = ""
    after_result: bool = False
    json_only: bool = False
    schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()
    beside: int = 0


@dataclass(frozen=True, slots=True)
class Used:
    """A tool that the simulated model calls."""

    id: str
    name: str
    arguments: Json

    @property
    def text(self) -> str:
        """The arguments as JSON."""
        return json.dumps(self.arguments)


def tools_used(asked: Asked, prompt: str, number: str) -> tuple[Used, ...]:
    """The tools that are called: those that the prompt names, or the first where one has to be.

    >>> [used.name for used in tools_used(Asked((Function("now"),)), "What is it now?", "1")]
    ['now']
    """
    offered = [f for f in asked.functions if asked.only in ("", f.name)]
    named = [f for f in offered if f.name in prompt]
    if asked.must:
        named = named or offered[:1]
    elif asked.after_result:
        named = []
    return tuple(
        Used(f"{number}{at}", function.name, _arguments(function, prompt))
        for at, function in enumerate(named)
    )


def example_of(schema: Mapping[str, Any], text: str, depth: int = 0) -> Any:
    """The plainest value that a JSON Schema allows; texts say `text`.

    >>> example_of({"type": "object", "properties": {"n": {"type": "integer"}}}, "")
    {'n': 1}
    """
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        if depth == _DEEPEST:
            return {}
        properties = schema.get("properties") or {}
        return {name: example_of(each, text, depth + 1) for name, each in properties.items()}
    if kind == "array":
        inner = schema.get("items") or {}
        return [] if depth == _DEEPEST else [example_of(inner, text, depth + 1)]
    return {"integer": 1, "number": 1.5, "boolean": True, "null": None}.get(str(kind), text)


def shaped(asked: Asked, text: str) -> str:
    """The answer's text in the shape that was asked for, up to the first text to stop at."""
    if asked.json_only:
        schema = asked.schema
        value = {"answer": text} if schema is None else example_of(schema, text)
        text = json.dumps(value, ensure_ascii=False)
    ends = [at for each in asked.stop if (at := text.find(each)) >= 0]
    return text[: min(ends)] if ends else text


def _arguments(function: Function, prompt: str) -> Json:
    arguments = example_of({"type": "object", **function.parameters}, prompt[:40])
    return arguments if isinstance(arguments, dict) else {}
