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

_OPENAI = "developers.openai.com/api/docs/guides/images-vision: calculating costs"


class ImageTokens(NamedTuple):
    """What an image costs, and what one of `detail: low` does."""

    models: str
    usual: int
    low: int
    source: str


TABLE = (
    ImageTokens("gpt-4o-mini", 36_835, 2_833, _OPENAI + ": 2,833 and 6 tiles of 5,667"),
    ImageTokens(r"(?:gpt-4\.1|gpt-5)-nano", 3_779, 3_779, _OPENAI + ": 1,536 patches, times 2.46"),
    ImageTokens(r"(?:gpt-4\.1|gpt-5|o4)-mini", 2_642, 2_642, _OPENAI + ": 1,536, times 1.72"),
    ImageTokens(r"gpt-(?:[5-9]|\d\d)", 1_536, 70, _OPENAI + ": at most 1,536 patches, or tiles"),
    ImageTokens(r"gpt-|o\d|chatgpt", 1_105, 85, _OPENAI + ": 85 and 6 tiles of 170"),
    ImageTokens(r"claude-(?:opus-4-[7-9]|[a-z]+-[5-9])", 4_784, 4_784,
                "platform.claude.com/docs: vision; 2,576 pixels on the long side from 4.7 on"),
    ImageTokens("claude-", 1_600, 1_600, "platform.claude.com/docs: vision, 1,568 pixels"),
    ImageTokens(r"gemini-(?:[3-9]|\d\d)", 1_120, 1_120,
                "ai.google.dev/gemini-api/docs/media-resolution: the default"),
    ImageTokens("gemini-", 1_548, 258, "ai.google.dev/gemini-api/docs/tokens: 6 tiles of 258"),
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
            return row.low if detail == "low" else row.usual
    return IMAGE_TOKENS
