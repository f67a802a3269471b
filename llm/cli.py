"""The commands of `python -m llm`, and the health check of `python -m llm.router`.

Answers go to standard output and everything else to standard error, so that both can be piped.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from random import choice, randrange
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text
from typer.core import TyperGroup

from core.errors import InvalidRequest, RouterError, StorageError
from core.events import ConversationNotSaved, subscribe
from core.settings import Settings, load_settings
from core.types import Reply
from llm import tables

if TYPE_CHECKING:
    from conversation.records import HistoryMessage
    from conversation.store import ConversationStore
    from keys.manager import KeyManager

_WATCH_SECONDS = 1.0
_CHAT_WAIT_SECONDS = 30.0
_TURNS_SHOWN = 3
_CHAT_HELP = "/history shows the whole talk, /quit leaves it; anything else is sent."
_ADJECTIVES = ("amber", "brave", "calm", "clever", "gentle", "merry", "quiet", "sunny", "swift")
_ANIMALS = ("badger", "falcon", "heron", "lynx", "marten", "otter", "robin", "stork", "wren")
_EPILOG = """\
Examples:

python -m llm demo

python -m llm send "What is a token bucket?"

git diff | python -m llm send - --system "Review this." --fallback gpt-4o-mini

python -m llm chat

python -m llm keys --watch

Keys stand in keys.json (see python -m keys), settings in the environment or .env.
"""
_ADVICE = {
    "rate_limited": "wait for room with --max-wait SECONDS, allow more models with --fallback, or "
    "add keys; python -m llm keys shows when each has room",
    "no_keys": "python -m llm keys shows the models that can be asked for",
    "context_too_long": "shorten the prompt, or choose a model with a larger context window",
    "content_filtered": "say it in other words, or ask another model",
    "auth_failed": "check the key's secret; python -m llm keys shows which keys were refused",
    "quota_exhausted": "see the provider's billing page, or allow other models with --fallback",
    "provider_unavailable": "try again later, or allow other models with --fallback",
    "timeout": "give more time with --timeout SECONDS",
    "secret_unavailable": "python -m keys validate shows which keys have a secret",
    "redis_unavailable": "python -m llm.router --health-check shows what is wrong",
    "conversation_unavailable": "python -m llm.router --health-check shows what is wrong",
}


class _Commands(TyperGroup):
    """Says what went wrong in one message, where Python would show a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RouterError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2 if isinstance(error, InvalidRequest) else 1) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks can show local variables
    epilog=_EPILOG,
    help="Send prompts to language models over many API keys, within every key's limits.",
)

Model = Annotated[str | None, typer.Option("--model", "-m", help="The model to try first.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="How it should behave.")]
Fallbacks = Annotated[
    list[str] | None, typer.Option("--fallback", "-f", help="Another model that may answer.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command line."""
    if sys.stdin is None:  # closed by the caller
        sys.stdin = io.StringIO()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character must not cost the answer.
            stream.reconfigure(errors="replace")
    app(prog_name="python -m llm")


@app.command()
def demo(
    requests: Annotated[int | None, typer.Option(min=20, hidden=True)] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=64, hidden=True)] = None,
    window: Annotated[float | None, typer.Option(min=1, max=60, hidden=True)] = None,
) -> None:
    """Watch the router at work on a dozen simulated keys, for about 20 seconds.

    It needs no keys, uses no settings of yours, and leaves nothing behind.
    """
    from llm.demo.play import Size, play

    usual = Size()
    size = Size(
        requests or usual.requests, threads or usual.threads, window or usual.window_seconds
    )
    raise typer.Exit(play(Console(), size))


@app.command()
def send(
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; - or nothing reads standard input.")
    ] = None,
    model: Model = None,
    system: System = None,
    max_output_tokens: Annotated[
        int, typer.Option(min=1, help="The most tokens that the answer may have.")
    ] = 2048,
    timeout: Annotated[
        float | None, typer.Option(help="Seconds for the whole request, with all its tries.")
    ] = None,
    max_wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for room where every key is full.")
    ] = 0.0,
    fallback: Fallbacks = None,
    as_json: Json = False,
) -> None:
    """Send one prompt and print the answer; which key gave it goes to standard error.

    Exit code 0: answered. 1: not answered. 2: a wrong argument.
    """
    text = _prompt(prompt)
    from llm.factory import build_router

    with build_router(_settings()) as router:
        reply = router.send_one_shot(
            text,
            model,
            system,
            max_output_tokens=max_output_tokens,
            timeout=timeout,
            max_wait=max_wait,
            fallback_models=fallback or (),
        )
    if as_json:
        typer.echo(json.dumps(reply, indent=2))
    elif reply["success"]:
        typer.echo(reply["content"])
    _show_outcome(reply, Console(stderr=True))
    raise typer.Exit(0 if reply["success"] else 1)


@app.command()
def chat(
    conv_id: Annotated[
        str | None, typer.Argument(help="The conversation to go on with; a new one if left out.")
    ] = None,
    model: Model = None,
    user: Annotated[str | None, typer.Option(help="Whose conversation it is.")] = None,
    system: System = None,
    fallback: Fallbacks = None,
) -> None:
    """Talk with a model; leave with /quit, Ctrl-D or Ctrl-C, and come back with the talk's id.

    The history is kept in Redis: it outlives any key, and this program. Without a terminal, each
    line of standard input is a turn; the exit code is 1 if one was not answered.
    """
    from llm.factory import build_router

    settings, notes = _settings(), Console(stderr=True)
    with _conversations(settings) as store, build_router(settings) as router:
        conv_id = conv_id or _new_id(store)
        known = store.load(conv_id)
        known.admit(user)
        _note(notes, f"Conversation {conv_id}. /help lists what else you can type.")
        for message in known.messages[-_TURNS_SHOWN * 2 :]:
            _note(notes, f"{message.role}: {message.content}")

        def ask(prompt: str) -> Reply:
            return router.send_chat(
                conv_id,
                prompt,
                user,
                model,
                system_prompt=system,
                max_wait=_CHAT_WAIT_SECONDS,
                fallback_models=fallback or (),
            )

        answered, failed = _talk(ask, lambda: store.get_history(conv_id), notes)
    if answered or known.metadata is not None:
        whose = f" --user {user}" if user else ""
        hours = settings.conversation_ttl_seconds / 3600
        _note(notes, f"Go on within {hours:g} h with: python -m llm chat {conv_id}{whose}")
    else:
        _note(notes, "Nothing was said, so nothing is kept.")
    raise typer.Exit(1 if failed and not sys.stdin.isatty() else 0)


@app.command()
def keys(
    seconds: Annotated[
        float | None, typer.Argument(min=0.1, help="With --watch: the seconds between two looks.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again.")] = False,
    as_json: Json = False,
) -> None:
    """Show how every key fares: its use of each limit, and why it is passed over.

    Exit code 0 whether keys may serve or not; see the health check for that.
    """
    if seconds is not None and not watch:
        raise typer.BadParameter("SECONDS belongs to --watch: python -m llm keys --watch 2")
    if watch and as_json:
        raise typer.BadParameter("--watch and --json do not go together")
    from core.redis_connection import open_redis
    from keys.manager import build_key_manager

    settings = _settings()
    with open_redis(settings) as connection:
        manager = build_key_manager(settings, connection)
        console = Console()
        if as_json:
            typer.echo(json.dumps(manager.get_all_key_statuses(), indent=2))
        elif watch:
            _watch(console, lambda: _keys_view(console, manager, watched=True), seconds)
        else:
            console.print(_keys_view(console, manager, watched=False))


@app.command()
def conversations(
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the conversations, the latest turn first."""
    with _conversations(_settings()) as store:
        found = store.list_conversations(user, limit)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif found:
        Console().print(tables.conversations_table(found))
    else:
        typer.echo("No conversations; python -m llm chat begins one.")


def health_main(argv: list[str] | None = None) -> int:
    """`python -m llm.router --health-check`: whether requests can be served now.

    Args:
        argv: the arguments; those of the process if left out.

    Returns:
        The exit code: 0 healthy, 1 not healthy or wrongly configured, 2 nothing was asked for.
    """
    parser = argparse.ArgumentParser(
        prog="python -m llm.router",
        description="Check Redis, keys, conversations and secrets. Exit code 0: requests can be "
        "served; 1: they cannot.",
        epilog="For everything else: python -m llm --help",
    )
    parser.add_argument("--health-check", action="store_true", help="check, and print a table")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    given = parser.parse_args(argv)
    if not given.health_check:
        parser.print_help()
        return 2
    from llm.factory import build_router

    try:
        with build_router(_settings()) as router:
            health = router.health_check()
    except RouterError as error:
        if given.json:
            typer.echo(json.dumps({"healthy": False, "reason": str(error)}))
        else:
            typer.echo(str(error), err=True)
        return 1
    if given.json:
        typer.echo(json.dumps(health, indent=2))
    else:
        Console().print(tables.health_table(health))
    return 0 if health["healthy"] else 1


def _settings() -> Settings:
    settings = load_settings()
    changes: dict[str, Any] = {"prometheus_port": None}  # it belongs to the program that serves
    if "log_level" not in settings.model_fields_set:
        changes["log_level"] = "CRITICAL"  # what is worth a warning is shown by the commands
    return settings.model_copy(update=changes)


@contextmanager
def _conversations(settings: Settings) -> Iterator[ConversationStore]:
    from conversation.store import ConversationStore
    from core.redis_connection import open_redis
    from lua.names import Names

    names, life = Names(settings.redis_key_prefix), settings.conversation_ttl_seconds
    with open_redis(settings) as connection:
        yield ConversationStore(connection, names, life)


def _prompt(given: str | None) -> str:
    if given is None and sys.stdin.isatty():
        raise typer.BadParameter('give a prompt, as in: python -m llm send "Hello"')
    try:
        text = sys.stdin.read().rstrip("\n") if given in (None, "-") else str(given)
        text.encode()
    except UnicodeError:  # also bytes that Python let pass as lone surrogates
        raise typer.BadParameter("the prompt is not text in UTF-8") from None
    return text


def _note(notes: Console, text: str, style: str = "dim") -> None:
    notes.print(Text(text, style), soft_wrap=True)


def _show_outcome(reply: Reply, notes: Console) -> None:
    """Which key answered, after which tries; or why none did, and what to do."""
    tokens = reply["tokens"]
    if reply["success"]:
        cut = "; cut at --max-output-tokens" if reply.get("stop_reason") == "length" else ""
        _note(
            notes,
            f"{reply['key_id']}, {reply['model']}: {tokens['input']} + {tokens['output']} tokens, "
            f"{reply['duration_ms']:.0f} ms{cut}",
        )
    if len(reply["attempts"]) > 1:
        notes.print(tables.attempts_table(reply["attempts"]), style="dim")
    if not reply["success"]:
        kind = reply["error_type"]
        _note(notes, f"{kind}: {reply['error']}", "red")
        if kind in _ADVICE:
            _note(notes, f"What to do: {_ADVICE[kind]}.")


def _talk(
    ask: Callable[[str], Reply], history: Callable[[], list[HistoryMessage]], notes: Console
) -> tuple[int, int]:
    """Hold a conversation until it is left; how many turns were answered, and how many not."""
    answered = failed = 0
    unsaved: list[ConversationNotSaved] = []
    unsubscribe = subscribe(
        lambda event: unsaved.append(event) if isinstance(event, ConversationNotSaved) else None
    )
    try:
        for line in _lines():
            if line == "/quit":
                break
            if line == "/history":
                for message in history():
                    _note(notes, f"{message['role']}: {message['content']}")
            elif line.startswith("/"):
                _note(notes, _CHAT_HELP)
            elif line:
                reply = ask(line)
                answered, failed = answered + reply["success"], failed + (not reply["success"])
                typer.echo(reply["content"] or "", nl=reply["success"])
                _show_outcome(reply, notes)
                if not reply["success"]:
                    _note(notes, "This turn is not part of the history.")
                for event in unsaved:
                    _note(notes, f"The turn was not saved: {event.error}", "red")
                unsaved.clear()
    except KeyboardInterrupt:
        _note(notes, "")
    finally:
        unsubscribe()
    return answered, failed


def _lines() -> Iterator[str]:
    """What is typed, or piped in, line by line."""
    if not sys.stdin.isatty():
        yield from (line.strip() for line in sys.stdin)
        return
    with suppress(ImportError):  # Windows has none; there the console edits lines itself
        import readline  # noqa: F401 - it makes input() remember and edit lines
    with suppress(EOFError):
        while True:
            yield input("you> ").strip()
    typer.echo(err=True)  # Ctrl-D leaves the cursor behind the prompt


def _new_id(store: ConversationStore) -> str:
    while True:
        name = f"{choice(_ADJECTIVES)}-{choice(_ANIMALS)}-{randrange(10, 100)}"
        if not store.exists(name):
            return name


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
