"""The real SDKs against the simulation: replies, streams, headers and limits of each provider."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from itertools import count

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

from tools.simulated_provider import KeySettings, SimulatedProvider, SimulationSettings

PROMPT = "Tell me about the rate limits of large language models, please."  # 63 characters


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def provider(clock: Clock) -> Iterator[SimulatedProvider]:
    with SimulatedProvider(clock=clock) as running:
        yield running


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    return count(1)


@pytest.fixture
def key(numbers: Iterator[int]) -> str:
    """A key that no other test uses."""
    return f"key-{next(numbers)}"


@pytest.fixture(scope="module")
def any_openai(provider: SimulatedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="key", base_url=provider.openai_base_url, max_retries=0, timeout=5
    ) as client:
        yield client


@pytest.fixture
def gpt(any_openai: openai.OpenAI, key: str) -> openai.OpenAI:
    return any_openai.with_options(api_key=key)


@pytest.fixture(scope="module")
def any_anthropic(provider: SimulatedProvider) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="key", base_url=provider.anthropic_base_url, max_retries=0, timeout=5
    ) as client:
        yield client


@pytest.fixture
def claude(any_anthropic: anthropic.Anthropic, key: str) -> anthropic.Anthropic:
    return any_anthropic.with_options(api_key=key)


@pytest.fixture
def gemini(provider: SimulatedProvider, key: str) -> genai.Client:
    options = types.HttpOptions(base_url=provider.gemini_base_url, timeout=5_000)
    return genai.Client(api_key=key, http_options=options)


def ask_gpt(client: openai.OpenAI, max_tokens: int | None = None) -> str:
    reply = client.chat.completions.create(
        model="gpt", messages=[{"role": "user", "content": PROMPT}], max_tokens=max_tokens
    )
    return reply.choices[0].message.content or ""


def ask_claude(client: anthropic.Anthropic, max_tokens: int = 100) -> anthropic.types.Message:
    return client.messages.create(
        model="claude", max_tokens=max_tokens, messages=[{"role": "user", "content": PROMPT}]
    )


class TestOpenAI:
    def test_a_reply_shows_that_the_prompt_was_read(self, gpt: openai.OpenAI) -> None:
        reply = gpt.chat.completions.create(
            model="gpt",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": PROMPT}]},
            ],
        )
        assert reply.model == "gpt"
        assert reply.choices[0].finish_reason == "stop"
        assert reply.choices[0].message.content == (
            f'You sent 2 message(s); the last one begins: "{PROMPT}"'
        )
        assert reply.usage is not None
        assert reply.usage.prompt_tokens == 18  # 9 + 63 characters, 4 to a token
        assert reply.usage.total_tokens == 18 + reply.usage.completion_tokens
        assert reply.usage.prompt_tokens_details is not None
        assert reply.usage.prompt_tokens_details.cached_tokens == 0

    @pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
    def test_an_answer_is_cut_at_its_maximum(self, gpt: openai.OpenAI, field: str) -> None:
        reply = gpt.chat.completions.create(
            model="gpt", messages=[{"role": "user", "content": PROMPT}], extra_body={field: 5}
        )
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 5
        assert len(reply.choices[0].message.content or "") == 20

    def test_a_stream_carries_the_same_text_and_then_the_usage(self, gpt: openai.OpenAI) -> None:
        whole = ask_gpt(gpt)
        chunks = list(
            gpt.chat.completions.create(
                model="gpt",
                messages=[{"role": "user", "content": PROMPT}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        texts = [c.choices[0].delta.content or "" for c in chunks if c.choices]
        assert "".join(texts) == whole
        assert len([text for text in texts if text]) > 1
        assert chunks[-2].choices[0].finish_reason == "stop"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.prompt_tokens == 16

    def test_a_stream_has_no_usage_unless_asked(self, gpt: openai.OpenAI) -> None:
        stream = gpt.chat.completions.create(
            model="gpt", messages=[{"role": "user", "content": PROMPT}], stream=True
        )
        assert all(chunk.usage is None and chunk.choices for chunk in stream)

    def test_paths_work_without_v1(self, provider: SimulatedProvider, key: str) -> None:
        client = openai.OpenAI(api_key=key, base_url=provider.url, max_retries=0)
        assert ask_gpt(client).startswith("You sent 1 message(s)")

    def test_models_and_embeddings(self, gpt: openai.OpenAI) -> None:
        assert [m.id for m in gpt.models.list()] == ["simulated-large", "simulated-small"]
        one = gpt.embeddings.create(model="embed", input=["a", "b"], dimensions=5)
        assert [len(each.embedding) for each in one.data] == [5, 5]
        assert one.data[0].embedding != one.data[1].embedding
        again = gpt.embeddings.create(
            model="embed", input="a", dimensions=5, encoding_format="float"
        )
        assert again.data[0].embedding == pytest.approx(one.data[0].embedding)

    def test_every_reply_tells_the_limits(
        self, provider: SimulatedProvider, gpt: openai.OpenAI, key: str, clock: Clock
    ) -> None:
        provider.configure_key(key, rpm=10, tpm=1_000, kind="bucket", window_seconds=600)
        raw = gpt.chat.completions.with_raw_response.create(
            model="gpt", messages=[{"role": "user", "content": PROMPT}], max_tokens=600
        )
        headers = raw.headers
        assert headers["x-ratelimit-limit-requests"] == "10"
        assert headers["x-ratelimit-remaining-requests"] == "9"
        assert headers["x-ratelimit-reset-requests"] == "1m0s"
        assert headers["x-ratelimit-limit-tokens"] == "1000"
        assert headers["x-ratelimit-remaining-tokens"] == "400"
        assert headers["x-ratelimit-reset-tokens"] == "6m0s"
        assert headers["x-request-id"]

    def test_max_tokens_are_charged_at_once_and_not_given_back(
        self, provider: SimulatedProvider, gpt: openai.OpenAI, key: str, clock: Clock
    ) -> None:
        provider.configure_key(key, name="spender", tpm=1_000)
        ask_gpt(gpt, max_tokens=900)
        clock.now += 20
        with pytest.raises(openai.RateLimitError) as refused:
            ask_gpt(gpt, max_tokens=101)
        error = refused.value
        assert error.code == "rate_limit_exceeded"
        assert error.type == "tokens"
        assert "Limit 1000, Used 900, Requested 101. Please try again in 40s." in error.message
        assert error.response.headers["retry-after"] == "40"
        assert error.response.headers["retry-after-ms"] == "40000"
        assert error.response.headers["x-ratelimit-remaining-tokens"] == "100"
        ask_gpt(gpt, max_tokens=100)
        assert provider.report()["keys"]["spender"]["refused_by"] == {"tpm": 1}

    def test_azures_rule_charges_the_sum(
        self, provider: SimulatedProvider, gpt: openai.OpenAI, key: str
    ) -> None:
        provider.configure_key(key, name="azure", tpm=1_000, token_rule="sum")
        ask_gpt(gpt, max_tokens=100)
        assert provider.report()["keys"]["azure"]["limits"]["tpm"]["peak"] == 116

    def test_what_exceeds_the_limit_alone_is_told_no_time(
        self, provider: SimulatedProvider, gpt: openai.OpenAI, key: str
    ) -> None:
        provider.configure_key(key, tpm=50)
        with pytest.raises(openai.RateLimitError, match="Request too large") as refused:
            ask_gpt(gpt, max_tokens=51)
        assert "retry-after" not in refused.value.response.headers

    def test_a_request_without_a_key_is_refused(self, provider: SimulatedProvider) -> None:
        request = urllib.request.Request(provider.url + "/v1/chat/completions", data=b"{}")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=5)
        with refused.value as response:
            assert response.status == 401
            assert "API key" in json.loads(response.read())["error"]["message"]


class TestAnthropic:
    def test_a_reply_shows_that_the_prompt_was_read(self, claude: anthropic.Anthropic) -> None:
        reply = claude.messages.create(
            model="claude",
            max_tokens=100,
            system="Be brief.",
            messages=[{"role": "user", "content": [{"type": "text", "text": PROMPT}]}],
        )
        block = reply.content[0]
        assert block.type == "text"
        assert block.text == f'You sent 1 message(s); the last one begins: "{PROMPT}"'
        assert reply.stop_reason == "end_turn"
        assert reply.usage.input_tokens == 18
        assert reply.usage.cache_read_input_tokens == 0
        assert reply.usage.output_tokens == 28

    def test_an_answer_is_cut_at_its_maximum(self, claude: anthropic.Anthropic) -> None:
        reply = ask_claude(claude, max_tokens=5)
        assert reply.stop_reason == "max_tokens"
        assert reply.usage.output_tokens == 5

    def test_a_stream_has_all_its_events(self, claude: anthropic.Anthropic) -> None:
        events = list(
            claude.messages.create(
                model="claude",
                max_tokens=100,
                messages=[{"role": "user", "content": PROMPT}],
                stream=True,
            )
        )
        kinds = [event.type for event in events]
        assert kinds[:2] == ["message_start", "content_block_start"]
        assert set(kinds[2:-3]) == {"content_block_delta"}
        assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]

    def test_a_stream_adds_up_to_the_whole_message(self, claude: anthropic.Anthropic) -> None:
        whole = ask_claude(claude)
        with claude.messages.stream(
            model="claude", max_tokens=100, messages=[{"role": "user", "content": PROMPT}]
        ) as stream:
            message = stream.get_final_message()
        assert [b.text for b in message.content if b.type == "text"] == [
            b.text for b in whole.content if b.type == "text"
        ]
        assert message.usage.output_tokens == whole.usage.output_tokens
        assert message.stop_reason == "end_turn"

    def test_tokens_can_be_counted_and_models_listed(self, claude: anthropic.Anthropic) -> None:
        counted = claude.messages.count_tokens(
            model="claude", messages=[{"role": "user", "content": PROMPT}]
        )
        assert counted.input_tokens == 16
        assert [m.id for m in claude.models.list()] == ["simulated-large", "simulated-small"]

    def test_every_reply_tells_the_limits(
        self, provider: SimulatedProvider, claude: anthropic.Anthropic, key: str, clock: Clock
    ) -> None:
        provider.configure_key(key, rpm=10, itpm=100, otpm=200)
        raw = claude.messages.with_raw_response.create(
            model="claude", max_tokens=50, messages=[{"role": "user", "content": PROMPT}]
        )
        told = {
            name.removeprefix("anthropic-ratelimit-"): value
            for name, value in raw.headers.items()
            if name.startswith("anthropic-ratelimit-")
        }
        assert (told["requests-limit"], told["requests-remaining"]) == ("10", "9")
        assert (told["input-tokens-limit"], told["input-tokens-remaining"]) == ("100", "84")
        assert (told["output-tokens-limit"], told["output-tokens-remaining"]) == ("200", "172")
        assert (told["tokens-limit"], told["tokens-remaining"]) == ("300", "256")
        assert datetime.fromisoformat(told["requests-reset"]).timestamp() == clock.now + 60
        assert told["requests-reset"].endswith("Z")

    def test_input_is_limited_at_admission(
        self, provider: SimulatedProvider, claude: anthropic.Anthropic, key: str, clock: Clock
    ) -> None:
        provider.configure_key(key, itpm=20)
        ask_claude(claude)
        clock.now += 15
        with pytest.raises(anthropic.RateLimitError, match="20 input tokens per minute") as refused:
            ask_claude(claude)
        assert refused.value.type == "rate_limit_error"
        assert refused.value.response.headers["retry-after"] == "45"

    def test_output_is_charged_as_it_is_produced(
        self, provider: SimulatedProvider, claude: anthropic.Anthropic, key: str, clock: Clock
    ) -> None:
        provider.configure_key(key, name="writer", otpm=30)
        ask_claude(claude, max_tokens=10_000)  # max_tokens do not count, 28 do
        ask_claude(claude)  # there was room for 2, so it was admitted
        with pytest.raises(anthropic.RateLimitError, match="output tokens per minute"):
            ask_claude(claude)
        limit = provider.report()["keys"]["writer"]["limits"]["otpm"]
        assert limit == {"limit": 30, "peak": 56, "overshoot": 26}

    def test_either_header_carries_the_key(self, provider: SimulatedProvider, key: str) -> None:
        provider.configure_key(key, name="two-headers")
        for header in ({"x-api-key": key}, {"authorization": f"Bearer {key}"}):
            body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "a"}]}
            request = urllib.request.Request(
                provider.url + "/v1/messages", data=json.dumps(body).encode(), headers=header
            )
            with urllib.request.urlopen(request, timeout=5) as response:
                assert response.status == 200
        assert provider.report()["keys"]["two-headers"]["accepted"] == 2


class TestGemini:
    def test_a_reply_shows_that_the_prompt_was_read(self, gemini: genai.Client) -> None:
        reply = gemini.models.generate_content(
            model="gemini",
            contents=PROMPT,
            config=types.GenerateContentConfig(system_instruction="Be brief."),
        )
        assert reply.text == f'You sent 1 message(s); the last one begins: "{PROMPT}"'
        assert reply.candidates is not None
        assert reply.candidates[0].finish_reason == types.FinishReason.STOP
        usage = reply.usage_metadata
        assert usage is not None
        assert usage.prompt_token_count == 18
        assert usage.candidates_token_count == 28
        assert usage.total_token_count == 46

    def test_an_answer_is_cut_at_its_maximum(self, gemini: genai.Client) -> None:
        reply = gemini.models.generate_content(
            model="gemini",
            contents=PROMPT,
            config=types.GenerateContentConfig(max_output_tokens=5),
        )
        assert reply.candidates is not None
        assert reply.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
        assert len(reply.text or "") == 20

    def test_a_stream_adds_up_to_the_whole_reply(self, gemini: genai.Client) -> None:
        whole = gemini.models.generate_content(model="gemini", contents=PROMPT)
        chunks = list(gemini.models.generate_content_stream(model="gemini", contents=PROMPT))
        assert "".join(chunk.text or "" for chunk in chunks) == whole.text
        assert len(chunks) > 1
        assert chunks[-1].usage_metadata == whole.usage_metadata

    def test_a_stream_that_is_not_sse_is_an_array(
        self, provider: SimulatedProvider, key: str
    ) -> None:
        request = urllib.request.Request(
            f"{provider.url}/v1beta/models/gemini:streamGenerateContent?key={key}",
            data=json.dumps({"contents": [{"parts": [{"text": PROMPT}]}]}).encode(),
        )
        with urllib.request.urlopen(request, timeout=5) as response:
            chunks = json.loads(response.read())
        assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"

    def test_embeddings_and_token_counts(self, gemini: genai.Client) -> None:
        reply = gemini.models.embed_content(
            model="embed",
            contents=["a", "b"],
            config=types.EmbedContentConfig(output_dimensionality=4),
        )
        assert reply.embeddings is not None
        assert [len(each.values or []) for each in reply.embeddings] == [4, 4]
        counted = gemini.models.count_tokens(model="gemini", contents=PROMPT)
        assert counted.total_tokens == 16

    def test_input_alone_counts_and_the_refusal_says_so_in_its_body(
        self, provider: SimulatedProvider, gemini: genai.Client, key: str, clock: Clock
    ) -> None:
        provider.configure_key(key, tpm=20)
        gemini.models.generate_content(model="gemini", contents=PROMPT)
        clock.now += 34
        with pytest.raises(genai_errors.ClientError) as refused:
            gemini.models.generate_content(model="gemini", contents=PROMPT)
        error = refused.value
        assert (error.code, error.status) == (429, "RESOURCE_EXHAUSTED")
        quota, _, retry = error.details["error"]["details"]
        assert quota["violations"][0]["quotaId"] == (
            "GenerateContentInputTokensPerModelPerMinute-FreeTier"
        )
        assert quota["violations"][0]["quotaValue"] == "20"
        assert retry["retryDelay"] == "26s"
        assert error.response is not None
        assert not [name for name in error.response.headers if "ratelimit" in name]
        assert "retry-after" not in error.response.headers

    def test_the_daily_limit_is_told_apart(
        self, provider: SimulatedProvider, gemini: genai.Client, key: str
    ) -> None:
        provider.configure_key(key, rpm=5, rpd=1)
        gemini.models.generate_content(model="gemini", contents=PROMPT)
        with pytest.raises(genai_errors.ClientError) as refused:
            gemini.models.generate_content(model="gemini", contents=PROMPT)
        quota = refused.value.details["error"]["details"][0]["violations"][0]
        assert quota["quotaId"] == "GenerateRequestsPerDayPerProjectPerModel-FreeTier"


def test_answers_and_counts_can_be_set() -> None:
    settings = SimulationSettings(
        completion_tokens=40,
        usage_chars_per_token=2,
        cached_share=0.5,
        context_tokens=16,
        default=KeySettings(itpm=1_000),
    )
    with SimulatedProvider(settings) as provider:
        client = anthropic.Anthropic(
            api_key="key-1", base_url=provider.anthropic_base_url, max_retries=0
        )
        reply = ask_claude(client)
        assert reply.usage.output_tokens == 40
        assert len(reply.content[0].text) == 80  # type: ignore[union-attr]
        assert (reply.usage.input_tokens, reply.usage.cache_read_input_tokens) == (16, 16)
        # The limit's own estimate is 16 tokens, of which half is free.
        (key,) = provider.report()["keys"].values()
        assert key["limits"]["itpm"]["peak"] == 8
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long: 17 tokens > 16"):
            client.messages.create(
                model="m", max_tokens=5, messages=[{"role": "user", "content": "a" * 65}]
            )
