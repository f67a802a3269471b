"""The numbers of the demo's summary: what counts, and what does not."""

from __future__ import annotations

from typing import Any

from keys.spec import KeySpec
from llm.demo.facts import facts_of

KEY = KeySpec(key_id="a-1", model_name="m", provider="openai", rpm=4)


def attempt(outcome: str, duration_ms: float = 100.0) -> dict[str, Any]:
    return {"key_id": "a-1", "outcome": outcome, "duration_ms": duration_ms}


def reply(name: str, *attempts: dict[str, Any], error: str | None = None) -> dict[str, Any]:
    found = {
        "request_id": name,
        "success": error is None,
        "provider": "openai",
        "attempts": list(attempts),
        "duration_ms": sum(each["duration_ms"] for each in attempts) + 2.0,
    }
    return found if error is None else {**found, "error_type": error}


def key_report(accepted_at: list[float], **refused_by: int) -> dict[str, Any]:
    return {
        "accepted_at": [(at, 10) for at in accepted_at],
        "refused_by": refused_by,
        "limits": {"rpm": {"overshoot": 0}, "tpm": {"overshoot": 3}},
    }


def facts(replies: list[dict[str, Any]], waited: set[str], report: dict[str, Any]) -> Any:
    whole = {"keys": {"a-1": report, "somebody-else": key_report([0.0] * 99, rpm=99)}}
    return facts_of(replies, waited, whole, [KEY], 10.0)  # type: ignore[arg-type]


def test_requests_are_counted_by_how_they_ended() -> None:
    found = facts(
        [
            reply("1", attempt("success")),
            reply("2", attempt("auth_failed"), attempt("timeout"), attempt("success")),
            reply("3", attempt("timeout"), error="timeout"),
            reply("4", error="no_keys"),
        ],
        set(),
        key_report([0.0]),
    )
    assert (found.sent, found.answered) == (4, 2)
    assert found.failed == {"timeout": 1, "no_keys": 1}
    assert found.retries == 2
    assert found.retried_for == {"auth_failed": 1, "timeout": 1}


def test_only_limits_count_as_refusals_of_a_provider() -> None:
    found = facts([], set(), key_report([0.0], rpm=2, otpm=1, revoked=5, UNAVAILABLE=7))
    assert (found.limited, found.beyond) == (3, 3)


def test_the_share_is_of_the_first_two_windows_from_the_first_request_on() -> None:
    found = facts([], set(), key_report([100.0, 101.0, 105.0, 111.0, 119.9, 120.0, 130.0]))
    assert (found.accepted, found.permitted) == (5, 8)
    assert found.share == 5 / 8


def test_latency_is_of_requests_that_neither_waited_nor_were_retried() -> None:
    replies = [
        reply("1", attempt("success", 300.0)),
        reply("waited", attempt("success", 900.0)),
        reply("retried", attempt("timeout", 5.0), attempt("success", 5.0)),
    ]
    found = facts(replies, {"waited"}, key_report([0.0]))
    assert (found.direct, found.added_ms, found.call_ms) == (1, 2.0, 300.0)


def test_without_any_such_request_nothing_is_claimed() -> None:
    assert facts([], set(), key_report([])).direct == 0
