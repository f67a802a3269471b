"""What the demo's summary says, computed from replies and from the providers' own report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from core.types import Reply
from keys.spec import KeySpec
from tools.simulated_provider import Report

SATURATED_WINDOWS = 2
"""The share of the quota is measured over so many windows from the first request on."""

_LIMITS = ("rpm", "tpm", "itpm", "otpm")


@dataclass(frozen=True, slots=True)
class Facts:
    """The numbers of one run.

    Args:
        answered_by: answered requests of each provider.
        failed: requests that were not answered, by their `error_type`.
        retries: attempts beyond each request's first.
        retried_for: failed attempts that were followed by another, by their `error_type`.
        limited: requests that a provider refused for a limit (429), as the providers counted.
        beyond: most that any limit of any key was exceeded by in any window.
        accepted: requests that the providers accepted in the first windows.
        permitted: what the keys permit in as many windows.
        direct: requests that found room at once and were answered at the first attempt.
        added_ms: median time of these beside the SDK's call.
        call_ms: median time of their SDK calls.
    """

    sent: int
    answered_by: Mapping[str, int]
    failed: Mapping[str, int]
    retries: int
    retried_for: Mapping[str, int]
    limited: int
    beyond: int
    accepted: int
    permitted: int
    direct: int
    added_ms: float
    call_ms: float

    @property
    def answered(self) -> int:
        return sum(self.answered_by.values())

    @property
    def share(self) -> float:
        """The part of the permitted quota that was used, 0 to 1."""
        return self.accepted / self.permitted


def facts_of(
    replies: Sequence[Reply],
    waited: Collection[str],
    report: Report,
    keys: Sequence[KeySpec],
    window_seconds: float,
) -> Facts:
    """The facts of one run.

    Args:
        waited: ids of the requests that found every key full.
        report: of the simulated providers, with its timestamps.
    """
    mine = {key.key_id: report["keys"][key.key_id] for key in keys}
    times = [at for entry in mine.values() for at, _ in entry["accepted_at"]]
    end = min(times, default=0.0) + SATURATED_WINDOWS * window_seconds
    failed_tries = [attempt for reply in replies for attempt in reply["attempts"][:-1]]
    direct = [
        (reply["duration_ms"], reply["attempts"][0]["duration_ms"])
        for reply in replies
        if reply["success"] and len(reply["attempts"]) == 1 and reply["request_id"] not in waited
    ]
    return Facts(
        sent=len(replies),
        answered_by=Counter(str(reply["provider"]) for reply in replies if reply["success"]),
        failed=Counter(reply["error_type"] for reply in replies if not reply["success"]),
        retries=len(failed_tries),
        retried_for=Counter(attempt["outcome"] for attempt in failed_tries),
        limited=sum(
            entry["refused_by"].get(name, 0) for entry in mine.values() for name in _LIMITS
        ),
        beyond=max(
            limit["overshoot"] for entry in mine.values() for limit in entry["limits"].values()
        ),
        accepted=sum(at < end for at in times),
        permitted=SATURATED_WINDOWS * sum(key.rpm or 0 for key in keys),
        direct=len(direct),
        added_ms=median(whole - call for whole, call in direct) if direct else 0.0,
        call_ms=median(call for _, call in direct) if direct else 0.0,
    )
