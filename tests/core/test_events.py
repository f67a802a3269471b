"""Events reach every subscriber, and none of them can harm the others or the one who emits."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from core.events import Event, KeysLoaded, StorageDegraded, emit, subscribe

HAPPENED = StorageDegraded("in process only")


def test_a_subscriber_gets_every_event_until_it_ends(events: list[Event]) -> None:
    stop = subscribe(events.append)
    emit(HAPPENED)
    emit(KeysLoaded("keys.json", 3))
    stop()
    emit(HAPPENED)
    assert events == [HAPPENED, KeysLoaded("keys.json", 3)]


def test_ending_twice_does_nothing(events: list[Event]) -> None:
    stop = subscribe(events.append)
    stop()
    stop()
    emit(HAPPENED)
    assert events == []


def test_an_end_concerns_that_subscription_alone(events: list[Event]) -> None:
    first, second = subscribe(events.append), subscribe(events.append)
    first()
    emit(HAPPENED)
    second()
    assert events == [HAPPENED]


def test_the_same_function_may_subscribe_twice_and_is_ended_one_by_one() -> None:
    seen: list[Event] = []

    def see(event: Event) -> None:
        seen.append(event)

    stops = [subscribe(see), subscribe(see)]
    emit(HAPPENED)
    stops[0]()
    emit(HAPPENED)
    stops[1]()
    emit(HAPPENED)
    assert len(seen) == 3


def test_a_subscriber_that_fails_is_logged_and_harms_nobody(
    events: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError("the observer is broken")

    stops = [subscribe(fail), subscribe(events.append)]
    with caplog.at_level(logging.ERROR):
        emit(HAPPENED)
    for stop in stops:
        stop()
    assert events == [HAPPENED]
    (record,) = caplog.records
    assert "StorageDegraded" in record.getMessage()
    assert record.exc_info


def test_an_interrupt_in_a_subscriber_is_passed_on() -> None:
    def interrupt(event: Event) -> None:
        raise KeyboardInterrupt

    stop = subscribe(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            emit(HAPPENED)
    finally:
        stop()


def test_a_subscriber_may_end_itself_while_it_is_called(events: list[Event]) -> None:
    stops: list[Any] = []

    def once(event: Event) -> None:
        stops[0]()
        events.append(event)

    stops.append(subscribe(once))
    after = subscribe(events.append)
    emit(HAPPENED)
    emit(HAPPENED)
    after()
    assert len(events) == 3


def test_a_subscriber_is_called_on_the_thread_that_emits() -> None:
    names: list[str] = []
    stop = subscribe(lambda event: names.append(threading.current_thread().name))
    thread = threading.Thread(target=emit, args=(HAPPENED,), name="the one that emits")
    thread.start()
    thread.join()
    stop()
    assert names == ["the one that emits"]


def test_subscriptions_that_come_and_go_under_threads_are_all_counted(
    quick_switches: None,
) -> None:
    counts = [0] * 8
    threads = []

    def come_and_go(index: int) -> None:
        def count(event: Event) -> None:
            counts[index] += 1

        for _ in range(300):
            subscribe(count)()
        stop = subscribe(count)
        done.wait()
        stop()

    done = threading.Barrier(len(counts) + 1)
    for index in range(len(counts)):
        threads.append(threading.Thread(target=come_and_go, args=(index,)))
        threads[-1].start()
    while done.n_waiting < len(counts):
        pass
    emit(HAPPENED)
    done.wait()
    for thread in threads:
        thread.join()
    assert counts == [1] * len(counts)
    emit(HAPPENED)
    assert counts == [1] * len(counts)


@pytest.fixture
def quick_switches() -> Iterator[None]:
    """Threads take turns as often as they can, so that a race shows."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def test_events_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        HAPPENED.reason = "another"  # type: ignore[misc]


@pytest.fixture
def events() -> list[Event]:
    return []
