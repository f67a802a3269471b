"""Tables for people: keys, health, attempts and conversations, fitted to a terminal's width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from core.types import Attempt
from keys.explain import KeyExplanation
from keys.lifecycle import HistoryEntry
from keys.status import KeyStatus, LimitUse

BAR_CELLS = 8

_GAP = 2
_REASON_CELLS = 14
_MOST_DETAILS = 5
_STYLES = {
    "available": "green",
    "full": "yellow",
    "throttled": "yellow",
    "recovering": "cyan",
    "exhausted": "red",
    "invalid": "red",
    "disabled": "dim",
}


@dataclass(frozen=True, slots=True)
class _Column:
    """`keep` orders what goes first where there is no room; 0 stays whatever happens."""

    title: str
    keep: int
    cells: list[Text]
    right: bool = False

    @property
    def width(self) -> int:
        return max(cell_len(text) for text in (self.title, *(c.plain for c in self.cells)))


def keys_table(
    statuses: Sequence[KeyStatus], width: int, *, steady: bool = False, ascii_only: bool = False
) -> Table:
    """How the keys fare, with the sums of their quota groups in the last line.

    Args:
        width: the columns of the terminal; what matters least is left out where it is narrow.
        steady: keep the columns even while they are empty, for a table that is drawn again.
        ascii_only: draw the bars with ASCII.
    """
    groups = list({(s["provider"], s["quota_group"]): s for s in statuses}.values())
    served = sum(status["available"] for status in statuses)

    def column(
        title: str, keep: int, cell: Callable[[KeyStatus], Text], total: Text, right: bool = False
    ) -> _Column:
        return _Column(title, keep, [*(cell(status) for status in statuses), total], right)

    rpm = _sum([group["rpm"] for group in groups if group["active"]])
    tpm = _sum([group["tpm"] for group in groups if group["active"]])
    count = f"{len(statuses)} key" + ("" if len(statuses) == 1 else "s")
    columns = [
        column("key", 0, lambda s: Text(s["key_id"]), Text(count)),
        column("provider", 9, lambda s: Text(s["provider"]), Text()),
        column("model", 8, lambda s: Text(s["model_name"]), Text()),
        column("state", 0, _state, Text(f"{served} may serve")),
        column("", 4, lambda s: _bar(s["rpm"], ascii_only), _bar(rpm, ascii_only)),
        column("rpm", 0, lambda s: _use(s["rpm"]), _use(rpm), right=True),
        column("tpm", 5, _tokens, _use(tpm), right=True),
        column("rpd", 7, lambda s: _use(s["rpd"]), Text(), right=True),
        column("in flight", 6, _in_flight, _in_flight_sum(groups), right=True),
        column("cooldown", 2, _cooldown, Text(), right=True),
    ]
    if not steady:
        columns = [c for c in columns if c.keep == 0 or any(c.cells[:-1])]
    reasons = column("reason", 3, lambda s: Text(s["reason"], "dim"), Text())
    with_reasons = steady or any(reasons.cells)
    columns = _fitting(columns, width - (_GAP + _REASON_CELLS) * with_reasons)
    left = width - _width_of(columns) - _GAP
    if with_reasons and left >= _REASON_CELLS:
        columns.append(reasons)
    return _drawn(columns, left)


def health_table(health: Mapping[str, Any]) -> Table:
    """Each part of a health check with its state, its reason, and what is wrong in detail."""
    table = _plain_table("part", "state", "reason")
    for part, found in health.items():
        if not isinstance(found, Mapping):
            continue
        good = bool(found["healthy"])
        reason = Text(str(found["reason"]))
        details = {**found.get("unavailable", {}), **found.get("missing", {})}
        for name, why in list(details.items())[:_MOST_DETAILS]:
            reason.append(f"\n{name}: {why}", "dim")
        if len(details) > _MOST_DETAILS:
            reason.append(f"\nand {len(details) - _MOST_DETAILS} more", "dim")
        state = Text("healthy", "green") if good else Text("unhealthy", "red")
        table.add_row(Text(part), state, reason)
    return table


def attempts_table(attempts: Sequence[Attempt]) -> Table:
    """Every try of one request, in their order."""
    table = _plain_table("try", "key", "model", "outcome", "ms", "error")
    for number, attempt in enumerate(attempts, 1):
        good = attempt["outcome"] == "success"
        table.add_row(
            Text(str(number)),
            Text(attempt["key_id"]),
            Text(attempt["model"]),
            Text(attempt["outcome"], "green" if good else "red"),
            Text(f"{attempt['duration_ms']:.0f}", justify="right"),
            Text(attempt.get("error", "")),
        )
    return table


def explain_table(explained: Sequence[KeyExplanation]) -> Table:
    """Every key and one prompt: would it serve, why not, and what would be left."""
    table = _plain_table("key", "model", "verdict", "free in", "limits", "why")
    colours = {"chosen": "green", "free": "", "passed over": "yellow"}
    for entry in explained:
        rooms = ", ".join(
            f"{name} {short(room['used'])}+{short(room['adds'])}/{short(room['limit'])}"
            for name, room in entry["limits"].items()
        )
        seconds = entry["free_in"]
        table.add_row(
            Text(entry["key_id"]),
            Text(entry["model_name"]),
            Text(entry["verdict"], colours[entry["verdict"]]),
            Text("?" if seconds is None else f"{seconds:.1f} s" if seconds else "now"),
            Text(rooms),
            Text(entry["why"]),
        )
    return table


def sources_table(statuses: Sequence[KeyStatus]) -> Table:
    """Of each key its state, its circuits, and where it comes from."""
    table = _plain_table("key", "model", "state", "circuit", "provider's circuit", "from", "reason")
    for status in statuses:
        table.add_row(
            Text(status["key_id"]),
            Text(status["model_name"]),
            _state(status),
            _circuit(status["circuits"]["key"]),
            _circuit(status["circuits"]["service"]),
            Text(status["source"]),
            Text(status["reason"], "dim"),
        )
    return table


def history_table(entries: Sequence[HistoryEntry]) -> Table:
    """The changes of a key's state, the oldest first."""
    table = _plain_table("when", "whose", "from", "to", "until", "who", "why", "request")
    for entry in entries:
        after = entry["after"]
        table.add_row(
            Text(entry["at"].replace("T", " ")[:19]),
            Text(entry["subject"]),
            Text(entry["before"]),
            Text(after, _STYLES.get(after, "")),
            Text((entry["until"] or "").replace("T", " ")[:19]),
            Text(entry["who"]),
            Text(entry["why"]),
            Text(entry["request_id"][:12], "dim"),
        )
    return table


def _circuit(state: str) -> Text:
    return Text(state, {"open": "red", "half-open": "yellow"}.get(state, ""))


def conversations_table(conversations: Sequence[Mapping[str, Any]]) -> Table:
    """Conversations as `ConversationStore.list_conversations` gives them."""
    table = _plain_table("conversation", "user", "messages", "tokens", "last model", "last turn")
    for found in conversations:
        table.add_row(
            Text(found["conversation_id"]),
            Text(found["user_id"] or ""),
            Text(str(found["message_count"]), justify="right"),
            Text(str(found["total_tokens"]), justify="right"),
            Text(found["last_model"] or ""),
            Text(str(found["updated_at"])[:19].replace("T", " ")),
        )
    return table


def short(number: int) -> str:
    """A number in few characters.

    Example:
        >>> short(950), short(12_340), short(2_000_000)
        ('950', '12.3k', '2M')
    """
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + letter
    return str(number)


def _state(status: KeyStatus) -> Text:
    rpm = status["rpm"]
    full = status["available"] and rpm["limit"] is not None and rpm["used"] >= rpm["limit"]
    state = "full" if full else status["state"]
    return Text(state, _STYLES.get(state, ""))


def _bar(use: LimitUse, ascii_only: bool) -> Text:
    if not use["limit"]:
        return Text()
    share = min(1.0, use["used"] / use["limit"])
    filled = round(BAR_CELLS * share)
    if filled == 0 and use["used"]:
        filled = 1
    full, empty = ("#", ".") if ascii_only else ("━", "─")
    colour = "yellow" if share >= 1 else "green"
    return Text.assemble((full * filled, colour), (empty * (BAR_CELLS - filled), "dim"))


def _use(use: LimitUse) -> Text:
    if use["limit"] is None:
        return Text(short(use["used"]) if use["used"] else "", "dim")
    limit = short(use["limit"])
    return Text(f"{short(use['used']):>{len(limit)}}/{limit}")


def _tokens(status: KeyStatus) -> Text:
    """The tokens that are limited; where input and output are apart, the scarcer of the two."""
    apart = [("in ", status["itpm"]), ("out ", status["otpm"])]
    limited = [(use["used"] / use["limit"], way, use) for way, use in apart if use["limit"]]
    if status["tpm"]["limit"] is None and limited:
        _, way, use = max(limited, key=lambda entry: entry[0])
        return Text.assemble((way, "dim"), _use(use).plain.strip())
    return _use(status["tpm"])


def _counts_in_flight(status: KeyStatus) -> bool:
    return status["parallel"]["limit"] is not None or status["otpm"]["limit"] is not None


def _in_flight(status: KeyStatus) -> Text:
    return _use(status["parallel"]) if _counts_in_flight(status) else Text()


def _in_flight_sum(groups: Sequence[KeyStatus]) -> Text:
    counted = [group["parallel"]["used"] for group in groups if _counts_in_flight(group)]
    return Text(str(sum(counted))) if counted else Text()


def _cooldown(status: KeyStatus) -> Text:
    seconds = status["cooldown_seconds"]
    if seconds is None:
        return Text("open end")
    return Text(f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s") if seconds else Text()


def _sum(uses: Sequence[LimitUse]) -> LimitUse:
    limits = [use["limit"] for use in uses if use["limit"] is not None]
    return LimitUse(used=sum(use["used"] for use in uses), limit=sum(limits) or None)


def _width_of(columns: Sequence[_Column]) -> int:
    return sum(column.width + _GAP for column in columns) - _GAP


def _fitting(columns: list[_Column], width: int) -> list[_Column]:
    while _width_of(columns) > width:
        least = max(columns, key=lambda column: column.keep)
        if least.keep == 0:
            break
        columns = [column for column in columns if column is not least]
    return columns


def _drawn(columns: Sequence[_Column], left: int) -> Table:
    table = Table(
        box=box.SIMPLE, show_footer=True, show_edge=False, pad_edge=False,
        collapse_padding=True, header_style="bold", footer_style="",
    )  # fmt: skip
    for column in columns:
        elastic = column.title == "reason"
        table.add_column(
            column.title,
            column.cells[-1],
            justify="right" if column.right else "left",
            width=left if elastic else column.width,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in zip(*(column.cells[:-1] for column in columns), strict=True):
        table.add_row(*row)
    return table


def _plain_table(*titles: str) -> Table:
    table = Table(
        box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True, header_style="bold"
    )
    for title in titles:
        table.add_column(title, overflow="fold")
    return table
