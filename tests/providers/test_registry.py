"""Which adapter serves which provider, and how to add one."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigurationError
from core.types import ProviderReply
from llm.providers.base import ProviderAdapter, ProviderCall
from llm.providers.registry import (
    ProviderRegistry,
    get_provider_registry,
    register_provider,
)
from tests.providers.dialects import OPENAI, Dialect, call_of

DOCUMENT = Path(__file__).parents[2] / "docs" / "providers.md"


class Echo:
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.closed = 0

    def send(self, call: ProviderCall) -> ProviderReply:
        return ProviderReply(call.messages[-1].content, call.model, "stop", None)

    def close(self) -> None:
        self.closed += 1


def test_three_are_built_in(dialect: Dialect) -> None:
    registry = ProviderRegistry()
    assert registry.names() == ("anthropic", "gemini", "openai")
    adapter = registry.get(dialect.name)
    assert type(adapter) is dialect.adapter
    assert isinstance(adapter, ProviderAdapter)
    assert registry.get(dialect.name) is adapter
    registry.close()


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"'opnai'.*anthropic, gemini, openai"):
        ProviderRegistry().get("opnai")


def test_a_class_is_made_once_and_late() -> None:
    Echo.made = 0
    registry = ProviderRegistry({"echo": Echo})
    assert Echo.made == 0
    barrier = threading.Barrier(8)
    got: list[Any] = []

    def get() -> None:
        barrier.wait()
        got.append(registry.get("echo"))

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Echo.made == 1
    assert len(set(map(id, got))) == 1


def test_an_adapter_can_be_registered_ready_made() -> None:
    echo = Echo()
    registry = ProviderRegistry({})
    registry.register("echo", echo)
    assert registry.get("echo") is echo
    registry.close()
    assert echo.closed == 0, "it belongs to who made it"


def test_a_second_registration_replaces_and_closes_the_first() -> None:
    first, second = Echo(), Echo()
    registry = ProviderRegistry({"echo": first})
    registry.register("echo", second)
    assert registry.get("echo") is second
    assert (first.closed, second.closed) == (1, 0)
    registry.register("echo", second)
    assert second.closed == 0


def test_after_a_close_factories_make_anew() -> None:
    registry = ProviderRegistry({"echo": Echo})
    first = registry.get("echo")
    registry.close()
    assert registry.get("echo") is not first


@pytest.mark.parametrize("name", ["", "Echo", "1st", "a b", "x" * 41])
def test_a_wrong_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="small letter"):
        ProviderRegistry().register(name, Echo)


def test_a_wrong_adapter_is_refused() -> None:
    registry = ProviderRegistry()
    with pytest.raises(ConfigurationError, match="send and close"):
        registry.register("echo", object())  # type: ignore[arg-type]
    registry.register("echo", object)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="send and close"):
        registry.get("echo")


def test_register_provider_adds_to_the_registry_of_the_process() -> None:
    register_provider("echo-test", Echo)
    reply = get_provider_registry().get("echo-test").send(call_of(OPENAI, None))
    assert reply.content == "Hello"


def test_the_documents_example_works() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, str(DOCUMENT), "exec"), names)
    adapter = get_provider_registry().get("echo")
    reply = adapter.send(call_of(OPENAI, None, provider="echo"))
    assert reply.content == "You said: Hello"
    assert reply.usage is not None
