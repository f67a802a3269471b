from __future__ import annotations

import secrets
import string
import uuid

import pytest

from keys.leaks import holds_a_secret, looks_like_a_secret, show
from tests.keys.fakes import fake_secret

HEX = "0123456789abcdef"
BASE62 = string.ascii_letters + string.digits


def drawn(length: int, alphabet: str = BASE62) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length - 2)) + "a1"


@pytest.mark.parametrize(
    ("prefix", "length", "alphabet"),
    [
        ("s" + "k-", 48, BASE62),
        ("s" + "k-proj-", 80, BASE62),
        ("s" + "k-ant-api03-", 95, BASE62),
        ("s" + "k-or-v1-", 64, HEX),
        ("AI" + "za", 35, BASE62),
        ("AQ" + ".Ab8RN6", 44, BASE62),
        ("gs" + "k_", 52, BASE62),
        ("h" + "f_", 34, BASE62),
        ("gh" + "p_", 36, BASE62),
        ("hv" + "s.", 90, BASE62),
        ("", 32, HEX),
        ("", 40, BASE62),
        ("https://example.org/v1?key=", 20, BASE62),
        ("Bea" + "rer ", 20, BASE62),
    ],
)
def test_the_known_shapes_of_secrets_are_seen(prefix: str, length: int, alphabet: str) -> None:
    for _ in range(50):
        secret = prefix + drawn(length, alphabet)
        assert looks_like_a_secret(secret)
        assert looks_like_a_secret(f"see {secret}.")


def test_passwords_in_addresses_and_aws_ids_are_seen() -> None:
    assert looks_like_a_secret(f"https://user:{drawn(8)}@example.org/v1")
    assert looks_like_a_secret("AK" + "IA" + "ABCDEFGHIJKLMNOP")


@pytest.mark.parametrize(
    "text",
    [
        "gemini-flash-01",
        "gpt-4o-mini-2024-07-18",
        "ft:gpt-4o-mini-2024-07-18:My-Org:custom-suffix:9AbCdEfG",
        "NousResearch/Nous-Hermes-2-Mixtral-8x7B-DPO",
        "deepseek_r1_distill_llama_70b_instruct_q4",
        "accounts/fireworks/models/llama-v3p1-405b-instruct",
        "us.anthropic.claude-haiku-4-5-20251001-v1:0",
        "team-a-production-key-of-the-search-department-01",
        "https://generativelanguage.googleapis.com/v1beta/openai/",
        "http://localhost:8000/v1",
        str(uuid.UUID(int=2**100 + 7)),
        "",
    ],
)
def test_names_and_addresses_are_no_secrets(text: str) -> None:
    assert not looks_like_a_secret(text)


def test_nested_values_are_searched() -> None:
    assert holds_a_secret({"a": [1, {"b": fake_secret()}]})
    assert holds_a_secret({fake_secret(): 1})
    assert not holds_a_secret({"a": [1, None, True, {"b": "plain"}]})


def test_what_is_shown_is_short_ascii_and_no_secret() -> None:
    secret = fake_secret()
    assert show(secret) == f"a text of {len(secret)} characters"
    assert secret not in show({"a": secret}) + show([secret])
    assert show("\ud800é") == '"\\ud800\\u00e9"'
    assert show(True) == "true"
    assert show(object()) == "of type object"
    assert show({str(n): n for n in range(99)}) == "an object"
