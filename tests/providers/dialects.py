"""The three providers side by side, so that a test can speak to each in its own words."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import SecretStr

from core.types import Message
from llm.providers.anthropic import AnthropicAdapter
from llm.providers.base import ProviderCall
from llm.providers.gemini import GeminiAdapter
from llm.providers.openai import OpenAIAdapter
from llm.providers.sdk import SdkAdapter
from tests.providers.scripted import Asked


@dataclass(frozen=True)
class Dialect:
    name: str
    adapter: Callable[[], SdkAdapter[Any, Any]]
    model: str
    prefix: str
    success: dict[str, Any]

    def error(self, message: str, code: str = "some_code") -> dict[str, Any]:
        """An error's body."""
        if self.name == "gemini":
            return {"error": {"code": 400, "message": message, "status": code}}
        if self.name == "anthropic":
            return {"type": "error", "error": {"type": code, "message": message}}
        return {"error": {"message": message, "type": code, "code": None}}

    def key_in(self, asked: Asked) -> str:
        """The API key of a request."""
        if self.name == "gemini":
            return asked.headers["x-goog-api-key"]
        return asked.headers["authorization"].removeprefix("Bearer ")


OPENAI = Dialect(
    "openai",
    OpenAIAdapter,
    "gpt-4o",
    "/v1",
    {
        "id": "c1",
        "model": "gpt-4o-2024-08-06",
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
    },
)
ANTHROPIC = Dialect(
    "anthropic",
    AnthropicAdapter,
    "claude-opus-5",
    "",
    {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-5",
        "content": [{"type": "text", "text": "Hi."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 2},
    },
)
GEMINI = Dialect(
    "gemini",
    GeminiAdapter,
    "gemini-2.5-flash",
    "",
    {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Hi."}]}, "finishReason": "STOP"}
        ],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2},
        "modelVersion": "gemini-2.5-flash",
    },
)
ALL = (OPENAI, ANTHROPIC, GEMINI)


@cache
def adapter_of(dialect_name: str) -> SdkAdapter[Any, Any]:
    """One adapter of each kind for all tests, as a program would have: a TLS context is dear."""
    return next(dialect.adapter() for dialect in ALL if dialect.name == dialect_name)


def new_secret() -> str:
    """A secret like a real one, made anew."""
    return "-".join(("sk", "test", secrets.token_hex(20)))


def call_of(dialect: Dialect, url: str | None, **changes: Any) -> ProviderCall:
    """A short call; `url` is the server's, or None for no base_url."""
    values: dict[str, Any] = {
        "provider": dialect.name,
        "key_id": f"{dialect.name}-01",
        "secret": SecretStr(new_secret()),
        "model": dialect.model,
        "messages": (Message("user", "Hello"),),
        "system_prompt": None,
        "max_output_tokens": 64,
        "temperature": None,
        "timeout": 10.0,
        "base_url": url + dialect.prefix if url is not None else None,
    }
    return ProviderCall(**(values | changes))
