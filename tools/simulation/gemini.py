"""Gemini's dialect: `/v1beta/models/{model}:generateContent` and its neighbours.

`tpm` counts input alone. There are no rate-limit headers: a refusal tells its limit in the body,
as `QuotaFailure.quotaId` and `RetryInfo.retryDelay`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from aiohttp import web

from tools.simulation.asking import Json
from tools.simulation.calls import (
    Answer,
    Call,
    Dialect,
    Operation,
    dump,
    texts_in,
)
from tools.simulation.embeddings import DIMENSIONS, embed
from tools.simulation.errors import Facts, Row
from tools.simulation.faulty import InvalidRequest
from tools.simulation.formats import plain_seconds
from tools.simulation.gemini_checks import SIGNED, check, check_batch
from tools.simulation.quotas import Quota

_RPC = "type.googleapis.com/google.rpc."
_FINISH = {"stop": "STOP", "called": "STOP", "length": "MAX_TOKENS", "filtered": "SAFETY"}
_RATING = {
    "category": "HARM_CATEGORY_DANGEROUS_CONTENT",
    "probability": "HIGH",
    "blocked": True,
}


class Gemini(Dialect):
    """Content, embeddings and token counts as Google's Gemini API sends them."""

    protocol = "gemini"
    limit_rows: ClassVar = {
        "rpm": "RESOURCE_EXHAUSTED_PER_MINUTE",
        "rpd": "RESOURCE_EXHAUSTED_PER_DAY",
        "max_parallel": "RESOURCE_EXHAUSTED",
        "tpm": "RESOURCE_EXHAUSTED_TOKENS",
        "itpm": "RESOURCE_EXHAUSTED_TOKENS",
        "otpm": "RESOURCE_EXHAUSTED",
    }
    limit_words: ClassVar = {
        "rpm": "generate_content_free_tier_requests",
        "rpd": "generate_content_free_tier_requests",
        "max_parallel": "concurrent_requests",
        "tpm": "generate_content_free_tier_input_token_count",
        "itpm": "generate_content_free_tier_input_token_count",
        "otpm": "generate_content_free_tier_output_token_count",
    }
    revoked_row = "API_KEY_INVALID"
    invalid_row = "INVALID_ARGUMENT"
    context_row = "CONTEXT_TOO_LONG"

    def secret(self, request: web.Request) -> str | None:
        return request.headers.get("x-goog-api-key") or request.query.get("key") or None

    def parse(self, operation: Operation, body: Json, request: web.Request) -> Call:
        model, _, method = request.match_info["target"].rpartition(":")
        if operation == "embed":
            asked = body.get("requests") or [body]
            check_batch(asked)
            texts = [" ".join(texts_in([each.get("content")], "parts")) for each in asked]
            options = {**asked[0], "batch": method == "batchEmbedContents"}
            return Call("embed", model, texts, options=options)
        body = body.get("generateContentRequest", body)
        contents = body.get("contents")
        if not isinstance(contents, list) or not contents:
            raise InvalidRequest(
                "* GenerateContentRequest.contents: contents is not specified\n", "contents"
            )
        config = body.get("generationConfig") or {}
        return Call(
            operation,
            model,
            texts_in([body.get("systemInstruction"), *contents], "parts"),
            messages=len(contents),
            asked=check(body, model),
            max_tokens=config.get("maxOutputTokens"),
            stream=method == "streamGenerateContent",
            as_array=request.query.get("alt") != "sse",
        )

    def charged_tokens(self, call: Call, input_tokens: int, rule: str) -> int:
        return input_tokens

    def reply(self, call: Call, answer: Answer) -> Json:
        if call.operation == "count":
            return {"totalTokens": answer.input_tokens}
        if call.operation == "embed":
            dimensions = call.options.get("outputDimensionality") or DIMENSIONS
            vectors = [{"values": embed(text, dimensions)} for text in call.texts]
            return {"embeddings": vectors} if call.options["batch"] else {"embedding": vectors[0]}
        return _response(answer, answer.text, answer.output_tokens, last=True)

    def stream(self, call: Call, answer: Answer, tokens: int) -> Iterator[tuple[bytes, int]]:
        responses: list[tuple[Json, int]] = []
        if answer.outcome in ("filtered", "prompt_blocked", "called"):
            produced = answer.output_tokens if answer.outcome == "called" else 0
            responses.append((self.reply(call, answer), produced))
        else:
            so_far, pieces = 0, list(answer.pieces(tokens))
            for index, (piece, produced) in enumerate(pieces):
                so_far += produced
                last = index == len(pieces) - 1
                responses.append((_response(answer, piece, so_far, last), produced))
        for index, (response, produced) in enumerate(responses):
            if call.as_array:
                before = b"[" if index == 0 else b",\r\n"
                after = b"]" if index == len(responses) - 1 else b""
                yield before + dump(response) + after, produced
            else:
                yield b"data: " + dump(response) + b"\r\n\r\n", produced

    def headers(self, quota: Quota | None, now: float, request_id: str) -> dict[str, str]:
        return {"server-timing": "gfet4t7; dur=1"}

    def error(self, row: Row, facts: Facts, request_id: str) -> Json:
        message = facts.fill(row.message)
        error: Json = {"code": row.status, "message": message, "status": row.type}
        if row.code == "API_KEY_INVALID":
            info = {"reason": row.code, "domain": "googleapis.com"}
            service = {"service": "generativelanguage.googleapis.com"}
            error["details"] = [
                {"@type": _RPC + "ErrorInfo", **info, "metadata": service},
                {"@type": _RPC + "LocalizedMessage", "locale": "en-US", "message": message},
            ]
        elif row.code is not None:
            error["details"] = _exhausted(row.code, facts)
        return {"error": error}


def _exhausted(quota_id: str, facts: Facts) -> list[Json]:
    violation = {
        "quotaMetric": f"generativelanguage.googleapis.com/{facts.what}",
        "quotaId": quota_id,
        "quotaDimensions": {"location": "global", "model": facts.model},
        "quotaValue": str(facts.limit),
    }
    link = {
        "description": "Learn more about Gemini API quotas",
        "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
    }
    details: list[Json] = [
        {"@type": _RPC + "QuotaFailure", "violations": [violation]},
        {"@type": _RPC + "Help", "links": [link]},
    ]
    if math.isfinite(facts.wait):
        delay = plain_seconds(facts.wait, fine=facts.fine) + "s"
        details.append({"@type": _RPC + "RetryInfo", "retryDelay": delay})
    return details


def _parts(answer: Answer, text: str) -> list[Json]:
    if not answer.used:
        return [{"text": text}]
    parts: list[Json] = []
    for used in answer.used:
        call = {"id": used.id, "name": used.name, "args": used.arguments}
        parts.append({"functionCall": call})
    if SIGNED.match(answer.model):
        parts[0]["thoughtSignature"] = f"c2lnbmVk{answer.id[-4:]}"
    return parts


def _response(answer: Answer, text: str, output_tokens: int, last: bool) -> Json:
    usage: Json = {
        "promptTokenCount": answer.input_tokens,
        "totalTokenCount": answer.input_tokens + output_tokens,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": answer.input_tokens}],
    }
    if answer.cached_tokens:
        usage["cachedContentTokenCount"] = answer.cached_tokens
    response: Json = {
        "usageMetadata": usage,
        "modelVersion": answer.model,
        "responseId": answer.id,
    }
    if answer.outcome == "prompt_blocked":
        return {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": [_RATING]}, **response}
    candidate: Json = {"index": 0}
    if answer.outcome == "filtered":
        candidate |= {"finishReason": "SAFETY", "safetyRatings": [_RATING]}
    else:
        usage["candidatesTokenCount"] = output_tokens
        candidate["content"] = {"parts": _parts(answer, text), "role": "model"}
        if last:
            candidate["finishReason"] = _FINISH[answer.outcome]
    return {"candidates": [candidate], **response}
