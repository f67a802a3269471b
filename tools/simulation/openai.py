"""OpenAI's dialect: `/v1/chat/completions`, `/v1/embeddings`.

`tpm` charges max(max_tokens, the estimated input) when the call is admitted, and nothing is given
back; with the key's `token_rule: sum` it charges both, as Azure OpenAI does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from aiohttp import web

from tools.simulation.asking import Json, Used
from tools.simulation.calls import (
    Answer,
    Call,
    Dialect,
    Operation,
    count_tokens,
    dump,
    texts_in,
)
from tools.simulation.embeddings import DIMENSIONS, as_base64, embed
from tools.simulation.errors import Facts, Row
from tools.simulation.faulty import InvalidRequest
from tools.simulation.formats import go_duration, plain_seconds
from tools.simulation.limits import left
from tools.simulation.openai_checks import check, check_texts
from tools.simulation.quotas import Quota, Refusal

_FINISH = {"stop": "stop", "called": "tool_calls", "length": "length", "filtered": "content_filter"}


class OpenAI(Dialect):
    """Chat completions and embeddings as OpenAI sends them."""

    protocol = "openai"
    limit_rows: ClassVar = {
        "rpm": "rate_limit_exceeded",
        "rpd": "rate_limit_exceeded",
        "max_parallel": "rate_limit_exceeded",
        "tpm": "rate_limit_exceeded_tokens",
        "itpm": "rate_limit_exceeded_tokens",
        "otpm": "rate_limit_exceeded_tokens",
    }
    limit_words: ClassVar = {
        "rpm": "requests per min (RPM)",
        "rpd": "requests per day (RPD)",
        "max_parallel": "concurrent requests",
        "tpm": "tokens per min (TPM)",
        "itpm": "input tokens per min",
        "otpm": "output tokens per min",
    }
    revoked_row = "invalid_api_key"
    invalid_row = "invalid_request"
    context_row = "context_length_exceeded"

    def secret(self, request: web.Request) -> str | None:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        return (secret if scheme == "Bearer" else request.headers.get("api-key")) or None

    def parse(self, operation: Operation, body: Json, request: web.Request) -> Call:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise InvalidRequest("you must provide a model parameter", "model")
        if operation == "embed":
            given = body.get("input")
            inputs = [given] if isinstance(given, str) else given
            if not isinstance(inputs, list) or not inputs:
                raise InvalidRequest("Missing required parameter: 'input'.", "input")
            texts = [str(text) for text in inputs]
            check_texts(inputs, count_tokens(sum(map(len, texts)), 4.0))
            return Call("embed", model, texts, options=body)
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise InvalidRequest("Missing required parameter: 'messages'.", "messages")
        texts = texts_in(messages, "content")
        max_tokens = body.get("max_completion_tokens") or body.get("max_tokens")
        if max_tokens is not None and (not isinstance(max_tokens, int) or max_tokens < 1):
            raise InvalidRequest("Invalid 'max_tokens': must be a positive integer.", "max_tokens")
        return Call(
            "chat",
            model,
            texts,
            messages=len(messages),
            max_tokens=max_tokens,
            stream=bool(body.get("stream")),
            asked=check(body),
            include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )

    def charged_tokens(self, call: Call, input_tokens: int, rule: str) -> int:
        most = call.max_tokens or 0
        return input_tokens + most if rule == "sum" else max(input_tokens, most)

    def reply(self, call: Call, answer: Answer) -> Json:
        if call.operation == "embed":
            return self._embeddings(call, answer)
        withheld = answer.outcome == "filtered"
        message: Json = {
            "role": "assistant",
            "content": None if withheld else answer.text,
            "refusal": None,
            "annotations": [],
        }
        if answer.used:
            message |= {"content": None, "tool_calls": [_tool_call(used) for used in answer.used]}
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": _FINISH[answer.outcome],
        }
        return {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion",
            "created": answer.created,
            "model": answer.model,
            "choices": [choice],
            "usage": _usage(answer),
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }

    def stream(self, call: Call, answer: Answer, tokens: int) -> Iterator[tuple[bytes, int]]:
        def event(delta: Json, finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
            return _event({**head, "choices": [choice]})

        head: Json = {
            "id": f"chatcmpl-{answer.id}",
            "object": "chat.completion.chunk",
            "created": answer.created,
            "model": answer.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulated",
        }
        if call.include_usage:
            head["usage"] = None
        yield event({"role": "assistant", "content": "", "refusal": None}), 0
        if answer.outcome not in ("filtered", "called"):
            for piece, produced in answer.pieces(tokens):
                yield event({"content": piece}), produced
        for index, used in enumerate(answer.used):
            call_of = _tool_call(used)
            whole = call_of["function"]["arguments"]
            call_of["function"] = {"name": used.name, "arguments": ""}
            yield event({"tool_calls": [{"index": index, **call_of}]}), 0
            for piece in (whole[: len(whole) // 2], whole[len(whole) // 2 :]):
                arguments = {"index": index, "function": {"arguments": piece}}
                yield event({"tool_calls": [arguments]}), 0
        yield event({}, _FINISH[answer.outcome]), 0
        if call.include_usage:
            yield _event({**head, "choices": [], "usage": _usage(answer)}), 0
        yield b"data: [DONE]\n\n", 0

    def headers(self, quota: Quota | None, now: float, request_id: str) -> dict[str, str]:
        headers = {
            "x-request-id": request_id,
            "openai-organization": "org-simulated",
            "openai-version": "2020-10-01",
            "openai-processing-ms": "1",
        }
        if quota is None:
            return headers
        meters = quota.meters
        requests = meters["rpm"].window or ("rpd" in meters and meters["rpd"].window)
        for word, window in (("requests", requests), ("tokens", meters["tpm"].window)):
            if window:
                headers[f"x-ratelimit-limit-{word}"] = str(window.limit)
                headers[f"x-ratelimit-remaining-{word}"] = str(left(window, now))
                headers[f"x-ratelimit-reset-{word}"] = go_duration(window.reset(now))
        return headers

    def retry_headers(self, seconds: float, fine: bool) -> dict[str, str]:
        return {
            "retry-after": plain_seconds(seconds, fine=fine),
            "retry-after-ms": str(max(1, math.ceil(seconds * 1000))),
        }

    def refusal_row(self, refusal: Refusal) -> str:
        if refusal.name in ("tpm", "itpm") and refusal.requested > refusal.limit:
            return "request_exceeds_limit"
        return super().refusal_row(refusal)

    def error(self, row: Row, facts: Facts, request_id: str) -> Json:
        return {
            "error": {
                "message": facts.fill(row.message),
                "type": row.type,
                "param": row.param or facts.param,
                "code": row.code,
            }
        }

    def _embeddings(self, call: Call, answer: Answer) -> Json:
        dimensions = call.options.get("dimensions") or DIMENSIONS
        encode = as_base64 if call.options.get("encoding_format") == "base64" else list
        data = [
            {"object": "embedding", "index": index, "embedding": encode(embed(text, dimensions))}
            for index, text in enumerate(call.texts)
        ]
        usage = {"prompt_tokens": answer.input_tokens, "total_tokens": answer.input_tokens}
        return {"object": "list", "data": data, "model": answer.model, "usage": usage}


def _tool_call(used: Used) -> Json:
    function = {"name": used.name, "arguments": used.text}
    return {"id": f"call_{used.id}", "type": "function", "function": function}


def _event(data: Json) -> bytes:
    return b"data: " + dump(data) + b"\n\n"


def _usage(answer: Answer) -> Json:
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.input_tokens + answer.output_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
