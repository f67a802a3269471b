"""A key's secret is in no reply, log, event, metric, repr or traceback, and not in Redis."""

from __future__ import annotations

import json
import logging
import secrets
import string
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

import pytest
import redis as redis_py
from prometheus_client import REGISTRY, generate_latest
from pydantic import SecretStr

from core.errors import ConfigurationError, ProviderUnavailable, RouterError
from core.events import Event, subscribe
from core.types import Message
from keys.secret_store import EnvSecretStore, test_secret_access
from llm.providers.base import ProviderCall
from llm.providers.registry import ProviderRegistry
from llm.router import RequestRouter
from tests.integration.routers import MODELS, MakeRouter, key, manager_of, secret_of
from tests.providers.scripted import Asked, Reply, ScriptedServer
from tools.simulated_provider import SimulatedProvider

BOTH_ROUTERS = True

LETTERS = string.ascii_letters + string.digits


def random_secret() -> str:
    return "sk-" + "".join(secrets.choice(LETTERS) for _ in range(40))


@dataclass(repr=False)
class Ears:
    """Hears everything that is said anywhere."""

    heard: list[str] = field(default_factory=list)

    def hear(self, what: object) -> None:
        self.heard.append(what if isinstance(what, str) else repr(what))

    def emit_record(self, record: logging.LogRecord) -> None:
        self.hear(record.getMessage())
        self.hear(vars(record))
        if record.exc_info:
            self.hear("".join(traceback.format_exception(*record.exc_info)))  # type: ignore[arg-type]

    def must_not_have_heard(self, *hidden: str) -> None:
        assert sum(map(len, self.heard)) > 1000, "nothing was said at all"
        for secret in hidden:
            for part in (secret, secret[-12:]):
                found = [text for text in self.heard if part in text]
                assert not found, f"{part} of {secret} in: {found[0][:500]}"


@pytest.fixture
def ears() -> Iterator[Ears]:
    """Listens to events and to all loggers of the process, the SDKs' included, at DEBUG."""
    heard = Ears()
    handler = logging.Handler()
    handler.emit = heard.emit_record  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    stop = subscribe(lambda event: heard.hear(event))
    yield heard
    stop()
    root.setLevel(level)
    root.removeHandler(handler)


def look_everywhere(ears: Ears, router: RequestRouter, redis: redis_py.Redis) -> None:
    """Everything that a curious person could print."""
    parts = router._parts
    manager = manager_of(router)
    things: list[Any] = [
        router,
        parts,
        *(getattr(parts, each.name) for each in fields(parts)),
        *(getattr(parts.driver, each.name) for each in fields(parts.driver)),
        manager.registry,
        manager.registry.keys(),
        EnvSecretStore(),
    ]
    for thing in things:
        ears.hear(repr(thing))
        with suppress(TypeError):
            ears.hear(repr(vars(thing)))
    ears.hear(json.dumps(router.health_check()))
    ears.hear(json.dumps(manager.get_all_key_statuses()))
    ears.hear(generate_latest(REGISTRY).decode())
    read: dict[str, Callable[[str], Any]] = {
        "string": redis.get,
        "hash": redis.hgetall,
        "list": lambda name: redis.lrange(name, 0, -1),
        "zset": lambda name: redis.zrange(name, 0, -1, withscores=True),
        "set": redis.smembers,
        "stream": redis.xrange,
    }
    for name in redis.scan_iter():
        ears.hear(name)
        ears.hear(read[redis.type(name)](name))


def tracebacks_of_a_send(ears: Ears, router: RequestRouter, key_id: str, timeout: float) -> None:
    """What `format_exc` shows of a failed call, which the router itself catches."""
    parts, spec = router._parts.driver, manager_of(router).registry.get(key_id)
    assert spec is not None
    with pytest.raises(RouterError) as caught:
        parts.providers.get(spec.provider).send(
            ProviderCall(
                provider=spec.provider,
                key_id=key_id,
                secret=parts.secrets.get(spec),
                model=spec.model_name,
                messages=(Message("user", "Hello"),),
                system_prompt=None,
                max_output_tokens=10,
                temperature=None,
                timeout=timeout,
                base_url=spec.base_url,
            )
        )
    ears.hear("".join(traceback.format_exception(caught.value)))
    ears.hear(vars(caught.value))


@pytest.mark.parametrize("form", ["console", "json"])
def test_good_calls(make_router: MakeRouter, redis: redis_py.Redis, ears: Ears, form: str) -> None:
    keys = [key(name, name, secret=random_secret()) for name in MODELS]
    router = make_router(keys=keys, log_level="DEBUG", log_format=form)
    for model in MODELS.values():
        ears.hear(json.dumps(router.send_one_shot("Hello", model)))
        ears.hear(json.dumps(router.send_chat("c", "Hello", "bo", model, system_prompt="Be nice.")))
    look_everywhere(ears, router, redis)
    ears.must_not_have_heard(*(secret_of(name) for name in MODELS))


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("provider", MODELS)
def test_refusals_that_echo_the_secret(
    make_router: MakeRouter, redis: redis_py.Redis, ears: Ears, form: str, provider: str
) -> None:
    secret = random_secret()

    def echo(asked: Asked) -> Reply:
        words = f"The key {secret}, (that is '{secret[:6]}...{secret[-12:]}') is wrong"
        error = {
            "code": secret,
            "type": secret,
            "status": secret,
            "message": words,
            "details": [{"reason": secret}],
        }
        return Reply({"error": error}, status=401)

    with ScriptedServer() as server:
        server.default = echo
        entry = key("a", provider, base_url=server.url, secret=secret)
        router = make_router(keys=[entry], log_level="DEBUG", log_format=form)
        reply = router.send_one_shot("Hello")
        assert reply["error_type"] == "auth_failed"
        assert len(server.asked) == 1
        ears.hear(json.dumps(reply))
        ears.hear(json.dumps(router.send_chat("c", "Hello")))
        tracebacks_of_a_send(ears, router, "a", 5)
        look_everywhere(ears, router, redis)
    ears.must_not_have_heard(secret)


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_pages_and_garbage_that_hold_the_secret(
    make_router: MakeRouter, redis: redis_py.Redis, ears: Ears, provider: str, status: int
) -> None:
    secret = random_secret()
    with ScriptedServer() as server:
        server.default = Reply(f"<p>{'no ' * 55}</p>{secret}: wrong".encode(), status=status)
        entry = key("a", provider, base_url=server.url, secret=secret)
        router = make_router(keys=[entry], log_level="DEBUG", llm_max_retries=1)
        reply = router.send_one_shot("Hello")
        assert not reply["success"]
        ears.hear(json.dumps(reply))
        tracebacks_of_a_send(ears, router, "a", 5)
        look_everywhere(ears, router, redis)
    ears.must_not_have_heard(secret)


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("fault", ["hang", "drop", "drop_midway", "garbage", "html"])
def test_calls_that_break(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    redis: redis_py.Redis,
    ears: Ears,
    provider: str,
    fault: str,
) -> None:
    secret = random_secret()
    router = make_router(keys=[key("a", provider, secret=secret)], log_level="DEBUG")
    simulator.add_fault(fault)
    ears.hear(json.dumps(router.send_one_shot("Hello", timeout=0.3)))
    tracebacks_of_a_send(ears, router, "a", 0.3)
    look_everywhere(ears, router, redis)
    ears.must_not_have_heard(secret)


@dataclass
class Careless:
    """An adapter that tells the secret in its errors."""

    kind: str

    def send(self, call: ProviderCall) -> Any:
        said = f"{call.secret.get_secret_value()} was refused"
        if self.kind == "one of ours":
            raise ProviderUnavailable(said, provider=call.provider, code=said)
        try:
            raise KeyError(said)
        except KeyError as error:
            raise RuntimeError(said) from error

    def close(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["a foreign error", "one of ours"])
def test_adapters_that_tell_it_in_their_errors(
    make_router: MakeRouter, redis: redis_py.Redis, ears: Ears, kind: str
) -> None:
    secret = random_secret()
    router = make_router(
        keys=[key("a", "own", secret=secret)],
        providers=ProviderRegistry({"own": Careless(kind)}),
        log_level="DEBUG",
    )
    reply = router.send_one_shot("Hello")
    assert not reply["success"]
    ears.hear(json.dumps(reply))
    look_everywhere(ears, router, redis)
    ears.must_not_have_heard(secret)


def test_stores_that_tell_it_in_their_errors(
    make_router: MakeRouter, redis: redis_py.Redis, ears: Ears
) -> None:
    secret = random_secret()

    class Vault:
        def fetch(self, key: object) -> SecretStr:
            raise RuntimeError(f"403 for {secret}")

    router = make_router(keys=[key("a")], secret_store=Vault(), log_level="DEBUG")
    ears.hear(json.dumps(router.send_one_shot("Hello")))
    tracebacks_of_a_send(ears, router, "a", 1)
    look_everywhere(ears, router, redis)
    ears.must_not_have_heard(secret)


def test_a_secret_in_the_wrong_place(
    make_router: MakeRouter, redis: redis_py.Redis, ears: Ears
) -> None:
    secret = random_secret()
    router = make_router(keys=[key("a", secret=secret)], log_level="DEBUG")
    manager = manager_of(router)
    wrong: list[Callable[[], object]] = [
        lambda: manager.add_key(key("b", api_key=secret)),
        lambda: manager.add_key(key(secret)),
        lambda: manager.get_key_status(secret),
        lambda: manager.remove_key(secret),
        lambda: manager.mark_key_unhealthy(secret, 5),
    ]
    for call in wrong:
        with pytest.raises(ConfigurationError):
            call()
        try:
            call()
        except ConfigurationError as error:
            ears.hear(f"{error}")
    ears.hear(json.dumps(test_secret_access("a")))
    look_everywhere(ears, router, redis)
    ears.must_not_have_heard(secret)


def test_a_call_and_its_secret_can_be_printed() -> None:
    secret = random_secret()
    call = ProviderCall(
        provider="openai",
        key_id="a",
        secret=SecretStr(secret),
        model="m",
        messages=(Message("user", "Hello"),),
        system_prompt=None,
        max_output_tokens=10,
        temperature=None,
        timeout=1.0,
    )
    assert secret not in f"{call!r}{call}"


def test_events_hold_neither_prompts_nor_answers(
    make_router: MakeRouter, simulator: SimulatedProvider, events: list[Event]
) -> None:
    router = make_router(keys=[key("a")])
    router.send_chat("c", "my-very-private-prompt", system_prompt="my-system-prompt")
    simulator.add_fault("server_error", times=1)
    router.send_one_shot("my-very-private-prompt")
    assert events
    for private in ("my-very-private-prompt", "my-system-prompt", "You sent"):
        assert private not in repr(events)
