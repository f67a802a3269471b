"""The tables: what they show, and how they fit a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from keys.status import KeyStatus, LimitUse
from llm.tables import attempts_table, health_table, keys_table, short

NO_LIMIT = LimitUse(used=0, limit=None)


def status(key_id: str, **fields: Any) -> KeyStatus:
    usual: dict[str, Any] = {
        "key_id": key_id,
        "provider": "openai",
        "model_name": "gpt-4o-mini",
        "quota_group": key_id,
        "active": True,
        "available": True,
        "state": "available",
        "reason": "",
        "cooldown_seconds": 0.0,
        "rpm": LimitUse(used=3, limit=12),
        "tpm": LimitUse(used=1_234, limit=40_000),
        "itpm": NO_LIMIT,
        "otpm": NO_LIMIT,
        "rpd": LimitUse(used=10, limit=1_500),
        "tpd": NO_LIMIT,
        "parallel": LimitUse(used=2, limit=6),
    }
    return KeyStatus(**{**usual, **fields})


def drawn(statuses: list[KeyStatus], width: int, **options: bool) -> list[str]:
    console = Console(width=width, force_terminal=False)
    with console.capture() as shown:
        console.print(keys_table(statuses, width, **options))
    return [line.rstrip() for line in shown.get().splitlines()]


POOL = [
    status("openai-1"),
    status("openai-2", available=False, state="invalid", reason="auth_failed: 401 " + "x" * 200,
           cooldown_seconds=None),
    status("openai-3", available=False, state="throttled", cooldown_seconds=33.2),
    status("openai-4", rpm=LimitUse(used=12, limit=12)),
]  # fmt: skip


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 140, 200])
@pytest.mark.parametrize("steady", [False, True])
def test_a_table_fits_its_terminal_in_one_line_a_key(width: int, steady: bool) -> None:
    lines = drawn(POOL, width, steady=steady)
    assert len(lines) == len(POOL) + 4
    assert all(len(line) <= width for line in lines)
    assert "openai-2" in lines[3]
    assert "invalid" in lines[3]


def test_a_wide_terminal_shows_all_there_is() -> None:
    lines = drawn(POOL, 160)
    titles = "key provider model state rpm tpm rpd in flight cooldown reason"
    assert lines[0].split() == titles.split()
    assert "open end" in lines[3]
    assert "33 s" in lines[4]
    assert "full" in lines[5]
    assert "12/12" in lines[5]


def test_the_sums_count_a_shared_quota_once() -> None:
    shared = [status("a", quota_group="team"), status("b", quota_group="team"), status("c")]
    last = drawn(shared, 120)[-1]
    assert "3 keys" in last
    assert "3 may serve" in last
    assert "6/24" in last


def test_what_no_key_has_takes_no_room() -> None:
    plain = [status("a", rpd=NO_LIMIT, parallel=NO_LIMIT)]
    assert "rpd" not in drawn(plain, 160)[0]
    assert "in flight" not in drawn(plain, 160)[0]
    assert "cooldown" in drawn(plain, 160, steady=True)[0]


def test_input_and_output_apart_show_the_scarcer() -> None:
    apart = status("a", tpm=NO_LIMIT, itpm=LimitUse(used=10, limit=1_000),
                   otpm=LimitUse(used=500, limit=1_000))  # fmt: skip
    assert "out 500/1k" in drawn([apart], 160)[2]


def test_bars_in_ascii() -> None:
    assert "##......" in drawn([status("a")], 160, ascii_only=True)[2]


def test_names_are_never_markup() -> None:
    assert "[red]" in drawn([status("[red]a")], 160)[2]


def test_health_shows_details() -> None:
    console = Console(width=100)
    keys = {"healthy": False, "reason": "0 of 7", "unavailable": dict.fromkeys("abcdefg", "?")}
    with console.capture() as shown:
        console.print(health_table({"healthy": False, "keys": keys}))
    assert "unhealthy" in shown.get()
    assert "and 2 more" in shown.get()


def test_attempts_show_each_try() -> None:
    console = Console(width=100)
    failed = {"key_id": "a", "provider": "p", "model": "m", "duration_ms": 12.4,
              "outcome": "auth_failed", "error": "401"}  # fmt: skip
    with console.capture() as shown:
        console.print(attempts_table([failed]))
    assert shown.get().splitlines()[2].split() == ["1", "a", "m", "auth_failed", "12", "401"]


def test_short_numbers() -> None:
    found = [short(number) for number in (0, 999, 1_000, 1_234, 250_000, 2_000_000, 3_500_000_000)]
    assert found == ["0", "999", "1k", "1.2k", "250k", "2M", "3.5G"]
