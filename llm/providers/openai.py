"""OpenAI, and every server that speaks its protocol (`base_url`), through OpenAI's SDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from core.content import ToolCall
from core.errors import ContentBlocked
from core.types import EmbeddingReply, ProviderReply, StopReason, Usage
from llm.providers.abilities import Ability, abilities_of
from llm.providers.arriving import Assembler
from llm.providers.base import EmbeddingCall, ProviderCall
from llm.providers.embedding_limits import EmbeddingLimits, embedding_limits
from llm.providers.headers import openai_quotas
from llm.providers.loading import Loading
from llm.providers.openai_embeddings import embedding_body_of, read_embeddings
from llm.providers.openai_errors import RULES, filtered, refusal_of
from llm.providers.openai_requests import OFFICIAL, body_of
from llm.providers.openai_stream import OpenAIAssembler, late_refusal
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
    import httpx2
    import openai

PATH = "/chat/completions"
EMBEDDINGS_PATH = "/embeddings"

_ClientT = TypeVar("_ClientT", "openai.OpenAI", "openai.AsyncOpenAI")
_STOP: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class OpenAIAdapter(SdkAdapter["openai.OpenAI", "openai.AsyncOpenAI"]):
    """Chat completions.

    Example:
        reply = OpenAIAdapter().send(call)
    """

    rules: ClassVar = RULES
    sdk: ClassVar = Loading("openai")

    def abilities(self, model: str, base_url: str | None) -> frozenset[Ability]:
        """What is known of a model; see `llm/providers/abilities.py`."""
        return abilities_of("openai", model, base_url)

    def embed(self, call: EmbeddingCall) -> EmbeddingReply:
        """Ask for vectors, as `send` asks for an answer."""
        return read_embeddings(call, self._answer(call, self._ask_embeddings))

    async def aembed(self, call: EmbeddingCall) -> EmbeddingReply:
        """`embed` for a task; cancelling it closes the provider's connection."""
        return read_embeddings(call, await self._answer_async(call, self._ask_embeddings_async))

    def embedding_limits(self, base_url: str | None) -> EmbeddingLimits:
        """What is known of an address; see `llm/providers/embedding_limits.py`."""
        return embedding_limits("openai", base_url)

    def _connect(self, call: ProviderCall, http: httpx2.Client) -> openai.OpenAI:
        import openai

        return _deaf(openai.OpenAI(**_settings(call), http_client=http))

    def _connect_async(self, call: ProviderCall, http: httpx2.AsyncClient) -> openai.AsyncOpenAI:
        import openai

        return _deaf(openai.AsyncOpenAI(**_settings(call), http_client=http))

    # The SDK's documented way for requests of one's own. `chat.completions.create` walks its forty
    # parameters' types to rename what needs no renaming: half a millisecond.

    def _ask(self, client: openai.OpenAI, call: ProviderCall) -> Answer:
        return self._post(client, PATH, body_of(call), call)

    def _ask_embeddings(self, client: openai.OpenAI, call: EmbeddingCall) -> Answer:
        return self._post(client, EMBEDDINGS_PATH, embedding_body_of(call), call)

    def _post(
        self, client: openai.OpenAI, path: str, body: dict[str, Any], call: ProviderCall
    ) -> Answer:
        import httpx2

        options = _options(call.timeout)
        return Answer.of(client.post(path, body=body, options=options, cast_to=httpx2.Response))

    async def _ask_async(self, client: openai.AsyncOpenAI, call: ProviderCall) -> Answer:
        return await self._post_async(client, PATH, body_of(call))

    async def _ask_embeddings_async(
        self, client: openai.AsyncOpenAI, call: EmbeddingCall
    ) -> Answer:
        return await self._post_async(client, EMBEDDINGS_PATH, embedding_body_of(call))

    async def _post_async(
        self, client: openai.AsyncOpenAI, path: str, body: dict[str, Any]
    ) -> Answer:
        import httpx2

        from llm.providers.async_transport import attempt_timeout

        options = _options(attempt_timeout())
        return Answer.of(
            await client.post(path, body=body, options=options, cast_to=httpx2.Response)
        )

    def _open(self, client: openai.OpenAI, call: ProviderCall) -> httpx2.Response:
        import httpx2
        import openai

        opened: Any = client.post(
            PATH,
            body=_streaming(call),
            options=_options(call.timeout),
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=openai.Stream[Any],
        )
        response: httpx2.Response = opened
        return response

    async def _open_async(self, client: openai.AsyncOpenAI, call: ProviderCall) -> httpx2.Response:
        import httpx2
        import openai

        from llm.providers.async_transport import attempt_timeout

        opened: Any = await client.post(
            PATH,
            body=_streaming(call),
            options=_options(attempt_timeout()),
            cast_to=httpx2.Response,
            stream=True,
            stream_cls=openai.AsyncStream[Any],
        )
        response: httpx2.Response = opened
        return response

    def _answer_in(self, error: Exception) -> Answer | None:
        import openai

        return Answer.of(error.response) if isinstance(error, openai.APIStatusError) else None

    def _refusal(self, answer: Answer) -> Refusal:
        return refusal_of(answer)

    def read(self, call: ProviderCall, answer: Answer) -> ProviderReply:
        body = answer.json()
        if not isinstance(body, dict):
            raise nonsense(call, answer, "no JSON object")
        choices = objects(body.get("choices"))
        if not choices and isinstance(body.get("error"), dict):
            raise failure(call, late_refusal(body["error"]), RULES)
        choice = choices[0] if choices else {}
        message = choice.get("message")
        if not isinstance(message, dict):
            raise nonsense(call, answer, "no choices")
        _check_filters(call, choice, message, _usage(body.get("usage")))
        if "content" not in message and not message.get("tool_calls"):
            raise nonsense(call, answer, "no content")
        model = body.get("model")
        return ProviderReply(
            content=clean(_text(message.get("content"))),
            model=model if isinstance(model, str) and model else call.model,
            stop_reason=_STOP.get(str(choice.get("finish_reason")), "other"),
            usage=_usage(body.get("usage")),
            quotas=openai_quotas(answer.headers),
            tool_calls=_tool_calls(message.get("tool_calls")),
        )

    def usage_in(self, body: dict[str, Any]) -> Usage | None:
        return _usage(body.get("usage"))

    def assembler(self, call: ProviderCall) -> Assembler:
        return OpenAIAssembler(call)


def _settings(call: ProviderCall) -> dict[str, Any]:
    return {
        "api_key": call.secret.get_secret_value(),
        "base_url": call.base_url or OFFICIAL,
        "max_retries": 0,
    }


def _deaf(client: _ClientT) -> _ClientT:
    # OPENAI_ORG_ID and its like are of another account; None as an argument reads them.
    client.organization = client.project = client.admin_api_key = None
    client._custom_headers = {}
    return client


def _options(timeout: float | httpx2.Timeout) -> Any:
    return {"timeout": timeout, "security": {"bearer_auth": True}}


def _streaming(call: ProviderCall) -> dict[str, Any]:
    return {**body_of(call), "stream": True, "stream_options": {"include_usage": True}}


def _check_filters(
    call: ProviderCall, choice: dict[str, Any], message: dict[str, Any], usage: Usage | None
) -> None:
    refusal = message.get("refusal")
    if choice.get("finish_reason") == "content_filter":
        reasons = filtered(choice.get("content_filter_results")) or ("content_filter",)
    elif isinstance(refusal, str) and refusal and not message.get("content"):
        reasons = ("refusal",)
    else:
        return
    raise ContentBlocked(
        f"{call.provider}: the answer was withheld: {', '.join(reasons)}",
        provider=call.provider,
        reasons=reasons,
        status=200,
        code=reasons[0],
        usage=usage,
    )


def _text(content: object) -> str:
    """The text of a content: a string, or the parts that some compatible servers send."""
    if isinstance(content, list):
        texts = (part.get("text") for part in objects(content))
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _tool_calls(calls: object) -> tuple[ToolCall, ...]:
    found = []
    for call in objects(calls):
        function = call.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            continue
        arguments = function.get("arguments")
        if isinstance(arguments, dict):  # as some compatible servers send them
            arguments = json.dumps(arguments)
        extra = call.get("extra_content")
        google = extra.get("google") if isinstance(extra, dict) else None
        signature = google.get("thought_signature") if isinstance(google, dict) else None
        found.append(
            ToolCall(
                id=str(call.get("id") or new_call_id()),
                name=clean(function["name"]),
                arguments=clean(arguments) if isinstance(arguments, str) else "{}",
                signature=signature if isinstance(signature, str) else None,
            )
        )
    return tuple(found)


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    read, written = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    if read is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(read, written or 0, cached or 0)
