"""Streams of the real SDKs, read by threads and by tasks: pieces, usage, and how they break."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Any

import pytest

from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ProviderError,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from core.types import Usage
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import GEMINI, OPENAI, Dialect, adapter_of, call_of
from tests.providers.scripted import Asked, Reply, ScriptedServer

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"x-ratelimit-limit-requests: 60\r\nx-ratelimit-remaining-requests: 59\r\n"
    b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def event(data: Any, name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + json.dumps(data).encode() + b"\n\n"


def begun(dialect: Dialect, *texts: str) -> list[bytes]:
    """The events of an answer that goes on."""
    if dialect.name == "openai":
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": text} for text in texts]
        return [
            event({"model": "gpt-4o-x", "choices": [{"index": 0, "delta": d}], "usage": None})
            for d in deltas
        ]
    if dialect.name == "anthropic":
        usage = {"input_tokens": 9, "output_tokens": 1}
        message = {"id": "m", "model": "claude-x", "content": [], "usage": usage}
        start = {"type": "text", "text": ""}
        return [
            event({"type": "message_start", "message": message}, "message_start"),
            event({"type": "ping"}, "ping"),
            event({"type": "content_block_start", "index": 0, "content_block": start}, "x"),
            *(
                event(
                    {
                        "type": "content_block_delta",
                        "index": 0,
                        "delta": {"type": "text_delta", "text": t},
                    },
                    "x",
                )
                for t in texts
            ),
        ]
    return [event({"candidates": [{"content": {"parts": [{"text": t}]}}]}) for t in texts]


def ended(dialect: Dialect) -> list[bytes]:
    """The events that end it, with nine tokens in and two out."""
    if dialect.name == "openai":
        usage = {"prompt_tokens": 9, "completion_tokens": 2}
        return [
            event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            event({"choices": [], "usage": usage}),
            b"data: [DONE]\n\n",
        ]
    if dialect.name == "anthropic":
        delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
        return [
            event({"type": "content_block_stop", "index": 0}, "x"),
            event({**delta, "usage": {"output_tokens": 2}}, "message_delta"),
            event({"type": "message_stop"}, "message_stop"),
        ]
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 2}
    candidate = {"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}
    return [event({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "g"})]


def sending(*events: bytes, end: bytes = b"0\r\n\r\n", pause: float = 0.0) -> Reply:
    """A reply that streams these events one by one, then what ends the body."""

    def send(connection: socket.socket) -> None:
        connection.sendall(HEAD)
        for each in events:
            connection.sendall(chunk(each))
            time.sleep(pause)
        connection.sendall(end)

    return Reply(raw=send)


def test_pieces_arrive_one_by_one_and_the_reply_at_the_end(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = sending(*begun(dialect, "Hel", "lo."), *ended(dialect), pause=0.01)
    stream = adapter.stream(call_of(dialect, server.url))
    assert list(stream) == ["Hel", "lo."]
    reply = stream.reply()
    assert (reply.content, reply.stop_reason, reply.usage) == ("Hello.", "stop", Usage(9, 2))
    assert reply.model != ""
    if dialect.name == "openai":
        assert reply.quotas[0].remaining == 59
    stream.close()


def test_the_request_asks_for_a_stream_with_its_usage(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = sending(*begun(dialect, "Hi."), *ended(dialect))
    list(adapter.stream(call_of(dialect, server.url)))
    (asked,) = server.asked
    if dialect.name == "gemini":
        assert asked.path.endswith(f"/{dialect.model}:streamGenerateContent?alt=sse")
        assert asked.body["contents"][0]["parts"] == [{"text": "Hello"}]
        return
    assert asked.body["stream"] is True
    if dialect.name == "openai":
        assert asked.body["stream_options"] == {"include_usage": True}


def test_a_stream_in_one_packet_or_byte_by_byte_says_the_same(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    whole = b"".join([*begun(dialect, "Grüß ", "Gott"), *ended(dialect)])
    server.script = [sending(whole), sending(*(bytes([b]) for b in whole))]
    server.script.append(sending(whole.replace(b"\n", b"\r\n")))
    for _ in range(3):
        stream = adapter.stream(call_of(dialect, server.url))
        assert list(stream) == ["Grüß ", "Gott"]
        assert stream.reply().usage == Usage(9, 2)


def test_a_refusal_before_the_stream_is_translated(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.script = [
        Reply(dialect.error("no"), status=401),
        Reply(dialect.error("slow"), status=429, headers={"retry-after": "7"}),
    ]
    with pytest.raises(AuthenticationFailed):
        adapter.stream(call_of(dialect, server.url))
    with pytest.raises(ProviderRateLimited) as failed:
        adapter.stream(call_of(dialect, server.url))
    assert failed.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("dialect_name", "body", "kind"),
    [
        ("openai", {"error": {"message": "x", "code": "rate_limit_exceeded"}}, ProviderRateLimited),
        ("openai", {"error": {"message": "x", "type": "server_error"}}, ProviderUnavailable),
        (
            "anthropic",
            {"type": "error", "error": {"type": "rate_limit_error", "message": "x"}},
            ProviderRateLimited,
        ),
        (
            "anthropic",
            {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
            ProviderUnavailable,
        ),
        (
            "gemini",
            {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "x"}},
            ProviderRateLimited,
        ),
        ("gemini", {"error": {"code": 503, "message": "x"}}, ProviderUnavailable),
    ],
)
def test_an_error_inside_a_stream_comes_after_the_pieces_before_it(
    server: ScriptedServer, dialect_name: str, body: Any, kind: type[ProviderError]
) -> None:
    (dialect,) = (d for d in (OPENAI, GEMINI, _anthropic()) if d.name == dialect_name)
    together = b"".join([*begun(dialect, "a", "b"), event(body, "error")])
    server.default = sending(together)
    stream = adapter_of(dialect_name).stream(call_of(dialect, server.url))
    assert [next(stream), next(stream)] == ["a", "b"]
    with pytest.raises(kind) as failed:
        next(stream)
    assert type(failed.value) is kind
    assert stream.reply().content == "ab"


def _anthropic() -> Dialect:
    from tests.providers.dialects import ANTHROPIC

    return ANTHROPIC


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"], ids=["cut off", "ended too early"])
def test_a_stream_that_ends_before_its_answer_is_broken(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], end: bytes
) -> None:
    server.default = sending(*begun(dialect, "a"), end=end, pause=0.03)
    stream = adapter.stream(call_of(dialect, server.url))
    assert next(stream) == "a"
    with pytest.raises(ProviderUnavailable):
        next(stream)
    assert stream.reply().content == "a"
    assert server.connections <= 1


def test_a_connection_that_breaks_after_the_answer_harms_nothing(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = sending(*begun(dialect, "a"), *ended(dialect), end=b"", pause=0.03)
    stream = adapter.stream(call_of(dialect, server.url))
    assert list(stream) == ["a"]
    assert stream.reply().usage == Usage(9, 2)


def test_a_stalled_stream_ends_by_its_idle_timeout(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    def stall(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"".join(begun(dialect, "a"))))
        connection.recv(1)

    server.default = Reply(raw=stall)
    stream = adapter.stream(call_of(dialect, server.url, idle_timeout=0.2))
    assert next(stream) == "a"
    started = time.monotonic()
    with pytest.raises(ProviderTimeout, match=r"nothing arrived for 0\.2 s"):
        next(stream)
    assert time.monotonic() - started < 1.0
    _all_gone(server)


def test_a_dripping_stream_ends_with_the_whole_timeout(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = sending(*begun(dialect, *("a" * 100)), pause=0.02)
    stream = adapter.stream(call_of(dialect, server.url, timeout=0.4, idle_timeout=0.3))
    with pytest.raises(ProviderTimeout, match="in time"):
        list(stream)
    assert stream.reply().content.startswith("aaa")


def test_closing_ends_the_providers_connection_at_once(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    noticed = threading.Event()

    def go_on(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"".join(begun(dialect, "a"))))
        connection.recv(1)
        noticed.set()

    server.default = Reply(raw=go_on)
    stream = adapter.stream(call_of(dialect, server.url))
    assert next(stream) == "a"
    stream.close()
    assert noticed.wait(1.0)
    assert list(stream) == []
    stream.close()


def test_what_arrived_and_was_not_read_counts_as_produced_and_can_still_be_read(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    def hold(connection: socket.socket) -> None:
        connection.sendall(HEAD + chunk(b"".join(begun(dialect, "a", "b", "c"))))
        connection.recv(1)

    server.default = Reply(raw=hold)
    stream = adapter.stream(call_of(dialect, server.url))
    assert next(stream) == "a"
    assert stream.reply().content == "abc"
    assert [next(stream), next(stream)] == ["b", "c"]
    stream.close()
    assert stream.reply().content == "abc"


def test_an_answered_stream_leaves_its_connection_for_the_next(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    def stream(asked: Asked) -> Reply:
        body = b"".join([*begun(dialect, "a"), *ended(dialect)])
        return Reply(body, headers={"content-type": "text/event-stream"})

    server.default = stream
    for _ in range(3):
        assert list(adapter.stream(call_of(dialect, server.url))) == ["a"]
    assert len(server.asked) == 3
    assert server.connections == 1


def test_a_server_that_knows_no_streams_gives_one_piece(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    server.default = Reply(dialect.success)
    stream = adapter.stream(call_of(dialect, server.url))
    assert list(stream) == ["Hi."]
    assert stream.reply().usage == Usage(9, 2)


@pytest.mark.parametrize("body", [b"data: <<< no JSON >>>\n\n", b"", b"data: [1]\n\n"])
def test_nonsense_is_the_providers_fault(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], body: bytes
) -> None:
    server.default = Reply(body, headers={"content-type": "text/event-stream"})
    with pytest.raises(ProviderUnavailable):
        list(adapter.stream(call_of(dialect, server.url)))


def test_a_withheld_answer_is_blocked_with_its_reasons(
    server: ScriptedServer, adapter: SdkAdapter[Any, Any], dialect: Dialect
) -> None:
    bodies = {
        "openai": [event({"choices": [{"delta": {}, "finish_reason": "content_filter"}]})],
        "anthropic": [
            event({"type": "message_start", "message": {"model": "c", "content": []}}),
            event({"type": "message_delta", "delta": {"stop_reason": "refusal"}}),
        ],
        "gemini": [event({"promptFeedback": {"blockReason": "SAFETY"}})],
    }
    server.default = sending(*bodies[dialect.name])
    with pytest.raises(ContentBlocked) as failed:
        list(adapter.stream(call_of(dialect, server.url)))
    assert failed.value.reasons


def test_many_streams_at_once_keep_apart(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    def echo(asked: Asked) -> Reply:
        secret = dialect.key_in(asked)
        return sending(*begun(dialect, secret, "."), *ended(dialect), pause=0.005)

    server.default = echo
    calls = [call_of(dialect, server.url, key_id=f"k{n}") for n in range(8)]
    streams = [adapter.stream(call) for call in calls]
    said: list[list[str]] = [[] for _ in streams]
    for _ in range(2):
        for pieces, stream in zip(said, streams, strict=True):
            pieces.append(next(stream))
    for call, pieces, stream in zip(calls, said, streams, strict=True):
        assert pieces == [call.secret.get_secret_value(), "."]
        assert list(stream) == []


def test_tool_calls_are_put_together(server: ScriptedServer) -> None:
    deltas: list[dict[str, Any]] = [
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]},
    ]
    events = [event({"choices": [{"delta": delta}]}) for delta in deltas]
    events.append(event({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}))
    server.default = sending(*events)
    stream = adapter_of("openai").stream(call_of(OPENAI, server.url))
    assert list(stream) == []
    assert stream.reply().stop_reason == "tool_calls"


def test_no_error_holds_the_secret(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    def echo(asked: Asked) -> Reply:
        body = dialect.error(f"bad key {dialect.key_in(asked)}")
        return sending(*begun(dialect, "a"), event(body, "error"))

    server.default = echo
    call = call_of(dialect, server.url)
    with pytest.raises(ProviderError) as failed:
        list(adapter.stream(call))
    assert call.secret.get_secret_value() not in str(failed.value)
    assert failed.value.__context__ is None


def _all_gone(server: ScriptedServer) -> None:
    deadline = time.monotonic() + 2
    while server.connections:
        assert time.monotonic() < deadline, "a connection was left open"
        time.sleep(0.01)
