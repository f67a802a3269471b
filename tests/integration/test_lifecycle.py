"""Keys registered, rotated, disabled and revoked while several routers serve from them."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import uuid4

import pytest
import redis as redis_py
from pydantic import SecretStr

from core.errors import ConfigurationError, SecretNotWritable
from core.events import Event, KeyChanged
from keys.spec import KeySpec
from llm.router import RequestRouter
from tests.integration.routers import MakeRouter, key, manager_of, secret_of, wait_for, write_keys
from tools.simulated_provider import SimulatedProvider


def new_secret(simulator: SimulatedProvider, name: str) -> str:
    secret = f"sk-{uuid4().hex}"
    simulator.configure_key(secret, name=name)
    return secret


def extra(simulator: SimulatedProvider, key_id: str = "extra", **fields: Any) -> dict[str, Any]:
    return key(key_id, base_url=simulator.openai_base_url, **fields)


def served_by(router: RequestRouter, **more: Any) -> str | None:
    return router.send_one_shot("Hello", **more)["key_id"]


@pytest.fixture
def two(make_router: MakeRouter) -> tuple[RequestRouter, RequestRouter]:
    """Two routers as two processes have them: each its own registry and caches, one Redis."""
    first = make_router(keys=[key("a", priority=5)])
    return first, make_router()


Two = tuple[RequestRouter, RequestRouter]


def test_a_registered_key_serves_in_all_processes_within_two_seconds(
    two: Two, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch, redis: redis_py.Redis
) -> None:
    here, there = two
    assert served_by(there) == "a"
    secret = new_secret(simulator, "extra")
    monkeypatch.setenv("API_KEY_EXTRA", secret)
    manager_of(here).register_key(extra(simulator), reason="more room")
    began = time.monotonic()
    wait_for(lambda: served_by(there) == "extra", 2)
    assert served_by(here) == "extra"
    assert time.monotonic() - began < 2
    everything = [redis.hgetall(n) for n in redis.scan_iter("*:keys")]
    assert everything
    assert secret not in str(everything)


def test_a_model_that_is_registered_is_served_by_a_process_that_knew_none(
    two: Two, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    assert there.send_one_shot("Hello", "gpt-new")["error_type"] == "no_keys"
    monkeypatch.setenv("API_KEY_EXTRA", new_secret(simulator, "extra"))
    manager_of(here).register_key(extra(simulator, model_name="gpt-new"))
    wait_for(lambda: there.send_one_shot("Hello", "gpt-new")["success"], 2)


def test_one_who_finds_no_room_sees_the_key_that_was_just_registered(
    make_router: MakeRouter, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_router(keys=[key("a", rpm=1)]), make_router()
    assert served_by(there) == "a"
    monkeypatch.setenv("API_KEY_EXTRA", new_secret(simulator, "extra"))
    manager_of(here).register_key(extra(simulator))
    assert served_by(there) == "extra"


def test_the_limits_of_a_registered_key_hold_across_processes(
    two: Two, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY_EXTRA", new_secret(simulator, "extra"))
    manager_of(two[0]).register_key(extra(simulator, rpm=3))
    served = [served_by(router) for _ in range(6) for router in two]
    assert served.count("extra") == 3


def test_what_stands_in_the_file_and_what_was_registered_have_an_order(
    make_router: MakeRouter, simulator: SimulatedProvider, tmp_path: Any
) -> None:
    router = make_router(keys=[key("a")])
    manager = manager_of(router)
    manager.register_key(extra(simulator, rpm=7))
    write_keys(tmp_path / "keys.json", [key("a"), key("extra", rpm=99)])
    manager.reload_keys()
    status = manager.get_key_status("extra")
    assert (status["rpm"]["limit"], status["source"]) == (7, "run time over keys.json")
    manager.add_key(KeySpec(**{**key("own"), "rpm": 1}))
    assert manager.get_key_status("own")["source"] == "this process"
    manager.revoke_key("extra")
    assert [status["key_id"] for status in manager.get_all_key_statuses()] == ["a", "own"]
    manager.reload_keys()
    assert [status["key_id"] for status in manager.get_all_key_statuses()] == ["a", "own"]


def test_a_key_that_the_file_keeps_inactive_is_not_enabled_over_its_head(
    make_router: MakeRouter,
) -> None:
    manager = manager_of(make_router(keys=[key("a", active=False), key("b")]))
    with pytest.raises(ConfigurationError, match=r"active: false .*keys\.json"):
        manager.enable("a")
    manager.disable("b")
    assert [s["state"] for s in manager.get_all_key_statuses()] == ["disabled", "disabled"]


@pytest.mark.parametrize("reason", ["", "leaked"])
def test_disabling_holds_at_once_in_all_processes_and_is_told(
    two: Two, events: list[Event], reason: str
) -> None:
    here, there = two
    served_by(there)
    assert manager_of(here).disable("a", by="bo", reason=reason)
    assert there.send_one_shot("Hello")["success"] is False
    (changed,) = [event for event in events if isinstance(event, KeyChanged)]
    assert (changed.act, changed.before, changed.after) == ("disable", "available", "disabled")
    with pytest.raises(ConfigurationError, match="disabled; enable it"):
        manager_of(there).mark_key_healthy("a")
    manager_of(there).mark_key_unhealthy("a", 0.01)
    assert manager_of(there).enable("a")
    assert served_by(here) == "a"


# -- rotation ----------------------------------------------------------------------------------


def test_a_rotation_loses_nothing_keeps_the_counters_and_drains_the_old_secret(
    two: Two, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    for router in two:
        assert served_by(router) == "a"
    simulator.add_fault("latency", seconds=2, key="a", times=2)
    under_way: list[Any] = []
    threads = [
        threading.Thread(target=lambda r=router: under_way.append(r.send_one_shot("Hello")))
        for router in two
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: simulator.report()["keys"]["a"]["in_flight"] == 2)
    monkeypatch.setenv("API_KEY_A", new_secret(simulator, "a-new"))
    rotation = manager_of(here).rotate_key("a", reason="quarterly")
    assert (rotation.version, rotation.stored) == (1, False)
    assert "API_KEY_A" in rotation.where
    for router in (there, here):
        assert served_by(router) == "a"
    assert simulator.report()["keys"]["a-new"]["accepted"] == 2, "each goes over with its next one"
    for thread in threads:
        thread.join()
    assert [reply["success"] for reply in under_way] == [True, True]
    assert simulator.report()["keys"]["a"]["accepted"] == 4, "those under way ended with the old"
    status = manager_of(there).get_key_status("a")
    assert (status["rpm"]["used"], status["state"]) == (6, "available")


def test_a_late_401_of_the_old_secret_does_not_take_the_new_one_out(
    two: Two, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    served_by(there)
    simulator.add_fault("latency", seconds=0.5, times=1)
    simulator.add_fault("invalid_api_key", times=1)
    late: list[Any] = []
    thread = threading.Thread(target=lambda: late.append(there.send_one_shot("Hello")))
    thread.start()
    time.sleep(0.2)
    monkeypatch.setenv("API_KEY_A", new_secret(simulator, "a-new"))
    manager_of(here).rotate_key("a")
    thread.join()
    assert manager_of(here).get_key_status("a")["state"] == "available"
    assert served_by(there) == "a"


def test_an_invalid_key_is_available_again_with_its_new_secret(
    two: Two, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    simulator.revoke("a")
    assert not here.send_one_shot("Hello")["success"]
    monkeypatch.setenv("API_KEY_A", new_secret(simulator, "a-new"))
    manager_of(here).rotate_key("a")
    assert served_by(there) == "a"
    changes = [(e["before"], e["after"]) for e in manager_of(there).history("a")]
    assert changes == [("available", "invalid"), ("invalid", "available")]


class Shelf:
    """A secret store that can be written to."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = dict(secrets)

    def fetch(self, key: KeySpec) -> SecretStr:
        return SecretStr(self.secrets[key.key_id])

    def put(self, key: KeySpec, secret: SecretStr) -> None:
        self.secrets[key.key_id] = secret.get_secret_value()

    def place_of(self, key: KeySpec) -> str:
        return f"the shelf, at {key.key_id}"


def test_a_store_that_can_be_written_to_gets_the_new_secret(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    first = make_router(keys=[key("a")])
    shelf = Shelf(a=secret_of("a"))
    routers = [make_router(secret_store=shelf) for _ in range(2)]
    first.close()
    for router in routers:
        assert served_by(router) == "a"
    secret = new_secret(simulator, "a-new")
    rotation = manager_of(routers[0]).rotate_key("a", secret)
    assert (rotation.stored, rotation.where) == (True, "the shelf, at a")
    assert shelf.secrets["a"] == secret
    for router in routers:
        assert served_by(router) == "a"
    assert simulator.report()["keys"]["a-new"]["accepted"] == 2
    extra_secret = new_secret(simulator, "extra")
    manager_of(routers[0]).register_key(extra(simulator, priority=0), extra_secret)
    assert shelf.secrets["extra"] == extra_secret


def test_a_secret_that_cannot_be_stored_rotates_nothing(make_router: MakeRouter) -> None:
    manager = manager_of(make_router(keys=[key("a")]))
    before = manager.rotate_key("a").version
    with pytest.raises(SecretNotWritable, match="API_KEY_A"):
        manager.rotate_key("a", f"sk-{uuid4().hex}")
    assert manager.rotate_key("a").version == before + 1


def test_a_secret_is_not_registered_where_it_cannot_be_stored(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    manager = manager_of(make_router(keys=[key("a")]))
    with pytest.raises(SecretNotWritable, match="API_KEY_EXTRA"):
        manager.register_key(extra(simulator), f"sk-{uuid4().hex}")
    with pytest.raises(ConfigurationError, match="there is no key"):
        manager.get_key_status("extra")


# -- under traffic -----------------------------------------------------------------------------


def test_keys_come_and_go_under_traffic_and_nothing_is_lost(
    make_router: MakeRouter, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    routers = [make_router(keys=[key("a"), key("b")]), make_router()]
    names = [f"extra-{n}" for n in range(4)]
    for name in names:
        variable = "API_KEY_" + name.upper().replace("-", "_")
        monkeypatch.setenv(variable, new_secret(simulator, name))
    manager, stop = manager_of(routers[0]), threading.Event()
    failed: list[Any] = []
    served: set[str] = set()

    def send(router: RequestRouter) -> None:
        while not stop.is_set():
            reply = router.send_one_shot("Hello")
            if reply["success"]:
                served.add(reply["key_id"])  # type: ignore[arg-type]
            else:
                failed.append(reply)

    threads = [threading.Thread(target=send, args=(routers[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    try:
        for name in names:
            manager.register_key(extra(simulator, name))
            manager.disable("a")
            wait_for(lambda n=name: n in served)
            monkeypatch.setenv("API_KEY_B", new_secret(simulator, f"b-{name}"))
            manager.rotate_key("b")
            manager.enable("a")
            manager.revoke_key(name)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert set(names) <= served
    statuses = manager.get_all_key_statuses()
    assert [(s["key_id"], s["parallel"]["used"]) for s in statuses] == [("a", 0), ("b", 0)]
    refused = sum(entry["refused"] for entry in simulator.report()["keys"].values())
    assert refused == 0, "no secret was used that the provider did not know"
