"""KeyManager: reserving and settling, marking, the keys of the pool, and what it keeps packed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from core.errors import ConfigurationError, NoKeys, RequestTooLarge, StorageError
from core.events import Event, KeyCooledDown, subscribe
from core.redis_connection import RedisConnection, open_redis
from keys import planner
from keys.manager import KeyManager, build_key_manager
from keys.planner import MOST_SELECTIONS
from keys.policies import Need, charge_rejected, charge_unsent, policy_of
from keys.pool import MAX_CANDIDATES
from keys.registry import KeyRegistry
from keys.reservations import End, Refused, Reservation
from keys.selection import Selection
from keys.spec import KeySpec
from lua.limiter_types import Charge, Mark
from tests.conftest import MakeSettings
from tests.keys.fakes import entry, spec, text_of
from tests.servers import PlainServer

NEED = Need(input=100, expected_output=50, max_output=200)
Make = Callable[..., KeyManager]


@pytest.fixture
def make(redis_server: RedisConnection, redis: redis_py.Redis, tmp_path: Path) -> Iterator[Make]:
    """Makes managers of these entries, as processes that share a Redis have them."""
    made: list[KeyManager] = []
    numbers = itertools.count()

    def manager(*entries: dict[str, Any], **options: Any) -> KeyManager:
        path = tmp_path / f"keys-{next(numbers)}.json"
        path.write_text(text_of(*entries))
        made.append(KeyManager(redis_server, KeyRegistry(path), **options))
        return made[-1]

    yield manager
    for one in made:
        one.close()


_ids = itertools.count()


def reserve(manager: KeyManager, *models: str, need: Need = NEED, **options: Any) -> Any:
    options.setdefault("reservation_id", f"r{next(_ids)}")
    return manager.reserve(need, Selection(models), lease_seconds=30, **options)


def settle(
    manager: KeyManager,
    reservation: Reservation,
    charge: Charge,
    *marks: Mark,
    answered: bool = True,
) -> None:
    good = answered and charge.requests == 1 and not marks
    manager.settle(reservation, End(charge, answered=good, marks=marks))


def key_of(outcome: Any) -> str:
    assert isinstance(outcome, Reservation), outcome
    return outcome.key.key_id


# -- reserving and settling --------------------------------------------------------------------


def test_a_reservation_names_its_key_and_charges_it(make: Make) -> None:
    manager = make(entry("a", rpm=10, tpm=1000, base_url="http://localhost/v1"))
    reservation = reserve(manager)
    assert reservation.key == manager.registry.get("a")
    assert reservation.need == NEED
    status = manager.get_key_status("a")
    assert (status["rpm"]["used"], status["tpm"]["used"]) == (1, 200)


def test_a_settlement_replaces_the_estimate_by_what_was_used(make: Make) -> None:
    manager = make(entry("a", provider="gemini", rpm=10, tpm=1000, max_parallel=2))
    reservation = reserve(manager)
    assert manager.get_key_status("a")["parallel"]["used"] == 1
    settle(manager, reservation, Charge(1, 30, 30, 7))
    status = manager.get_key_status("a")
    assert (status["rpm"]["used"], status["tpm"]["used"]) == (1, 30)
    assert (status["itpm"]["used"], status["otpm"]["used"]) == (30, 7)
    assert status["parallel"]["used"] == 0


def test_what_never_left_is_given_back_whole(make: Make) -> None:
    manager = make(entry("a", rpm=1, tpm=1000))
    settle(manager, reserve(manager), charge_unsent())
    assert key_of(reserve(manager)) == "a"


def test_what_was_refused_keeps_its_request(make: Make) -> None:
    manager = make(entry("a", provider="gemini", rpm=10, tpm=1000))
    reservation = reserve(manager)
    rejected = charge_rejected(policy_of("gemini"), reservation.weights)
    settle(manager, reservation, rejected, answered=False)
    status = manager.get_key_status("a")
    assert (status["rpm"]["used"], status["tpm"]["used"]) == (1, 0)


def test_the_same_reservation_twice_is_the_same_and_charged_once(make: Make) -> None:
    manager = make(entry("a", rpm=10), entry("b", rpm=10))
    first = reserve(manager, reservation_id="same")
    again = reserve(manager, reservation_id="same")
    assert first.key == again.key
    assert sum(status["rpm"]["used"] for status in manager.get_all_key_statuses()) == 1


def test_a_settlement_counts_once(make: Make) -> None:
    manager = make(entry("a", provider="gemini", tpm=1000))
    reservation = reserve(manager)
    for _ in range(2):
        settle(manager, reservation, Charge(1, 30, 30, 0))
    assert manager.get_key_status("a")["tpm"]["used"] == 30


def test_a_full_pool_is_refused_with_a_reason_and_a_time(make: Make) -> None:
    manager = make(entry("a", rpm=1), entry("b", rpm=1), entry("c", active=False))
    reserve(manager)
    reserve(manager)
    refused = reserve(manager)
    assert isinstance(refused, Refused)
    assert refused.retry_after == pytest.approx(60.5, abs=1)
    assert refused.reason == "no key has room now: 2 full"


def test_the_reason_counts_what_stands_in_the_way(make: Make) -> None:
    manager = make(
        entry("full", rpm=1), entry("cooling"), entry("busy", max_parallel=1), entry("small", tpm=5)
    )
    manager.mark_key_unhealthy("cooling", 100)
    reserve(manager)
    reserve(manager)
    refused = reserve(manager)
    assert isinstance(refused, Refused)
    for part in ("1 full", "1 busy", "1 cooling down or out of rotation", "1 too small"):
        assert part in refused.reason


def test_keys_that_are_all_out_until_somebody_acts_give_no_time(make: Make) -> None:
    manager = make(entry("a"))
    settle(manager, reserve(manager), charge_unsent(), Mark("k:a", "invalid", -1, "revoked"))
    refused = reserve(manager)
    assert isinstance(refused, Refused)
    assert refused.retry_after is None


def test_a_request_too_large_for_every_key_is_told_its_size(make: Make) -> None:
    manager = make(entry("a", tpm=150), entry("b", tpm=199))
    with pytest.raises(RequestTooLarge, match="100 input and up to 200 output"):
        reserve(manager)


def test_no_key_that_fits_is_told_with_those_that_are_there(make: Make) -> None:
    manager = make(entry("a"), entry("b", model_name="idle", active=False))
    with pytest.raises(NoKeys, match=r"model nope; configured models: gpt-4o-mini$"):
        reserve(manager, "nope")


# -- avoiding ----------------------------------------------------------------------------------


def test_what_is_avoided_is_left_out(make: Make) -> None:
    manager = make(entry("a"), entry("b", priority=1), entry("c", provider="gemini", priority=2))
    assert key_of(reserve(manager)) == "a"
    assert key_of(reserve(manager, avoid={"k:a"})) == "b"
    assert key_of(reserve(manager, avoid={"g:openai/a", "g:openai/b"})) == "c"
    assert key_of(reserve(manager, avoid={"p:openai"})) == "c"
    with pytest.raises(NoKeys, match="was tried and failed"):
        reserve(manager, avoid={"p:openai", "p:gemini"})


def test_avoiding_leaves_no_trace_in_later_requests(make: Make) -> None:
    manager = make(entry("a"), entry("b", priority=1))
    reserve(manager, avoid={"k:a"})
    assert key_of(reserve(manager)) == "a"


# -- choosing ----------------------------------------------------------------------------------


def test_the_caller_s_models_are_tried_in_their_order(make: Make) -> None:
    manager = make(entry("a", model_name="x", rpm=1), entry("b", model_name="y", rpm=5))
    assert [key_of(reserve(manager, "x", "y")) for _ in range(3)] == ["a", "b", "b"]


def test_equal_keys_take_turns(make: Make) -> None:
    manager = make(*(entry(name, rpm=100) for name in "abcd"))
    assert sorted(key_of(reserve(manager)) for _ in range(8)) == sorted("abcd" * 2)


def test_the_roll_back_switch_serves_each_model_with_its_first_key_alone(make: Make) -> None:
    manager = make(
        entry("a", model_name="x", rpm=1),
        entry("b", model_name="x", rpm=9),
        entry("c", model_name="y", rpm=9),
        rotate=False,
    )
    assert key_of(reserve(manager, "x")) == "a"
    assert isinstance(reserve(manager, "x"), Refused)
    assert key_of(reserve(manager, "x", "y")) == "c"


def test_keys_beyond_the_first_part_of_a_large_pool_serve_too(make: Make) -> None:
    names = [f"k{n:03}" for n in range(MAX_CANDIDATES + 8)]
    manager = make(*(entry(name, rpm=1) for name in names))
    served = [key_of(reserve(manager)) for _ in names]
    assert sorted(served) == names
    assert isinstance(reserve(manager), Refused)


def test_a_large_pool_shares_its_load(make: Make) -> None:
    names = [f"k{n:03}" for n in range(2 * MAX_CANDIDATES)]
    manager = make(*(entry(name, rpm=1000) for name in names))
    served = {key_of(reserve(manager)) for _ in range(6 * len(names))}
    assert len(served) > 0.9 * len(names)


def test_who_waits_is_served_by_whichever_key_of_a_large_pool_has_room_first(make: Make) -> None:
    first = [entry(f"a{n:02}", rpm=1, quota_group="soon") for n in range(MAX_CANDIDATES)]
    manager = make(*first, entry("later"), window_seconds=0.5)
    manager.mark_key_unhealthy("later", 100)
    assert key_of(reserve(manager)).startswith("a")
    assert key_of(reserve(manager, max_wait=3)).startswith("a")


# -- marks -------------------------------------------------------------------------------------


def test_a_mark_is_seen_by_every_process_and_ends(make: Make) -> None:
    mine, theirs = make(entry("a"), entry("b", priority=1)), make(entry("a"))
    mine.mark_key_unhealthy("a", cooldown_seconds=0.2, reason="maintenance")
    status = theirs.get_key_status("a")
    assert (status["available"], status["state"]) == (False, "throttled")
    assert status["reason"] == "maintenance"
    assert status["cooldown_seconds"] == pytest.approx(0.2, abs=0.1)
    assert key_of(reserve(mine)) == "b"
    threading.Event().wait(0.25)
    assert theirs.get_key_status("a")["available"]
    assert key_of(reserve(mine)) == "a"


def test_a_mark_can_be_taken_back(make: Make) -> None:
    manager = make(entry("a", quota_group="team"))
    spent = Mark("g:openai/team", "exhausted", -1, "no credit")
    settle(manager, reserve(manager), charge_unsent(), spent)
    manager.mark_key_unhealthy("a", 100)
    assert isinstance(reserve(manager), Refused)
    manager.mark_key_healthy("a")
    assert key_of(reserve(manager)) == "a"


def test_a_reason_of_many_lines_or_with_signs_of_ours_is_kept_short_and_whole(make: Make) -> None:
    manager = make(entry("a"))
    manager.mark_key_unhealthy("a", 5, "one|two\nthree\t" + "x" * 1000)
    reason = manager.get_key_status("a")["reason"]
    assert reason.startswith("one|two three x")
    assert len(reason) <= 200


def test_a_mark_of_no_seconds_does_nothing(make: Make) -> None:
    manager = make(entry("a"))
    manager.mark_key_unhealthy("a", 0)
    assert manager.get_key_status("a")["available"]


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "soon", None])
def test_a_wrong_time_is_refused_and_named(make: Make, seconds: Any) -> None:
    manager = make(entry("a"))
    with pytest.raises(ConfigurationError, match="cooldown_seconds"):
        manager.mark_key_unhealthy("a", seconds)


def test_the_longest_of_the_marks_on_a_key_and_its_group_is_shown(make: Make) -> None:
    manager = make(entry("a", quota_group="team"), entry("b", quota_group="team"))
    marks = [
        Mark("g:openai/team", "exhausted", 300_000, "no credit"),
        Mark("k:a", "throttled", 5_000, "429"),
        Mark("p:openai", "throttled", 50_000, "outage"),
    ]
    settle(manager, reserve(manager), charge_unsent(), *marks)
    for name in "ab":
        status = manager.get_key_status(name)
        assert status["cooldown_seconds"] == pytest.approx(300, abs=2)
        assert (status["state"], status["reason"]) == ("exhausted", "no credit")


def test_a_mark_is_told_to_whoever_watches(make: Make) -> None:
    seen: list[Event] = []
    stop = subscribe(seen.append)
    manager = make(entry("a"))
    seen.clear()
    manager.mark_key_unhealthy("a", 7, "maintenance")
    stop()
    assert seen == [KeyCooledDown("openai", "a", "throttled", 7, "maintenance")]


# -- the pool ----------------------------------------------------------------------------------


def test_a_key_that_is_added_serves_at_once(make: Make) -> None:
    manager = make(entry("a", rpm=1))
    reserve(manager)
    assert manager.add_key(entry("b", rpm=1)).key_id == "b"
    assert key_of(reserve(manager)) == "b"
    manager.add_key(spec("c"))
    assert key_of(reserve(manager)) == "c"


def test_a_key_that_is_removed_serves_no_more(make: Make) -> None:
    manager = make(entry("a"), entry("b", priority=1))
    assert key_of(reserve(manager)) == "a"
    manager.remove_key("a")
    assert key_of(reserve(manager)) == "b"
    with pytest.raises(ConfigurationError, match='no key "a"'):
        manager.get_key_status("a")


def test_a_reservation_outlives_the_removal_of_its_key(make: Make) -> None:
    manager, beside = make(entry("a", max_parallel=1), entry("b")), make(entry("a", max_parallel=1))
    reservation = reserve(manager, avoid={"k:b"})
    manager.remove_key("a")
    settle(manager, reservation, Charge(1, 10, 10, 1))
    assert beside.get_key_status("a")["parallel"]["used"] == 0


def test_an_id_that_is_taken_is_refused(make: Make) -> None:
    manager = make(entry("a"))
    with pytest.raises(ConfigurationError, match="a"):
        manager.add_key(entry("a", rpm=5))


@pytest.mark.parametrize(
    "wrong", [{}, {"key_id": "x"}, entry("x", rpm=-1), entry("x", colour="red"), [], "x"]
)
def test_a_wrong_entry_is_refused(make: Make, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="add_key"):
        make(entry("a")).add_key(wrong)


@pytest.mark.parametrize("method", ["get_key_status", "mark_key_healthy", "remove_key"])
def test_an_unknown_key_is_refused_with_the_known_ones(make: Make, method: str) -> None:
    manager = make(entry("a"), entry("b"))
    with pytest.raises(ConfigurationError, match='no key "nope"; known are: a, b'):
        getattr(manager, method)("nope")


def test_the_file_is_read_again_on_demand(make: Make, tmp_path: Path) -> None:
    manager = make(entry("a"))
    (tmp_path / "keys-0.json").write_text(text_of(entry("b"), entry("c")))
    assert manager.reload_keys() == 2
    assert key_of(reserve(manager)) in ("b", "c")


# -- status ------------------------------------------------------------------------------------


def test_a_status_shows_each_limit_with_its_use(make: Make) -> None:
    limits = {"rpm": 10, "tpm": 2000, "itpm": 900, "otpm": 800, "rpd": 100, "tpd": 9000}
    manager = make(entry("a", provider="anthropic", max_parallel=4, **limits))
    reserve(manager)
    status = manager.get_key_status("a")
    used = {"rpm": 1, "tpm": 150, "itpm": 100, "otpm": 200, "rpd": 1, "tpd": 150}
    for name, limit in limits.items():
        assert status[name] == {"used": used[name], "limit": limit}  # type: ignore[literal-required]
    assert status["parallel"] == {"used": 1, "limit": 4}
    assert status["key_id"] == status["quota_group"] == "a"
    assert (status["provider"], status["active"], status["available"]) == ("anthropic", True, True)
    assert (status["state"], status["reason"], status["cooldown_seconds"]) == ("available", "", 0)


def test_a_status_of_a_key_that_was_never_used_is_empty(make: Make) -> None:
    status = make(entry("a")).get_key_status("a")
    assert status["rpm"] == {"used": 0, "limit": None}
    assert status["available"]


def test_asking_for_a_status_changes_nothing(make: Make, redis: redis_py.Redis) -> None:
    manager = make(entry("a", rpm=2), entry("b", provider="gemini"))
    reserve(manager)
    before = {name: redis.dump(name) for name in redis.scan_iter()}
    manager.get_all_key_statuses()
    manager.health_check()
    assert {name: redis.dump(name) for name in redis.scan_iter()} == before


def test_all_statuses_come_in_the_order_of_the_file(make: Make) -> None:
    entries = [entry("z"), entry("a", provider="gemini"), entry("m"), entry("b", provider="gemini")]
    statuses = make(*entries).get_all_key_statuses()
    assert [status["key_id"] for status in statuses] == ["z", "a", "m", "b"]


def test_an_inactive_key_is_shown_as_disabled(make: Make) -> None:
    status = make(entry("a"), entry("b", active=False)).get_key_status("b")
    assert (status["state"], status["available"]) == ("disabled", False)
    assert "active is false" in status["reason"]


def test_health_counts_the_keys_that_may_serve_and_says_why_others_may_not(make: Make) -> None:
    manager = make(entry("a"), entry("b"), entry("c", active=False))
    manager.mark_key_unhealthy("b", 50, "maintenance")
    health = manager.health_check()
    assert health["healthy"]
    assert (health["total"], health["available"]) == (3, 1)
    assert health["unavailable"]["b"] == "maintenance"
    manager.mark_key_unhealthy("a", 50)
    assert manager.health_check()["healthy"] is False


def test_redis_out_of_reach_is_a_typed_error_and_no_failure_of_the_health_check(
    settings: MakeSettings, tmp_path: Path
) -> None:
    (tmp_path / "keys.json").write_text(text_of(entry("a")))
    with PlainServer(tmp_path / "server") as server:
        chosen = settings(
            redis_url=server.url, keys_file=tmp_path / "keys.json", llm_on_redis_down="fail"
        )
        with open_redis(chosen) as connection:
            manager = build_key_manager(chosen, connection)
            reservation = reserve(manager)
            server.kill()
            settle(manager, reservation, charge_unsent())  # it is told later
            for act in (
                lambda: reserve(manager),
                lambda: manager.get_key_status("a"),
                lambda: manager.mark_key_unhealthy("a", 1),
                lambda: manager.mark_key_healthy("a"),
            ):
                with pytest.raises(StorageError):
                    act()
            health = manager.health_check()
            assert health["healthy"] is False
            assert health["reason"]
            manager.close()


# -- pools -------------------------------------------------------------------------------------


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A number for each pool that is packed: how many candidates it has."""
    made: list[int] = []
    plan_rounds = planner.plan_rounds

    def counted(candidates: Any, *rest: Any) -> Any:
        made.append(len(candidates))
        return plan_rounds(candidates, *rest)

    monkeypatch.setattr(planner, "plan_rounds", counted)
    return made


def test_a_selection_s_keys_are_packed_once(make: Make, packed: list[int]) -> None:
    manager = make(entry("a", model_name="x"), entry("b", model_name="y"))
    for _ in range(5):
        reserve(manager)
        reserve(manager, "x")
    assert packed == [2, 1]


@pytest.mark.parametrize(
    "change",
    [
        lambda manager, path: manager.add_key(entry("c")),
        lambda manager, path: manager.remove_key("b"),
        lambda manager, path: (path.write_text(text_of(entry("a"))), manager.reload_keys()),
    ],
    ids=["add", "remove", "reload"],
)
def test_they_are_packed_anew_when_the_keys_change(
    make: Make, packed: list[int], tmp_path: Path, change: Any
) -> None:
    manager = make(entry("a"), entry("b"))
    reserve(manager)
    change(manager, tmp_path / "keys-0.json")
    reserve(manager)
    reserve(manager)
    assert len(packed) == 2


def test_what_was_packed_while_the_keys_changed_is_not_kept(
    redis_server: RedisConnection, redis: redis_py.Redis, tmp_path: Path
) -> None:
    class Changing(KeyRegistry):
        """Loses key "a" just after somebody has looked at the keys."""

        change = False

        def keys(self) -> tuple[KeySpec, ...]:
            found = super().keys()
            if self.change:
                self.change = False
                self.remove("a")
            return found

    path = tmp_path / "keys.json"
    path.write_text(text_of(entry("a"), entry("b", priority=1)))
    registry = Changing(path)
    manager = KeyManager(redis_server, registry)
    registry.change = True
    reserve(manager)
    assert [key_of(reserve(manager)) for _ in range(3)] == ["b", "b", "b"]
    manager.close()


def test_many_models_that_nobody_serves_do_not_fill_the_memory(make: Make) -> None:
    manager = make(entry("a", model_name="x"))
    for n in range(MOST_SELECTIONS + 50):
        manager._planner.rounds_for(Selection(("x", f"unknown-{n}")), ())
    assert len(manager._planner._rounds) <= MOST_SELECTIONS


def test_threads_that_reserve_while_keys_come_and_go_never_fail(make: Make) -> None:
    manager = make(entry("a"), entry("b"))

    def come_and_go() -> None:
        for _ in range(100):
            manager.add_key(entry("c"))
            manager.remove_key("c")

    def use() -> list[str]:
        return [key_of(reserve(manager)) for _ in range(100)]

    with ThreadPoolExecutor(5) as pool:
        changing = pool.submit(come_and_go)
        using = [pool.submit(use) for _ in range(4)]
        changing.result()
        served = {name for future in using for name in future.result()}
    assert served <= {"a", "b", "c"}
