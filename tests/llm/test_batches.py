"""Texts into batches: all of them, in order, and as few as the limits allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.spec import KeySpec
from llm.providers.embedding_limits import EmbeddingLimits, embedding_limits
from llm.routing.batches import batch_limits, split


@given(
    sizes=st.lists(st.integers(0, 50), max_size=60),
    texts=st.integers(1, 10),
    tokens=st.integers(1, 100),
)
def test_what_always_holds(sizes: list[int], texts: int, tokens: int) -> None:
    runs = split(sizes, EmbeddingLimits(texts, tokens))
    assert [at for run in runs for at in run] == list(range(len(sizes)))
    for run in runs:
        assert 1 <= len(run) <= texts
        used = sum(sizes[at] for at in run)
        assert used <= tokens or len(run) == 1
        if run[-1] + 1 < len(sizes):
            assert len(run) == texts or used + sizes[run[-1] + 1] > tokens, "it was full"


def key(key_id: str, **fields: object) -> KeySpec:
    return KeySpec(key_id=key_id, model_name="text-embedding-3-small", provider="openai", **fields)


PROVIDER = EmbeddingLimits(2_048, 300_000)


@pytest.mark.parametrize(
    ("keys", "ratio", "tokens"),
    [
        ([key("a")], 1.0, 300_000),
        ([key("a", tpm=1_000_000)], 1.0, 300_000),
        ([key("a", tpm=10_000)], 1.0, 5_000),
        ([key("a", tpm=10_000), key("b", tpm=40_000)], 1.0, 20_000),
        ([key("a", tpm=10_000), key("b")], 1.0, 300_000),
        ([key("a", tpm=10_000, itpm=4_000)], 1.0, 2_000),
        ([key("a", tpm=10_000)], 2.0, 2_500),
        ([key("a", tpm=10_000)], 0.5, 5_000),
        ([key("a", tpm=1)], 1.0, 1),
    ],
)
def test_a_batch_fits_half_of_the_largest_key(
    keys: list[KeySpec], ratio: float, tokens: int
) -> None:
    limits = batch_limits([PROVIDER for _ in keys], keys, ratio)
    assert limits == EmbeddingLimits(2_048, tokens)


def test_of_several_providers_the_smaller_decides() -> None:
    each = [PROVIDER, EmbeddingLimits(100, 400_000)]
    assert batch_limits(each, [key("a"), key("b")], 1.0) == EmbeddingLimits(100, 300_000)
    assert batch_limits([], [], 1.0) is None


@pytest.mark.parametrize(
    ("protocol", "base_url", "texts"),
    [
        ("openai", None, 2_048),
        ("openai", "https://api.openai.com/v1", 2_048),
        ("openai", "https://mine.openai.azure.com/openai/v1", 2_048),
        ("openai", "https://dashscope.aliyuncs.com/compatible-mode/v1", 10),
        ("openai", "http://localhost:8000/v1", 96),
        ("gemini", None, 100),
    ],
)
def test_the_providers_limits(protocol: str, base_url: str | None, texts: int) -> None:
    assert embedding_limits(protocol, base_url).texts == texts
