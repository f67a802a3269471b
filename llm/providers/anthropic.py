"""Anthropic's messages, and servers that speak its protocol (`base_url`), through its SDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from core.content import ToolCall
from core.errors import ContentBlocked
from core.types import ProviderReply, StopReason, Usage
from llm.providers.abilities import Ability, abilities_of
from llm.providers.anthropic_errors import RULES, refusal_of
from llm.providers.anthropic_requests import body_of, headers_of
from llm.providers.anthropic_stream import AnthropicAssembler
from llm.providers.arriving import Assembler
from llm.providers.base import ProviderCall
from llm.providers.headers import anthropic_quotas
from llm.providers.loading import Loading
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

PATH = "/v1/messages"

_ClientT = TypeVar("_ClientT", "anthropic.Anthropic", "anthropic.AsyncAnthropic")
_STOP: dict[str, StopReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class AnthropicAdapter(SdkAdapter["anthropic.Anthropic", "anthropic.AsyncAnthropic"]):
    """Messages.

    Example:
        reply = AnthropicAdapter().send(call)
    """

    rules: ClassVar = RULES
    sdk: ClassVar = Loading("anthropic")

    def abilities(self, model: str, base_url: str | None) -> frozenset[Ability]:
        """What is known of a model; see `llm/providers/abilities.py`."""
        return abilities_of("anthropic", model, base_url)

    def _connect(self, call: ProviderCall, http: httpx2.Client) -> anthropic.Anthropic:
        import anthropic

        return _deaf(anthropic.Anthropic(**_settings(call), http_client=http))

    def _connect_async(
        self, call: ProviderCall, http: httpx2.AsyncClient
    ) -> anthropic.AsyncAnthropic:
        import anthropic

        return _deaf(anthropic.AsyncAnthropic(**_settings(call), http_client=http))

    # Its `messages.create` does not know a temperature any more, and walks all types.

    def _ask(self, client: anthropic.Anthropic, call: ProviderCall) -> Answer:
        import httpx2

        options = _options(call, call.timeout)
        return Answer.of(
            client.post(PATH, body=body_of(call), options=options, cast_to=httpx2.Response)
        )

    async def _ask_async(self, client: anthropic.AsyncAnthropic, call: ProviderCall) -> Answer:
        import httpx2

        from llm.providers.async_transport import attempt_timeout

        options = _options(call, attempt_timeout())
        return Answer.of(
            await client.post(PATH, body=body_of(call), options=options, cast_to=httpx2.Response)
        )

    def _open(self, client: anthropic.Anthropic, call: ProviderCall) -> httpx2.Response:
        import anthropic
        import httpx2

        opened: Any = client.post(
            PATH,
            body={**body_of(call), "stream": True},
            options=_options(call, call.timeout),
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=anthropic.Stream[Any],
        )
        response: httpx2.Response = opened
        return response

    async def _open_async(
        self, client: anthropic.AsyncAnthropic, call: ProviderCall
    ) -> httpx2.Response:
        import anthropic
        import httpx2

        from llm.providers.async_transport import attempt_timeout

        opened: Any = await client.post(
            PATH,
            body={**body_of(call), "stream": True},
            options=_options(call, attempt_timeout()),
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=anthropic.AsyncStream[Any],
        )
        response: httpx2.Response = opened
        return response

    def _answer_in(self, error: Exception) -> Answer | None:
        import anthropic

        return Answer.of(error.response) if isinstance(error, anthropic.APIStatusError) else None

    def _refusal(self, answer: Answer) -> Refusal:
        return refusal_of(answer)

    def read(self, call: ProviderCall, answer: Answer) -> ProviderReply:
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

    def usage_in(self, body: dict[str, Any]) -> Usage | None:
        return _usage(body.get("usage"))

    def assembler(self, call: ProviderCall) -> Assembler:
        return AnthropicAssembler(call)


def _settings(call: ProviderCall) -> dict[str, Any]:
    return {
        "api_key": call.secret.get_secret_value(),
        "base_url": call.base_url or OFFICIAL,
        "max_retries": 0,
        # Traces are the observability room's; these would cost 0.1 ms and can hold prompts.
        "open_telemetry": False,
    }


def _deaf(client: _ClientT) -> _ClientT:
    # ANTHROPIC_CUSTOM_HEADERS could replace the key.
    client._custom_headers = {}
    return client


def _options(call: ProviderCall, timeout: float | httpx2.Timeout) -> Any:
    return {"timeout": timeout, "headers": headers_of(call)}


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
