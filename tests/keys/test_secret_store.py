from __future__ import annotations

import io
import logging
import threading
import time
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.errors import SecretError
from core.settings import load_settings
from keys import secret_store
from keys.secret_store import (
    CachedSecrets,
    EnvSecretStore,
    SecretStore,
    get_secret_store,
    test_secret_access,
)
from keys.spec import KeySpec
from tests.keys.fakes import Clock, entry, fake_secret, spec, text_of


def store_of(**values: str) -> EnvSecretStore:
    return EnvSecretStore(lambda: values)


class ListedStore:
    """Answers what it was told, in that order, and counts."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.fetches = 0

    def fetch(self, key: KeySpec) -> SecretStr:
        self.fetches += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return SecretStr(answer)


def test_the_order_of_look_ups() -> None:
    values = {
        "API_KEY_OPENAI_DEFAULT": "first",
        "openai-default": "second",
        "OPENAI_API_KEY": "third",
    }
    key = spec("openai-default")
    for expected in ("first", "second", "third"):
        assert store_of(**values).fetch(key).get_secret_value() == expected
        assert store_of(**values).variable_of(key) == next(iter(values))
        del values[next(iter(values))]
    assert store_of().variable_of(key) is None


def test_googles_second_name_comes_last() -> None:
    key = spec("gemini-default", provider="gemini")
    both = store_of(GOOGLE_API_KEY="google", GEMINI_API_KEY="gemini")
    assert both.fetch(key).get_secret_value() == "gemini"
    assert store_of(GOOGLE_API_KEY="google").fetch(key).get_secret_value() == "google"


def test_other_keys_never_fall_back_to_the_usual_variable() -> None:
    with pytest.raises(SecretError, match=r"set API_KEY_OPENAI_01 in the environment or in \.env"):
        store_of(OPENAI_API_KEY="shared").fetch(spec("openai-01"))


def test_white_space_around_a_secret_is_dropped() -> None:
    assert store_of(API_KEY_A=" \tv4lue\r\n").fetch(spec("a")).get_secret_value() == "v4lue"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (" \n", "API_KEY_A is empty; put the API key there"),
        ("your-api-key-here", "API_KEY_A holds a placeholder; put the API key itself there"),
        ("YOUR_API_KEY", "holds a placeholder"),
        ("changeme", "holds a placeholder"),
        ("<your key>", "holds a placeholder"),
        ("sk-...", "holds a placeholder"),
        ("sk-your-openai-key", "holds a placeholder"),
        ("put-it-here", "holds a placeholder"),
        ("${OPENAI_KEY}", "holds a placeholder"),
        ("xxxx", "holds a placeholder"),
        ("a b", "holds a space, a quote or a character outside ASCII; copy the API key again"),
        ("a\nb", "holds a space, a quote or a character outside ASCII"),
        ('"quoted"', "holds a space, a quote or a character outside ASCII"),
        ("clé", "holds a space, a quote or a character outside ASCII"),
    ],
)
def test_what_cannot_be_a_secret_is_refused_as_such(value: str, message: str) -> None:
    with pytest.raises(SecretError) as caught:
        store_of(API_KEY_A=value).fetch(spec("a"))
    assert message in str(caught.value)
    assert not value.strip() or value not in str(caught.value)


def test_a_placeholder_does_not_hide_behind_the_next_variable() -> None:
    with pytest.raises(SecretError, match="placeholder"):
        store_of(API_KEY_A="changeme", a="good").fetch(spec("a"))


def test_random_secrets_are_no_placeholders() -> None:
    for _ in range(500):
        secret = fake_secret()
        assert store_of(API_KEY_A=secret).fetch(spec("a")).get_secret_value() == secret


def test_a_changed_env_file_counts_at_the_next_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("API_KEY_A", raising=False)
    store = EnvSecretStore()
    with pytest.raises(SecretError):
        store.fetch(spec("a"))
    (tmp_path / ".env").write_text("API_KEY_A=fr0m-file\n")
    assert store.fetch(spec("a")).get_secret_value() == "fr0m-file"
    monkeypatch.setenv("API_KEY_A", "fr0m-environment")
    assert store.fetch(spec("a")).get_secret_value() == "fr0m-environment"


def test_a_secret_is_kept_for_its_time_and_then_fetched_again() -> None:
    clock, store = Clock(), ListedStore("one", "two")
    cache = CachedSecrets(store, 300, clock, chance=lambda: 0.0)
    assert cache.get(spec("a")).get_secret_value() == "one"
    clock.now += 224
    assert cache.get(spec("a")).get_secret_value() == "one"
    clock.now += 76
    assert cache.get(spec("a")).get_secret_value() == "two"
    assert store.fetches == 2


def test_without_a_time_to_live_nothing_is_kept() -> None:
    cache = CachedSecrets(ListedStore("one", "two"), 0, Clock())
    assert cache.get(spec("a")).get_secret_value() == "one"
    assert cache.get(spec("a")).get_secret_value() == "two"


def test_a_forgotten_secret_is_fetched_again() -> None:
    cache = CachedSecrets(ListedStore("one", "two"), 300, Clock())
    cache.get(spec("a"))
    cache.forget("nobody")
    cache.forget("a")
    assert cache.get(spec("a")).get_secret_value() == "two"


def test_a_failure_is_remembered_for_a_second_at_most() -> None:
    clock, store = Clock(), ListedStore(SecretError("none yet"), "now")
    cache = CachedSecrets(store, 300, clock)
    for _ in range(3):
        with pytest.raises(SecretError, match="none yet"):
            cache.get(spec("a"))
    assert store.fetches == 1
    clock.now += 1
    assert cache.get(spec("a")).get_secret_value() == "now"


def test_a_secret_that_went_away_is_not_served_any_longer() -> None:
    clock = Clock()
    cache = CachedSecrets(ListedStore("one", SecretError("gone")), 10, clock)
    cache.get(spec("a"))
    clock.now += 10
    with pytest.raises(SecretError, match="gone"):
        cache.get(spec("a"))


def test_another_provider_under_the_same_id_is_another_secret() -> None:
    cache = CachedSecrets(store_of(OPENAI_API_KEY="0ai", GEMINI_API_KEY="g3m"), 300, Clock())
    assert cache.get(spec("openai-default")).get_secret_value() == "0ai"
    with pytest.raises(SecretError):
        cache.get(spec("openai-default", provider="gemini"))


def test_one_fetch_at_a_time_for_a_key_and_none_waits_for_another_key() -> None:
    slow_started, slow_may_end = threading.Event(), threading.Event()
    fetched: list[str] = []

    class SlowStore:
        def fetch(self, key: KeySpec) -> SecretStr:
            fetched.append(key.key_id)
            if key.key_id == "slow":
                slow_started.set()
                assert slow_may_end.wait(5)
            return SecretStr("v4lue")

    cache = CachedSecrets(SlowStore(), 300)
    threads = [threading.Thread(target=cache.get, args=(spec("slow"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert slow_started.wait(5)
    assert cache.get(spec("quick")).get_secret_value() == "v4lue"
    slow_may_end.set()
    for thread in threads:
        thread.join()
    assert sorted(fetched) == ["quick", "slow"]


def test_a_secret_that_is_forgotten_while_it_is_fetched_is_not_kept() -> None:
    class ForgettingStore(ListedStore):
        def fetch(self, key: KeySpec) -> SecretStr:
            cache.forget(key.key_id)
            return super().fetch(key)

    cache = CachedSecrets(ForgettingStore("old", "new"), 300, Clock())
    assert cache.get(spec("a")).get_secret_value() == "old"
    assert cache.get(spec("a")).get_secret_value() == "new"


def test_a_foreign_error_becomes_ours_and_loses_its_message() -> None:
    secret = fake_secret()
    cache = CachedSecrets(ListedStore(RuntimeError(f"denied for {secret}")), 300, Clock())
    with pytest.raises(SecretError, match="RuntimeError in the store") as caught:
        cache.get(spec("a"))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert secret not in str(caught.value)


def test_a_secret_is_in_no_log_repr_error_or_traceback(caplog: pytest.LogCaptureFixture) -> None:
    secret = fake_secret()
    values = {"API_KEY_A": secret, "API_KEY_B": f"{secret} {secret}", "API_KEY_C": "changeme"}
    store = EnvSecretStore(lambda: values)
    cache = CachedSecrets(store, 300, Clock())
    printed = io.StringIO()
    with caplog.at_level(logging.DEBUG):
        got = cache.get(spec("a"))
        print(got, repr(got), [got], store, cache, vars(cache), file=printed)
        for fetch in (cache.get, store.fetch):
            for name in ("b", "c", "d"):
                with pytest.raises(SecretError) as caught:
                    fetch(spec(name))
                error = caught.value
                logging.getLogger("test").error("no secret", exc_info=error)
                shown = traceback.TracebackException.from_exception(error, capture_locals=False)
                print(repr(error), vars(error), "".join(shown.format()), file=printed)
    assert got.get_secret_value() == secret
    assert "API_KEY_B holds a space" in printed.getvalue()
    assert secret not in printed.getvalue() + caplog.text


def test_even_local_variables_at_a_failure_hold_no_secret() -> None:
    secret = fake_secret()
    values = {"API_KEY_B": f"{secret} {secret}", "OTHER": secret}

    class Environment:
        def __call__(self) -> dict[str, str]:
            return values

    for name in ("b", "c"):
        with pytest.raises(SecretError) as caught:
            EnvSecretStore(Environment()).fetch(spec(name))
        frames = [
            frame.f_locals
            for frame, _ in traceback.walk_tb(caught.value.__traceback__)
            if frame.f_globals["__name__"].startswith("keys.")
        ]
        assert frames
        assert secret not in repr(frames)


def test_the_environment_is_a_store() -> None:
    store = get_secret_store(load_settings(None))
    assert isinstance(store, EnvSecretStore)
    assert isinstance(store, SecretStore)


class TestSecretAccess:
    @pytest.fixture(autouse=True)
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("KEYS_FILE", raising=False)
        monkeypatch.setattr(secret_store, "get_settings", lambda: load_settings(None))

    def test_it_tells_where_the_secret_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        secret = fake_secret()
        monkeypatch.setenv("API_KEY_GEMINI_FLASH_01", secret)
        found = test_secret_access("gemini-flash-01")
        assert found == {
            "key_id": "gemini-flash-01",
            "accessible": True,
            "store": "env",
            "variable": "API_KEY_GEMINI_FLASH_01",
        }
        assert secret not in str(found)

    def test_it_tells_what_is_missing(self) -> None:
        found = test_secret_access("key-id")
        assert found["accessible"] is False
        assert "set API_KEY_KEY_ID in the environment" in found["error"]

    def test_it_knows_the_default_keys(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MISTRAL_API_KEY", fake_secret())
        monkeypatch.setenv("OPENAI_API_KEY", fake_secret())
        assert test_secret_access("mistral-default")["variable"] == "MISTRAL_API_KEY"
        Path("keys.json").write_text(text_of(entry("openai-default", provider="anthropic")))
        assert test_secret_access("openai-default")["accessible"] is False

    @pytest.mark.parametrize("key_id", ["", "a b", "-", "X-default"])
    def test_what_is_no_key_id_is_told_so(self, key_id: str) -> None:
        assert "cannot be a key_id" in test_secret_access(key_id)["error"]

    def test_a_secret_given_for_a_key_id_is_not_repeated(self) -> None:
        secret = fake_secret()
        assert secret not in str(test_secret_access(secret))

    def test_pytest_does_not_take_it_for_a_test(self) -> None:
        assert test_secret_access.__test__ is False  # type: ignore[attr-defined]


def test_a_cached_secret_costs_little() -> None:
    cache = CachedSecrets(store_of(API_KEY_A="v4lue"), 300)
    key = spec("a")
    cache.get(key)
    started = time.process_time()
    for _ in range(10_000):
        cache.get(key)
    assert time.process_time() - started < 1.0
