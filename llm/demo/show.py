"""What the audience sees: a line for each event, the table of the keys, the summary."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keys.status import KeyStatus
from llm.demo.facts import SATURATED_WINDOWS, Facts
from llm.tables import keys_table
from lua.limiter_types import SLOTS

_PLAIN_SECONDS = 2.5


class Show:
    """Draws on a console: a live table on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began = time.monotonic()
        self._animated = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._last_line = self._began

    def line(self, text: str | Text = "") -> None:
        """A line of text as it is."""
        self.console.print(text, highlight=False)

    def head(self, text: str) -> None:
        """A heading."""
        self.line()
        self.line(Text(text, "bold"))

    def say(self, text: str, style: str = "") -> None:
        """What happens now, with the seconds since the beginning."""
        seconds = time.monotonic() - self._began
        table = Table.grid(padding=(0, 2))
        table.add_row(Text(f"{seconds:5.1f} s", "dim"), Text(text, style))
        self.console.print(table)

    def following(self) -> AbstractContextManager[object]:
        """Inside, `follow` draws the table in its place; at the end the last one stays."""
        return self._live if self._animated else nullcontext()

    def follow(self, statuses: Sequence[KeyStatus], progress: str) -> None:
        """How the keys and the requests are getting on."""
        if self._animated:
            picture = Group("", self._table(statuses), Text(f"\n{progress}", "bold"))
            self._live.update(picture, refresh=True)
        elif time.monotonic() - self._last_line >= _PLAIN_SECONDS:
            self._last_line = time.monotonic()
            self.say(progress)

    def finish(self, statuses: Sequence[KeyStatus], progress: str) -> None:
        """The last state of the keys."""
        if self._animated:
            self.follow(statuses, progress)
        else:
            self.line()
            self.console.print(self._table(statuses))

    def summary(self, facts: Facts, threads: int, seconds: float, window_seconds: float) -> None:
        """The numbers of the run, each with what it means."""
        self.head("Summary")
        table = Table.grid(padding=(0, 2), pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(style="dim")
        minute = f"{window_seconds:g} s"
        rows = [
            ("sent", str(facts.sent), "", f"requests from {threads} threads in {seconds:.1f} s"),
            (
                "answered",
                str(facts.answered),
                _good(facts.answered == facts.sent),
                _counted(facts.answered_by) + _and_failed(facts.failed),
            ),
            ("retried", str(facts.retries), "", _retried(facts)),
            (
                "refused by a provider",
                str(facts.limited),
                _good(facts.limited == 0),
                "429s, as the providers counted them" + _too_short(facts, window_seconds),
            ),
            (
                "beyond a limit",
                str(facts.beyond),
                _good(facts.beyond == 0),
                f"the most by which any window of {minute} passed a limit",
            ),
            (
                "quota used",
                f"{facts.share:.1%}",
                "bold",
                f"{facts.accepted} of the {facts.permitted} requests that the keys permit in the "
                f"first {SATURATED_WINDOWS} windows of {minute}, before anything fails",
            ),
            ("added latency", *_latency(facts)),
        ]
        for name, value, style, meaning in rows:
            table.add_row(Text(name), Text(value, style), meaning)
        self.console.print(table)

    def _table(self, statuses: Sequence[KeyStatus]) -> Table:
        ascii_only = self.console.options.ascii_only
        return keys_table(statuses, self.console.width, steady=True, ascii_only=ascii_only)


def _good(good: bool) -> str:
    return "bold green" if good else "bold red"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _and_failed(failed: Mapping[str, int]) -> str:
    return f"; not answered: {_counted(failed)}" if failed else ""


def _retried(facts: Facts) -> str:
    if not facts.retries:
        return "further attempts of a request"
    return f"further attempts of a request, after {_counted(facts.retried_for)}"


def _too_short(facts: Facts, window_seconds: float) -> str:
    if not facts.limited:
        return ""
    slack = window_seconds / SLOTS
    return (
        f"; they happen where a busy machine takes more than {slack * 1000:.0f} ms from a "
        f"reservation to the provider, while a real minute allows for {60_000 / SLOTS:.0f} ms"
    )


def _latency(facts: Facts) -> tuple[str, str, str]:
    if not facts.direct:
        return "-", "", "no request found room at once"
    meaning = (
        f"median of what the router and its Redis add to a call of {facts.call_ms:.0f} ms, over "
        f"the {facts.direct} requests that neither waited nor were retried"
    )
    return f"{facts.added_ms:.1f} ms", "bold", meaning
