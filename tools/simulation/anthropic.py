"""Anthropic's dialect: `/v1/messages` and `/v1/messages/count_tokens`.

Input is charged as estimated when the call is admitted, without what is read from the cache;
output is charged as it is produced, and a spent `otpm` admits nothing more. `tpm` counts both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from aiohttp import web

from tools.simulation.anthropic_checks import check
from tools.simulation.asking import Json, Used
from tools.simulation.calls import (
    Answer,
    Call,
    Dialect,
    Operation,
    dump,
    texts_in,
)
from tools.simulation.errors import Facts, Row
from tools.simulation.faulty import InvalidRequest
from tools.simulation.formats import plain_seconds, rfc3339
from tools.simulation.limits import Window, left
from tools.simulation.quotas import Quota

_STOP = {"stop": "end_turn", "called": "tool_use", "length": "max_tokens", "filtered": "refusal"}


class Anthropic(Dialect):
    """Messages as Anthropic sends them."""

    protocol = "anthropic"
    limit_rows: ClassVar = {
        "rpm": "rate_limit_error",
        "rpd": "rate_limit_error",
        "max_parallel": "concurrency_limit",
        "tpm": "rate_limit_error",
        "itpm": "rate_limit_error",
        "otpm": "rate_limit_error",
    }
    limit_words: ClassVar = {
        "rpm": "requests per minute",
        "rpd": "requests per day",
        "max_parallel": "concurrent connections",
        "tpm": "tokens per minute",
        "itpm": "input tokens per minute",
        "otpm": "output tokens per minute",
    }
    revoked_row = "authentication_error"
    invalid_row = "invalid_request_error"
    context_row = "prompt_too_long"
    output_counts_in_tpm = True
    cached_input_is_free = True

    def secret(self, request: web.Request) -> str | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        return request.headers.get("x-api-key") or (secret if scheme == "Bearer" else None) or None

    def parse(self, operation: Operation, body: Json, request: web.Request) -> Call:
        for name in ("model", "messages", "max_tokens"):
            if not body.get(name) and not (operation == "count" and name == "max_tokens"):
                raise InvalidRequest(f"{name}: Field required")
        messages = body["messages"]
        if not isinstance(messages, list):
            raise InvalidRequest("messages: Input should be a valid list")
        max_tokens = body.get("max_tokens")
        if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
            raise InvalidRequest("max_tokens: must be greater than or equal to 1")
        texts = texts_in([{"content": body.get("system")}, *messages], "content")
        return Call(
            operation,
            str(body["model"]),
            texts,
            messages=len(messages),
            max_tokens=max_tokens,
            stream=bool(body.get("stream")),
            asked=check(body, request.headers.get("anthropic-version", "")),
        )

    def charged_tokens(self, call: Call, input_tokens: int, rule: str) -> int:
        return input_tokens

    def reply(self, call: Call, answer: Answer) -> Json:
        if call.operation == "count":
            return {"input_tokens": answer.input_tokens}
        text = {"type": "text", "text": answer.text, "citations": None}
        return {
            **_message(answer),
            "content": _content(answer, text),
            **_stop(answer),
            "usage": _usage(answer, answer.output_tokens),
        }

    def stream(self, call: Call, answer: Answer, tokens: int) -> Iterator[tuple[bytes, int]]:
        started = {**_message(answer), "content": [], "stop_reason": None, "stop_sequence": None}
        yield _event("message_start", message={**started, "usage": _usage(answer, 1)}), 0
        for index, used in enumerate(answer.used):
            begun = {**_tool_use(used), "input": {}}
            yield _event("content_block_start", index=index, content_block=begun), 0
            half = len(used.text) // 2
            for piece in (used.text[:half], used.text[half:]):
                part = {"type": "input_json_delta", "partial_json": piece}
                yield _event("content_block_delta", index=index, delta=part), 0
            yield _event("content_block_stop", index=index), 0
        if answer.outcome not in ("filtered", "called"):
            block = {"type": "text", "text": ""}
            yield _event("content_block_start", index=0, content_block=block), 0
            yield _event("ping"), 0
            for piece, produced in answer.pieces(tokens):
                delta = {"type": "text_delta", "text": piece}
                yield _event("content_block_delta", index=0, delta=delta), produced
            yield _event("content_block_stop", index=0), 0
        usage = {"output_tokens": answer.output_tokens}
        yield _event("message_delta", delta=_stop(answer), usage=usage), 0
        yield _event("message_stop"), 0

    def headers(self, quota: Quota | None, now: float, request_id: str) -> dict[str, str]:
        headers = {"request-id": request_id, "anthropic-organization-id": "org-simulated"}
        if quota is None:
            return headers
        meters, fine = quota.meters, quota.tells_thousandths
        parts = [meters["itpm"].window, meters["otpm"].window]
        windows: dict[str, list[Window]] = {
            "requests": _given(meters["rpm"].window),
            "input-tokens": _given(parts[0]),
            "output-tokens": _given(parts[1]),
            # The API tells the sum of both, unless there is a limit on their total.
            "tokens": _given(meters["tpm"].window) or _given(*parts),
        }
        for word, counted in windows.items():
            if counted:
                limit = sum(window.limit for window in counted)
                reset = now + max(window.reset(now) for window in counted)
                headers[f"anthropic-ratelimit-{word}-limit"] = str(limit)
                remaining = sum(left(window, now) for window in counted)
                headers[f"anthropic-ratelimit-{word}-remaining"] = str(remaining)
                headers[f"anthropic-ratelimit-{word}-reset"] = rfc3339(reset, fine=fine)
        return headers

    def retry_headers(self, seconds: float, fine: bool) -> dict[str, str]:
        return {"retry-after": plain_seconds(seconds, fine=fine)}

    def error(self, row: Row, facts: Facts, request_id: str) -> Json:
        error: Json = {"type": row.type, "message": facts.fill(row.message)}
        if row.code is not None:
            error["details"] = {"error_code": row.code}
        return {"type": "error", "error": error, "request_id": request_id}

    def error_event(self, body: Json) -> bytes:
        return b"event: error\n" + super().error_event(body)


def _given(*windows: Window | None) -> list[Window]:
    return [window for window in windows if window is not None]


def _content(answer: Answer, text: Json) -> list[Json]:
    if answer.used:
        return [_tool_use(used) for used in answer.used]
    return [] if answer.outcome == "filtered" else [text]


def _tool_use(used: Used) -> Json:
    return {
        "type": "tool_use",
        "id": f"toolu_{used.id}",
        "name": used.name,
        "input": used.arguments,
    }


def _message(answer: Answer) -> Json:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
    }


def _stop(answer: Answer) -> Json:
    stop: Json = {"stop_reason": _STOP[answer.outcome], "stop_sequence": None}
    if answer.outcome == "filtered":
        stop["stop_details"] = {"type": "refusal", "category": None, "explanation": None}
    return stop


def _usage(answer: Answer, output_tokens: int) -> Json:
    return {
        "input_tokens": answer.input_tokens - answer.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cached_tokens,
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _event(event: str, **data: object) -> bytes:
    return f"event: {event}\ndata: ".encode() + dump({"type": event, **data}) + b"\n\n"
