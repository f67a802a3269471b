"""Why a key would be chosen or passed over, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from keys.limiter import Limiter
from keys.policies import Need
from keys.pool import Plan, Pool
from keys.spec import KeySpec
from keys.status import Circuits
from lua.limiter_types import NEVER, Explanation, GroupUse, Refusal, Weights


class Room(TypedDict):
    """One limit: what is used, the limit, and what this request would add."""

    used: int
    limit: int
    adds: int


class KeyExplanation(TypedDict):
    """One key and this request.

    `verdict` is "chosen", "free" or "passed over"; `free_in` is the seconds until the key could
    serve: 0 now, None where nobody knows or it never will. `share` is below 1 while the key ramps
    up after a cooldown. `waiting` counts the requests that stand in the queue for its group.
    """

    key_id: str
    provider: str
    model_name: str
    quota_group: str
    tier: int
    verdict: str
    why: str
    free_in: float | None
    room: float
    share: float
    waiting: int
    state: str
    circuits: Circuits
    limits: dict[str, Room]


_WHY = {
    Refusal.COOLING: "cooling down or out of rotation",
    Refusal.TOO_LARGE: "its limit is smaller than this request",
    Refusal.FULL: "full",
    Refusal.IN_FLIGHT: "as many calls under way as it allows",
    Refusal.QUEUED: "others wait for it",
    Refusal.CIRCUIT: "its circuit is open",
}


def explain_candidates(limiter: Limiter, pools: Sequence[Pool], need: Need) -> list[KeyExplanation]:
    """Explain every key of the pools; the one that would be chosen is told so.

    Raises:
        redis.exceptions.RedisError: whatever Redis reports.
    """
    found: list[KeyExplanation] = []
    for plan in (plan for pool in pools for plan in pool.every_plan()):
        now_ms, explanations = limiter.explain(plan, need)
        weights = limiter.weights(plan, need)
        for index, explanation in enumerate(explanations):
            found.append(_one(plan, index, explanation, weights, now_ms))
    free = [entry for entry in found if entry["verdict"] == "free"]
    if free:
        best = min(free, key=lambda entry: (entry["tier"], -entry["room"]))
        best["verdict"] = "chosen"
        best["why"] = "the first tier with room; the largest share of its limits would be left"
        if best["room"] >= 0.5:
            best["why"] = "in the first tier with room; keys with half their limits left take turns"
    return found


def _one(
    plan: Plan, index: int, explanation: Explanation, weights: Sequence[Weights], now_ms: int
) -> KeyExplanation:
    packed = plan.packed[index]
    key, use = packed.candidate.key, explanation.use
    why, free_in = "", 0.0 if explanation.why is None else None
    if explanation.why is not None:
        why = _WHY[explanation.why]
        if explanation.why is Refusal.COOLING:
            why = f"{use.state}: {use.reason}" if use.reason else use.state
        if explanation.why is Refusal.CIRCUIT:
            why = _broken(use)
        if explanation.until_ms > 0 and explanation.until_ms != NEVER:
            free_in = max(0.0, (explanation.until_ms - now_ms) / 1000)
    return KeyExplanation(
        key_id=key.key_id,
        provider=key.provider,
        model_name=key.model_name,
        quota_group=key.group,
        tier=packed.candidate.tier,
        verdict="free" if explanation.why is None else "passed over",
        why=why,
        free_in=free_in,
        room=explanation.room,
        share=explanation.share,
        waiting=explanation.waiting,
        state=use.state,
        circuits=Circuits(key=use.key_circuit.state, service=use.service_circuit.state),
        limits=_limits(key, use, weights[packed.policy]),
    )


def _broken(use: GroupUse) -> str:
    """Whose circuit is open, the one that stays so for longer, and why."""
    circuits = {"the key's": use.key_circuit, "its provider's": use.service_circuit}
    whose, circuit = max(circuits.items(), key=lambda named: named[1].until_ms)
    return f"{whose} circuit is {circuit.state}: {circuit.reason}"


def _limits(key: KeySpec, use: GroupUse, weights: Weights) -> dict[str, Room]:
    rows = {
        "rpm": (use.requests, key.rpm, 1),
        "tpm": (use.tokens, key.tpm, weights.tokens),
        "itpm": (use.input, key.itpm, weights.input),
        "otpm": (use.output + use.held_output, key.otpm, weights.output),
        "rpd": (use.requests_today, key.rpd, 1),
        "tpd": (use.tokens_today, key.tpd, weights.tokens),
        "max_parallel": (use.in_flight, key.max_parallel, 1),
    }
    return {
        name: Room(used=used, limit=limit, adds=adds)
        for name, (used, limit, adds) in rows.items()
        if limit is not None
    }
