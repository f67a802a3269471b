"""Puts the responses of a `streamGenerateContent` together."""

from __future__ import annotations

from typing import Any

from llm.providers.base import ProviderCall
from llm.providers.gemini_errors import RULES, refusal_of
from llm.providers.translate import Answer, clean, failure, objects


class GeminiAssembler:
    """Makes one response of many; see `arriving.Assembler`."""

    closing = False

    def __init__(self, call: ProviderCall) -> None:
        self._call = call
        self._head: dict[str, Any] = {}
        self._candidate: dict[str, Any] = {}
        self._parts: list[dict[str, Any]] = []

    @property
    def whole(self) -> bool:
        return bool(self._candidate.get("finishReason")) or "promptFeedback" in self._head

    def take(self, event: str, data: Any) -> str:
        if data is None:
            return ""
        error = data.get("error")
        if error:
            status = error.get("code") if isinstance(error, dict) else None
            if not isinstance(status, int) or not 400 <= status < 600:
                status = 502
            answer = Answer.json_of(status, data)
            raise failure(self._call, refusal_of(answer), RULES)
        for name in ("usageMetadata", "modelVersion", "promptFeedback"):
            if data.get(name):
                self._head[name] = data[name]
        texts = []
        for candidate in objects(data.get("candidates"))[:1]:
            content = candidate.get("content")
            parts = objects(content.get("parts") if isinstance(content, dict) else None)
            self._candidate.update((k, v) for k, v in candidate.items() if k != "content")
            self._parts += parts
            texts += [part["text"] for part in parts if _is_said(part)]
        return clean("".join(texts))

    def body(self) -> dict[str, Any]:
        body = dict(self._head)
        if self._candidate or self._parts:
            content = {"role": "model", "parts": self._parts}
            body["candidates"] = [{**self._candidate, "content": content}]
        return body


def _is_said(part: dict[str, Any]) -> bool:
    return isinstance(part.get("text"), str) and not part.get("thought")
