"""The demo from its first line to its last."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass

from rich.console import Console

from llm.demo.cast import TO_BE_REVOKED, TO_FAIL
from llm.demo.facts import SATURATED_WINDOWS, Facts, facts_of
from llm.demo.show import Show
from llm.demo.stage import Stage
from llm.demo.stopping import Stopping
from llm.demo.talk import talk
from llm.demo.traffic import Traffic

REQUESTS, THREADS, WINDOW_SECONDS = 300, 8, 5.0

_WINDOWS_OF_TRAFFIC = 2.5
_FRAME_SECONDS = 0.25
_OUTAGE = "UNAVAILABLE"
_STOPPED = 130


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is. The keys' limits grow with `requests`, so that they stay scarce."""

    requests: int = REQUESTS
    threads: int = THREADS
    window_seconds: float = WINDOW_SECONDS

    @property
    def permitted(self) -> int:
        """Requests that all keys together permit in one window."""
        return round(self.requests / _WINDOWS_OF_TRAFFIC)


def play(console: Console, size: Size | None = None) -> int:
    """Show the demo on a console.

    Returns:
        The exit code: 0; 1 where a request was not answered; 130 when it was stopped.

    Raises:
        core.errors.RouterError: a part does not start, or does not end.
    """
    size = size or Size()
    show = Show(console)
    show.line()
    show.head("A multi-key LLM router at work")
    show.line(
        f"{size.requests} requests from {size.threads} threads, over 12 simulated keys, through "
        f"three real SDKs.\nA provider's minute lasts {size.window_seconds:g} s here, so that you "
        "can watch it pass."
    )
    show.line()
    try:
        with (
            Stopping() as stopping,
            Stage(size.window_seconds, size.permitted, show.say, stopping) as stage,
        ):
            done = _act(stage, show, size, stopping)
    except KeyboardInterrupt:
        show.line()
        show.say("stopped; every process has ended and the temporary folder is gone")
        return _STOPPED
    show.line()
    show.say("every process has ended and the temporary folder is gone")
    show.line()
    show.line("Next: `python -m keys init` with your own keys, then `python -m llm send Hello`.")
    return 0 if done else 1


def _act(stage: Stage, show: Show, size: Size, stopping: Stopping) -> bool:
    if not stage.shares_limits:
        show.say("no Valkey or Redis was found: the limits hold for this process alone")
    show.say("ready; from now on more is asked for than the keys permit")
    with Traffic(stage.router, size.requests, size.threads) as traffic, show.following():
        _watch(stage, show, traffic, stopping)
        seconds = time.monotonic() - traffic.began
        show.finish(stage.keys.get_all_key_statuses(), _progress(traffic))
    facts = _facts(stage, traffic)
    show.summary(facts, size.threads, seconds, size.window_seconds)
    return talk(stage, show, stopping) and facts.answered == facts.sent


def _watch(stage: Stage, show: Show, traffic: Traffic, stopping: Stopping) -> None:
    """Draw the keys until all requests are finished, and let things go wrong on the way."""
    with closing(_incidents(stage, show)) as incidents:
        due = next(incidents, None)
        while traffic.running:
            show.follow(stage.keys.get_all_key_statuses(), _progress(traffic))
            stopping.sleep(_FRAME_SECONDS)
            if due is not None and time.monotonic() - traffic.began >= due * stage.window_seconds:
                due = next(incidents, None)


def _incidents(stage: Stage, show: Show) -> Generator[float]:
    """What goes wrong, and after how many windows; yields when the next step is due."""
    yield SATURATED_WINDOWS + 0.02
    stage.providers.revoke(TO_BE_REVOKED)
    show.say(f"{TO_BE_REVOKED} is revoked by its provider", "yellow")
    yield SATURATED_WINDOWS + 0.15
    stage.providers.add_fault(_OUTAGE, protocol=TO_FAIL)
    show.say(f"{TO_FAIL} fails: every call gets a 503", "yellow")
    try:
        yield SATURATED_WINDOWS + 0.4
    finally:
        stage.providers.clear_faults()
        show.say(f"{TO_FAIL} answers again", "green")


def _progress(traffic: Traffic) -> str:
    return f"{traffic.answered} of {traffic.requests} answered, {traffic.retries} retried"


def _facts(stage: Stage, traffic: Traffic) -> Facts:
    return facts_of(
        traffic.replies,
        traffic.waited,
        stage.providers.report(timestamps=True),
        stage.keys.registry.keys(),
        stage.window_seconds,
    )
