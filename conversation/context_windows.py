"""How many tokens a model takes at once: one table, by the beginnings of the models' names.

Where sources differ the smaller number stands, since a history cut too early costs less than a
refused request. Sources, read in November 2026:

[P] github.com/pydantic/genai-prices, prices/providers/*.yml at commit 47df840a (August 2026)
[C] community.openai.com/t/1344734: gpt-5 refuses more than 272,000 tokens of input, the rest of
    its 400,000 being kept for the answer (128,000); the same is assumed of its successors
[G] the answer of generativelanguage.googleapis.com/v1beta/models: inputTokenLimit
[M] modelpedia.dev/openai/o3, from OpenAI's own model pages
"""

from __future__ import annotations

from typing import NamedTuple

from core.errors import InvalidRequest


class ContextWindow(NamedTuple):
    """Tokens for a prompt and its answer together, and the most that the prompt alone may have."""

    tokens: int
    max_input: int


def _whole(tokens: int) -> ContextWindow:
    return ContextWindow(tokens, tokens)


UNKNOWN_MODEL = _whole(8_192)

CONTEXT_WINDOWS: dict[str, ContextWindow] = {
    "gpt-": _whole(128_000),  # a model newer than this table
    "gpt-3.5-turbo": _whole(16_385),  # [P]
    "gpt-35-turbo": _whole(16_385),  # Azure's name of it
    "gpt-4": _whole(8_192),  # [P]
    "gpt-4-32k": _whole(32_000),  # [P]
    "gpt-4-turbo": _whole(128_000),  # [P]
    "gpt-4-vision": _whole(128_000),  # [P]
    "gpt-4-0125": _whole(128_000),  # a dated gpt-4-turbo
    "gpt-4-1106": _whole(128_000),  # a dated gpt-4-turbo
    "gpt-4.1": _whole(1_000_000),  # [P]
    "gpt-4o": _whole(128_000),  # [P]
    "gpt-5": ContextWindow(400_000, 272_000),  # [P] [C]
    "gpt-5-chat": _whole(128_000),  # github.com/labring/fastgpt-plugin/pull/297
    "gpt-5.1-chat": _whole(128_000),  # the same
    "gpt-5.2-chat": _whole(128_000),  # assumed of its successor
    "gpt-5.3": _whole(128_000),  # [P]
    "gpt-5.3-codex": ContextWindow(400_000, 272_000),  # [P] [C]
    "gpt-5.4": ContextWindow(1_050_000, 922_000),  # [P]; wavespeed.ai/llm/openai/gpt-5.4
    "gpt-5.4-mini": ContextWindow(400_000, 272_000),  # [P] [C]
    "gpt-5.4-nano": ContextWindow(400_000, 272_000),  # [P] [C]
    "gpt-5.5": ContextWindow(1_000_000, 872_000),  # [P] [C]
    "gpt-5.6": ContextWindow(1_050_000, 922_000),  # [P] [C]
    "gpt-oss": _whole(131_072),  # [P], groq.yml
    "o1": _whole(128_000),  # [P]
    "o3": _whole(200_000),  # [M]
    "o4": _whole(200_000),  # [C]
    "claude-": _whole(200_000),  # [P]: every model below 5, but those that follow
    "claude-2": _whole(100_000),  # 2.0; 2.1 has more
    "claude-instant": _whole(100_000),  # anthropic.com/news/100k-context-windows
    "claude-opus-4-7": _whole(1_000_000),  # [P]
    "claude-opus-4-8": _whole(1_000_000),  # [P]
    "claude-opus-5": _whole(1_000_000),  # [P]
    "claude-sonnet-4-6": _whole(1_000_000),  # [P]
    "claude-sonnet-5": _whole(1_000_000),  # [P]
    "claude-fable-5": _whole(1_000_000),  # [P]
    "gemini-": _whole(1_000_000),  # [P]; [G] says 1,048,576 of input, the answer beside it
    "gemini-pro": _whole(32_768),  # [P]
    "gemini-1.0": _whole(32_768),  # [P]
    "deepseek-": _whole(64_000),  # [P]
    "deepseek-v4": _whole(1_000_000),  # [P]
    "grok-2": _whole(32_768),  # [P]
    "grok-3": _whole(131_072),  # [P]
    "grok-4": _whole(256_000),  # [P]
}


def context_window(model: str) -> ContextWindow:
    """The window of a model: that of the longest name in the table that its own begins with.

    What stands before a "/" ("models/", "openai/") does not count. An unknown model has 8,192.

    Example:
        >>> context_window("models/gemini-2.5-flash").tokens
        1000000
    """
    name = model.rpartition("/")[2].lower()
    known = [prefix for prefix in CONTEXT_WINDOWS if name.startswith(prefix)]
    return CONTEXT_WINDOWS[max(known, key=len)] if known else UNKNOWN_MODEL


def input_budget(model: str, *, max_output_tokens: int, margin: float = 0.05) -> int:
    """Tokens that system prompt, history and prompt may have together.

    Args:
        max_output_tokens: tokens kept free for the answer.
        margin: the part of the rest that is left free, since token counts are estimates.

    Returns:
        The budget; 0 or less where the answer alone would fill the window.

    Raises:
        InvalidRequest: `margin` is not from 0 to 1.

    Example:
        >>> input_budget("gpt-4", max_output_tokens=2048, margin=0)
        6144
    """
    if not 0 <= margin < 1:
        raise InvalidRequest(f"margin must be from 0 to 1, not {margin!r}")
    window = context_window(model)
    return int(min(window.tokens - max_output_tokens, window.max_input) * (1 - margin))
