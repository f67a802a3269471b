"""The longest prompt that keys' limits admit at once. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from keys.policies import Need, policy_of

if TYPE_CHECKING:
    from keys.spec import KeySpec


def longest_prompt(keys: Iterable[KeySpec], need: Need) -> int | None:
    """The most input tokens that any of the keys admits beside the rest of a need.

    Args:
        need: its answer counts; its input does not.

    Returns:
        The tokens, 0 or less where the answer alone is too large; None where a key has no limit,
        or there is none.

    Example:
        >>> key = KeySpec(key_id="a", model_name="m", provider="anthropic", tpm=10_000, itpm=5_000)
        >>> longest_prompt([key], Need(input=0, expected_output=512, max_output=2048))
        5000
    """
    longest: int | None = None
    for key in keys:
        admitted = _admitted(key, need)
        if admitted is None:
            return None
        longest = admitted if longest is None else max(longest, admitted)
    return longest


def _admitted(key: KeySpec, need: Need) -> int | None:
    policy = policy_of(key.provider, key.base_url)
    bounds = [policy.most_input(limit, need) for limit in (key.tpm, key.tpd) if limit]
    if key.itpm:
        bounds.append(key.itpm)
    return min(bounds, default=None)
