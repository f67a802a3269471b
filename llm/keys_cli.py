"""`python -m llm keys`: how the keys fare, and what changes them while programs run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from typer.core import TyperGroup

from core.errors import StorageError
from llm import tables
from llm.health_command import cli_settings

if TYPE_CHECKING:
    from keys.manager import KeyManager

_WATCH_SECONDS = 1.0


class _KeysGroup(TyperGroup):
    """Takes `keys --watch 2` as well as `keys history a`: a number is no command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for at, word in enumerate(args):
            if word in self.commands:
                break
            if _is_number(word) and (at == 0 or args[at - 1] != "--seconds"):
                args = [*args[:at], "--seconds", word, *args[at + 1 :]]
                break
        rest: list[str] = super().parse_args(ctx, args)
        return rest


keys_app = typer.Typer(
    cls=_KeysGroup,
    invoke_without_command=True,
    help="Show how every key fares, and change keys for all programs that share the Redis.",
)

KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; it is kept in the history.")]
By = Annotated[
    str | None, typer.Option(help="Who does it; your login and this machine if left out.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FromStdin = Annotated[
    bool,
    typer.Option(
        "--secret-stdin", help="Read the new secret from a prompt or standard input and store it."
    ),
]


@keys_app.callback()
def show(
    ctx: typer.Context,
    seconds: Annotated[float | None, typer.Option(min=0.1, hidden=True)] = None,
    watch: Annotated[
        bool,
        typer.Option("--watch", "-w", help="Look again and again; -w 0.2 for other than 1 s"),
    ] = False,
    as_json: Json = False,
) -> None:
    """Without a command: its use of each limit, and why it is passed over, of every key.

    Exit code 0 whether keys may serve or not; see the health check for that.
    """
    if ctx.invoked_subcommand is not None:
        if watch or as_json or seconds is not None:
            raise typer.BadParameter(f"options go behind the command: {ctx.invoked_subcommand}")
        return
    if seconds is not None and not watch:
        raise typer.BadParameter("SECONDS belongs to --watch: python -m llm keys --watch 2")
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    with _manager() as manager:
        console = Console()
        if as_json:
            typer.echo(json.dumps(manager.get_all_key_statuses(), indent=2))
        elif watch:
            _watch(console, lambda: _keys_view(console, manager, watched=True), seconds)
        else:
            console.print(_keys_view(console, manager, watched=False))


@keys_app.command()
def status(
    key_id: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="One key; all if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell of each key its state, its circuits and where it comes from.

    A revoked key is out, whatever else is said; then wins what was registered or disabled at run
    time, then keys.json.
    """
    with _manager() as manager:
        found = (
            manager.get_all_key_statuses() if key_id is None else [manager.get_key_status(key_id)]
        )
        revoked = manager.revoked_keys() if key_id is None else {}
    if as_json:
        typer.echo(json.dumps({"keys": found, "revoked": revoked}, indent=2))
        return
    Console().print(tables.sources_table(found))
    for name, at in revoked.items():
        typer.echo(f"{name}: revoked at {at}")


@keys_app.command()
def history(
    key_id: KeyId,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many changes at most.")] = 50,
    as_json: Json = False,
) -> None:
    """Tell who or what changed a key's state, when, from what to what, and why."""
    with _manager() as manager:
        entries = manager.history(key_id, limit)
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
    elif entries:
        Console().print(tables.history_table(entries))
    else:
        typer.echo(f"{key_id}: nothing has changed its state yet.")


@keys_app.command()
def register(
    entry: Annotated[
        str,
        typer.Argument(
            help="What keys.json would say of it, as JSON; - reads it from standard input."
        ),
    ],
    secret: FromStdin = False,
    reason: Reason = "",
    by: By = None,
) -> None:
    """Add a key for all programs; keys.json is not changed.

    python -m llm keys register '{"key_id": "b", "model_name": "gpt-4o-mini", "provider": "openai"}'
    """
    if entry == "-" and secret:
        raise typer.BadParameter("standard input cannot hold both the entry and the secret")
    text = sys.stdin.read() if entry == "-" else entry
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"the entry is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise typer.BadParameter("the entry must be a JSON object, as in keys.json")
    given = _read_secret() if secret else None
    with _manager() as manager:
        spec = manager.register_key(fields, given, by=by, reason=reason)
        where = manager.secret_place(spec.key_id)
    typer.echo(f"{spec.key_id} is registered; all programs use it within two seconds.")
    typer.echo(f"Its secret is {'stored' if given else 'expected'} at: {where}")


@keys_app.command()
def rotate(key_id: KeyId, secret: FromStdin = False, reason: Reason = "", by: By = None) -> None:
    """Go over to a new secret: all programs forget the old one; requests under way end with it.

    With an encrypted file as the secret store, --secret-stdin stores the new one. Elsewhere change
    it in the store first, then run this without it.
    """
    given = _read_secret() if secret else None
    with _manager() as manager:
        rotation = manager.rotate_key(key_id, given, by=by, reason=reason)
    if rotation.stored:
        typer.echo(f"{key_id}: the new secret is stored at: {rotation.where}")
    else:
        typer.echo(
            f"{key_id}: nothing was stored from here; the secret is read from: "
            f"{rotation.where}. If it is not changed there yet, do so and rotate again."
        )
    typer.echo(f"All programs take it up with their next request (version {rotation.version}).")


@keys_app.command()
def revoke(
    key_id: KeyId,
    reason: Reason = "",
    by: By = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take a key out of all programs for good. Its history stays; its id is never given again."""
    if not yes and not typer.confirm(f"Take {key_id} out for good?"):
        raise typer.Exit(1)
    with _manager() as manager:
        manager.revoke_key(key_id, by=by, reason=reason)
    typer.echo(f"{key_id} is revoked here. Revoke it at its provider too.")


@keys_app.command()
def disable(key_id: KeyId, reason: Reason = "", by: By = None) -> None:
    """Take a key out of use in all programs, until it is enabled."""
    with _manager() as manager:
        done = manager.disable(key_id, by=by, reason=reason)
    typer.echo(f"{key_id} is disabled." if done else f"{key_id} was disabled already.")


@keys_app.command()
def enable(key_id: KeyId, reason: Reason = "", by: By = None) -> None:
    """Take a key back into use in all programs, whatever kept it out."""
    with _manager() as manager:
        done = manager.enable(key_id, by=by, reason=reason)
    typer.echo(f"{key_id} is available." if done else f"{key_id} was available already.")


@contextmanager
def _manager() -> Iterator[KeyManager]:
    from core.redis_connection import open_redis
    from keys.manager import build_key_manager

    settings = cli_settings()
    with open_redis(settings) as connection:
        yield build_key_manager(settings, connection)


def _read_secret() -> str:
    """A secret from a prompt that shows nothing, or from standard input; never from the arguments,
    which other users of the machine can see."""
    if sys.stdin.isatty():
        return str(typer.prompt("The secret", hide_input=True))
    return sys.stdin.readline().strip()


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _keys_view(console: Console, manager: KeyManager, *, watched: bool) -> RenderableType:
    try:
        statuses = manager.get_all_key_statuses()
    except StorageError as error:
        if not watched:
            raise
        return Text(str(error), "red")
    ascii_only = console.options.ascii_only
    table = tables.keys_table(statuses, console.width, steady=watched, ascii_only=ascii_only)
    below = [Text(manager.registry.problem, "yellow")] if manager.registry.problem else []
    if not watched:
        passed_over = [status for status in statuses if status["reason"]]
        below += [Text(f"{s['key_id']}: {s['reason']}", "dim") for s in passed_over]
    return Group(table, *([Text()] if below else []), *below)


def _watch(console: Console, view: Callable[[], RenderableType], seconds: float | None) -> None:
    """Show `view` again and again until Ctrl-C: in its place on a terminal, else one by one."""
    animated = console.is_terminal and not console.is_dumb_terminal
    live = Live(console=console, auto_refresh=False) if animated else None
    try:
        with live or nullcontext():
            while True:
                if live is not None:
                    live.update(Group(view(), Text("\nCtrl-C ends this", "dim")), refresh=True)
                else:
                    console.print(view(), "")
                time.sleep(seconds or _WATCH_SECONDS)
    except KeyboardInterrupt:
        return
