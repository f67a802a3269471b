"""Messages as callers write them: read, refused with their place, and written back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.content import ImagePart, TextPart, ToolCall
from core.errors import InvalidRequest
from core.neutral import message_as_dict, message_of
from core.tool_results import check_results
from core.types import Message

CALL = {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
PIXEL = "data:image/png;base64,iVBORw0KGgo="

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARTS = st.one_of(
    st.builds(TextPart, TEXT),
    st.builds(
        ImagePart, url=st.just("https://example.com/a.png"), detail=st.none() | st.just("low")
    ),
    st.just(ImagePart(data="iVBORw0KGgo=", media_type="image/png")),
)
CALLS = st.builds(
    ToolCall, st.text("abc123_-", min_size=1), st.text("abc", min_size=1), TEXT, st.none() | TEXT
)


def with_image(parts: list[Any]) -> tuple[Any, ...]:
    return (*parts, ImagePart(url="https://example.com/last.png"))


MESSAGES = st.one_of(
    st.builds(Message, st.just("user"), TEXT | st.lists(PARTS, max_size=3).map(with_image)),
    st.builds(Message, st.just("system"), TEXT),
    st.builds(Message, st.just("assistant"), TEXT, st.lists(CALLS, max_size=2).map(tuple)),
    st.builds(Message, st.just("tool"), TEXT, st.just(()), st.just("call_1")),
)


@given(MESSAGES)
def test_what_is_written_is_read_again(message: Message) -> None:
    stored = json.loads(json.dumps(message_as_dict(message)))
    assert message_of(stored, "messages[0]") == message


def test_parts_without_an_image_are_a_text() -> None:
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "world"}]
    assert message_of({"role": "user", "content": parts}, "m[0]") == Message("user", "Hello, world")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        (5, r"m\[0\] is 5"),
        ({}, r"m\[0\]\.role"),
        ({"role": "robot", "content": "a"}, r"m\[0\]\.role"),
        ({"role": "user"}, r"m\[0\]\.content"),
        ({"role": "user", "content": 5}, r"m\[0\]\.content"),
        ({"role": "user", "content": "\ud800"}, r"m\[0\]\.content"),
        ({"role": "user", "content": [5]}, r"m\[0\]\.content\[0\]"),
        ({"role": "user", "content": [{"type": "video"}]}, r"content\[0\]\.type is 'video'"),
        ({"role": "user", "content": [{"type": "text"}]}, r"content\[0\]\.text"),
        ({"role": "user", "content": "a", "colour": "red"}, "unknown field 'colour'"),
        ({"role": "user", "content": "a", "tool_calls": [CALL]}, "only an assistant"),
        ({"role": "user", "content": "a", "tool_call_id": "1"}, "only a tool"),
        ({"role": "tool", "content": "a"}, r"m\[0\]\.tool_call_id"),
        ({"role": "assistant"}, r"m\[0\]\.content"),
        ({"role": "assistant", "tool_calls": 5}, r"m\[0\]\.tool_calls"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}, r"tool_calls\[0\]\.id"),
        ({"role": "assistant", "tool_calls": [{"id": "1"}]}, r"tool_calls\[0\]\.function"),
        (
            {
                "role": "assistant",
                "tool_calls": [{**CALL, "function": {"name": "a", "arguments": {}}}],
            },
            r"arguments",
        ),
        (
            {"role": "assistant", "content": [{"type": "image_url", "image_url": PIXEL}]},
            "only a user",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place(given: Any, place: str) -> None:
    with pytest.raises(InvalidRequest, match=place):
        message_of(given, "m[0]")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://a/b.png",
        "/etc/passwd",
        "data:image/png,abc",
        "data:text/plain;base64,YQ==",
        "data:image/png;base64,",
        "data:image/png;base64,not base64!",
        "data:image/svg+xml;base64,YQ==",
        5,
        None,
    ],
)
def test_images_that_nobody_takes(url: Any) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(InvalidRequest, match=r"content\[0\]\.image_url\.url"):
        message_of({"role": "user", "content": [part]}, "m[0]")


def test_a_refusal_does_not_show_the_whole_image() -> None:
    url = "data:image/png;base64," + "?" * 10_000
    with pytest.raises(InvalidRequest) as error:
        message_of({"role": "user", "content": [{"type": "image_url", "image_url": url}]}, "m[0]")
    assert len(str(error.value)) < 300


def asks(*ids: str) -> Message:
    return Message("assistant", "", tuple(ToolCall(each, "now", "{}") for each in ids))


def answers(call_id: str) -> Message:
    return Message("tool", "12:00", tool_call_id=call_id)


USER = Message("user", "a")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [USER],
        [USER, asks("1"), answers("1")],
        [USER, asks("1", "2"), answers("2"), answers("1"), Message("assistant", "b"), USER],
        [USER, asks("1"), answers("1"), asks("2"), answers("2")],
        [USER, asks("1"), answers("1"), asks("1"), answers("1")],
    ],
)
def test_calls_with_their_results(messages: list[Message]) -> None:
    check_results(messages)


@pytest.mark.parametrize(
    ("messages", "word"),
    [
        ([answers("1")], "'1'"),
        ([USER, asks("1")], r"now \(1\)"),
        ([USER, asks("1", "2"), answers("1")], r"now \(2\)"),
        ([USER, asks("1"), USER, answers("1")], r"now \(1\)"),
        ([USER, asks("1"), answers("1"), answers("1")], "'1'"),
        ([USER, asks("1"), answers("2")], "'2'"),
    ],
)
def test_calls_without_results_and_results_without_calls(
    messages: list[Message], word: str
) -> None:
    with pytest.raises(InvalidRequest, match=word):
        check_results(messages)
