"""The longest prompt that keys admit: exactly what the limiter would not call too large."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.longest import longest_prompt
from keys.policies import Need, policy_of
from keys.spec import KeySpec

limits = st.none() | st.integers(1, 5_000)
KINDS: dict[str, dict[str, Any]] = {
    "openai": {"provider": "openai"},
    "compatible": {"provider": "openai", "base_url": "http://localhost:8000/v1"},
    "azure": {"provider": "openai", "base_url": "https://my.openai.azure.com/openai"},
    "anthropic": {"provider": "anthropic"},
    "gemini": {"provider": "gemini"},
    "own": {"provider": "my-own"},
}


def spec(**fields: Any) -> KeySpec:
    return KeySpec(key_id="a", model_name="m", **fields)


def admits(key: KeySpec, need: Need) -> bool:
    tokens = policy_of(key.provider, key.base_url).tokens(need)
    return (
        (key.tpm is None or tokens <= key.tpm)
        and (key.tpd is None or tokens <= key.tpd)
        and (key.itpm is None or need.input <= key.itpm)
    )


@pytest.mark.parametrize("kind", KINDS)
@given(
    tpm=limits, tpd=limits, itpm=limits, expected=st.integers(1, 3_000), most=st.integers(0, 999)
)
def test_one_token_more_is_too_large(
    kind: str, tpm: int | None, tpd: int | None, itpm: int | None, expected: int, most: int
) -> None:
    key = spec(**KINDS[kind], tpm=tpm, tpd=tpd, itpm=itpm)
    output = expected + most
    longest = longest_prompt([key], Need(input=0, expected_output=expected, max_output=output))
    if longest is None:
        assert tpm is tpd is itpm is None
        return
    if longest > 0:
        assert admits(key, Need(longest, expected, output))
    assert not admits(key, Need(max(longest, 0) + 1, expected, output))


def test_the_largest_key_counts_and_one_without_limits_has_no_bound() -> None:
    need = Need(input=0, expected_output=100, max_output=100)
    small, large = (spec(provider="anthropic", tpm=tpm) for tpm in (1_000, 9_000))
    assert longest_prompt([small, large], need) == 8_900
    assert longest_prompt([small, large, spec(provider="gemini", rpm=5)], need) is None
    assert longest_prompt([], need) is None
