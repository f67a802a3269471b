from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from keys import schema
from keys.schema import json_schema, parse_keys
from keys.spec import KeySpec
from tests.keys.fakes import entry, text_of

ROOT = Path(schema.__file__).parents[1]


def test_the_file_for_editors_is_current() -> None:
    stored = (ROOT / "keys" / "keys.schema.json").read_text(encoding="utf-8")
    assert stored == json.dumps(json_schema(), indent=2) + "\n", (
        "run: python -m keys schema > keys/keys.schema.json"
    )


def test_it_is_a_valid_schema_and_helps_with_every_field() -> None:
    jsonschema.Draft7Validator.check_schema(json_schema())
    item = json_schema()["properties"]["keys"]["items"]
    assert set(item["properties"]) == set(KeySpec.model_fields)
    assert all(field["description"] for field in item["properties"].values())
    assert item["additionalProperties"] is False
    assert item["required"] == ["key_id", "model_name", "provider"]


def test_the_example_is_valid_for_editors_and_for_us() -> None:
    text = (ROOT / "keys_example.json").read_text(encoding="utf-8")
    jsonschema.validate(json.loads(text), json_schema())
    keys = parse_keys(text, path="keys_example.json")
    assert {key.provider for key in keys} == {"openai", "anthropic", "gemini"}
    assert (ROOT / json.loads(text)["$schema"]).resolve() == ROOT / "keys" / "keys.schema.json"
    assert keys[0].key_id == "gemini-flash-01"


def test_the_documentation_names_every_field_and_its_example_is_valid() -> None:
    text = (ROOT / "docs" / "keys.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in KeySpec.model_fields)
    parse_keys(text.split("```json\n")[1].split("```")[0], path="docs/keys.md")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"rpm": 1, "tags": {"a": "b"}},
        {"rpm": None, "quota_group": None},
        {"burst_window_seconds": 1},
        {"rpm": 0},
        {"rpm": "1"},
        {"rpm": 1.5},
        {"priority": 101},
        {"burst_window_seconds": 61},
        {"burst_window_seconds": 0},
        {"active": "true"},
        {"active": None},
        {"tags": {"a": 1}},
        {"tags": {"": "x"}},
        {"base_url": "ftp://x"},
        {"provider": "OpenAI"},
        {"key_id": "a b"},
        {"model_name": ""},
        {"unknown": 1},
    ],
)
def test_editors_and_we_agree(fields: dict[str, Any]) -> None:
    text = text_of({**entry(), **fields})
    valid = jsonschema.Draft7Validator(json_schema()).is_valid(json.loads(text))
    try:
        parse_keys(text, path="keys.json")
    except ValueError:
        assert not valid
    else:
        assert valid
