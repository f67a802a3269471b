"""Broken transports, as the SDKs see them, and what they cost the key."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import anthropic
import httpx2
import openai
import pytest
from google import genai
from google.genai import types

from tools.simulated_provider import SimulatedProvider


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatedProvider]:
    with SimulatedProvider() as provider:
        yield provider


@pytest.fixture
def provider(running: SimulatedProvider) -> Iterator[SimulatedProvider]:
    running.configure_key("key-1", name="first")
    yield running
    running.clear_faults()


@pytest.fixture(scope="module")
def gpt(running: SimulatedProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        api_key="key-1", base_url=running.openai_base_url, max_retries=0, timeout=10
    ) as client:
        yield client


@pytest.fixture(scope="module")
def hasty(gpt: openai.OpenAI) -> openai.OpenAI:
    """The same client, which soon gives up."""
    return gpt.with_options(timeout=0.3)


def ask(client: openai.OpenAI) -> str:
    """One whole reply."""
    reply = client.chat.completions.create(
        model="gpt", messages=[{"role": "user", "content": "Hello"}]
    )
    return reply.choices[0].message.content or ""


def stream(client: openai.OpenAI, texts: list[str]) -> None:
    """A stream, its texts put into a list as they come."""
    chunks = client.chat.completions.create(
        model="gpt", messages=[{"role": "user", "content": "Hello"}], stream=True
    )
    for chunk in chunks:
        texts.append(chunk.choices[0].delta.content or "")


@pytest.mark.parametrize("fault", ["hang", "stall"])
def test_what_never_ends_times_out(
    provider: SimulatedProvider, gpt: openai.OpenAI, hasty: openai.OpenAI, fault: str
) -> None:
    provider.add_fault(fault, times=1)
    with pytest.raises(openai.APITimeoutError):
        ask(hasty)
    assert ask(gpt)


@pytest.mark.parametrize("fault", ["drop", "drop_midway"])
def test_a_dropped_connection_is_a_connection_error(
    provider: SimulatedProvider, gpt: openai.OpenAI, fault: str
) -> None:
    provider.add_fault(fault, times=1)
    with pytest.raises(openai.APIConnectionError):
        ask(gpt)
    assert ask(gpt)


@pytest.mark.parametrize("fault", ["garbage", "empty"])
def test_a_body_that_is_not_json_is_just_that(
    provider: SimulatedProvider, gpt: openai.OpenAI, fault: str
) -> None:
    provider.add_fault(fault, times=1)
    with pytest.raises(json.JSONDecodeError):
        ask(gpt)


def test_a_page_of_a_proxy_is_a_server_error(
    provider: SimulatedProvider, gpt: openai.OpenAI
) -> None:
    provider.add_fault("html")
    with pytest.raises(openai.InternalServerError) as refused:
        ask(gpt)
    assert refused.value.status_code == 502
    assert "<html>" in refused.value.response.text


def test_flapping_alternates(provider: SimulatedProvider, gpt: openai.OpenAI) -> None:
    provider.add_fault("flap", period=2)
    seen = []
    for _ in range(8):
        try:
            seen.append(bool(ask(gpt)))
        except openai.InternalServerError:
            seen.append(False)
    assert seen == [True, True, False, False] * 2


def test_flapping_can_break_the_transport(provider: SimulatedProvider, gpt: openai.OpenAI) -> None:
    provider.add_fault("flap", error="drop")
    assert ask(gpt)
    with pytest.raises(openai.APIConnectionError):
        ask(gpt)
    assert ask(gpt)


def test_latencies_add_up(provider: SimulatedProvider, gpt: openai.OpenAI) -> None:
    provider.add_fault("latency", seconds=0.03)
    provider.add_fault("latency", seconds="uniform:0.03:0.04")
    begun = time.monotonic()
    assert ask(gpt)
    assert time.monotonic() - begun >= 0.06


def test_a_stall_can_end(provider: SimulatedProvider, gpt: openai.OpenAI) -> None:
    provider.add_fault("stall", seconds=0.02)
    assert ask(gpt).startswith("You sent")
    texts: list[str] = []
    stream(gpt, texts)
    assert "".join(texts) == ask(gpt)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("drop_midway", openai.APIConnectionError), ("stall", openai.APITimeoutError)],
)
def test_a_stream_can_break_in_the_middle(
    provider: SimulatedProvider, hasty: openai.OpenAI, fault: str, error: type[Exception]
) -> None:
    provider.add_fault(fault)
    texts: list[str] = []
    with pytest.raises(error):
        stream(hasty, texts)
    assert "".join(texts)
    report = provider.report()["keys"]["first"]
    assert 0 < report["tokens_out"] < 14


def test_a_broken_transport_counts_as_accepted(
    provider: SimulatedProvider, hasty: openai.OpenAI
) -> None:
    for fault in ("drop", "hang"):
        provider.add_fault(fault, times=1)
        with pytest.raises(openai.APIConnectionError):
            ask(hasty)
    report = provider.report()["keys"]["first"]
    assert (report["accepted"], report["refused"]) == (2, 0)
    assert report["faults"] == {"drop": 1, "hang": 1}


def test_a_request_is_under_way_until_its_client_gives_up(
    provider: SimulatedProvider, gpt: openai.OpenAI, hasty: openai.OpenAI
) -> None:
    provider.configure_key("key-1", name="first", max_parallel=1)
    provider.add_fault("hang", times=1)
    with pytest.raises(openai.APITimeoutError):
        ask(hasty)
    deadline = time.monotonic() + 5
    while provider.report()["keys"]["first"]["in_flight"] and time.monotonic() < deadline:
        time.sleep(0.005)
    assert ask(gpt)
    limit = provider.report()["keys"]["first"]["limits"]["max_parallel"]
    assert limit == {"limit": 1, "peak": 1, "overshoot": 0}


def test_anthropics_and_geminis_streams_break_too(provider: SimulatedProvider) -> None:
    provider.add_fault("drop_midway")
    claude = anthropic.Anthropic(
        api_key="key-2", base_url=provider.anthropic_base_url, max_retries=0
    )
    with (
        claude.messages.stream(
            model="m", max_tokens=99, messages=[{"role": "user", "content": "Hello"}]
        ) as events,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        list(events)
    gemini = genai.Client(
        api_key="key-3", http_options=types.HttpOptions(base_url=provider.gemini_base_url)
    )
    with pytest.raises(httpx2.RemoteProtocolError):
        list(gemini.models.generate_content_stream(model="m", contents="Hello"))
