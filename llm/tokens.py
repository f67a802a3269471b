"""How many tokens will this be? Counted where tiktoken's encodings are at hand, else estimated.

A request never waits for the network: an encoding is loaded in the background at its first use,
and until it is there, and for models that tiktoken does not know, the fitted estimate serves.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from core.content import NO_OPTIONS, Content, Options, TextPart
from core.types import Message
from llm.image_tokens import image_tokens

_log = logging.getLogger(__name__)

MESSAGE_OVERHEAD = 4
"""Tokens that a message costs beyond its text: role and separators, as OpenAI's cookbook counts."""

CALL_OVERHEAD = 8
"""Tokens that a tool or a call of one costs beyond its texts."""

TOOLS_OVERHEAD = 350
"""Anthropic's own prompt for tools (platform.claude.com/docs: tool use); others add less."""

LONG_TEXT = 100_000
"""Characters from which on three samples are measured instead of the whole."""

_ENCODING_OF_MODEL = (
    (re.compile(r"^(gpt-4o|gpt-4\.1|gpt-5|chatgpt-4o|o\d)"), "o200k_base"),
    (re.compile(r"^(gpt-4|gpt-3\.5|text-embedding-)"), "cl100k_base"),
)
_PIECES = re.compile(
    r"(?P<blob>[A-Za-z0-9+/=_-]{48,})|(?P<word>[A-Za-z]+)|(?P<digits>[0-9]{1,3})"
    r"|(?P<cjk>[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff])|(?P<newline>\n)"
    r"|(?P<other>[^\x00-\x7f])|(?P<mark>[^\sA-Za-z0-9\x80-\U0010ffff]+)"
)
# Fitted on o200k over prose, code and several languages; blobs (base64, hashes) measured apart.
_WEIGHT = {"digits": 1.61, "cjk": 0.71, "newline": 1.59, "other": 0.16, "mark": 0.84}
_WORD, _BEYOND_SIX, _BLOB_CHARACTER = 0.91, 0.17, 0.75


def estimate(text: str) -> int:
    """The fitted estimate of a text's tokens; its mean error is some 15 %.

    Example:
        >>> estimate("Hello, world!")
        4
    """
    if len(text) <= LONG_TEXT:
        return round(_measure(text))
    size = LONG_TEXT // 3
    starts = (0, len(text) // 2 - size // 2, len(text) - size)
    sampled = sum(_measure(text[start : start + size]) for start in starts)
    return round(sampled * len(text) / (3 * size))


def _measure(text: str) -> float:
    total = 0.0
    for match in _PIECES.finditer(text):
        kind = match.lastgroup
        length = match.end() - match.start()
        if kind == "word":
            total += _WORD + _BEYOND_SIX * max(0, length - 6)
        elif kind == "blob":
            total += _BLOB_CHARACTER * length
        elif kind is not None:
            total += _WEIGHT[kind]
    return total


class TokenCounter:
    """Counts the tokens of texts and messages. Safe under threads.

    Args:
        load: makes an encoding from its name; by default tiktoken's, in a background thread.
        patience: seconds after which a load that has not ended is no longer waited for.

    Example:
        >>> TokenCounter(load=None).count("Hello, world!", "gemini-2.5-flash")
        4
    """

    def __init__(self, load: Callable[[str], Any] | None = None, *, patience: float = 60.0) -> None:
        self._load = load
        self._patience = patience
        self._encodings: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._lock = threading.Lock()

    def count(self, content: Content, model: str | None = None) -> int:
        """Tokens of a text, or of content parts (texts and images), for a model."""
        if isinstance(content, str):
            encoding = self._encoding_of(model)
            if encoding is None or len(content) > LONG_TEXT:
                return estimate(content)
            return len(encoding.encode_ordinary(content))
        return sum(
            self.count(part.text, model)
            if isinstance(part, TextPart)
            else image_tokens(model, part.detail)
            for part in content
        )

    def count_message(self, message: Message, model: str | None = None) -> int:
        """Tokens of what a message holds: its content and its tool calls."""
        calls = sum(
            CALL_OVERHEAD + self.count(call.name, model) + self.count(call.arguments, model)
            for call in message.tool_calls
        )
        return self.count(message.content, model) + calls

    def count_options(self, options: Options, model: str | None = None) -> int:
        """Tokens of what goes along beside the messages: tools, a schema, a provider's own."""
        if options is NO_OPTIONS:
            return 0
        total = 0
        if options.tools:
            total += TOOLS_OVERHEAD
        for tool in options.tools:
            text = f"{tool.name} {tool.description or ''} {_json(tool.parameters)}"
            total += CALL_OVERHEAD + self.count(text, model)
        if options.response_format is not None and options.response_format.schema:
            total += self.count(_json(options.response_format.schema), model)
        # Which provider will serve is not known yet: the largest counts.
        own = (self.count(_json(fields), model) for fields in options.provider_options.values())
        return total + max(own, default=0)

    def count_messages(
        self, messages: Iterable[Message], system_prompt: str | None, model: str | None = None
    ) -> int:
        """Tokens of a whole prompt, with what each message costs beyond its text."""
        total = 3
        if system_prompt:
            total += MESSAGE_OVERHEAD + self.count(system_prompt, model)
        for message in messages:
            total += MESSAGE_OVERHEAD + self.count_message(message, model)
        return total

    def _encoding_of(self, model: str | None) -> Any | None:
        if model is None or self._load is None:
            return None
        for pattern, name in _ENCODING_OF_MODEL:
            if pattern.match(model):
                encoding = self._encodings.get(name)
                if encoding is None:
                    self._start_loading(name)
                return encoding
        return None

    def _start_loading(self, name: str) -> None:
        with self._lock:
            if name in self._started:
                return
            self._started[name] = time.monotonic()
        threading.Thread(
            target=self._load_encoding, args=(name,), name=f"load {name}", daemon=True
        ).start()

    def _load_encoding(self, name: str) -> None:
        if self._load is None:
            return
        try:
            encoding = self._load(name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the estimate serves
            _log.info("tiktoken's %s cannot be had (%s); tokens are estimated", name, error)
            return
        if time.monotonic() - self._started[name] <= self._patience:
            self._encodings[name] = encoding


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def load_tiktoken(name: str) -> Any:
    """tiktoken's own encoding; it may fetch a file, so never call it on the way of a request."""
    import tiktoken

    return tiktoken.get_encoding(name)
