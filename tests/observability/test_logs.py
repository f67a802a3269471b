"""Log lines: one for each event, with its level, its fields, and the id of its request."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from core import events as all_events
from core.events import (
    AdmittedLocally,
    AttemptFinished,
    CapacityWaited,
    CircuitOpened,
    ConversationNotSaved,
    Event,
    KeyChanged,
    KeyCooledDown,
    KeysLoaded,
    KeysRejected,
    RedisAway,
    RedisBack,
    RedisRecovering,
    RequestFinished,
    SecretChanged,
    SecretNotRefreshed,
    SecretStoreFailing,
    SecretStoreRestored,
    SettleFailed,
    StorageDegraded,
    UserRefused,
    emit,
)
from observability.logs import LOGGER, follow_with_logs
from tests.conftest import MakeSettings
from tests.integration.routers import MakeRouter, key
from tools.simulated_provider import SimulatedProvider

Lines = list[str]

ONE_OF_EACH: list[tuple[Event, str]] = [
    (AttemptFinished("r1", "a", "openai", "m", "success", 1.0), "DEBUG"),
    (AttemptFinished("r1", "a", "openai", "m", "timeout", 1.0, "too late", 504), "WARNING"),
    (RequestFinished("r1", "success", "m", "a", 1, 3, 4, 1.0), "INFO"),
    (RequestFinished("r1", "no_keys", None, None, 0, 0, 0, 1.0, "nothing fits"), "WARNING"),
    (RequestFinished("r1", "user_rate_limited", None, None, 0, 0, 0, 1.0, "again"), "INFO"),
    (CapacityWaited("r1", True, 0.5), "DEBUG"),
    (UserRefused("r1", "bo", "user", 0.5), "DEBUG"),
    (KeyCooledDown("openai", "a", "throttled", 20.0, "429"), "WARNING"),
    (KeyChanged("a", "disable", "available", "disabled", "bo@here", "leaked"), "WARNING"),
    (CircuitOpened("openai", "a", "503", "r1"), "WARNING"),
    (SettleFailed("r1", "a", "Redis is away"), "ERROR"),
    (ConversationNotSaved("r1", "c", "Redis is away"), "ERROR"),
    (KeysLoaded("keys.json", 3), "INFO"),
    (KeysRejected("keys.json", "keys.json:1: no JSON"), "ERROR"),
    (StorageDegraded("in process only"), "WARNING"),
    (RedisAway("Redis at here", "refused", True, 4), "ERROR"),
    (RedisRecovering("Redis at here", "it was away", 7), "WARNING"),
    (RedisBack("Redis at here", 1.5, 7), "WARNING"),
    (AdmittedLocally("a", "openai"), "DEBUG"),
    (SecretStoreFailing("the Vault", "the Vault is sealed", 3600.0), "ERROR"),
    (SecretStoreRestored("the Vault", 12.0), "WARNING"),
    (SecretNotRefreshed("a", "denied", "the Vault refuses"), "ERROR"),
    (SecretChanged("a"), "INFO"),
]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What is written to our logger."""
    written: Lines = []
    handler = logging.Handler()
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.addHandler(handler)
    yield written
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def follow(settings: MakeSettings) -> Iterator[Callable[..., Callable[[], None]]]:
    ends: list[Callable[[], None]] = []

    def start(**values: Any) -> Callable[[], None]:
        ends.append(follow_with_logs(settings(**{"log_format": "json", **values})))
        return ends[-1]

    yield start
    for end in ends:
        end()


def test_every_kind_of_event_is_among_those_tested() -> None:
    kinds = {k for k in vars(all_events).values() if isinstance(k, type) and issubclass(k, Event)}
    assert {type(event) for event, _ in ONE_OF_EACH} == kinds - {Event}


@pytest.mark.parametrize(("event", "level"), ONE_OF_EACH, ids=lambda x: type(x).__name__)
def test_each_event_becomes_a_line_of_json_with_its_level_and_fields(
    follow: Callable[..., object], lines: Lines, event: Event, level: str
) -> None:
    follow(log_level="DEBUG")
    emit(event)
    (line,) = lines
    found = json.loads(line)
    assert found["level"] == level.lower()
    assert found["event"]
    assert datetime.fromisoformat(found["timestamp"])
    expected = {name: getattr(event, name) for name in event.__dataclass_fields__}
    for name, value in expected.items():
        assert found.get(name) == value


@pytest.mark.parametrize("threshold", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_lines_below_the_level_of_the_settings_are_not_written(
    follow: Callable[..., object], lines: Lines, threshold: str
) -> None:
    follow(log_level=threshold)
    for event, _ in ONE_OF_EACH:
        emit(event)
    least = logging.getLevelName(threshold)
    expected = [level for _, level in ONE_OF_EACH if logging.getLevelName(level) >= least]
    assert [json.loads(line)["level"].upper() for line in lines] == expected


def test_for_people_a_line_is_plain_text_with_the_same_fields(
    follow: Callable[..., object], lines: Lines
) -> None:
    follow(log_level="DEBUG", log_format="console")
    emit(RequestFinished("r1", "success", "m", "a", 1, 3, 4, 1.0))
    (line,) = lines
    assert "request_id=r1" in line
    assert "outcome=success" in line
    assert "\x1b[" not in line


def test_after_its_end_nothing_is_written(
    follow: Callable[..., Callable[[], None]], lines: Lines
) -> None:
    end = follow(log_level="DEBUG")
    end()
    emit(StorageDegraded("in process only"))
    assert lines == []


def test_the_lines_of_a_request_carry_the_id_of_its_reply(
    make_router: MakeRouter, simulator: SimulatedProvider, lines: Lines
) -> None:
    router = make_router(keys=[key("a"), key("b")], log_level="DEBUG", log_format="json")
    simulator.add_fault("server_error", times=1)
    replies = [router.send_one_shot("Hello"), router.send_chat("c", "Hello")]
    found = [json.loads(line) for line in lines]
    for reply, attempts in zip(replies, (2, 1), strict=True):
        own = [line for line in found if line.get("request_id") == reply["request_id"]]
        assert [line["event"] for line in own] == [
            *["attempt failed"] * (attempts - 1),
            "attempt",
            "request",
        ]


def test_a_key_that_a_request_took_out_is_logged_with_that_request(
    make_router: MakeRouter, simulator: SimulatedProvider, lines: Lines
) -> None:
    router = make_router(keys=[key("a"), key("b", priority=1)], log_format="json")
    simulator.revoke("a")
    reply = router.send_one_shot("Hello")
    passed_over = [json.loads(line) for line in lines if "key passed over" in line]
    assert [line.get("request_id") for line in passed_over] == [reply["request_id"]]


def test_two_routers_in_a_process_write_each_line_once(
    make_router: MakeRouter, lines: Lines
) -> None:
    first = make_router(keys=[key("a")], log_level="INFO", log_format="json")
    make_router(keys=[key("a")], log_level="INFO", log_format="json")
    lines.clear()
    first.send_one_shot("Hello")
    assert len(lines) == 1


_PROGRAM = """
import {first}
from core.events import RequestFinished, emit
from core.settings import Settings
from observability.logs import follow_with_logs
follow_with_logs(Settings(_env_file=None, log_level="INFO", log_format="json"))
emit(RequestFinished("r1", "success", "m", "a", 1, 3, 4, 1.0))
"""


@pytest.mark.parametrize(
    ("first", "programs_own"),
    [("sys", False), ("logging; logging.basicConfig(format='mine: %(message)s')", True)],
    ids=["none", "basicConfig"],
)
def test_lines_go_to_stderr_or_to_where_the_programs_own_logging_goes(
    first: str, programs_own: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(first=first)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith("mine: ") == programs_own
    assert json.loads(line.removeprefix("mine: "))["request_id"] == "r1"
    assert done.stdout == ""
