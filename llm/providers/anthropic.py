"""Anthropic's messages, and servers that speak its protocol (`base_url`), through its SDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from core.content import ToolCall
from core.errors import ContentBlocked
from core.types import ProviderReply, StopReason, Usage
from llm.providers.abilities import Ability, abilities_of
from llm.providers.anthropic_errors import RULES, refusal_of
from llm.providers.anthropic_requests import body_of, headers_of
from llm.providers.base import ProviderCall
from llm.providers.headers import anthropic_quotas
from llm.providers.sdk import SdkAdapter
from llm.providers.translate import (
    Answer,
    Refusal,
    clean,
    count,
    failure,
    new_call_id,
    nonsense,
    objects,
)

if TYPE_CHECKING:
    import anthropic
    import httpx2

OFFICIAL = "https://api.anthropic.com"

_STOP: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class AnthropicAdapter(SdkAdapter["anthropic.Anthropic"]):
    """Messages.

    Example:
        reply = AnthropicAdapter().send(call)
    """

    rules: ClassVar = RULES

    def abilities(self, model: str, base_url: str | None) -> frozenset[Ability]:
        """What is known of a model; see `llm/providers/abilities.py`."""
        return abilities_of("anthropic", model, base_url)

    def _connect(self, call: ProviderCall, http: httpx2.Client) -> anthropic.Anthropic:
        import anthropic

        client = anthropic.Anthropic(
            api_key=call.secret.get_secret_value(),
            base_url=call.base_url or OFFICIAL,
            max_retries=0,
            http_client=http,
            # Traces are the observability room's; these would cost 0.1 ms and can hold prompts.
            open_telemetry=False,
        )
        # ANTHROPIC_CUSTOM_HEADERS could replace the key.
        client._custom_headers = {}
        return client

    def _ask(self, client: anthropic.Anthropic, call: ProviderCall) -> Answer:
        import anthropic
        import httpx2

        try:
            # Its `messages.create` does not know a temperature any more, and walks all types.
            response = client.post(
                "/v1/messages",
                body=body_of(call),
                options={"timeout": call.timeout, "headers": headers_of(call)},
                cast_to=httpx2.Response,
            )
        except anthropic.APIStatusError as error:
            return Answer.of(error.response)
        return Answer.of(response)

    def _refusal(self, answer: Answer) -> Refusal:
        return refusal_of(answer)

    def _read(self, call: ProviderCall, answer: Answer) -> ProviderReply:
        body = answer.json()
        if not isinstance(body, dict):
            raise nonsense(call, answer, "no JSON object")
        if isinstance(body.get("error"), dict):
            raise failure(call, refusal_of(answer), RULES)
        blocks = body.get("content")
        if not isinstance(blocks, list):
            raise nonsense(call, answer, "no content")
        _check_refusal(call, body)
        texts = [block.get("text") for block in objects(blocks) if block.get("type") == "text"]
        model = body.get("model")
        return ProviderReply(
            content=clean("".join(text for text in texts if isinstance(text, str))),
            model=model if isinstance(model, str) and model else call.model,
            stop_reason=_STOP.get(str(body.get("stop_reason")), "other"),
            usage=_usage(body.get("usage")),
            quotas=anthropic_quotas(answer.headers),
            tool_calls=_tool_calls(blocks),
        )


def _tool_calls(blocks: object) -> tuple[ToolCall, ...]:
    asked = (block for block in objects(blocks) if block.get("type") == "tool_use")
    return tuple(
        ToolCall(
            id=str(block.get("id") or new_call_id()),
            name=clean(str(block.get("name"))),
            arguments=clean(json.dumps(block.get("input") or {}, ensure_ascii=False)),
        )
        for block in asked
    )


def _check_refusal(call: ProviderCall, body: dict[str, Any]) -> None:
    if body.get("stop_reason") != "refusal":
        return
    details = body.get("stop_details")
    category = details.get("category") if isinstance(details, dict) else None
    reason = category if isinstance(category, str) and category else "refusal"
    raise ContentBlocked(
        f"{call.provider}: the answer was withheld: {reason}",
        provider=call.provider,
        reasons=(reason,),
        status=200,
        code="refusal",
        usage=_usage(body.get("usage")),
    )


def _usage(usage: Any) -> Usage | None:
    """Anthropic's `input_tokens` leaves out what the cache was read for or written to."""
    if not isinstance(usage, dict):
        return None
    fresh, written = count(usage.get("input_tokens")), count(usage.get("output_tokens"))
    if fresh is None:
        return None
    cached = count(usage.get("cache_read_input_tokens")) or 0
    stored = count(usage.get("cache_creation_input_tokens")) or 0
    return Usage(fresh + cached + stored, written or 0, cached)
