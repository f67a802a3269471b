"""Routers on a real server, the real SDKs and simulated providers; fixtures for several rooms."""

from __future__ import annotations

import gc
import importlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import llm.factory
from core.events import Event, subscribe
from core.redis_connection import RedisConnection
from keys.manager import KeyManager, build_key_manager
from llm.factory import build_async_router, build_router
from llm.router import RequestRouter
from tests.conftest import MakeSettings
from tests.integration.elsewhere import offline
from tests.integration.faces import TaskRouter
from tests.providers.faces import running_loop
from tools.simulated_provider import SimulatedProvider
from tools.simulation.client import SimulationClient

MODELS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-3-5-haiku",
    "gemini": "gemini-2.5-flash",
}
MakeRouter = Callable[..., RequestRouter]

THREADS, TASKS = "threads", "tasks"


def key(key_id: str, provider: str = "openai", **fields: Any) -> dict[str, Any]:
    """An entry of a keys.json; without a `base_url` it gets the simulation's."""
    model = MODELS.get(provider, "some-model")
    return {"key_id": key_id, "provider": provider, "model_name": model, **fields}


def secret_of(key_id: str) -> str:
    """The secret that `make_router` gave a key: a new one in each test."""
    return os.environ[_variable(key_id)]


def limit(simulator: SimulationClient, key_id: str, **limits: Any) -> None:
    """Have the simulated provider enforce limits on a key; it forgets what the key did before."""
    simulator.configure_key(secret_of(key_id), name=key_id, **limits)


def manager_of(router: RequestRouter) -> KeyManager:
    """The router's own KeyManager."""
    return router._parts.driver.keys


def manager_beside(router: RequestRouter, connection: RedisConnection) -> KeyManager:
    """A KeyManager as another process would have it: its own registry, the same Redis."""
    return build_key_manager(router._parts.settings, connection)


def write_keys(path: Path, entries: list[dict[str, Any]]) -> None:
    """Write a keys.json as an editor does: whole, by renaming."""
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"keys": entries}))
    draft.replace(path)


def wait_for(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Poll until `what` gives something true; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.01)
    return found


def _variable(key_id: str) -> str:
    return "API_KEY_" + "".join(c if c.isalnum() else "_" for c in key_id.upper())


@pytest.fixture(scope="session")
def sdks() -> None:
    """Loads the SDKs once, so that no test on the clock pays for it."""
    for name in ("openai", "anthropic", "google.genai"):
        importlib.import_module(name)
    gc.freeze()


@pytest.fixture
def simulator() -> Iterator[SimulatedProvider]:
    """OpenAI, Anthropic and Gemini on one port; keys without limits."""
    with SimulatedProvider() as simulated:
        yield simulated


@pytest.fixture
def make_router(
    sdks: None,
    simulator: SimulationClient,
    redis: object,
    settings: MakeSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[MakeRouter]:
    """Makes routers: `make_router(keys=[key("a")], rate_window_seconds=2)`; closes them at the end.

    Where a test's module says `BOTH_ROUTERS = True` there are both kinds in turn.

    Each key gets a secret of its own in the environment, and its key id as its name in the
    simulation's reports; routers that share a key id share its secret. A key with `"secret": None`
    gets none.
    """
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(llm.factory, "load_tiktoken", offline)
    urls = {
        "openai": simulator.openai_base_url,
        "anthropic": simulator.anthropic_base_url,
        "gemini": simulator.gemini_base_url,
    }
    routers = ExitStack()
    secrets: dict[str, str] = {}

    def make(
        keys: list[dict[str, Any]] | None = None,
        *,
        providers: Any = None,
        secret_store: Any = None,
        **values: Any,
    ) -> RequestRouter:
        path = values.setdefault("keys_file", tmp_path / "keys.json")
        if keys is not None:
            entries = []
            for given in keys:
                entry = {"base_url": urls.get(given["provider"]), **given}
                name = entry["key_id"]
                known = secrets.get(name, f"sk-{uuid4().hex}")
                secret = entry.pop("secret", known)
                if secret is not None and name not in secrets:
                    monkeypatch.setenv(_variable(name), secret)
                    simulator.configure_key(secret, name=name)
                    secrets[name] = secret
                entries.append(entry)
            write_keys(path, entries)
        chosen = settings(**{"llm_base_backoff_ms": 1, **values})
        router: Any
        if getattr(request, "param", THREADS) == THREADS:
            router = build_router(chosen, providers=providers, secret_store=secret_store)
        else:
            made = build_async_router(chosen, providers=providers, secret_store=secret_store)
            router = TaskRouter(made, running_loop())
        routers.callback(router.close)
        found: RequestRouter = router
        return found

    tmp_path.chmod(stat.S_IRWXU)
    with routers:
        yield make


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """Every event of the test."""
    seen: list[Event] = []
    stop = subscribe(seen.append)
    yield seen
    stop()
