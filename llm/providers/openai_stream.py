"""Puts the chunks of a chat completion together."""

from __future__ import annotations

from typing import Any

from llm.providers.base import ProviderCall
from llm.providers.openai_errors import RULES, STATUS_OF, refusal_of
from llm.providers.translate import Answer, clean, failure, objects


class OpenAIAssembler:
    """Makes one chat completion of its chunks; see `arriving.Assembler`."""

    def __init__(self, call: ProviderCall) -> None:
        self.closing = False
        self._call = call
        self._head: dict[str, Any] = {}
        self._choice: dict[str, Any] = {}
        self._message: dict[str, Any] = {}
        self._texts: list[str] = []
        self._refusals: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}

    @property
    def whole(self) -> bool:
        return self._choice.get("finish_reason") is not None

    def take(self, event: str, data: Any) -> str:
        if data is None:
            self.closing = True
            return ""
        if data.get("error"):
            raise failure(self._call, late_refusal(data["error"]), RULES)
        for name in ("model", "usage"):
            if data.get(name):
                self._head[name] = data[name]
        choices = objects(data.get("choices"))
        if not choices:
            return ""
        choice = choices[0]
        for name in ("finish_reason", "content_filter_results"):
            if choice.get(name) is not None:
                self._choice[name] = choice[name]
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            return ""
        refusal, text = delta.get("refusal"), delta.get("content")
        if isinstance(refusal, str) and refusal:
            self._refusals.append(refusal)
        for part in objects(delta.get("tool_calls")):
            self._add_call(part)
        if not isinstance(text, str) or not text:
            return ""
        text = clean(text)
        self._texts.append(text)
        return text

    def body(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._texts)}
        if self._refusals:
            message["refusal"] = "".join(self._refusals)
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return {**self._head, "choices": [{**self._choice, "message": message}]}

    def _add_call(self, part: dict[str, Any]) -> None:
        index = part.get("index")
        if not isinstance(index, int):
            index = len(self._calls)  # Gemini's and some others' leave it out: one part, one call
        made = self._calls.setdefault(index, {"id": "", "type": "function", "function": {}})
        if isinstance(part.get("id"), str) and part["id"]:
            made["id"] = part["id"]
        made.update((n, v) for n, v in part.items() if n not in ("id", "index", "type", "function"))
        for name, text in (part.get("function") or {}).items():
            if isinstance(text, str):
                made["function"][name] = made["function"].get(name, "") + text


def late_refusal(error: Any) -> Any:
    """What an error inside a stream says. It has no status, but a code or a type to tell one."""
    status = 502
    if isinstance(error, dict):
        names = (error.get("code"), error.get("type"))
        numbers = [name for name in names if isinstance(name, int) and 400 <= name < 600]
        known = [STATUS_OF[name] for name in names if isinstance(name, str) and name in STATUS_OF]
        status = (numbers + known + [status])[0]
    return refusal_of(Answer.json_of(status, {"error": error}))
