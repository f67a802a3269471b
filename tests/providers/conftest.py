from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, cast

import pytest

from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import ALL, Dialect, adapter_of
from tests.providers.faces import Tasks, running_loop
from tests.providers.scripted import ScriptedServer


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture(params=ALL, ids=lambda dialect: dialect.name)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    chosen: Dialect = request.param
    return chosen


@pytest.fixture(params=["threads", "tasks"])
def adapter(dialect: Dialect, request: pytest.FixtureRequest) -> SdkAdapter[Any, Any]:
    """An adapter of each kind, called as threads do and as tasks do."""
    made = adapter_of(dialect.name)
    if request.param == "threads":
        return made
    return cast("SdkAdapter[Any, Any]", Tasks(made, running_loop()))


@pytest.fixture
def fresh(dialect: Dialect) -> Iterator[SdkAdapter[Any, Any]]:
    """An adapter of the test's own, which it may close."""
    made = dialect.adapter()
    yield made
    made.close()
