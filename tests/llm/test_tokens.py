"""Token counts: close enough without the network, quick for any text, and never in the way."""

from __future__ import annotations

import threading
import time

import pytest

from core.content import (
    NO_OPTIONS,
    Content,
    Detail,
    ImagePart,
    Options,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
)
from core.types import Message
from llm.image_tokens import IMAGE_TOKENS, image_tokens
from llm.tokens import (
    CALL_OVERHEAD,
    MESSAGE_OVERHEAD,
    TOOLS_OVERHEAD,
    TokenCounter,
    estimate,
)

# Texts with the number of tokens that OpenAI's o200k_base gives.
KNOWN = {
    "a sentence": ("The quick brown fox jumps over the lazy dog. It was not amused.", 15),
    "code": ("def add(a: int, b: int) -> int:\n    return a + b\n", 20),
    "numbers": ("1234567890 3.14159 2026-11-21", 15),
    "chinese": ("今天天气很好,我们去公园散步吧。", 12),
    "markdown": ("# Title\n\n- first\n- second\n\n| a | b |\n|---|---|\n| 1 | 2 |\n", 30),
}


@pytest.mark.parametrize(("text", "tokens"), KNOWN.values(), ids=KNOWN)
def test_the_estimate_is_close_for_usual_texts(text: str, tokens: int) -> None:
    assert 0.6 * tokens <= estimate(text) <= 1.6 * tokens


def test_nothing_is_no_tokens() -> None:
    assert estimate("") == 0
    assert estimate("   ") == 0


@pytest.mark.parametrize(
    "blob",
    ["QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo" * 200, "d41d8cd98f00b204e9800998ecf8427e" * 200],
    ids=["base64", "hex"],
)
def test_a_blob_is_not_taken_for_one_word(blob: str) -> None:
    assert estimate(blob) > len(blob) / 2


@pytest.mark.parametrize(
    "text", ["漢字かな交じり文" * 100, "한국어 문장입니다 " * 100, "你好世界" * 200]
)
def test_east_asian_text_is_counted_by_its_characters(text: str) -> None:
    letters = len(text.replace(" ", ""))
    assert 0.4 * letters <= estimate(text) <= 1.2 * letters


@pytest.mark.parametrize(
    "text",
    [
        "word " * 10**6,
        "x" * 5 * 10**6,
        "漢" * 17 * 10**5,
        "\n" * 5 * 10**6,
        "a1! é漢\n" * 7 * 10**5,
    ],
    ids=["words", "one letter", "cjk", "newlines", "mixed"],
)
def test_five_megabytes_take_no_time(text: str) -> None:
    began = time.thread_time()
    tokens = TokenCounter(load=None).count(text, "gpt-4o")
    assert time.thread_time() - began < 0.5
    assert tokens > 100_000


def test_a_long_text_is_estimated_as_if_it_were_measured_whole() -> None:
    short = "The quick brown fox jumps over the lazy dog. "
    whole = 10_000 * estimate(short)
    assert estimate(short * 10_000) == pytest.approx(whole, rel=0.1)


@pytest.mark.parametrize(
    "content",
    ["", (), (TextPart(""),), (ImagePart(),), "\ud800 lone surrogate", "\x00\x01\x02"],
    ids=repr,
)
def test_no_content_makes_it_fail(content: Content) -> None:
    tokens = TokenCounter(load=None).count(content, "gpt-4o")
    assert isinstance(tokens, int)
    assert tokens >= 0


@pytest.mark.parametrize(
    "image", [ImagePart(data="A" * 100_000, media_type="image/png"), ImagePart(url="https://a.b/c")]
)
def test_an_image_counts_as_an_image_and_not_as_its_text(image: ImagePart) -> None:
    counter = TokenCounter(load=None)
    assert counter.count((image,)) == IMAGE_TOKENS
    assert counter.count((image, TextPart("Hello"))) == IMAGE_TOKENS + 1


@pytest.mark.parametrize(
    ("model", "detail", "tokens"),
    [
        ("gpt-4o", None, 1_105),
        ("gpt-4o", "low", 85),
        ("gpt-4o-mini", None, 36_835),
        ("gpt-4.1-nano", "high", 3_779),
        ("gpt-4.1-mini-2025-04-14", None, 2_489),
        ("o4-mini", None, 2_642),
        ("openai/gpt-5", None, 1_536),
        ("gpt-5-mini", None, 2_489),
        ("gpt-5.2", None, 1_844),
        ("gpt-5.4", "low", 308),
        ("gpt-5.4-nano", None, 6_150),
        ("gpt-5.6", None, 12_000),
        ("gpt-5.6", "high", 3_000),
        ("gpt-6-large", "auto", 12_000),
        ("claude-sonnet-4-6", None, 1_600),
        ("claude-haiku-4-5-20251001", None, 1_600),
        ("claude-opus-4-7", None, 4_784),
        ("claude-opus-5", None, 4_784),
        ("claude-mythos-preview", None, 4_784),
        ("gemini-2.5-flash", None, 1_548),
        ("gemini-3.1-pro-preview", None, 1_120),
        (None, None, IMAGE_TOKENS),
    ],
)
def test_an_image_counts_as_its_model_counts_it(
    model: str | None, detail: Detail | None, tokens: int
) -> None:
    assert image_tokens(model, detail) == tokens


def test_parts_add_up() -> None:
    counter = TokenCounter(load=None)
    parts = (TextPart("Hello, world!"), TextPart("Hello, world!"))
    assert counter.count(parts) == 2 * counter.count("Hello, world!")


def test_tool_calls_and_what_goes_along_are_counted() -> None:
    counter = TokenCounter(load=None)
    call = ToolCall("call_1", "weather", '{"place": "Paris"}')
    words = counter.count("weather") + counter.count('{"place": "Paris"}')
    assert counter.count_message(Message("assistant", "", (call,))) == words + CALL_OVERHEAD
    assert counter.count_options(NO_OPTIONS) == 0
    tool = Tool("weather", "The weather of a place.", {"type": "object"})
    with_tool = counter.count_options(Options(tools=(tool,)))
    assert with_tool > TOOLS_OVERHEAD + CALL_OVERHEAD
    schema = ResponseFormat("json_schema", schema={"type": "object", "description": "x " * 500})
    assert counter.count_options(Options(response_format=schema)) > 400
    own = {"openai": {"user": "x " * 500}, "gemini": {"labels": {}}}
    assert counter.count_options(Options(provider_options=own)) > 400


def test_messages_cost_more_than_their_texts() -> None:
    counter = TokenCounter(load=None)
    messages = [Message("user", "Hello"), Message("assistant", "Hi")]
    alone = counter.count_messages(messages, None)
    assert alone == 3 + 2 * MESSAGE_OVERHEAD + counter.count("Hello") + counter.count("Hi")
    with_system = counter.count_messages(messages, "Be brief.")
    assert with_system == alone + MESSAGE_OVERHEAD + counter.count("Be brief.")
    assert counter.count_messages([], None) == 3


# -- encodings ---------------------------------------------------------------------------------


class Encoding:
    """Counts a token for each letter."""

    def encode_ordinary(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


def count_until(counter: TokenCounter, tokens: int, model: str = "gpt-4o") -> None:
    deadline = time.monotonic() + 5
    while counter.count("Hello", model) != tokens:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_loaded_encoding_counts_exactly() -> None:
    counter = TokenCounter(lambda name: Encoding())
    assert counter.count("Hello", "gpt-4o") == estimate("Hello"), "at first it is estimated"
    count_until(counter, 5)


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1-nano", "o200k_base"),
        ("gpt-5", "o200k_base"),
        ("o3-mini", "o200k_base"),
        ("chatgpt-4o-latest", "o200k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("gpt-3.5-turbo", "cl100k_base"),
    ],
)
def test_each_model_has_its_encoding(model: str, encoding: str) -> None:
    asked: list[str] = []
    loaded = threading.Event()

    def load(name: str) -> Encoding:
        asked.append(name)
        loaded.set()
        return Encoding()

    TokenCounter(load).count("Hello", model)
    assert loaded.wait(5)
    assert asked == [encoding]


@pytest.mark.parametrize("model", ["claude-3-5-haiku", "gemini-2.5-flash", "llama", "", None])
def test_for_other_models_nothing_is_loaded(model: str | None) -> None:
    def load(name: str) -> Encoding:
        raise AssertionError("nobody asked for it")

    assert TokenCounter(load).count("Hello", model) == estimate("Hello")


def test_an_encoding_is_loaded_once_however_many_ask() -> None:
    asked: list[str] = []

    def load(name: str) -> Encoding:
        asked.append(name)
        time.sleep(0.05)
        return Encoding()

    counter = TokenCounter(load)
    threads = [threading.Thread(target=counter.count, args=("Hello", "gpt-4o")) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    count_until(counter, 5)
    assert asked == ["o200k_base"]


def test_while_it_loads_and_if_it_never_ends_nobody_waits() -> None:
    never = threading.Event()
    counter = TokenCounter(lambda name: never.wait())
    began = time.perf_counter()
    for _ in range(100):
        assert counter.count("Hello", "gpt-4o") == estimate("Hello")
    assert time.perf_counter() - began < 0.2
    never.set()


@pytest.mark.parametrize("error", [OSError("offline"), ImportError("no tiktoken"), KeyError("?")])
def test_an_encoding_that_cannot_be_had_is_estimated_for_good(error: Exception) -> None:
    asked: list[str] = []

    def load(name: str) -> Encoding:
        asked.append(name)
        raise error

    counter = TokenCounter(load)
    for _ in range(20):
        assert counter.count("Hello", "gpt-4o") == estimate("Hello")
        time.sleep(0.001)
    assert asked == ["o200k_base"]


def test_an_encoding_that_comes_too_late_is_left_alone() -> None:
    loaded = threading.Event()

    def load(name: str) -> Encoding:
        time.sleep(0.05)
        loaded.set()
        return Encoding()

    counter = TokenCounter(load, patience=0.01)
    counter.count("Hello", "gpt-4o")
    assert loaded.wait(5)
    time.sleep(0.02)
    assert counter.count("Hello", "gpt-4o") == estimate("Hello")


def test_the_thread_that_loads_does_not_keep_a_program_alive() -> None:
    never = threading.Event()
    TokenCounter(lambda name: never.wait()).count("Hello", "gpt-4o")
    (loading,) = [t for t in threading.enumerate() if t.name == "load o200k_base"]
    assert loading.daemon
    never.set()
    loading.join(5)


def test_a_text_too_long_to_encode_in_time_is_estimated() -> None:
    class Slow:
        def encode_ordinary(self, text: str) -> list[int]:
            assert len(text) <= 100_000
            return [0] * 7

    counter = TokenCounter(lambda name: Slow())
    count_until(counter, 7)
    assert counter.count("word " * 50_000, "gpt-4o") == estimate("word " * 50_000)


@pytest.mark.parametrize("text", ["a" * 100_000, "<|endoftext|> and <|fim_prefix|>"])
def test_texts_that_are_hard_for_an_encoding_are_counted(text: str) -> None:
    class Strict:
        def encode_ordinary(self, text: str) -> list[int]:
            return [0] * len(text)

    counter = TokenCounter(lambda name: Strict())
    count_until(counter, 5)
    assert counter.count(text, "gpt-4o") == len(text)
