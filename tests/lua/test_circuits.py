"""Circuits of keys and services: closed, open, half open with one probe for all processes."""

from __future__ import annotations

from typing import Any

from lua import limiter_calls
from lua.circuits import Circuit, CircuitRules, Pulse
from lua.limiter_types import CLEAR, LifeSign, Mark, NoRoom, Refusal, Reserved
from tests.lua.conftest import Bench

RULES = CircuitRules(failures=3, within_ms=60_000, open_ms=10_000, longest_ms=40_000)
FAILED = LifeSign(Pulse.FAILED, why="503")


def end(
    bench: Bench, reservation: str, name: str = "a", beat: LifeSign = FAILED, **more: Any
) -> None:
    answered = beat.pulse is Pulse.ANSWERED
    more = {"answered": answered, "life_sign": beat, "rules": RULES, **more}
    assert bench.settle(reservation, name, **more)


def fail(bench: Bench, name: str = "a", times: int = 1, beat: LifeSign = FAILED) -> None:
    for _ in range(times):
        reservation, answer = bench.reserve(bench.candidate(name))
        assert isinstance(answer, Reserved)
        end(bench, reservation, name, beat)


def circuits(bench: Bench, name: str = "a") -> tuple[str, str]:
    use = bench.use(name)[0]
    return use.key_circuit.state, use.service_circuit.state


def refused(bench: Bench, name: str = "a") -> NoRoom:
    answer = bench.reserve(bench.candidate(name))[1]
    assert isinstance(answer, NoRoom)
    return answer


def test_failures_of_a_key_one_after_the_other_open_its_circuit(bench: Bench) -> None:
    fail(bench, times=2)
    assert circuits(bench) == ("closed", "closed")
    fail(bench)
    assert circuits(bench) == ("open", "closed"), "one key says nothing of its provider"
    answer = refused(bench)
    assert answer.passed_over[0].why is Refusal.CIRCUIT
    assert answer.when_ms == bench.now + 10_000
    assert isinstance(bench.reserve(bench.candidate("b"))[1], Reserved)
    told = bench.use("a")[0].key_circuit
    assert told == Circuit("open", 1, bench.now + 10_000, "503")


def test_it_says_which_circuit_it_opened(bench: Bench) -> None:
    fail(bench, times=3)
    assert bench.settled[3] == 1
    fail(bench, "b")
    assert bench.settled[3] == 2, "the fourth failure, of a second key: the service's"
    assert limiter_calls.read_settled(bench.settled).service_opened


def test_any_answer_starts_the_count_anew(bench: Bench) -> None:
    fail(bench, times=2)
    reservation, _ = bench.reserve(bench.candidate("a"))
    # A refusal is an answer too: `answered` is about the request, the pulse about the service.
    end(bench, reservation, beat=LifeSign(Pulse.ANSWERED), answered=False)
    fail(bench, times=2)
    assert circuits(bench) == ("closed", "closed")


def test_what_tells_nothing_of_the_service_changes_nothing(bench: Bench) -> None:
    fail(bench, times=2)
    fail(bench, times=3, beat=LifeSign(Pulse.UNKNOWN))
    assert circuits(bench)[0] == "closed"
    fail(bench)
    assert circuits(bench)[0] == "open"


def test_failures_far_apart_do_not_count_together(bench: Bench) -> None:
    for _ in range(5):
        fail(bench, times=2)
        bench.now += RULES.within_ms + 1
    assert circuits(bench) == ("closed", "closed")


def test_failures_of_several_keys_open_the_circuit_of_their_service(bench: Bench) -> None:
    fail(bench, "a", times=2)
    fail(bench, "b")
    assert circuits(bench, "c") == ("closed", "open")
    assert refused(bench, "c").passed_over[0].why is Refusal.CIRCUIT
    assert circuits(bench, "a")[0] == "closed", "no key is blamed for its provider"


def test_an_answer_of_any_key_says_that_the_service_is_there(bench: Bench) -> None:
    for _ in range(2):
        fail(bench, "a")
        fail(bench, "b")
        fail(bench, "c", beat=LifeSign(Pulse.ANSWERED))
    assert circuits(bench, "c") == ("closed", "closed")


def opened(bench: Bench) -> None:
    fail(bench, times=3)
    bench.now += RULES.open_ms


def test_half_open_lets_one_request_through_in_all_processes(bench: Bench) -> None:
    opened(bench)
    assert circuits(bench)[0] == "half-open"
    probe, answer = bench.reserve(bench.candidate("a"))
    assert isinstance(answer, Reserved)
    for _ in range(3):
        assert refused(bench).passed_over[0].why is Refusal.CIRCUIT
    end(bench, probe, beat=LifeSign(Pulse.ANSWERED))
    assert circuits(bench) == ("closed", "closed")
    assert isinstance(bench.reserve(bench.candidate("a"))[1], Reserved)


def test_of_a_service_one_key_is_the_probe_for_all(bench: Bench) -> None:
    fail(bench, "a", times=2)
    fail(bench, "b")
    bench.now += RULES.open_ms
    probe, answer = bench.reserve(bench.candidate("c"))
    assert isinstance(answer, Reserved)
    refused(bench, "b")
    end(bench, probe, "c", LifeSign(Pulse.ANSWERED))
    assert isinstance(bench.reserve(bench.candidate("b"))[1], Reserved)


def test_a_probe_that_fails_opens_it_for_twice_as_long(bench: Bench) -> None:
    opened(bench)
    for seconds in (20, 40, 40):
        fail(bench)
        assert refused(bench).when_ms == bench.now + seconds * 1000
        bench.now += seconds * 1000


def test_a_probe_that_was_never_sent_leaves_it_to_the_next(bench: Bench) -> None:
    opened(bench)
    fail(bench, beat=LifeSign(Pulse.UNKNOWN))
    probe, answer = bench.reserve(bench.candidate("a"))
    assert isinstance(answer, Reserved)
    refused(bench)
    end(bench, probe, beat=LifeSign(Pulse.ANSWERED))
    assert circuits(bench)[0] == "closed"


def test_a_probe_whose_client_died_is_followed_by_another(bench: Bench) -> None:
    opened(bench)
    bench.reserve(bench.candidate("a"), lease_ms=4000)
    refused(bench)
    bench.now += 4000
    assert isinstance(bench.reserve(bench.candidate("a"))[1], Reserved)


def test_what_was_sent_before_it_opened_tells_nothing_of_now(bench: Bench) -> None:
    earlier = [bench.reserve(bench.candidate("a"))[0] for _ in range(5)]
    fail(bench, times=3)
    until = refused(bench).when_ms
    end(bench, earlier[0])
    end(bench, earlier[1], beat=LifeSign(Pulse.ANSWERED))
    assert refused(bench).when_ms == until
    bench.now = until
    probe, _ = bench.reserve(bench.candidate("a"))
    end(bench, earlier[2])
    refused(bench)
    end(bench, probe, beat=LifeSign(Pulse.ANSWERED))
    assert circuits(bench)[0] == "closed"


def test_a_failing_key_that_names_a_time_is_left_alone_for_it(bench: Bench) -> None:
    fail(bench, beat=LifeSign(Pulse.FAILED, wait_ms=2500, why="503"))
    assert refused(bench).when_ms == bench.now + 2500
    assert circuits(bench, "b") == ("closed", "closed")


def test_without_failures_to_open_them_circuits_stay_closed(bench: Bench) -> None:
    for _ in range(20):
        reservation, _ = bench.reserve(bench.candidate("a"))
        end(bench, reservation, rules=CircuitRules(failures=0))
    assert circuits(bench) == ("closed", "closed")


def test_a_circuit_is_logged_when_it_opens_and_when_it_closes_and_not_before(bench: Bench) -> None:
    fail(bench, times=2)
    assert bench.history("a") == []
    fail(bench)
    bench.now += RULES.open_ms
    fail(bench)
    bench.now += 2 * RULES.open_ms
    fail(bench, beat=LifeSign(Pulse.ANSWERED))
    assert bench.history("a") == [
        ("c:k:a", "closed", "open"),
        ("c:k:a", "half-open", "open"),
        ("c:k:a", "half-open", "closed"),
    ]


def test_large_pools_learn_of_open_circuits_as_of_marks(bench: Bench) -> None:
    fail(bench, "a", times=2)
    fail(bench, "b")
    assert limiter_calls.blocked(bench.calls, bench.shard, now_ms=bench.now) == ["s:p"]
    fail_c = LifeSign(Pulse.FAILED, wait_ms=500, why="503")
    bench.now += RULES.open_ms
    fail(bench, "c", beat=fail_c)
    assert set(limiter_calls.blocked(bench.calls, bench.shard, now_ms=bench.now)) == {"s:p", "k:c"}


def test_one_who_waits_is_served_when_the_circuit_closes(bench: Bench) -> None:
    opened(bench)
    probe, _ = bench.reserve(bench.candidate("a"))
    waiting, _ = bench.reserve(bench.candidate("a"), wait_ms=60_000)
    end(bench, probe, beat=LifeSign(Pulse.ANSWERED))
    bench.wake("a")
    state = bench.calls.call("HGET", bench.shard.waiters, waiting)
    assert state is None or state.startswith("G#"), "served, or told to nobody who listens"


def test_somebody_can_close_a_circuit(bench: Bench) -> None:
    fail(bench, times=2)
    bench.mark(Mark("c:k:a", "", CLEAR, "mended"))
    assert bench.history("a") == [], "it was closed"
    fail(bench, times=3)
    bench.mark(Mark("c:k:a", "", CLEAR, "mended"))
    assert bench.history("a")[-1] == ("c:k:a", "open", "closed")
    assert isinstance(bench.reserve(bench.candidate("a"))[1], Reserved)
