"""Routers over stores that hang, fail and change: deadlines hold, no key is wrongly punished."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.errors import SecretStoreDown
from core.events import Event, KeyCooledDown, SecretChanged, SecretStoreFailing, SecretStoreRestored
from core.types import Reply
from keys.secrets.file import FileSecretStore
from keys.secrets.sealed_file import new_key
from keys.spec import KeySpec
from tests.conftest import MakeSettings
from tests.integration.routers import MakeRouter, key, manager_of, secret_of, wait_for
from tests.keys.fakes import fake_secret
from tests.keys.secrets.stores import Told
from tools.simulated_provider import SimulatedProvider


class Vault(Told):
    """Holds the secrets that the test gave the keys, until it is told otherwise."""

    name = "the vault"

    def __init__(self) -> None:
        super().__init__()
        self.secrets: dict[str, str] = {}
        self.fault: Exception | None = None

    def fetch(self, key: KeySpec) -> SecretStr:
        super().fetch(key)
        if self.fault is not None:
            raise self.fault
        return SecretStr(self.secrets.get(key.key_id) or secret_of(key.key_id))


@pytest.fixture
def vault() -> Iterator[Vault]:
    made = Vault()
    yield made
    made.open.set()


def tried(reply: Reply) -> list[tuple[str, str]]:
    return [(attempt["key_id"], attempt["outcome"]) for attempt in reply["attempts"]]


def from_threads(count: int, work: Callable[[], Reply]) -> list[Reply]:
    replies: list[Reply] = []
    threads = [
        threading.Thread(target=lambda: replies.append(work()), daemon=True) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(replies) == count
    return replies


def test_a_store_that_hangs_holds_no_request_beyond_its_deadline(
    make_router: MakeRouter, vault: Vault
) -> None:
    router = make_router(keys=[key("a"), key("b")], secret_store=vault)
    took = []
    with vault.hanging():
        for _ in range(4):
            began = time.monotonic()
            reply = router.send_one_shot("Hello", timeout=0.3)
            took.append(time.monotonic() - began)
            assert reply["error_type"] == "timeout"
            assert "the vault gave the secret of key" in reply["error"]
    assert min(took) < 0.4
    assert max(took) < 2, "a busy machine apart"
    assert router.send_one_shot("Hello")["success"], "its key is not punished"
    assert manager_of(router).get_key_status("a")["state"] == "available"


def test_a_store_that_is_too_slow_for_one_key_leaves_time_for_another(
    make_router: MakeRouter, vault: Vault
) -> None:
    router = make_router(
        keys=[key("a"), key("b", priority=1)],
        secret_store=vault,
        secret_store_timeout_seconds=0.2,
        secret_cache_ttl_seconds=100,
    )
    assert router._parts.driver.secrets.get(
        manager_of(router).registry.get("b")  # type: ignore[arg-type]
    )
    with vault.hanging():
        reply = router.send_one_shot("Hello", timeout=5)
    assert tried(reply) == [("a", "secret_unavailable"), ("b", "success")]


def test_what_a_secret_took_is_taken_from_the_providers_time(
    make_router: MakeRouter, vault: Vault, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a")], secret_store=vault)
    simulator.add_fault("hang")
    vault.open.clear()
    threading.Timer(0.8, vault.open.set).start()
    began = time.monotonic()
    reply = router.send_one_shot("Hello", timeout=1.2)
    assert time.monotonic() - began < 1.8, "not 0.8 s and then 1.2 s more"
    assert reply["error_type"] == "timeout"


def test_a_newer_secret_is_fetched_when_the_old_one_is_refused(
    make_router: MakeRouter, vault: Vault, simulator: SimulatedProvider, events: list[Event]
) -> None:
    router = make_router(keys=[key("a"), key("b", priority=1)], secret_store=vault)
    assert router.send_one_shot("Hello")["key_id"] == "a"
    vault.secrets["a"] = fake_secret()
    simulator.revoke(secret_of("a"))
    reply = router.send_one_shot("Hello")
    assert tried(reply) == [("a", "auth_failed"), ("a", "success")]
    assert tried(router.send_one_shot("Hello")) == [("a", "success")]
    assert SecretChanged("a") in events
    assert not any(isinstance(event, KeyCooledDown) for event in events)
    assert manager_of(router).get_key_status("a")["rpm"]["used"] == 3, "two sends are one request"


def test_the_same_secret_takes_the_key_out(
    make_router: MakeRouter, vault: Vault, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a"), key("b", priority=1)], secret_store=vault)
    router.send_one_shot("Hello")
    simulator.revoke(secret_of("a"))
    assert tried(router.send_one_shot("Hello")) == [("a", "auth_failed"), ("b", "success")]
    assert vault.fetched == ["a", "a", "b"]
    assert manager_of(router).get_key_status("a")["state"] == "invalid"


def test_a_refused_secret_whose_store_is_down_takes_no_key_out(
    make_router: MakeRouter, vault: Vault, simulator: SimulatedProvider
) -> None:
    router = make_router(keys=[key("a"), key("b", priority=1)], secret_store=vault)
    for name in ("a", "b"):
        assert router._parts.driver.secrets.get(
            manager_of(router).registry.get(name)  # type: ignore[arg-type]
        )
    simulator.revoke(secret_of("a"))
    vault.fault = SecretStoreDown("the vault is sealed")
    reply = router.send_one_shot("Hello")
    assert tried(reply) == [("a", "secret_unavailable"), ("b", "success")]
    assert "the vault is sealed" in reply["attempts"][0]["error"]
    assert manager_of(router).get_key_status("a")["state"] == "available"


def test_a_process_that_cannot_reach_the_store_takes_no_key_from_the_others(
    make_router: MakeRouter, vault: Vault
) -> None:
    cut_off = Vault()
    cut_off.fault = SecretStoreDown("the vault does not answer")
    good = make_router(keys=[key("a"), key("b")], secret_store=vault)
    bad = make_router(secret_store=cut_off)
    reply = bad.send_one_shot("Hello")
    assert reply["error_type"] == "secret_unavailable"
    assert {attempt["key_id"] for attempt in reply["attempts"]} == {"a", "b"}
    assert all(good.send_one_shot("Hello")["success"] for _ in range(3))
    assert cut_off.fetches < 5


def test_a_rotation_under_load_loses_no_request_and_no_key(
    make_router: MakeRouter, vault: Vault, simulator: SimulatedProvider, events: list[Event]
) -> None:
    router = make_router(keys=[key("a")], secret_store=vault)
    router.send_one_shot("Hello")
    stop = threading.Event()
    replies: list[Reply] = []
    sent = [0] * 16

    def load(number: int) -> None:
        while not stop.is_set():
            replies.append(router.send_one_shot("Hello", timeout=20))
            sent[number] += 1

    def all_go_on() -> None:
        """Wait until what is under way now has ended, and more."""
        before = list(sent)
        wait_for(lambda: all(now >= then + 2 for now, then in zip(sent, before, strict=True)), 30)

    threads = [threading.Thread(target=load, args=(n,), daemon=True) for n in range(16)]
    for thread in threads:
        thread.start()
    before = secret_of("a")
    for _ in range(5):
        all_go_on()
        after = fake_secret()
        simulator.configure_key(after)
        vault.secrets["a"] = after
        simulator.revoke(before)
        before = after
    all_go_on()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert any(attempt["outcome"] == "auth_failed" for r in replies for attempt in r["attempts"])
    assert {reply.get("error_type", "success") for reply in replies} == {"success"}
    assert not any(isinstance(event, KeyCooledDown) for event in events)


def test_a_store_that_stops_under_load_serves_what_is_cached_and_says_so(
    make_router: MakeRouter, vault: Vault, events: list[Event]
) -> None:
    router = make_router(keys=[key("a")], secret_store=vault, secret_cache_ttl_seconds=0.3)
    router.send_one_shot("Hello")
    vault.fault = SecretStoreDown("the vault is sealed")
    time.sleep(0.35)
    replies = from_threads(32, lambda: router.send_one_shot("Hello", timeout=20))
    assert all(reply["success"] for reply in replies)
    health = router.health_check()
    assert health["healthy"]
    assert "the vault is sealed; down for" in health["secrets"]["reason"]
    vault.fault = None
    wait_for(
        lambda: (
            router.send_one_shot("Hello")["success"]
            and router._parts.driver.secrets.outage() is None
        )
    )
    told = [e for e in events if isinstance(e, SecretStoreFailing | SecretStoreRestored)]
    assert [type(event) for event in told] == [SecretStoreFailing, SecretStoreRestored]
    assert router.health_check()["secrets"]["reason"] == "1 of 1 active keys have a secret"


def test_a_health_check_is_quick_though_the_store_hangs(
    make_router: MakeRouter, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = make_router(
        keys=[key(f"k{n}") for n in range(30)],
        secret_store=vault,
        secret_store_timeout_seconds=0.3,
    )
    with vault.hanging():
        began = time.monotonic()
        health = router.health_check()
        assert time.monotonic() - began < 2
    assert not health["healthy"]
    assert len(health["secrets"]["missing"]) == 30


def test_a_router_on_the_encrypted_file_takes_up_what_is_stored(
    make_router: MakeRouter, settings: MakeSettings, simulator: SimulatedProvider, tmp_path: Path
) -> None:
    values = {
        "secret_store_type": "file",
        "secrets_file": tmp_path / "secrets.enc",
        "llm_encryption_key": new_key(),
    }
    writer = FileSecretStore(settings(**values))
    router = make_router(keys=[key("a")], **values)
    spec = manager_of(router).registry.get("a")
    assert spec is not None
    reply = router.send_one_shot("Hello")
    assert reply["error_type"] == "secret_unavailable"
    assert "python -m keys secret set" in reply["error"]
    writer.put(spec, SecretStr(secret_of("a")))
    wait_for(lambda: router.send_one_shot("Hello", max_wait=1)["success"])
    newer = fake_secret()
    simulator.configure_key(newer, name="a2")
    simulator.revoke(secret_of("a"))
    router._parts.driver.secrets.put(spec, SecretStr(newer))
    assert tried(router.send_one_shot("Hello")) == [("a", "success")]


def test_a_router_that_is_closed_closes_the_store_that_it_made_and_no_other(
    make_router: MakeRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closable(Vault):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    given, made = Closable(), Closable()
    make_router(keys=[key("a")], secret_store=given).close()
    assert given.closed == 0
    monkeypatch.setattr("llm.factory.get_secret_store", lambda settings: made)
    make_router(keys=[key("a")]).close()
    assert made.closed == 1
