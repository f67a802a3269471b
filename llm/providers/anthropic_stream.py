"""Puts the events of a message together."""

from __future__ import annotations

import json
from typing import Any

from llm.providers.anthropic_errors import RULES, STATUS_OF, refusal_of
from llm.providers.base import ProviderCall
from llm.providers.translate import Answer, clean, failure

_ADDED = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


class AnthropicAssembler:
    """Makes one message of its events; see `arriving.Assembler`."""

    def __init__(self, call: ProviderCall) -> None:
        self.closing = False
        self._call = call
        self._message: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._texts: dict[tuple[int, str], list[str]] = {}

    @property
    def whole(self) -> bool:
        return self._message.get("stop_reason") is not None

    def take(self, event: str, data: Any) -> str:
        kind = data.get("type") if data is not None else None
        if kind == "content_block_delta":
            return self._add(data)
        if kind == "content_block_start":
            block = data.get("content_block")
            if isinstance(block, dict):
                self._blocks[_index(data)] = dict(block)
                return _text(block.get("text")) if block.get("type") == "text" else ""
        elif kind == "message_start" and isinstance(data.get("message"), dict):
            self._message = dict(data["message"])
        elif kind == "message_delta":
            self._end(data)
        elif kind == "message_stop":
            self.closing = True
        elif kind == "error" or event == "error":
            error = data.get("error") if data is not None else None
            name = error.get("type") if isinstance(error, dict) else None
            answer = Answer.json_of(STATUS_OF.get(str(name), 502), data)
            raise failure(self._call, refusal_of(answer), RULES)
        return ""

    def body(self) -> dict[str, Any]:
        blocks = []
        for index in sorted(self._blocks):
            block = dict(self._blocks[index])
            for (at, name), texts in self._texts.items():
                if at == index and name != "partial_json":
                    block[name] = _text(block.get(name)) + "".join(texts)
                elif at == index:
                    block["input"] = _input("".join(texts))
            blocks.append(block)
        return {**self._message, "content": blocks}

    def _add(self, data: dict[str, Any]) -> str:
        delta = data.get("delta")
        if not isinstance(delta, dict):
            return ""
        kind = str(delta.get("type"))
        name = "partial_json" if kind == "input_json_delta" else _ADDED.get(kind)
        text = clean(_text(delta.get(name))) if name is not None else ""
        if name is None or not text:
            return ""
        index = _index(data)
        self._blocks.setdefault(index, {"type": "text"})
        self._texts.setdefault((index, name), []).append(text)
        return text if kind == "text_delta" else ""

    def _end(self, data: dict[str, Any]) -> None:
        for name, value in (data.get("delta") or {}).items():
            self._message[name] = value
        usage, said = self._message.get("usage"), data.get("usage")
        if isinstance(said, dict):
            known = {name: value for name, value in said.items() if value is not None}
            self._message["usage"] = {**(usage if isinstance(usage, dict) else {}), **known}


def _index(data: dict[str, Any]) -> int:
    index = data.get("index")
    return index if isinstance(index, int) else 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _input(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}
