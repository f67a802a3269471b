"""No word of a provider may tell of the secret."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import SecretStr

from llm.providers.redact import LONGEST_MESSAGE, REDACTED, redact
from tests.providers.dialects import new_secret


@pytest.mark.parametrize(
    "echo",
    [
        lambda key: key,
        lambda key: f'"{key}"',
        lambda key: f"key={key}",
        lambda key: f"{key}.",
        lambda key: key[:12],
        lambda key: key[:8] + "*" * 20 + key[-4:],
        lambda key: key[:3] + "***" + key[-2:],
        lambda key: key[:6] + "..." + key[-4:],
        lambda key: key[:6] + "…",
        lambda key: key[10:30],
    ],
)
def test_echoes_of_the_key_are_replaced(echo) -> None:  # type: ignore[no-untyped-def]
    secret = new_secret()
    said = redact(
        f"Incorrect API key provided: {echo(secret)} Find yours at x.com.", SecretStr(secret)
    )
    assert said.startswith("Incorrect API key provided: ")
    assert said.endswith(" Find yours at x.com.")
    assert "[redacted]" in said
    assert secret[:6] not in said
    assert secret[-4:] not in said


def test_other_words_stay() -> None:
    text = "Rate limit reached for gpt-4o (RPM): Limit 3, Used 3. Please try again in 20s..."
    assert redact(text, SecretStr(new_secret())) == text


def test_a_message_is_one_short_line() -> None:
    said = redact("first\n\tsecond " + "x" * 2000, SecretStr(new_secret()))
    assert said.startswith("first second xxx")
    assert len(said) == LONGEST_MESSAGE
    assert redact("a\x00b\x1b[31mc", SecretStr("")) == "a b [31mc"


def test_a_huge_message_costs_little() -> None:
    started = time.thread_time()
    redact("word " * 1_000_000, SecretStr(new_secret()))
    assert time.thread_time() - started < 0.5


def test_an_empty_secret_hides_nothing() -> None:
    assert redact("no key given", SecretStr("")) == "no key given"


@given(
    secret=st.text(string.ascii_letters + string.digits + "-_.", min_size=8, max_size=60),
    before=st.text(max_size=40),
    after=st.text(max_size=40),
)
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    assume(secret not in REDACTED)
    assert secret not in redact(before + secret + after, SecretStr(secret))
