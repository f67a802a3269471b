"""Keys that change at run time on a Redis Cluster, where each provider is a shard of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.redis_connection import RedisConnection
from keys.manager import KeyManager
from keys.policies import Need
from keys.registry import KeyRegistry
from keys.reservations import Reservation
from keys.selection import Selection
from tests.constellations import Cluster

NEED = Need(10, 10, 10)


@pytest.fixture
def managers(
    cluster: Cluster, cluster_redis: RedisConnection, tmp_path: Path
) -> tuple[KeyManager, KeyManager]:
    cluster.flush()
    path = tmp_path / "keys.json"
    entries = [{"key_id": "o", "model_name": "m", "provider": "openai"}]
    path.write_text(json.dumps({"keys": entries}))
    return tuple(KeyManager(cluster_redis, KeyRegistry(path)) for _ in range(2))  # type: ignore


def reserved(manager: KeyManager, number: int, **allowed: Any) -> Reservation:
    outcome = manager.reserve(
        NEED, Selection(**allowed), reservation_id=f"r.{number}", lease_seconds=5
    )
    assert isinstance(outcome, Reservation)
    return outcome


def test_a_key_of_a_new_provider_is_learned_from_the_shards_in_use(
    managers: tuple[KeyManager, KeyManager],
) -> None:
    here, there = managers
    reserved(there, 1)
    here.register_key({"key_id": "g", "model_name": "m", "provider": "gemini"}, by="bo")
    reserved(there, 2)  # its answer tells of it
    assert reserved(there, 3, providers=("gemini",)).key.key_id == "g"
    assert {s["key_id"]: s["source"] for s in there.get_all_key_statuses()} == {
        "o": "keys.json", "g": "run time",
    }  # fmt: skip
    here.rotate_key("g")
    assert reserved(there, 4, providers=("gemini",)).secret_version in (0, 1)
    assert reserved(there, 5, providers=("gemini",)).secret_version == 1
    here.revoke_key("g", reason="gone")
    assert [s["key_id"] for s in there.get_all_key_statuses()] == ["o"]
    assert [entry["after"] for entry in there.history("g")] == [
        "available",
        "available",
        "disabled",
    ]
