"""How much one call for embeddings may hold: one table, each row with its source."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit


class EmbeddingLimits(NamedTuple):
    """The most texts of one call, and the most tokens of all of them together."""

    texts: int
    tokens: int


class _Row(NamedTuple):
    protocol: str
    hosts: tuple[str, ...]
    limits: EmbeddingLimits
    source: str


# The first row that fits decides; no hosts fit every address, and "" is the provider's own.
_TABLE = (
    _Row("openai", ("", "api.openai.com", ".openai.azure.com", ".services.ai.azure.com"),
         EmbeddingLimits(2_048, 300_000),
         "openai.resources.embeddings: 2048 inputs, 300,000 tokens summed across all of them"),
    _Row("openai", ("generativelanguage.googleapis.com",), EmbeddingLimits(100, 20_000),
         "StarTrail-org/LEANN#214: at most 100 inputs there too"),
    _Row("openai", (".dashscope.aliyuncs.com", "dashscope.aliyuncs.com",
                    "dashscope-intl.aliyuncs.com"), EmbeddingLimits(10, 80_000),
         "alibabacloud.com/help/model-studio: text-embedding-v3 and v4 take 10 texts"),
    _Row("openai", ("api.mistral.ai",), EmbeddingLimits(128, 16_000),
         "the API's words: 'Too many tokens in batch. Max is 16384'"),
    _Row("openai", (), EmbeddingLimits(96, 100_000),
         "the smallest that is usual (Cohere: 96 texts); other servers take as much or more"),
    _Row("gemini", (), EmbeddingLimits(100, 20_000),
         "langchain-ai/langchainjs#4491: 'at most 100 requests can be in one batch'; the tokens "
         "are those that Google's cloud names for a request"),
)  # fmt: skip


def embedding_limits(protocol: str, base_url: str | None) -> EmbeddingLimits:
    """The limits of a built-in protocol at an address.

    Example:
        >>> embedding_limits("gemini", None).texts
        100
    """
    host = (urlsplit(base_url).hostname or "") if base_url else ""
    for row in _TABLE:
        if row.protocol == protocol and (not row.hosts or _fits(host, row.hosts)):
            return row.limits
    raise LookupError(f"{protocol} makes no embeddings")


def _fits(host: str, ends: tuple[str, ...]) -> bool:
    return host in ends or any(end.startswith(".") and host.endswith(end) for end in ends)
