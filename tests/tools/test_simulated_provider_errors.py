"""Every named error reaches its SDK as the exception and with the body that the table says."""

from __future__ import annotations

from collections.abc import Iterator

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from tools.simulated_provider import SimulatedProvider
from tools.simulation.errors import TABLE, Row


def refusals(protocol: str) -> list[tuple[str, Row]]:
    return [(name, row) for name, row in TABLE[protocol].items() if row.outcome is None]


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatedProvider]:
    with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
def provider(running: SimulatedProvider) -> Iterator[SimulatedProvider]:
    yield running
    running.clear_faults()


@pytest.fixture(scope="module")
def gpt(running: SimulatedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="key-1", base_url=running.openai_base_url, max_retries=0, timeout=5
    ) as client:
        yield client


@pytest.fixture(scope="module")
def claude(running: SimulatedProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="key-2", base_url=running.anthropic_base_url, max_retries=0, timeout=5
    ) as client:
        yield client


@pytest.fixture(scope="module")
def gemini(running: SimulatedProvider) -> genai.Client:
    options = types.HttpOptions(base_url=running.gemini_base_url, timeout=5_000)
    return genai.Client(api_key="key-3", http_options=options)


def ask_gpt(client: openai.OpenAI) -> openai.types.chat.ChatCompletion:
    return client.chat.completions.create(
        model="gpt", messages=[{"role": "user", "content": "Hello"}]
    )


def ask_claude(client: anthropic.Anthropic) -> anthropic.types.Message:
    return client.messages.create(
        model="claude", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
    )


def ask_gemini(client: genai.Client) -> types.GenerateContentResponse:
    return client.models.generate_content(model="gemini", contents="Hello")


OPENAI_CLASSES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    429: openai.RateLimitError,
}

ANTHROPIC_CLASSES: dict[int, type[anthropic.APIStatusError]] = {
    400: anthropic.BadRequestError,
    401: anthropic.AuthenticationError,
    403: anthropic.PermissionDeniedError,
    404: anthropic.NotFoundError,
    409: anthropic.ConflictError,
    429: anthropic.RateLimitError,
}


def server_side(status: int) -> bool:
    return status >= 500


@pytest.mark.parametrize(("name", "row"), refusals("openai"), ids=lambda value: str(value)[:40])
def test_openais_errors(
    provider: SimulatedProvider, gpt: openai.OpenAI, name: str, row: Row
) -> None:
    provider.add_fault(name, protocol="openai", times=1)
    with pytest.raises(openai.APIStatusError) as refused:
        ask_gpt(gpt)
    error = refused.value
    default = openai.InternalServerError if server_side(row.status) else openai.APIStatusError
    assert isinstance(error, OPENAI_CLASSES.get(row.status, default))
    assert (error.status_code, error.type, error.code) == (row.status, row.type, row.code)
    assert error.param == row.param
    assert "{" not in error.message
    told = error.response.headers.get("retry-after")
    assert told == (None if row.retry_after is None else str(int(row.retry_after)))
    ask_gpt(gpt)


@pytest.mark.parametrize(("name", "row"), refusals("anthropic"), ids=lambda value: str(value)[:40])
def test_anthropics_errors(
    provider: SimulatedProvider, claude: anthropic.Anthropic, name: str, row: Row
) -> None:
    provider.add_fault(name, protocol="anthropic", times=1)
    with pytest.raises(anthropic.APIStatusError) as refused:
        ask_claude(claude)
    error = refused.value
    default = anthropic.InternalServerError if server_side(row.status) else anthropic.APIStatusError
    assert isinstance(error, ANTHROPIC_CLASSES.get(row.status, default))
    assert (error.status_code, error.type, error.error_code) == (row.status, row.type, row.code)
    assert error.api_message
    assert "{" not in error.api_message
    assert isinstance(error.body, dict)
    assert error.body["request_id"] == error.request_id
    told = error.response.headers.get("retry-after")
    assert told == (None if row.retry_after is None else str(int(row.retry_after)))
    ask_claude(claude)


@pytest.mark.parametrize(("name", "row"), refusals("gemini"), ids=lambda value: str(value)[:40])
def test_geminis_errors(
    provider: SimulatedProvider, gemini: genai.Client, name: str, row: Row
) -> None:
    provider.add_fault(name, protocol="gemini", times=1)
    with pytest.raises(genai_errors.APIError) as refused:
        ask_gemini(gemini)
    error = refused.value
    kind = genai_errors.ServerError if server_side(row.status) else genai_errors.ClientError
    assert isinstance(error, kind)
    assert (error.code, error.status) == (row.status, row.type)
    assert error.message
    details = error.details["error"].get("details", [])
    assert bool(details) == (row.code is not None)
    assert row.code is None or row.code in str(details)
    delays = [each["retryDelay"] for each in details if "retryDelay" in each]
    assert delays == ([] if row.retry_after is None else [f"{row.retry_after:.0f}s"])
    ask_gemini(gemini)


def test_openais_content_filter_ends_a_reply(
    provider: SimulatedProvider, gpt: openai.OpenAI
) -> None:
    provider.add_fault("content_filter_finish")
    choice = ask_gpt(gpt).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("content_filter", None)
    stream = gpt.chat.completions.create(
        model="gpt", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    assert [chunk.choices[0].finish_reason for chunk in stream] == [None, "content_filter"]


def test_anthropics_refusal_ends_a_reply(
    provider: SimulatedProvider, claude: anthropic.Anthropic
) -> None:
    provider.add_fault("refusal")
    message = ask_claude(claude)
    assert (message.stop_reason, message.content) == ("refusal", [])
    assert message.stop_details is not None
    assert message.stop_details.type == "refusal"


def test_geminis_safety_withholds_a_reply(
    provider: SimulatedProvider, gemini: genai.Client
) -> None:
    provider.add_fault("SAFETY", times=1)
    provider.add_fault("PROMPT_BLOCKED")
    reply = ask_gemini(gemini)
    assert reply.candidates is not None
    assert reply.candidates[0].finish_reason == types.FinishReason.SAFETY
    assert reply.text is None
    reply = ask_gemini(gemini)
    assert reply.candidates is None
    assert reply.prompt_feedback is not None
    assert reply.prompt_feedback.block_reason == types.BlockedReason.SAFETY


def test_an_error_can_come_in_the_middle_of_openais_stream(
    provider: SimulatedProvider, gpt: openai.OpenAI
) -> None:
    provider.add_fault("server_error", midway=True)
    stream = gpt.chat.completions.create(
        model="gpt", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    with pytest.raises(openai.APIError, match="had an error") as refused:
        list(stream)
    assert refused.value.type == "server_error"


def test_an_error_can_come_in_the_middle_of_anthropics_stream(
    provider: SimulatedProvider, claude: anthropic.Anthropic
) -> None:
    provider.add_fault("overloaded_error", midway=True)
    kinds: list[str] = []
    with (
        claude.messages.stream(
            model="claude", max_tokens=100, messages=[{"role": "user", "content": "Hello"}]
        ) as stream,
        pytest.raises(anthropic.APIStatusError) as refused,
    ):
        kinds.extend(event.type for event in stream)
    assert "message_start" in kinds
    assert refused.value.type == "overloaded_error"
    assert refused.value.status_code == 200


def test_an_error_can_come_in_the_middle_of_geminis_stream(
    provider: SimulatedProvider, gemini: genai.Client
) -> None:
    provider.add_fault("UNAVAILABLE", midway=True)
    stream = gemini.models.generate_content_stream(model="gemini", contents="Hello" * 20)
    assert next(stream).text
    with pytest.raises(genai_errors.ServerError) as refused:
        list(stream)
    assert refused.value.status == "UNAVAILABLE"


def test_the_retry_time_can_be_set(provider: SimulatedProvider, gpt: openai.OpenAI) -> None:
    provider.add_fault("rate_limit_exceeded", retry_after=0.25)
    with pytest.raises(openai.RateLimitError) as refused:
        ask_gpt(gpt)
    assert refused.value.response.headers["retry-after"] == "0.250"
    assert refused.value.response.headers["retry-after-ms"] == "250"


def test_a_body_that_is_not_a_request_is_refused(
    provider: SimulatedProvider, gpt: openai.OpenAI, claude: anthropic.Anthropic
) -> None:
    with pytest.raises(openai.BadRequestError, match="messages"):
        gpt.chat.completions.create(model="gpt", messages=[])
    with pytest.raises(openai.BadRequestError, match="JSON"):
        gpt.post("/chat/completions", cast_to=object, content=b"{not json")
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Field required"):
        claude.post("/v1/messages", cast_to=object, body={"model": "m", "messages": [{}]})
