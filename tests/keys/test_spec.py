from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from core.errors import ConfigurationError
from keys.spec import WRITE, KeySpec, Tags
from tests.keys.fakes import entry, fake_secret, spec


def test_every_field_says_what_to_write_and_what_it_means() -> None:
    assert set(WRITE) == set(KeySpec.model_fields)
    assert all(field.description for field in KeySpec.model_fields.values())


def test_a_key_cannot_be_changed() -> None:
    key = spec(tags={"tier": "free"})
    with pytest.raises(ValidationError):
        key.rpm = 5
    with pytest.raises(TypeError):
        key.tags["tier"] = "paid"  # type: ignore[index]


def test_changing_the_labels_that_were_given_changes_no_key() -> None:
    labels = {"tier": "free"}
    key = spec(tags=labels)
    labels["tier"] = "paid"
    assert key.tags == {"tier": "free"}


def test_a_key_can_be_hashed_compared_copied_and_pickled() -> None:
    key = spec(tags={"tier": "free"}, rpm=3)
    assert key == spec(tags={"tier": "free"}, rpm=3)
    assert len({key, spec(tags={"tier": "free"}, rpm=3), spec(tags={"tier": "paid"}, rpm=3)}) == 2
    assert pickle.loads(pickle.dumps(key)) == copy.deepcopy(key) == key
    assert key.model_dump()["tags"] == {"tier": "free"}
    assert repr(Tags({"a": "b"})) == "{'a': 'b'}"


def test_the_group_is_the_key_itself_unless_it_names_one() -> None:
    assert spec("a").group == "a"
    assert spec("a", quota_group="g").group == "g"


def test_where_a_secret_may_stand() -> None:
    assert spec("gemini-flash-01").secret_name == "API_KEY_GEMINI_FLASH_01"
    assert spec("gemini-flash-01").secret_variables == (
        "API_KEY_GEMINI_FLASH_01",
        "gemini-flash-01",
    )


@pytest.mark.parametrize(
    ("provider", "usual"),
    [
        ("openai", ("OPENAI_API_KEY",)),
        ("anthropic", ("ANTHROPIC_API_KEY",)),
        ("gemini", ("GEMINI_API_KEY", "GOOGLE_API_KEY")),
        ("my-own", ("MY_OWN_API_KEY",)),
    ],
)
def test_the_usual_variable_serves_the_default_key_alone(
    provider: str, usual: tuple[str, ...]
) -> None:
    assert spec(f"{provider}-default", provider=provider).secret_variables[2:] == usual
    assert spec(f"{provider}-01", provider=provider).secret_variables[2:] == ()
    assert spec("other-default", provider=provider).secret_variables[2:] == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rpm": -5}, "rpm is -5; write a whole number of 1 or more, or leave it out"),
        ({"tpm": "10"}, 'tpm is "10"; write a whole number'),
        ({"key_id": None}, "key_id is null; write letters, digits and"),
        ({"rmp": 5}, 'unknown field "rmp"; did you mean rpm?'),
        ({"zzzz": 5}, 'unknown field "zzzz"; known are key_id, model_name'),
    ],
)
def test_wrong_fields_are_explained(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        KeySpec(**{**entry(), **fields})
    assert message in str(caught.value)


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        KeySpec(key_id="a", rpm=0, tpm=0)  # type: ignore[call-arg]
    for name in ("model_name is missing", "provider is missing", "rpm is 0", "tpm is 0"):
        assert name in str(caught.value)


@pytest.mark.parametrize("field", [*WRITE, "api_key", "anything"])
def test_a_refused_secret_is_in_no_message_and_in_no_error_behind_it(field: str) -> None:
    secret = fake_secret()
    with pytest.raises(ConfigurationError) as caught:
        KeySpec(**{**entry(), field: secret})
    assert "secrets never live in keys.json" in str(caught.value)
    assert caught.value.__context__ is None
    assert secret not in f"{caught.value!r} {caught.value}"


def test_even_pydantics_own_error_hides_what_it_refused() -> None:
    secret = fake_secret()
    with pytest.raises(ValidationError) as caught:
        KeySpec.model_validate({**entry(), "key_id": secret})
    assert secret not in f"{caught.value!r} {caught.value}"
