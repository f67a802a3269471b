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
         "openai.types.EmbeddingCreateParams: 300,000 tokens in all; microsoft.github.io/openaivec "
         "and learn.microsoft.com, Azure's embeddings: 2,048 texts"),
    _Row("openai", ("generativelanguage.googleapis.com",), EmbeddingLimits(100, 20_000),
         "StarTrail-org/LEANN#214: at most 100 inputs there too; tokens as below"),
    _Row("openai", ("dashscope.aliyuncs.com", ".dashscope.aliyuncs.com",
                    "dashscope-intl.aliyuncs.com"), EmbeddingLimits(10, 80_000),
         "help.aliyun.com/en/model-studio/text-embedding-synchronous-api: 10 rows of 8,192 tokens "
         "for text-embedding-v3 and v4 (25 of 2,048 for older ones)"),
    _Row("openai", ("api.mistral.ai",), EmbeddingLimits(128, 16_000),
         "the API's words, aurelio-labs/semantic-router#297: 'Too many tokens in batch. Max is "
         "16384'; continuedev/continue#2418: 128 texts"),
    _Row("openai", (), EmbeddingLimits(96, 20_000),
         "others are not confirmed: the fewest texts that are known (Cohere: 96), and the fewest "
         "tokens that a large provider takes (Google, as below)"),
    _Row("gemini", (), EmbeddingLimits(100, 20_000),
         "geldata/gel#9032: 'at most 100 requests can be in one batch'; the tokens are not "
         "confirmed for this API: the 20,000 that Google's cloud names for a request"),
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
