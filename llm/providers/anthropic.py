"""Anthropic's messages, and servers that speak its protocol (`base_url`), through its SDK."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from core.errors import ContentBlocked
from core.types import ProviderReply, StopReason, Usage
from llm.providers.anthropic_errors import RULES, refusal_of
from llm.providers.base import ProviderCall
from llm.providers.headers import anthropic_quotas
from llm.providers.sdk import SdkAdapter
from llm.providers.translate import Answer, Refusal, clean, count, failure, nonsense, objects
from llm.providers.turns import system_of, turns_of

if TYPE_CHECKING:
    import anthropic
    import httpx2

OFFICIAL = "https://api.anthropic.com"

# The SDK's own version of the API, 2026-10-21, refuses a temperature for any model.
VERSION_WITH_TEMPERATURE = "2023-06-01"
MOST_TEMPERATURE = 1.0

# Claude took a temperature up to 4.6; 4.7 and the fifth generation refuse one in every version.
_WITH_TEMPERATURE = re.compile(r"claude-(?:[23]|instant|[a-z]+-4(?:-[0-6](?!\d)|-\d{8}|@|$))")
_STOP: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class AnthropicAdapter(SdkAdapter["anthropic.Anthropic"]):
    """Messages.

    A temperature above 1 is sent as 1, and only to models that take one: Claude up to 4.6, in the
    API version that still allowed it, and what is not a Claude (`base_url`).

    Example:
        reply = AnthropicAdapter().send(call)
    """

    rules: ClassVar = RULES

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

        messages: Any = [{"role": turn.role, "content": turn.content} for turn in turns_of(call)]
        try:
            response = client.messages.with_raw_response.create(
                model=call.model,
                messages=messages,
                max_tokens=call.max_output_tokens,
                timeout=call.timeout,
                **_options(call),
            )
        except anthropic.APIStatusError as error:
            return Answer.of(error.response)
        return Answer.of(response.http_response)

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
        )


def _options(call: ProviderCall) -> dict[str, Any]:
    options: dict[str, Any] = {}
    system = system_of(call)
    if system:
        options["system"] = system
    takes_one = "claude" not in call.model or _WITH_TEMPERATURE.search(call.model)
    if call.temperature is not None and takes_one:
        options["extra_headers"] = {"anthropic-version": VERSION_WITH_TEMPERATURE}
        options["extra_body"] = {"temperature": min(call.temperature, MOST_TEMPERATURE)}
    return options


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
