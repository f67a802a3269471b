"""Tools, tool choices and formats as callers write them: OpenAI's dicts, read."""

from __future__ import annotations

from collections.abc import Mapping

from core.content import ResponseFormat, Tool, ToolChoice
from core.errors import InvalidRequest
from core.reading import a_flag, a_mapping, a_name, a_schema, wrong


def tool_of(value: object, where: str) -> Tool:
    """A tool from its dict.

    Raises:
        InvalidRequest: it is none.

    Example:
        >>> tool_of({"type": "function", "function": {"name": "now"}}, "tools[0]").name
        'now'
    """
    given = a_mapping(value, where, ("type", "function"))
    if given.get("type", "function") != "function":
        raise wrong(
            f"{where}.type", given.get("type"), "'function'; a provider's own tools go into "
            "provider_options"
        )  # fmt: skip
    fields = ("name", "description", "parameters", "strict")
    function = a_mapping(given.get("function"), f"{where}.function", fields)
    description, strict = function.get("description"), function.get("strict")
    if description is not None and not isinstance(description, str):
        raise wrong(f"{where}.function.description", description, "a text")
    parameters = function.get("parameters")
    if parameters is not None:
        parameters = a_schema(parameters, f"{where}.function.parameters")
        if parameters.get("type", "object") != "object":
            raise wrong(f"{where}.function.parameters.type", parameters["type"], "'object'")
    return Tool(
        a_name(function.get("name"), f"{where}.function.name"),
        description,
        parameters,
        a_flag(strict, f"{where}.function.strict"),
    )


def tool_choice_of(value: object) -> ToolChoice:
    """A tool choice: `auto`, `none`, `required`, or `{"type": "function", "function": {"name"}}`.

    Raises:
        InvalidRequest: it is none.
    """
    if value == "auto" or value == "none" or value == "required":
        return ToolChoice(value)
    if isinstance(value, Mapping) and value.get("type") == "function":
        function = a_mapping(value.get("function"), "tool_choice.function", ("name",))
        return ToolChoice("function", a_name(function.get("name"), "tool_choice.function.name"))
    raise wrong(
        "tool_choice", value,
        "'auto', 'none', 'required' or {'type': 'function', 'function': {'name': ...}}",
    )  # fmt: skip


def response_format_of(value: object) -> ResponseFormat:
    """A response format: `{"type": "text"}`, `{"type": "json_object"}` or
    `{"type": "json_schema", "json_schema": {"name", "schema", "strict"}}`.

    Raises:
        InvalidRequest: it is none.
    """
    given = a_mapping(value, "response_format", ("type", "json_schema"))
    kind = given.get("type")
    if kind == "text" or kind == "json_object":
        return ResponseFormat(kind)
    if kind != "json_schema":
        raise wrong("response_format.type", kind, "'text', 'json_object' or 'json_schema'")
    where = "response_format.json_schema"
    fields = ("name", "schema", "strict", "description")
    inner = a_mapping(given.get("json_schema"), where, fields)
    if "schema" not in inner:
        raise InvalidRequest(f"{where}.schema is missing; write the JSON Schema of the answer")
    description = inner.get("description")
    if description is not None and not isinstance(description, str):
        raise wrong(f"{where}.description", description, "a text")
    return ResponseFormat(
        "json_schema",
        a_name(inner.get("name", "answer"), f"{where}.name"),
        a_schema(inner["schema"], f"{where}.schema"),
        a_flag(inner.get("strict"), f"{where}.strict"),
        description,
    )
