"""What the three dialects have in common: a parsed call, the answer to it, and their interface."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from aiohttp import web

from tools.simulation.asking import Asked, Json, Used, shaped, tools_used
from tools.simulation.errors import Facts, Outcome, Row
from tools.simulation.quotas import LimitName, Quota, Refusal
from tools.simulation.settings import SimulationSettings

NOTHING_MORE = Asked()
Operation = Literal["chat", "embed", "count"]

_QUOTED = 80
_FILLER = "and so it goes on, "


@dataclass(slots=True)
class Call:
    """A request as all dialects understand it. `texts` are what its tokens are counted from."""

    operation: Operation
    model: str
    texts: list[str]
    messages: int = 1
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    as_array: bool = False
    options: Json = field(default_factory=dict)
    asked: Asked = NOTHING_MORE

    @property
    def characters(self) -> int:
        """The length of all that counts as input."""
        return sum(map(len, self.texts)) + self.asked.beside


@dataclass(slots=True)
class Answer:
    """What is replied: a text, the tools called, its tokens, and why it ends."""

    id: str
    created: int
    model: str
    text: str
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    outcome: Outcome
    used: tuple[Used, ...] = ()

    def pieces(self, tokens: int) -> Iterator[tuple[str, int]]:
        """The text in pieces of `tokens` tokens, each with the number of its tokens."""
        count = max(1, math.ceil(self.output_tokens / tokens))
        size = max(1, math.ceil(len(self.text) / count))
        left = self.output_tokens
        for index in range(count):
            produced = min(tokens, left)
            left -= produced
            yield self.text[index * size : (index + 1) * size], produced


def count_tokens(characters: int, chars_per_token: float) -> int:
    """Characters divided by `chars_per_token`, rounded up: the simulation's whole tokenizer."""
    return math.ceil(characters / chars_per_token)


def compose(
    call: Call, settings: SimulationSettings, number: str
) -> tuple[str, int, Outcome, tuple[Used, ...]]:
    """The text of an answer, its tokens, how it ends, and the tools that it calls.

    The text is an echo that shows that the prompt was read. It is as long as
    `settings.completion_tokens` says, and cut at the call's own `max_tokens`. JSON ends for its
    length wherever it is cut, since it is whole where it ends by itself, and is filled with spaces.
    """
    per_token = settings.usage_chars_per_token or settings.chars_per_token
    prompt = call.texts[-1] if call.texts else ""
    used = tools_used(call.asked, prompt, number)
    if used:
        called = sum(len(each.name) + len(each.text) for each in used)
        return "", count_tokens(called, per_token), "called", used
    said = prompt if len(prompt) <= _QUOTED else prompt[:_QUOTED].rstrip() + "..."
    echo = f'You sent {call.messages} message(s); the last one begins: "{said}"'
    text = shaped(call.asked, echo)
    tokens = settings.completion_tokens or count_tokens(len(text), per_token)
    outcome: Outcome = "stop"
    if call.max_tokens is not None and tokens > call.max_tokens:
        tokens, outcome = call.max_tokens, "length"
    length = math.floor(tokens * per_token)
    if call.asked.json_only and len(text) > length:
        outcome = "length"
    elif len(text) < length and settings.completion_tokens:
        filler = " " if call.asked.json_only else _FILLER
        text += " " + filler * math.ceil((length - len(text)) / len(filler))
    return text[:length], tokens, outcome, ()


def texts_in(messages: Iterable[object], field_name: str) -> list[str]:
    """All texts in a field of the messages: a string, or parts of which some have a `text`, or
    are a tool's call or its result.

    >>> texts_in([{"content": "a"}, {"content": [{"text": "b"}, {"image": "c"}]}], "content")
    ['a', 'b']
    """
    texts: list[str] = []
    for message in messages:
        content = message.get(field_name) if isinstance(message, dict) else None
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [text for part in content if (text := _text_of(part)) is not None]
        calls = message.get("tool_calls") if isinstance(message, dict) else None
        texts += [call["function"]["arguments"] for call in calls or []]
    return texts


def _text_of(part: object) -> str | None:
    if not isinstance(part, dict):
        return None
    result = part.get("functionResponse")
    if isinstance(result, dict):
        return json.dumps(result.get("response"))
    call = part.get("functionCall") or (part if part.get("type") == "tool_use" else None)
    if call is not None:
        return json.dumps(call.get("args") or call.get("input") or {})
    text = part.get("content") if part.get("type") == "tool_result" else part.get("text")
    return text if isinstance(text, str) else None


def dump(value: object) -> bytes:
    """JSON as short as it gets."""
    return json.dumps(value, separators=(",", ":")).encode()


class Dialect(ABC):
    """How one provider speaks: its requests, replies, streams, headers and errors."""

    protocol: ClassVar[str]
    limit_rows: ClassVar[Mapping[LimitName, str]]
    limit_words: ClassVar[Mapping[LimitName, str]]
    revoked_row: ClassVar[str]
    invalid_row: ClassVar[str]
    context_row: ClassVar[str]
    output_counts_in_tpm: ClassVar[bool] = False
    cached_input_is_free: ClassVar[bool] = False

    @abstractmethod
    def secret(self, request: web.Request) -> str | None:
        """The API key of a request, if it has one."""

    @abstractmethod
    def parse(self, operation: Operation, body: Json, request: web.Request) -> Call:
        """The call that a body asks for. Raises InvalidRequest."""

    @abstractmethod
    def charged_tokens(self, call: Call, input_tokens: int, rule: str) -> int:
        """What `tpm` charges when the call is admitted."""

    @abstractmethod
    def reply(self, call: Call, answer: Answer) -> Json:
        """The whole reply."""

    @abstractmethod
    def stream(self, call: Call, answer: Answer, tokens: int) -> Iterator[tuple[bytes, int]]:
        """The reply as server-sent events, each with the number of tokens in it."""

    @abstractmethod
    def headers(self, quota: Quota | None, now: float, request_id: str) -> dict[str, str]:
        """The headers of every reply; without a quota those that need none."""

    @abstractmethod
    def error(self, row: Row, facts: Facts, request_id: str) -> Json:
        """The body of an error."""

    def error_event(self, body: Json) -> bytes:
        """An error inside a stream that began well."""
        return b"data: " + dump(body) + b"\n\n"

    def retry_headers(self, seconds: float, fine: bool) -> dict[str, str]:
        """The headers that say when to try again."""
        return {}

    def refusal_row(self, refusal: Refusal) -> str:
        """The named error for a limit that was met."""
        return self.limit_rows[refusal.name]
