from __future__ import annotations

import secrets
import string
import uuid

import pytest

from keys.leaks import holds_a_secret, looks_like_a_secret, show
from tests.keys.fakes import fake_secret

HEX = "0123456789abcdef"


def drawn(length: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length - 2)) + "a1"


@pytest.mark.parametrize(
    ("prefix", "body"),
    [
        ("s" + "k-", drawn(48)),
        ("s" + "k-proj-", drawn(80)),
        ("s" + "k-ant-api03-", drawn(95)),
        ("s" + "k-or-v1-", drawn(64, HEX)),
        ("AI" + "za", drawn(35)),
        ("AQ" + ".Ab8RN6", drawn(44)),
        ("gs" + "k_", drawn(52)),
        ("h" + "f_", drawn(34)),
        ("AK" + "IA", "ABCDEFGHIJKLMNOP"),
        ("gh" + "p_", drawn(36)),
        ("hv" + "s.", drawn(90)),
        ("", drawn(32, HEX)),
        ("", drawn(40)),
        ("https://", f"user:{drawn(8)}@example.org/v1"),
        ("https://example.org/v1?key=", drawn(20)),
        ("Bea" + "rer ", drawn(20)),
    ],
)
def test_the_known_shapes_of_secrets_are_seen(prefix: str, body: str) -> None:
    assert looks_like_a_secret(prefix + body)
    assert looks_like_a_secret(f"see {prefix}{body}.")


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
