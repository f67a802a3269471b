"""Retries are at most a share of the requests, beside a small allowance."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from llm.routing.retry_budget import LARGEST, LEAST_A_SECOND, START, RetryBudget


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(budget: RetryBudget, provider: str = "s:p", tries: int = 1000) -> int:
    return sum(budget.take(provider) for _ in range(tries))


def test_a_new_program_has_some_retries_and_then_none() -> None:
    budget = RetryBudget(0.2, clock=Clock())
    assert taken(budget) == START
    assert taken(budget) == 0


def test_each_request_pays_its_share_in() -> None:
    budget = RetryBudget(0.25, clock=Clock())
    taken(budget)
    for _ in range(40):
        budget.count("s:p")
    assert taken(budget) == 10


def test_a_lull_is_no_credit_for_a_storm() -> None:
    clock = Clock()
    budget = RetryBudget(1.0, clock=clock)
    for _ in range(10_000):
        budget.count("s:p")
    clock.now = 1e6
    assert taken(budget) == LARGEST


def test_who_asks_seldom_may_retry_all_the_same() -> None:
    clock = Clock()
    budget = RetryBudget(0.0, clock=clock)
    taken(budget)
    clock.now += 6.0
    assert taken(budget) == 6.0 * LEAST_A_SECOND


def test_providers_do_not_share_a_budget() -> None:
    budget = RetryBudget(0.2, clock=Clock())
    taken(budget)
    assert budget.take("s:another")


def test_what_was_not_used_is_given_back() -> None:
    budget = RetryBudget(0.0, clock=Clock())
    taken(budget)
    budget.give_back("s:p")
    assert taken(budget) == 1


@given(st.lists(st.sampled_from(["count", "take"]), max_size=300), st.floats(0, 1))
def test_retries_never_exceed_their_share(acts: list[str], share: float) -> None:
    budget = RetryBudget(share, clock=Clock())
    requests = retries = 0
    for act in acts:
        if act == "count":
            budget.count("s:p")
            requests += 1
        else:
            retries += budget.take("s:p")
        assert retries <= START + share * requests + 1e-6


def test_threads_never_take_more_than_there_is() -> None:
    budget = RetryBudget(0.0, clock=Clock())
    counts: list[int] = []
    threads = [threading.Thread(target=lambda: counts.append(taken(budget))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == START
