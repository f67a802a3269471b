"""Tool calls and vectors as providers and their look-alikes send them."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from core.errors import ProviderUnavailable
from llm.providers.base import EmbeddingCall
from llm.providers.openai_embeddings import embedding_body_of
from tests.providers.dialects import ANTHROPIC, GEMINI, OPENAI, Dialect, adapter_of, call_of
from tests.providers.scripted import Reply, ScriptedServer


def openai_message(**message: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": "tool_calls", "message": message}]}


def called(server: ScriptedServer, dialect: Dialect, body: Any) -> Any:
    server.default = Reply(body)
    return adapter_of(dialect.name).send(call_of(dialect, server.url))


@pytest.mark.parametrize(
    ("arguments", "read"),
    [('{"a": 1}', '{"a": 1}'), ({"a": 1}, '{"a": 1}'), (None, "{}"), ("", ""), ("{oh", "{oh")],
)
def test_openai_arguments(server: ScriptedServer, arguments: Any, read: str) -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}]
    reply = called(server, OPENAI, openai_message(content=None, tool_calls=calls))
    (call,) = reply.tool_calls
    assert (call.id, call.name, call.arguments) == ("1", "f", read)
    assert (reply.content, reply.stop_reason) == ("", "tool_calls")


def test_calls_without_an_id_get_one_and_nonsense_is_left_out(server: ScriptedServer) -> None:
    calls = [{"function": {"name": "f", "arguments": "{}"}}, {"function": {}}, 5, {"id": "2"}]
    reply = called(server, OPENAI, openai_message(content=None, tool_calls=calls))
    (call,) = reply.tool_calls
    assert call.id.startswith("call_")
    body = {
        "candidates": [
            {
                "finishReason": "STOP",
                "content": {
                    "parts": [
                        {"thought": True, "text": "hm"},
                        {"functionCall": {"name": "f"}, "thoughtSignature": "c2ln"},
                        {"functionCall": {"name": "f", "args": {"a": "é"}}},
                    ]
                },
            }
        ]
    }
    first, second = called(server, GEMINI, body).tool_calls
    assert first.id != second.id
    assert (first.arguments, first.signature) == ("{}", "c2ln")
    assert (second.arguments, second.signature) == ('{"a": "é"}', None)


def test_anthropic_text_and_calls_side_by_side(server: ScriptedServer) -> None:
    body = {
        "content": [
            {"type": "text", "text": "Let me look."},
            {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1]}},
            {"type": "server_tool_use", "id": "x", "name": "web_search", "input": {}},
        ],
        "stop_reason": "tool_use",
    }
    reply = called(server, ANTHROPIC, body)
    assert (reply.content, reply.stop_reason) == ("Let me look.", "tool_calls")
    (call,) = reply.tool_calls
    assert (call.id, call.name, call.arguments) == ("toolu_1", "f", '{"a": [1]}')


def embedding_call(url: str | None, texts: tuple[str, ...], dialect: Dialect) -> EmbeddingCall:
    plain = call_of(dialect, url)
    fields = {name: getattr(plain, name) for name in plain.__dataclass_fields__}
    return EmbeddingCall(**fields, texts=texts)


def vectors(server: ScriptedServer, body: Any, texts: tuple[str, ...]) -> Any:
    server.default = Reply(body)
    adapter: Any = adapter_of("openai")
    return adapter.embed(embedding_call(server.url, texts, OPENAI))


def test_vectors_in_any_order_and_form(server: ScriptedServer) -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
    data = [{"index": 1, "embedding": [1, 2]}, {"index": 0, "embedding": packed}]
    reply = vectors(server, {"data": data, "usage": {"prompt_tokens": 7}}, ("a", "b"))
    assert reply.vectors == ([0.5, -1.0], [1.0, 2.0])
    assert reply.usage is not None
    assert reply.usage.input == 7


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"data": []}, {"data": [{"embedding": [1.0]}]}, {"data": 5},
        {"data": [{"embedding": [1.0]}, {"embedding": []}]},
        {"data": [{"embedding": [1.0]}, {"embedding": "not base64!"}]},
        {"data": [{"embedding": [1.0]}, {"embedding": "YQ=="}]},
        {"data": [{"embedding": [1.0]}, {"embedding": ["a"]}]},
    ],
)  # fmt: skip
def test_not_one_vector_for_each_text(server: ScriptedServer, body: Any) -> None:
    with pytest.raises(ProviderUnavailable):
        vectors(server, body, ("a", "b"))


def test_openai_and_azure_are_asked_for_base64_and_nobody_else() -> None:
    assert embedding_body_of(embedding_call(None, ("a",), OPENAI)) == {
        "model": "gpt-4o",
        "input": ["a"],
        "encoding_format": "base64",
    }
    elsewhere = embedding_body_of(embedding_call("http://localhost:1", ("a",), OPENAI))
    assert "encoding_format" not in elsewhere


def test_gemini_with_too_few_vectors(server: ScriptedServer) -> None:
    server.default = Reply({"embeddings": [{"values": [1.0]}]})
    adapter: Any = adapter_of("gemini")
    with pytest.raises(ProviderUnavailable, match="1 vectors for 2 texts"):
        adapter.embed(embedding_call(server.url, ("a", "b"), GEMINI))
    assert server.asked[-1].path.endswith(":batchEmbedContents")
    requests = server.asked[-1].body["requests"]
    assert [each["content"] for each in requests] == [
        {"parts": [{"text": "a"}]},
        {"parts": [{"text": "b"}]},
    ]
