"""Many threads, many keys, keys that rotate: never a wrong key."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import SecretStr

from core.types import Message
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import Dialect, call_of, new_secret
from tests.providers.scripted import Asked, Reply, ScriptedServer

THREADS, KEYS, CALLS = 16, 8, 400


def test_no_call_carries_another_calls_key(
    server: ScriptedServer, dialect: Dialect, fresh: SdkAdapter[Any, Any]
) -> None:
    old = [new_secret() for _ in range(KEYS)]
    new = [new_secret() for _ in range(KEYS)]
    server.default = Reply(dialect.success)

    def send(number: int) -> str:
        key = number % KEYS
        # The secrets rotate halfway, and for a while threads hold both.
        secret = old[key] if number < CALLS // 2 or number % 7 == 0 else new[key]
        words = f"<{secret}>"
        call = call_of(
            dialect,
            server.url,
            key_id=f"key-{key}",
            secret=SecretStr(secret),
            messages=(Message("user", words),),
        )
        return fresh.send(call).content

    with ThreadPoolExecutor(THREADS) as pool:
        contents = list(pool.map(send, range(CALLS)))
    assert contents == ["Hi."] * CALLS
    assert len(server.asked) == CALLS
    assert [asked for asked in server.asked if not _own_key(dialect, asked)] == []
    assert len(fresh._clients) == KEYS
    assert server.connections <= THREADS


def _own_key(dialect: Dialect, asked: Asked) -> bool:
    return f"<{dialect.key_in(asked)}>".encode() in asked.raw
