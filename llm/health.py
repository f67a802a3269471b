"""Whether requests can be served now, part by part, each with a reason."""

from __future__ import annotations

import time
from typing import Any

from redis.exceptions import RedisError

from core.errors import ConversationUnavailable, DeadlineExceeded, SecretError
from keys.outage import State
from llm.parts import RouterParts

SECRETS_SECONDS = 15.0
"""So long a check waits for secrets in all."""

PROBED_SECRETS = 50
"""So many keys' secrets are looked up at most, so that a check stays quick."""


def health_of(parts: RouterParts) -> dict[str, Any]:
    """The health of Redis, keys, conversations and secrets.

    Returns:
        `healthy` for the whole and, for each part, a dict with `healthy` and `reason`. While Redis
        is away and requests go on within this process's share, the whole is healthy (a balancer
        that took all of them out would make it worse) and `degraded`.
    """
    redis = _redis(parts)
    checks = {
        "redis": redis,
        "keys": parts.driver.keys.health_check(),
        "conversations": _conversations(parts),
        "secrets": _secrets(parts),
    }
    failing = {name for name, check in checks.items() if not check["healthy"]}
    goes_on = redis.get("state") == State.AWAY.value and checks["keys"]["healthy"]
    healthy = not failing or (goes_on and failing <= {"redis", "conversations"})
    return {"healthy": healthy, "degraded": bool(failing), **checks}


def _redis(parts: RouterParts) -> dict[str, Any]:
    where = parts.redis.description
    troubles = [o for o in parts.driver.keys.outages() if o.state is not State.UP]
    if troubles:
        return {
            "healthy": all(outage.away is None for outage in troubles),
            "reason": "; ".join(outage.describe() for outage in troubles),
            "kind": parts.redis.kind,
            "state": max(troubles, key=lambda o: o.away is not None).state.value,
        }
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
