"""OpenAI, and every server that speaks its protocol (`base_url`), through OpenAI's SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from core.errors import ContentBlocked
from core.types import ProviderReply, StopReason, Usage
from llm.providers.base import ProviderCall
from llm.providers.headers import openai_quotas
from llm.providers.openai_errors import RULES, filtered, refusal_of
from llm.providers.openai_requests import OFFICIAL, body_of
from llm.providers.sdk import SdkAdapter
from llm.providers.translate import Answer, Refusal, clean, count, failure, nonsense, objects

if TYPE_CHECKING:
    import httpx2
    import openai

_STOP: dict[str, StopReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


class OpenAIAdapter(SdkAdapter["openai.OpenAI"]):
    """Chat completions.

    Example:
        reply = OpenAIAdapter().send(call)
    """

    rules: ClassVar = RULES

    def _connect(self, call: ProviderCall, http: httpx2.Client) -> openai.OpenAI:
        import openai

        client = openai.OpenAI(
            api_key=call.secret.get_secret_value(),
            base_url=call.base_url or OFFICIAL,
            max_retries=0,
            http_client=http,
        )
        # OPENAI_ORG_ID and its like are of another account; None as an argument reads them.
        client.organization = client.project = client.admin_api_key = None
        client._custom_headers = {}
        return client

    def _ask(self, client: openai.OpenAI, call: ProviderCall) -> Answer:
        import httpx2
        import openai

        try:
            # The SDK's documented way for requests of one's own. `chat.completions.create` walks
            # its forty parameters' types to rename what needs no renaming: half a millisecond.
            response = client.post(
                "/chat/completions",
                body=body_of(call),
                options={"timeout": call.timeout, "security": {"bearer_auth": True}},
                cast_to=httpx2.Response,
            )
        except openai.APIStatusError as error:
            return Answer.of(error.response)
        return Answer.of(response)

    def _refusal(self, answer: Answer) -> Refusal:
        return refusal_of(answer)

    def _read(self, call: ProviderCall, answer: Answer) -> ProviderReply:
        body = answer.json()
        if not isinstance(body, dict):
            raise nonsense(call, answer, "no JSON object")
        choices = objects(body.get("choices"))
        if not choices and isinstance(body.get("error"), dict):
            raise failure(call, _late_refusal(body["error"], answer), RULES)
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
        )


def _late_refusal(error: dict[str, Any], answer: Answer) -> Refusal:
    """An error inside a 200, as OpenRouter sends it when the model's host fails later."""
    code = error.get("code")
    status = code if isinstance(code, int) and 400 <= code < 600 else 502
    return refusal_of(Answer(status, answer.headers, answer.body))


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


def _usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    read, written = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    if read is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(read, written or 0, cached or 0)
