"""How many tokens an image counts: one table by the model's name, each row with its source.

A provider scales what is larger, so a row is about the most that an image of usual shape costs;
the size of the image itself is not looked at.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from core.content import Detail

IMAGE_TOKENS = 1_105
"""Where nothing is known of the model: 85 and 6 tiles of 170, as OpenAI's gpt-4o counts."""

_OPENAI = "developers.openai.com/api/docs/guides/images-vision: "


class ImageTokens(NamedTuple):
    """What an image costs, and what one of `detail: low` and of `detail: high` does; None where
    `high` is what is usual."""

    models: str
    usual: int
    low: int
    source: str
    high: int | None = None


TABLE = (
    ImageTokens("gpt-4o-mini", 36_835, 2_833, _OPENAI + "2,833 and 6 tiles of 5,667"),
    ImageTokens(r"(?:gpt-4\.1|gpt-5)-nano", 3_779, 3_779, _OPENAI + "1,536 patches, times 2.46"),
    ImageTokens("o4-mini", 2_642, 2_642, _OPENAI + "1,536 patches, times 1.72"),
    ImageTokens(r"(?:gpt-4\.1|gpt-5)-mini", 2_489, 2_489, _OPENAI + "1,536 patches, times 1.62; "
                "community.openai.com/t/1344040 measured 1.2 with gpt-5-mini"),
    ImageTokens(r"gpt-5(?:\.1)?(?![.\d])", 1_536, 910, _OPENAI + "gpt-5 has 70 and 6 tiles of "
                "140, the small codex models 1,536 patches; theirs of low is not confirmed"),
    ImageTokens(r"gpt-5\.[23]", 1_844, 1_844, _OPENAI + "1,536 patches; times 1.2, measured in "
                "community.openai.com/t/1372291"),
    ImageTokens(r"gpt-5\.4-(?:mini|nano)", 6_150, 6_150, _OPENAI + "2,500 patches; their factor "
                "is not confirmed, so the largest of all, 2.46"),
    ImageTokens(r"gpt-5\.4", 3_000, 308, _OPENAI + "2,500 patches, in low 512 pixels square; "
                "the factor of 1.2 is not confirmed"),
    ImageTokens(r"gpt-(?:[5-9]|\d\d)", 12_000, 308, "developers.openai.com, the guide to the "
                "latest model: from 5.5 on an image keeps its size where no detail is given; so "
                "10,000 patches times 1.2, a photo of ten megapixels", high=3_000),
    ImageTokens(r"gpt-|o\d|chatgpt", 1_105, 85, _OPENAI + "85 and 6 tiles of 170"),
    ImageTokens(r"claude-(?:[23]|instant|[a-z]+-4(?:-[0-6](?!\d)|-\d{8}|@|$))", 1_600, 1_600,
                "docs.anthropic.com/en/docs/vision: scaled to some 1,600 tokens"),
    ImageTokens("claude-", 4_784, 4_784,
                "platform.claude.com/docs, migration guide: from 4.7 on 2,576 pixels on the long "
                "edge and 4,784 tokens"),
    ImageTokens(r"gemini-(?:[3-9]|\d\d)", 1_120, 1_120,
                "ai.google.dev/gemini-api/docs/media-resolution, of Gemini 3: 1,120 for high and "
                "where nothing is said; of later ones not confirmed"),
    ImageTokens("gemini-", 1_548, 258, "ai.google.dev/gemini-api/docs/tokens: 258 up to 384 pixels "
                "square, then tiles of 258, of which a usual shape has 6"),
)  # fmt: skip


@cache
def image_tokens(model: str | None, detail: Detail | None) -> int:
    """The tokens that an image is reserved with.

    Example:
        >>> image_tokens("gpt-4o", "low")
        85
    """
    name = (model or "").rpartition("/")[2].lower()
    for row in TABLE:
        if re.match(row.models, name):
            if detail == "low":
                return row.low
            return row.high if detail == "high" and row.high is not None else row.usual
    return IMAGE_TOKENS
