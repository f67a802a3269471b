"""What a key may use, what it is charged, and what the report says of it."""

from __future__ import annotations

import pytest

from tools.simulation.accounts import AccountBook, mask
from tools.simulation.faults import Fault
from tools.simulation.limits import Kind
from tools.simulation.quotas import Quota
from tools.simulation.settings import KeySettings, SimulationSettings

MINUTE = SimulationSettings()


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def quota(key: KeySettings, simulation: SimulationSettings = MINUTE) -> Quota:
    return Quota(key, simulation, "openai")


def test_a_refusal_names_the_limit_that_takes_longest() -> None:
    limited = quota(KeySettings(rpm=1, tpm=100))
    assert limited.admit(0.0, tokens=90, input_tokens=90) is None
    refusal = limited.admit(15.0, tokens=20, input_tokens=20)
    assert refusal is not None
    assert refusal.wait == 45.0
    assert refusal.name in ("rpm", "tpm")
    assert limited.admit(60.0, tokens=20, input_tokens=20) is None


def test_a_refused_request_does_not_count_by_default() -> None:
    limited = quota(KeySettings(rpm=1))
    limited.admit(0.0, 1, 1)
    for second in range(1, 60):
        assert limited.admit(float(second), 1, 1) is not None
    assert limited.admit(60.0, 1, 1) is None


def test_a_refused_request_counts_if_so_configured() -> None:
    limited = quota(KeySettings(rpm=1), SimulationSettings(count_refused=True))
    limited.admit(0.0, 1, 1)
    assert limited.admit(30.0, 1, 1) is not None
    assert limited.admit(60.0, 1, 1) is not None
    assert limited.peaks()["rpm"] == (1, 1)


def test_a_spent_output_limit_admits_nothing_more() -> None:
    limited = quota(KeySettings(otpm=10))
    assert limited.admit(0.0, 1, 1) is None
    limited.produce(0.5, 10, also_total=False)
    refusal = limited.admit(1.0, 1, 1)
    assert refusal is not None
    assert refusal.name == "otpm"
    assert refusal.wait == 59.5


def test_parallel_requests_are_counted_until_they_end() -> None:
    limited = quota(KeySettings(max_parallel=2))
    limited.enter()
    limited.enter()
    refusal = limited.admit(0.0, 1, 1)
    assert refusal is not None
    assert refusal.name == "max_parallel"
    limited.leave()
    assert limited.admit(0.0, 1, 1) is None


def test_without_enforcement_overshoot_is_measured() -> None:
    clock = Clock()
    book = AccountBook(MINUTE, clock)
    account = book.configure("key-1", KeySettings(name="first", rpm=3, tpm=50, enforce=False))
    for _ in range(5):
        assert account.admit(book.quota(account, "openai", "m"), clock(), 20, 20) is None
        clock.now += 1
    limits = book.report()["keys"]["first"]["limits"]
    assert limits["rpm"] == {"limit": 3, "peak": 5, "overshoot": 2}
    assert limits["tpm"] == {"limit": 50, "peak": 100, "overshoot": 50}
    assert book.report()["totals"]["overshoot"] == 52


@pytest.mark.parametrize(("kind", "peak"), [("sliding", 10), ("fixed", 20), ("bucket", 10)])
def test_the_peak_is_measured_in_a_sliding_window_whatever_enforces(kind: Kind, peak: int) -> None:
    limited = quota(KeySettings(rpm=10, kind=kind))
    for now in [119.0] * 10 + [120.0] * 10:
        limited.admit(now, 1, 1)
    assert limited.peaks()["rpm"][1] == pytest.approx(peak, abs=1)


def test_keys_of_one_group_share_their_counters() -> None:
    book = AccountBook(MINUTE, Clock())
    for number in (1, 2):
        book.configure(f"key-{number}", KeySettings(name=f"k{number}", rpm=2, group="project"))
    first, second = book.find("key-1"), book.find("key-2")
    admitted = [
        account.admit(book.quota(account, "openai", "m"), 0.0, 1, 1) is None
        for account in (first, second, first, second)
    ]
    assert admitted == [True, True, False, False]
    assert book.report()["keys"]["k1"]["limits"]["rpm"]["peak"] == 2


def test_models_can_have_counters_of_their_own() -> None:
    book = AccountBook(MINUTE, Clock())
    account = book.configure("key-1", KeySettings(rpm=1, per_model=True))
    admitted = [
        account.admit(book.quota(account, "openai", model), 0.0, 1, 1) is None
        for model in ("large", "small", "large")
    ]
    assert admitted == [True, True, False]


def test_geminis_daily_limit_resets_at_midnight_pacific() -> None:
    daily = Quota(KeySettings(rpd=1), MINUTE, "gemini")
    noon = 1_782_907_200.0  # 2026-07-01 12:00 UTC, 5 in the morning in California
    assert daily.admit(noon, 1, 1) is None
    refusal = daily.admit(noon + 60, 1, 1)
    assert refusal is not None
    assert refusal.wait == 19 * 3600 - 60
    assert daily.admit(noon + 19 * 3600, 1, 1) is None
    assert daily.peaks()["rpd"] == (1, 1)


def test_a_report_names_keys_and_never_shows_them() -> None:
    book = AccountBook(MINUTE, Clock())
    book.configure("a-configured-secret", KeySettings(name="first"))
    book.find("an-unknown-secret")
    shown = str(book.report(timestamps=True))
    assert "first" in shown
    assert mask("an-unknown-secret") in shown
    assert "secret" not in shown


def test_two_keys_cannot_share_a_name() -> None:
    book = AccountBook(MINUTE, Clock())
    book.configure("key-1", KeySettings(name="first"))
    with pytest.raises(ValueError, match="already called"):
        book.configure("key-2", KeySettings(name="first"))


def test_admissions_are_kept_up_to_a_bound() -> None:
    book = AccountBook(SimulationSettings(keep_accepted=3), Clock())
    account = book.configure("key-1", KeySettings(name="first"))
    for second in range(5):
        account.admit(book.quota(account, "openai", "m"), float(second), 7, 7)
    report = book.report(timestamps=True)["keys"]["first"]
    assert report["accepted_at"] == [(2.0, 7), (3.0, 7), (4.0, 7)]
    assert report["accepted_forgotten"] == 2
    assert book.report()["keys"]["first"]["accepted_at"] == []


def test_a_reset_forgets_counts_and_keeps_settings() -> None:
    book = AccountBook(MINUTE, Clock())
    account = book.configure("key-1", KeySettings(name="first", rpm=1))
    assert account.admit(book.quota(account, "openai", "m"), 0.0, 1, 1) is None
    assert account.admit(book.quota(account, "openai", "m"), 0.0, 1, 1) is not None
    book.reset()
    assert book.report()["keys"]["first"]["refused"] == 0
    assert account.admit(book.quota(account, "openai", "m"), 0.0, 1, 1) is None


@pytest.mark.parametrize(
    "wrong", [{"rpm": 0}, {"tpm": "10"}, {"kind": "leaky"}, {"window_seconds": 0}, {"rate": 1}]
)
def test_wrong_key_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        KeySettings.from_mapping(wrong)


def test_settings_go_through_json_and_back_without_the_keys() -> None:
    settings = SimulationSettings(
        window_seconds=2.0,
        latency="uniform:0.1:0.2",
        default=KeySettings(rpm=5),
        keys={"a-secret": KeySettings(name="first")},
        faults=(Fault(kind="server_error", times=2),),
    )
    text = settings.to_json()
    assert "a-secret" not in text
    again = SimulationSettings.load(text)
    assert again.window_seconds == 2.0
    assert again.default == KeySettings(rpm=5)
    assert again.faults == settings.faults
    assert again.keys == {}
    assert "a-secret" not in repr(settings)
