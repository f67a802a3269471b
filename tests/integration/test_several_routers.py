"""Several routers in one process, and the ones that the names of the seeds give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

import llm.factory
from conversation.store import get_conversation_store
from core.errors import ConfigurationError
from core.redis_connection import shared_redis
from core.settings import get_settings
from core.types import ProviderReply, Usage
from keys.manager import get_key_manager
from llm.providers.base import ProviderCall
from llm.providers.registry import get_provider_registry, register_provider
from llm.router import RequestRouter, get_request_router
from tests.integration.routers import MakeRouter, key, manager_of, wait_for, write_keys
from tools.simulated_provider import SimulatedProvider

PER_PROCESS = (
    get_request_router, get_key_manager, shared_redis, get_settings, get_provider_registry,
)  # fmt: skip


class Echo:
    """A provider of one's own."""

    def send(self, call: ProviderCall) -> ProviderReply:
        return ProviderReply(call.messages[-1].content, call.model, "stop", Usage(1, 1))

    def close(self) -> None:
        pass


@pytest.fixture
def as_a_program(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    redis_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., None]]:
    """The environment of a program: `as_a_program(key("a"), LOG_LEVEL="INFO")`."""

    def set_up(*keys: dict[str, Any], **variables: str) -> None:
        entries = []
        for entry in keys:
            secret = f"sk-{entry['key_id']}-0123456789abcdef"
            monkeypatch.setenv(f"API_KEY_{entry['key_id'].upper()}", secret)
            simulator.configure_key(secret, name=entry["key_id"])
            entries.append({"base_url": simulator.openai_base_url, **entry})
        write_keys(tmp_path / "keys.json", entries)
        for name, value in {"LLM_DATA_DIR": str(redis_folder), **variables}.items():
            monkeypatch.setenv(name, value)

    made: list[RequestRouter] = []
    build = llm.factory.build_process_router

    def build_and_remember() -> RequestRouter:
        made.append(build())
        return made[-1]

    monkeypatch.setattr(llm.factory, "build_process_router", build_and_remember)
    monkeypatch.chdir(tmp_path)
    for cached in PER_PROCESS:
        cached.cache_clear()
    yield set_up
    for router in made:
        router.close()
    with suppress(ConfigurationError):
        get_key_manager().close()
    shared_redis().close()
    for cached in PER_PROCESS:
        cached.cache_clear()


def test_two_routers_share_the_limits(
    make_router: MakeRouter, simulator: SimulatedProvider
) -> None:
    routers = [make_router(keys=[key("a", rpm=10)]) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: routers[n % 2].send_one_shot("Hello"), range(20)))
    assert sum(reply["success"] for reply in replies) == 10


def test_two_routers_with_prefixes_of_their_own_share_nothing(make_router: MakeRouter) -> None:
    routers = [make_router(keys=[key("a", rpm=1)], redis_key_prefix=name) for name in ("x", "y")]
    assert [router.send_one_shot("Hello")["success"] for router in routers] == [True, True]


def test_a_router_goes_on_when_another_is_closed(make_router: MakeRouter) -> None:
    first, second = (make_router(keys=[key("a")]) for _ in range(2))
    assert first.send_one_shot("Hello")["success"]
    first.close()
    assert second.send_one_shot("Hello")["success"]


def test_no_request_of_a_router_fails_while_others_come_and_go(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")], llm_max_retries=0)
    stop = threading.Event()
    failed: list[Any] = []

    def send() -> None:
        while not stop.is_set():
            reply = router.send_one_shot("Hello")
            if not reply["success"]:
                failed.append(reply)

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        with llm.factory.build_router(router._parts.settings):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_provider_that_was_registered_stays_when_a_router_closes(
    make_router: MakeRouter, as_a_program: Callable[..., None]
) -> None:
    register_provider("echo", Echo())
    first, second = (make_router(keys=[key("a", "echo")]) for _ in range(2))
    assert first.send_one_shot("Hello")["content"] == "Hello"
    first.close()
    assert second.send_one_shot("Hello")["content"] == "Hello"


def test_the_names_of_the_seeds_work_as_written(as_a_program: Callable[..., None]) -> None:
    as_a_program(key("a", rpm=5))
    router = get_request_router()
    assert get_request_router() is router
    assert router.send_one_shot("Hello")["success"]
    assert router.send_chat("c", "Hello", user_id="bo")["success"]
    assert len(get_conversation_store().get_history("c")) == 2
    assert get_key_manager().get_key_status("a")["rpm"]["used"] == 2
    assert router.health_check()["healthy"]


def test_many_threads_that_ask_first_get_one_router(
    as_a_program: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_a_program(key("a"))
    made: list[RequestRouter] = []
    build = llm.factory.build_process_router

    def counted() -> RequestRouter:
        made.append(build())
        return made[-1]

    monkeypatch.setattr(llm.factory, "build_process_router", counted)
    start = threading.Barrier(8)

    def ask() -> RequestRouter:
        start.wait()
        return get_request_router()

    with ThreadPoolExecutor(8) as pool:
        got = [future.result() for future in [pool.submit(ask) for _ in range(8)]]
    assert len(made) == 1
    assert len(set(map(id, got))) == 1


def test_what_the_key_manager_of_the_process_is_told_counts_for_its_router(
    as_a_program: Callable[..., None], simulator: SimulatedProvider
) -> None:
    as_a_program(key("a"), key("b", priority=1))
    router, manager = get_request_router(), get_key_manager()
    assert router.send_one_shot("Hello")["key_id"] == "a"
    manager.remove_key("a")
    assert router.send_one_shot("Hello")["key_id"] == "b"


def test_a_key_that_was_marked_by_hand_is_passed_over_and_comes_back(
    as_a_program: Callable[..., None],
) -> None:
    as_a_program(key("a"), key("b", priority=1))
    router, manager = get_request_router(), get_key_manager()
    manager.mark_key_unhealthy("a", cooldown_seconds=1, reason="maintenance")
    assert router.send_one_shot("Hello")["key_id"] == "b"
    assert manager.get_key_status("a")["reason"] == "maintenance"
    wait_for(lambda: router.send_one_shot("Hello")["key_id"] == "a", 3)


def test_without_a_keys_file_the_router_says_what_to_do(
    as_a_program: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"keys\.json is not there: .*python -m keys init"):
        get_request_router()


def test_keys_that_are_wrong_make_no_router_and_leave_nothing_behind(
    make_router: MakeRouter, tmp_path: Path
) -> None:
    (tmp_path / "keys.json").write_text("{")
    before = threading.active_count()
    with pytest.raises(ConfigurationError, match="not JSON"):
        make_router()
    assert threading.active_count() == before
    assert REGISTRY.get_sample_value("key_rpm_used", {"key_id": "a"}) is None


def test_limits_that_are_wrong_make_no_router_and_leave_nothing_behind(
    make_router: MakeRouter,
) -> None:
    with pytest.raises(ConfigurationError, match="GLOBAL_BURST_MAX"):
        make_router(keys=[key("a")], global_burst_max=5)
    assert REGISTRY.get_sample_value("key_rpm_used", {"key_id": "a"}) is None


def test_a_closed_router_answers_with_a_typed_failure(make_router: MakeRouter) -> None:
    router = make_router(keys=[key("a")])
    router._parts.redis.close()
    assert router.send_one_shot("Hello")["error_type"] == "redis_unavailable"
    assert manager_of(router).health_check()["healthy"] is False


def test_after_the_process_s_router_was_closed_there_is_a_new_one_that_is_followed(
    as_a_program: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    as_a_program(key("a"))
    with get_request_router() as first:
        assert first.send_one_shot("Hello")["success"]
    caplog.clear()
    with get_request_router() as second:
        assert second is not first
        first.close()
        assert get_request_router() is second, "closing the old one again changes nothing"
        assert not second.send_one_shot("Hello", "no-such-model")["success"]
    assert "request failed" in caplog.text
