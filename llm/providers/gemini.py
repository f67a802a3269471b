"""Google's Gemini API, and servers that speak its protocol (`base_url`), through `google-genai`."""

from __future__ import annotations

import json
import math
import ssl
from typing import TYPE_CHECKING, Any, ClassVar

from core.content import ToolCall
from core.errors import AuthenticationFailed, ContentBlocked
from core.types import EmbeddingReply, ProviderReply, StopReason, Usage
from llm.providers.abilities import Ability, abilities_of
from llm.providers.arriving import Assembler
from llm.providers.base import EmbeddingCall, ProviderCall
from llm.providers.embedding_limits import EmbeddingLimits, embedding_limits
from llm.providers.gemini_embeddings import embedding_body_of, read_embeddings
from llm.providers.gemini_errors import RULES, refusal_of
from llm.providers.gemini_requests import body_of
from llm.providers.gemini_stream import GeminiAssembler
from llm.providers.loading import Loading
from llm.providers.sdk import SdkAdapter
from llm.providers.translate import (
    Answer,
    Refusal,
    clean,
    count,
    new_call_id,
    nonsense,
    objects,
)

if TYPE_CHECKING:
    import httpx2
    from google import genai
    from google.genai import types

OFFICIAL = "https://generativelanguage.googleapis.com"
API_VERSION = "v1beta"

# "Manually set deadline 5s is too short. Minimum allowed deadline is 10s." (livekit/agents#3723)
LEAST_SERVER_TIMEOUT = 10

# The SDK wants contents; those of `extra_body` take their place.
REPLACED = "-"
UNREADABLE = "an error whose body cannot be read"

_STOP: dict[str, StopReason] = {"STOP": "stop", "MAX_TOKENS": "length", "CONTINUATION": "length"}
_BLOCKED = frozenset({
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "ESCALATION",
    "MODEL_ARMOR", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
})  # fmt: skip
_ACCOUNT_LIMITED = "PUP_LIMITED_DISABLED"


class GeminiAdapter(SdkAdapter["genai.Client", "genai.Client"]):
    """`generateContent`. What a model thinks is counted as its output, but is no content.

    The SDK would retry, call functions and fetch the rest of a long answer on its own, each with
    requests that nobody reserved: all three are off.

    Example:
        reply = GeminiAdapter().send(call)
    """

    rules: ClassVar = RULES
    sdk: ClassVar = Loading("google.genai", "google.genai.types")

    def abilities(self, model: str, base_url: str | None) -> frozenset[Ability]:
        """What is known of a model; see `llm/providers/abilities.py`."""
        return abilities_of("gemini", model, base_url)

    def embed(self, call: EmbeddingCall) -> EmbeddingReply:
        """Ask for vectors, as `send` asks for an answer."""
        return read_embeddings(call, self._answer(call, self._ask_embeddings))

    async def aembed(self, call: EmbeddingCall) -> EmbeddingReply:
        """`embed` for a task; cancelling it closes the provider's connection."""
        return read_embeddings(call, await self._answer_async(call, self._ask_embeddings_async))

    def embedding_limits(self, base_url: str | None) -> EmbeddingLimits:
        """What is known of an address; see `llm/providers/embedding_limits.py`."""
        return embedding_limits("gemini", base_url)

    def _connect(self, call: ProviderCall, http: httpx2.Client) -> genai.Client:
        import httpx2

        unused = _trusts_nobody()
        other = httpx2.AsyncClient(verify=unused, trust_env=False)
        return _client(call, http, other, unused)

    def _connect_async(self, call: ProviderCall, http: httpx2.AsyncClient) -> genai.Client:
        import httpx2

        unused = _trusts_nobody()
        return _client(call, httpx2.Client(verify=unused, trust_env=False), http, unused)

    def _ask(self, client: genai.Client, call: ProviderCall) -> Answer:
        return _answer(
            client.models.generate_content(
                model=call.model, contents=REPLACED, config=_config(call)
            )
        )

    async def _ask_async(self, client: genai.Client, call: ProviderCall) -> Answer:
        return _answer(
            await client.aio.models.generate_content(
                model=call.model, contents=REPLACED, config=_config(call)
            )
        )

    # `generate_content_stream` is all that google-genai 3.6 has in public for streams. It gives no
    # response to close: that is left to the collector of its nested generators, and nothing outside
    # can end a silent one. And it makes 150 objects of each chunk. So these send the same request
    # with the SDK's own parts; a test tells when one of their names has gone.

    def _open(self, client: genai.Client, call: ProviderCall) -> httpx2.Response:
        api = client._api_client
        request = api._build_request("post", _path(call), body_of(call), _http_options(call))
        opened: Any = api._request_once(request, stream=True)
        response: httpx2.Response = opened.response_stream
        return response

    async def _open_async(self, client: genai.Client, call: ProviderCall) -> httpx2.Response:
        api = client._api_client
        request = api._build_request("post", _path(call), body_of(call), _http_options(call))
        opened: Any = await api._async_request_once(request, stream=True)
        response: httpx2.Response = opened.response_stream
        return response

    def _answer_in(self, error: Exception) -> Answer | None:
        from google.genai import errors

        if isinstance(error, errors.APIError):
            return Answer.of(error.response)
        if isinstance(error, (UnicodeDecodeError, json.JSONDecodeError, RecursionError)):
            # The SDK trips over such an error's body before it tells the status.
            return Answer(502, {}, UNREADABLE)
        return None

    def _ask_embeddings(self, client: genai.Client, call: EmbeddingCall) -> Answer:
        return _vectors(client.models.embed_content(**_embedding(call)))

    async def _ask_embeddings_async(self, client: genai.Client, call: EmbeddingCall) -> Answer:
        return _vectors(await client.aio.models.embed_content(**_embedding(call)))

    def _refusal(self, answer: Answer) -> Refusal:
        return refusal_of(answer)

    def read(self, call: ProviderCall, answer: Answer) -> ProviderReply:
        body = answer.json()
        if not isinstance(body, dict):
            raise nonsense(call, answer, "no JSON object")
        _check_prompt(call, body)
        candidates = objects(body.get("candidates"))
        if not candidates:
            raise nonsense(call, answer, "no candidates")
        candidate = candidates[0]
        finish = str(candidate.get("finishReason"))
        _check_finish(call, candidate, finish, _usage(body.get("usageMetadata")))
        parts = _parts(candidate.get("content"))
        text = clean("".join(_texts(parts)))
        if not text and finish not in _STOP:
            raise nonsense(call, answer, f"no text (finishReason {finish})")
        calls = _tool_calls(parts)
        model = body.get("modelVersion")
        return ProviderReply(
            content=text,
            model=model if isinstance(model, str) and model else call.model,
            stop_reason="tool_calls" if calls else _STOP.get(finish, "other"),
            usage=_usage(body.get("usageMetadata")),
            tool_calls=calls,
        )

    def usage_in(self, body: dict[str, Any]) -> Usage | None:
        return _usage(body.get("usageMetadata"))

    def assembler(self, call: ProviderCall) -> Assembler:
        return GeminiAssembler(call)


def _trusts_nobody() -> ssl.SSLContext:
    """For the side of a client that is not used: it costs nothing."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _client(
    call: ProviderCall, http: httpx2.Client, async_http: httpx2.AsyncClient, unused: ssl.SSLContext
) -> genai.Client:
    import httpx2
    from google import genai
    from google.genai import types
    from google.genai.client import DebugConfig

    return genai.Client(
        api_key=call.secret.get_secret_value(),
        vertexai=False,
        debug_config=DebugConfig(client_mode=None, replays_directory=None, replay_id=None),
        http_options=types.HttpOptions(
            # The SDK's own parser complains of a wrong address with a bare ValueError.
            base_url=str(httpx2.URL(call.base_url or OFFICIAL)),
            api_version=API_VERSION,
            retry_options=types.HttpRetryOptions(attempts=1),
            httpx_client=http,
            httpx_async_client=async_http,
            async_client_args={"ssl": unused},
        ),
    )


def _path(call: ProviderCall) -> str:
    model = call.model if "/" in call.model else f"models/{call.model}"
    return f"{model}:streamGenerateContent?alt=sse"


def _config(call: ProviderCall) -> types.GenerateContentConfig:
    from google.genai import types

    return types.GenerateContentConfig(
        should_return_http_response=True,
        automatic_continuation=False,
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        http_options=_http_options(call, extra_body=body_of(call)),
    )


def _http_options(call: ProviderCall, **more: Any) -> types.HttpOptions:
    from google.genai import types

    from llm.providers.transport import LONGEST_SECONDS

    timeout = min(call.timeout, LONGEST_SECONDS)
    server_timeout = max(LEAST_SERVER_TIMEOUT, math.ceil(timeout))
    return types.HttpOptions(
        timeout=max(1, math.ceil(timeout * 1000)),
        headers={"X-Server-Timeout": str(server_timeout)},
        **more,
    )


def _embedding(call: EmbeddingCall) -> dict[str, Any]:
    from google.genai import types

    http = _http_options(call, extra_body=embedding_body_of(call))
    config = types.EmbedContentConfig(http_options=http)
    return {"model": call.model, "contents": REPLACED, "config": config}


def _vectors(response: types.EmbedContentResponse) -> Answer:
    usage = response.usage_metadata
    read = usage.prompt_token_count if usage is not None else None
    vectors = [each.values for each in response.embeddings or ()]
    return Answer(200, {}, json.dumps({"vectors": vectors, "usage": read}))


def _answer(response: Any) -> Answer:
    raw = response.sdk_http_response
    return Answer(200, {}, (raw.body if raw is not None else None) or "")


def _check_prompt(call: ProviderCall, body: dict[str, Any]) -> None:
    feedback = body.get("promptFeedback")
    if isinstance(feedback, dict) and feedback.get("blockReason"):
        reasons = (str(feedback["blockReason"]), *_flagged(feedback.get("safetyRatings")))
        raise _blocked(call, "the prompt was refused", reasons, _usage(body.get("usageMetadata")))


def _check_finish(
    call: ProviderCall, candidate: dict[str, Any], finish: str, usage: Usage | None
) -> None:
    if finish in _BLOCKED:
        reasons = (finish, *_flagged(candidate.get("safetyRatings")))
        raise _blocked(call, "the answer was withheld", reasons, usage)
    if finish == _ACCOUNT_LIMITED:
        raise AuthenticationFailed(
            f"{call.provider}: the account is limited for violations of the use policy",
            provider=call.provider,
            status=200,
            code=finish,
        )


def _blocked(
    call: ProviderCall, what: str, reasons: tuple[str, ...], usage: Usage | None
) -> ContentBlocked:
    return ContentBlocked(
        f"{call.provider}: {what}: {', '.join(reasons)}",
        provider=call.provider,
        reasons=reasons,
        status=200,
        code=reasons[0],
        usage=usage,
    )


def _flagged(ratings: Any) -> list[str]:
    rated = [rating for rating in objects(ratings) if rating.get("blocked") is True]
    return [str(rating.get("category")) for rating in rated]


def _parts(content: Any) -> list[dict[str, Any]]:
    return objects(content.get("parts") if isinstance(content, dict) else None)


def _texts(parts: list[dict[str, Any]]) -> list[str]:
    texts = [part.get("text") for part in parts if not part.get("thought")]
    return [text for text in texts if isinstance(text, str)]


def _tool_calls(parts: list[dict[str, Any]]) -> tuple[ToolCall, ...]:
    calls = []
    for part in parts:
        call, signature = part.get("functionCall"), part.get("thoughtSignature")
        if not isinstance(call, dict):
            continue
        calls.append(
            ToolCall(
                id=str(call.get("id") or new_call_id()),
                name=clean(str(call.get("name"))),
                arguments=clean(json.dumps(call.get("args") or {}, ensure_ascii=False)),
                signature=signature if isinstance(signature, str) else None,
            )
        )
    return tuple(calls)


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt = count(usage.get("promptTokenCount"))
    if prompt is None:
        return None
    tools = count(usage.get("toolUsePromptTokenCount")) or 0
    said = count(usage.get("candidatesTokenCount")) or 0
    thought = count(usage.get("thoughtsTokenCount")) or 0
    return Usage(prompt + tools, said + thought, count(usage.get("cachedContentTokenCount")) or 0)
