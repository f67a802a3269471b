"""`keys.json` is edited while a router runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from core.events import Event, KeysLoaded, KeysRejected
from llm.router import RequestRouter
from tests.integration.routers import MakeRouter, key, manager_of, wait_for, write_keys
from tools.simulated_provider import SimulatedProvider

SECRET = "sk-of-the-key-that-came-later"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def router(
    make_router: MakeRouter, simulator: SimulatedProvider, monkeypatch: pytest.MonkeyPatch
) -> RequestRouter:
    monkeypatch.setenv("API_KEY_LATER", SECRET)
    simulator.configure_key(SECRET, name="later")
    return make_router(keys=[key("a"), key("b", priority=1)])


def serves(router: RequestRouter) -> str | None:
    return router.send_one_shot("Hello")["key_id"]


def test_a_key_that_is_added_serves_without_a_restart(
    router: RequestRouter, path: Path, simulator: SimulatedProvider
) -> None:
    assert serves(router) == "a"
    url = simulator.openai_base_url
    write_keys(path, [key("a", priority=1, base_url=url), key("later", base_url=url)])
    wait_for(lambda: serves(router) == "later", 2)


def test_a_key_that_is_removed_or_inactive_serves_no_more(
    router: RequestRouter, path: Path, simulator: SimulatedProvider
) -> None:
    assert serves(router) == "a"
    url = simulator.openai_base_url
    write_keys(path, [key("a", active=False, base_url=url), key("b", base_url=url)])
    wait_for(lambda: serves(router) == "b", 2)
    write_keys(path, [key("a", base_url=url)])
    wait_for(lambda: serves(router) == "a", 2)


def test_a_changed_limit_is_in_force_and_what_was_used_still_counts(
    router: RequestRouter, path: Path, simulator: SimulatedProvider
) -> None:
    for _ in range(3):
        assert serves(router) == "a"
    write_keys(path, [key("a", rpm=3, base_url=simulator.openai_base_url)])
    wait_for(lambda: len(manager_of(router).registry.keys()) == 1, 2)
    assert router.send_one_shot("Hello")["error_type"] == "rate_limited"


@pytest.mark.parametrize("text", ["{", '{"keys": []}', '{"keys": [{"key_id": "a"}]}', ""])
def test_a_bad_edit_keeps_the_keys_in_force_and_is_told_once(
    router: RequestRouter, path: Path, events: list[Event], text: str
) -> None:
    path.write_text(text)
    wait_for(lambda: serves(router) == "a" and KeysRejected in map(type, events), 2)
    assert [serves(router) for _ in range(3)] == ["a"] * 3
    assert [type(event) for event in events].count(KeysRejected) == 1
    health = router.health_check()
    assert health["healthy"]
    assert "keys.json" in health["keys"]["keys_file"]
    with pytest.raises(ConfigurationError):
        manager_of(router).reload_keys()


def test_the_file_may_be_gone_for_a_while(router: RequestRouter, path: Path) -> None:
    path.rename(path.with_suffix(".away"))
    manager = manager_of(router)
    wait_for(lambda: manager.registry.keys() and manager.registry.problem, 2)
    assert serves(router) == "a"
    path.with_suffix(".away").rename(path)
    wait_for(lambda: manager.registry.keys() and manager.registry.problem is None, 2)


def test_a_good_edit_after_a_bad_one_is_in_force_at_once_when_it_is_asked_for(
    router: RequestRouter, path: Path, events: list[Event], simulator: SimulatedProvider
) -> None:
    path.write_text("{")
    with pytest.raises(ConfigurationError):
        manager_of(router).reload_keys()
    write_keys(path, [key("later", base_url=simulator.openai_base_url)])
    assert manager_of(router).reload_keys() == 1
    assert serves(router) == "later"
    assert [type(event) for event in events].count(KeysLoaded) == 1


def test_a_request_under_way_ends_well_though_its_key_is_removed(
    router: RequestRouter, path: Path, simulator: SimulatedProvider
) -> None:
    simulator.add_fault("latency", seconds=0.4)
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(router.send_one_shot, "Hello")
        wait_for(lambda: simulator.report()["keys"]["a"]["in_flight"] == 1)
        write_keys(path, [key("b", base_url=simulator.openai_base_url)])
        manager_of(router).reload_keys()
        assert sent.result()["key_id"] == "a"
    simulator.clear_faults()
    assert serves(router) == "b"
