"""Everything that the demo runs on: a folder, a Valkey, simulated providers, keys, a router."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from core.embedded import EmbeddedServer
from core.embedded.server import NoServerError
from core.errors import RouterError
from core.redis_connection import open_redis
from core.settings import Settings
from keys.manager import KeyManager, build_key_manager
from keys.spec import KeySpec
from llm.demo.cast import key_entries
from llm.demo.stopping import Stopping
from llm.demo.warmup import WarmUp
from llm.factory import build_router
from llm.providers.registry import ProviderRegistry
from llm.router import RequestRouter
from tools.simulated_provider import SimulatedProviderProcess, SimulationSettings

_GRACE_SECONDS = 0.1
_STOP_SECONDS = 10.0
_LATENCY = "lognormal:0.2:0.3"
_BACKOFF_MS = 100
_CIRCUIT_SECONDS = 1.0


class Stage:
    """A context manager that builds the stage and clears it away, whatever happens on it.

    Nothing of the user's is used or changed: no settings, no `.env`, no keys, no Redis.

    Args:
        window_seconds: what a provider's minute lasts.
        permitted: requests that all keys together permit in one window, roughly.
        say: is told how the building goes.
        stopping: is checked while it is built.

    Attributes:
        router: the router under demonstration.
        keys: another KeyManager on the same Valkey, which only watches.
        providers: the simulation, to be broken and asked for its report.
        shares_limits: False where no server can run, so that limits hold for this process alone.

    Raises:
        core.errors.RouterError: a part does not start, or does not end.
    """

    router: RequestRouter
    keys: KeyManager
    providers: SimulatedProviderProcess
    shares_limits = True

    def __init__(
        self,
        window_seconds: float,
        permitted: int,
        say: Callable[[str], None],
        stopping: Stopping,
    ) -> None:
        self.window_seconds = window_seconds
        self._permitted = permitted
        self._say = say
        self._stopping = stopping
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._undo.close()

    def _build(self) -> None:
        use = self._undo.enter_context
        self._say("starting a Valkey and the simulated providers")
        adapters = ProviderRegistry()
        warm_up = WarmUp(adapters, self._stopping)
        folder = use(_folder())
        data = folder / "data"
        self._undo.callback(adapters.close)
        server = EmbeddedServer(data, grace_seconds=_GRACE_SECONDS)
        try:
            server.open()
        except NoServerError:
            self.shares_limits = False
        else:
            # Before the router, as the server's first user decides how long it stays.
            self._undo.callback(_leave, server)
        simulation = SimulationSettings(window_seconds=self.window_seconds, latency=_LATENCY)
        try:
            self.providers = use(SimulatedProviderProcess(simulation))
        except RuntimeError as error:
            raise RouterError(str(error)) from error
        self._stopping.check()
        entries = key_entries(self._permitted, self.providers)
        specs = [KeySpec(**entry) for entry in entries]
        passwords = {spec.key_id: secrets.token_hex(16) for spec in specs}
        for spec in specs:
            self.providers.configure_key(
                passwords[spec.key_id], name=spec.key_id,
                rpm=spec.rpm, tpm=spec.tpm, itpm=spec.itpm, otpm=spec.otpm,
            )  # fmt: skip
        variables = {spec.secret_name: passwords[spec.key_id] for spec in specs}
        use(_environment({**variables, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}))
        keys_file = folder / "keys.json"
        keys_file.write_text(json.dumps({"keys": entries}), encoding="utf-8")
        settings = _settings(
            keys_file=keys_file,
            llm_data_dir=data,
            rate_window_seconds=self.window_seconds,
            llm_base_backoff_ms=_BACKOFF_MS,
            llm_circuit_seconds=_CIRCUIT_SECONDS,
            log_level="ERROR",
        )
        self.router = use(build_router(settings, providers=adapters))
        self.keys = build_key_manager(settings, use(open_redis(settings)))
        self._say("they run; loading the providers' three SDKs")
        warm_up.finish(specs)


def _settings(**chosen: Any) -> Settings:
    # Every field is given, so that nothing is read from the user's environment.
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    return Settings(**{"_env_file": None, **defaults, **chosen})


@contextmanager
def _folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="llm-demo-"))
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    """A server that has left its socket may still be writing its last file."""
    deadline = time.monotonic() + _STOP_SECONDS
    while time.monotonic() < deadline:
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        time.sleep(0.02)
    shutil.rmtree(path)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process, and put back what was there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _leave(server: EmbeddedServer) -> None:
    server.close()
    deadline = time.monotonic() + _STOP_SECONDS
    while server.socket_path.exists():
        if time.monotonic() >= deadline:
            raise RouterError(f"the demo's Valkey has not ended after {_STOP_SECONDS:.0f} s")
        time.sleep(0.01)
