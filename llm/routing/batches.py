"""Texts into batches that a provider takes and that a key's limits admit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from llm.providers.embedding_limits import EmbeddingLimits

if TYPE_CHECKING:
    from keys.spec import KeySpec

SHARE = 0.5
"""Of the largest key's tokens a minute that one batch may take: a whole window rarely is free."""


def batch_limits(
    limits: Iterable[EmbeddingLimits], keys: Sequence[KeySpec], ratio: float
) -> EmbeddingLimits | None:
    """What fits every provider that may serve, and the largest key; None where there is no key.

    Args:
        limits: of each key's provider.
        ratio: real tokens for each estimated one; the tokens of the result are estimated ones.
    """
    each = list(limits)
    if not each:
        return None
    most = min(limit.tokens for limit in each)
    admitted = [min((n for n in (key.tpm, key.itpm, key.tpd) if n), default=0) for key in keys]
    if all(admitted):
        most = min(most, int(SHARE * max(admitted)))
    return EmbeddingLimits(min(limit.texts for limit in each), max(1, int(most / max(ratio, 1.0))))


def split(sizes: Sequence[int], limits: EmbeddingLimits) -> list[range]:
    """Runs of texts that fit, as long as they get; a text that is too large alone is alone.

    Args:
        sizes: the tokens of each text.

    Example:
        >>> split([3, 3, 3, 9, 1], EmbeddingLimits(texts=2, tokens=8))
        [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    """
    runs: list[range] = []
    first, tokens = 0, 0
    for at, size in enumerate(sizes):
        if at > first and (at - first >= limits.texts or tokens + size > limits.tokens):
            runs.append(range(first, at))
            first, tokens = at, 0
        tokens += size
    if first < len(sizes):
        runs.append(range(first, len(sizes)))
    return runs
