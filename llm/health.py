"""Whether requests can be served now, part by part, each with a reason."""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import RedisError

from core.errors import ConversationUnavailable, DeadlineExceeded, SecretError
from llm.parts import RouterParts

SECRETS_SECONDS = 15.0
"""So long a check waits for secrets in all."""

PROBED_SECRETS = 50
"""So many keys' secrets are looked up at most, so that a check stays quick."""


def health_of(parts: RouterParts) -> dict[str, Any]:
    """The health of Redis, keys, conversations and secrets.

    Returns:
        `healthy` for the whole and, for each part, a dict with `healthy` and `reason`.
    """
    redis = _redis(parts)
    checks = {
        "redis": redis,
        "keys": parts.driver.keys.health_check(),
        "conversations": _conversations(parts),
        "secrets": _secrets(parts),
    }
    return {"healthy": all(check["healthy"] for check in checks.values()), **checks}


def _redis(parts: RouterParts) -> dict[str, Any]:
    where = parts.redis.description
    try:
        parts.redis.client.ping()
    except RedisError as error:
        return {"healthy": False, "reason": f"{where} does not answer: {error}"}
    reason = where
    if parts.redis.kind == "in-process":
        reason = f"{where}: limits hold for this process alone"
    return {"healthy": True, "reason": reason, "kind": parts.redis.kind}


def _conversations(parts: RouterParts) -> dict[str, Any]:
    try:
        parts.driver.conversations.exists("health-check")
    except ConversationUnavailable as error:
        return {"healthy": False, "reason": str(error)}
    return {"healthy": True, "reason": "histories can be read"}


def _secrets(parts: RouterParts) -> dict[str, Any]:
    missing: dict[str, str] = {}
    end = time.monotonic() + SECRETS_SECONDS
    keys = [key for key in parts.driver.keys.registry.keys() if key.active][:PROBED_SECRETS]
    for key in keys:
        try:
            parts.driver.secrets.get(key, max(0.0, end - time.monotonic()))
        except (SecretError, DeadlineExceeded) as error:
            missing[key.key_id] = str(error)
    found = len(keys) - len(missing)
    outage = parts.driver.secrets.outage()
    trouble = "" if outage is None else f"; {outage}"
    return {
        "healthy": found > 0,
        "reason": f"{found} of {len(keys)} active keys have a secret{trouble}",
        "missing": missing,
    }
