"""Fitting a conversation to a context window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation.context_windows import CONTEXT_WINDOWS, context_window, input_budget
from conversation.records import StoredMessage
from conversation.window import MESSAGE_OVERHEAD, FittedPrompt, PromptTooLong, fit_prompt
from core.errors import InvalidRequest
from core.types import Message, Role


def never(message: Message) -> int:
    raise AssertionError(f"{message!r} was counted although its count is stored")


def length(message: Message) -> int:
    assert isinstance(message.content, str)
    return len(message.content)


NEW = [Message("user", "new")]


def message(role: Role, text: str, tokens: int | None = None) -> StoredMessage:
    return StoredMessage(Message(role, text), tokens)


def history_of(*sizes: int) -> list[StoredMessage]:
    """Turns whose question and answer have so many tokens each."""
    return [
        message(role, f"{role[0]}{n}", size)
        for n, size in enumerate(sizes)
        for role in ("user", "assistant")
    ]


def fit(
    history: list[StoredMessage], budget: int, system_prompt: str | None = None
) -> FittedPrompt:
    return fit_prompt(history, NEW, system_prompt=system_prompt, budget=budget, count_tokens=length)


def kept(fitted: FittedPrompt) -> list[str]:
    return [m.content for m in fitted.messages]


def test_all_fits() -> None:
    fitted = fit(history_of(5, 5), 1_000)
    assert kept(fitted) == ["u0", "a0", "u1", "a1", "new"]
    assert (fitted.tokens, fitted.dropped) == (4 * 5 + 3 + 5 * MESSAGE_OVERHEAD, 0)


def test_the_oldest_go_first_and_whole() -> None:
    new = 3 + MESSAGE_OVERHEAD
    one_turn = 2 * (5 + MESSAGE_OVERHEAD)
    assert kept(fit(history_of(5, 5), new + 2 * one_turn)) == ["u0", "a0", "u1", "a1", "new"]
    assert kept(fit(history_of(5, 5), new + 2 * one_turn - 1)) == ["u1", "a1", "new"]
    assert kept(fit(history_of(5, 5), new + one_turn - 1)) == ["new"]
    assert fit(history_of(5, 5), new + one_turn).dropped == 2


def test_nothing_older_than_a_turn_that_does_not_fit() -> None:
    assert kept(fit(history_of(1, 900, 1), 100)) == ["u2", "a2", "new"]


def test_the_system_prompt_counts_and_stays() -> None:
    history = history_of(5)
    budget = fit(history, 1_000).tokens
    assert fit(history, budget).dropped == 0
    assert fit(history, budget, system_prompt="s").dropped == 2
    assert fit(history, budget + 1 + MESSAGE_OVERHEAD, system_prompt="s").dropped == 0


def test_a_history_cut_inside_a_turn_begins_with_the_next_user() -> None:
    history = [message("assistant", "tail", 1), *history_of(1)]
    assert kept(fit(history, 1_000)) == ["u0", "a0", "new"]


def test_what_belongs_to_a_turn_stays_with_it() -> None:
    history = [message("user", "u", 1), message("tool", "t", 1), message("assistant", "a", 1)]
    assert kept(fit(history, 1_000)) == ["u", "t", "a", "new"]
    assert kept(fit(history, fit(history, 1_000).tokens - 1)) == ["new"]


@pytest.mark.parametrize("budget", [-5, 0, 6])
def test_a_prompt_that_does_not_fit_alone(budget: int) -> None:
    with pytest.raises(PromptTooLong, match="needs 7 tokens") as error:
        fit([], budget)
    assert isinstance(error.value, InvalidRequest)
    assert error.value.error_type == "context_too_long"
    assert fit([], 7).tokens == 7


def test_stored_counts_are_not_counted_again() -> None:
    history = history_of(*[20] * 500)

    def count(message: Message) -> int:
        return 1 if message in NEW else never(message)

    fitted = fit_prompt(history, NEW, system_prompt=None, budget=1_000_000, count_tokens=count)
    assert len(fitted.messages) == 1_001


STORED = st.builds(
    message,
    st.sampled_from(["user", "assistant", "tool"]),
    st.text(max_size=20),
    st.none() | st.integers(0, 50),
)


@given(
    history=st.lists(STORED, max_size=30),
    prompt=st.text(max_size=10),
    system_prompt=st.none() | st.text(max_size=10),
    budget=st.integers(-10, 800),
)
def test_what_always_holds(
    history: list[StoredMessage], prompt: str, system_prompt: str | None, budget: int
) -> None:
    def size(m: StoredMessage) -> int:
        return (length(m.message) if m.tokens is None else m.tokens) + MESSAGE_OVERHEAD

    alone = len(prompt) + MESSAGE_OVERHEAD
    alone += len(system_prompt) + MESSAGE_OVERHEAD if system_prompt else 0
    try:
        fitted = fit_prompt(
            history,
            [Message("user", prompt)],
            system_prompt=system_prompt,
            budget=budget,
            count_tokens=length,
        )
    except PromptTooLong:
        assert alone > budget
        return

    tail = history[fitted.dropped :]
    assert fitted.messages == (*(m.message for m in tail), Message("user", prompt))
    assert fitted.tokens == alone + sum(map(size, tail)) <= budget
    assert not tail or tail[0].message.role == "user"
    # Maximal: with the next older turn it would be too much.
    starts = [at for at in range(fitted.dropped) if history[at].message.role == "user"]
    if starts:
        assert alone + sum(map(size, history[starts[-1] :])) > budget


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("gpt-4o-mini", 128_000),
        ("gpt-4", 8_192),
        ("gpt-4-0613", 8_192),
        ("gpt-4-turbo-2024-04-09", 128_000),
        ("gpt-4.1-mini", 1_000_000),
        ("gpt-3.5-turbo", 16_385),
        ("gpt-5-mini", 400_000),
        ("claude-3-opus", 200_000),
        ("claude-sonnet-4-5-20250929", 200_000),
        ("gemini-2.5-flash", 1_000_000),
        ("models/gemini-2.5-pro", 1_000_000),
        ("OpenAI/GPT-4o", 128_000),
        ("my-own-model", 8_192),
        ("", 8_192),
    ],
)
def test_context_windows(model: str, tokens: int) -> None:
    assert context_window(model).tokens == tokens


def test_the_table_is_plausible() -> None:
    for prefix, window in CONTEXT_WINDOWS.items():
        assert prefix == prefix.lower()
        assert 4_096 <= window.max_input <= window.tokens <= 2_100_000


def test_input_budget() -> None:
    assert input_budget("gpt-4", max_output_tokens=192, margin=0) == 8_000
    assert input_budget("gpt-4", max_output_tokens=192) == 7_600
    assert input_budget("gpt-5", max_output_tokens=2_048, margin=0) == 272_000
    assert input_budget("gpt-5", max_output_tokens=200_000, margin=0) == 200_000
    assert input_budget("gpt-4", max_output_tokens=9_000) < 0
    with pytest.raises(InvalidRequest, match="margin"):
        input_budget("gpt-4", max_output_tokens=1, margin=1)
