"""The commands of `python -m llm`, and the health check of `python -m llm.router`.

Answers go to standard output and everything else to standard error, so that both can be piped.
"""

from __future__ import annotations

import io
import json
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console
from typer.core import TyperGroup

from core.errors import InvalidRequest, RouterError
from core.neutral import message_as_dict
from core.settings import Settings
from core.types import Reply
from llm import tables
from llm.health_command import cli_settings
from llm.keys_cli import keys_app
from llm.talk import new_id, note, show_outcome, shown, talk

if TYPE_CHECKING:
    from conversation.records import HistoryMessage
    from conversation.store import ConversationStore

_CHAT_WAIT_SECONDS = 30.0
_TURNS_SHOWN = 3
_EPILOG = """\
Examples:

python -m llm demo

python -m llm send "What is a token bucket?"

git diff | python -m llm send - --system "Review this." --fallback gpt-4o-mini

python -m llm chat

python -m llm keys --watch

Keys stand in keys.json (see python -m keys), settings in the environment or .env.
"""


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

app.add_typer(keys_app, name="keys")

Model = Annotated[str | None, typer.Option("--model", "-m", help="The model to try first.")]
System = Annotated[str | None, typer.Option("--system", "-s", help="How it should behave.")]
Fallbacks = Annotated[
    list[str] | None, typer.Option("--fallback", "-f", help="Another model; may be repeated.")
]
Providers = Annotated[
    list[str] | None,
    typer.Option("--provider", help="A provider that may be asked; may be repeated."),
]
Excluded = Annotated[
    list[str] | None,
    typer.Option("--exclude-key", help="A key that may not serve; may be repeated."),
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
    provider: Providers = None,
    exclude_key: Excluded = None,
    as_json: Json = False,
) -> None:
    """Send one prompt and print the answer; which key gave it goes to standard error.

    Exit code 0: answered. 1: not answered. 2: a wrong argument.
    """
    text = _prompt(prompt)
    from llm.factory import build_router

    with build_router(cli_settings()) as router:
        reply = router.send_one_shot(
            text,
            model,
            system,
            max_output_tokens=max_output_tokens,
            timeout=timeout,
            max_wait=max_wait,
            fallback_models=fallback or (),
            allowed_providers=provider or None,
            exclude_keys=exclude_key or (),
        )
    if as_json:
        typer.echo(json.dumps(reply, indent=2))
    elif reply["success"]:
        typer.echo(reply["content"])
    show_outcome(reply, Console(stderr=True))
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
    provider: Providers = None,
    exclude_key: Excluded = None,
) -> None:
    """Talk with a model; leave with /quit, Ctrl-D or Ctrl-C, and come back with the talk's id.

    The history is kept in Redis: it outlives any key, and this program. Without a terminal, each
    line of standard input is a turn; the exit code is 1 if one was not answered.
    """
    from llm.factory import build_router

    settings, notes = cli_settings(), Console(stderr=True)
    with _conversations(settings) as store, build_router(settings) as router:
        conv_id = new_id(store) if conv_id is None else conv_id
        known = store.load(conv_id)
        known.admit(user)
        note(notes, f"Conversation {conv_id}. /help lists what else you can type.")
        for message in known.messages[-_TURNS_SHOWN * 2 :]:
            note(notes, shown(cast("HistoryMessage", message_as_dict(message))))

        def ask(prompt: str) -> Reply:
            return router.send_chat(
                conv_id,
                prompt,
                user,
                model,
                system_prompt=system,
                max_wait=_CHAT_WAIT_SECONDS,
                fallback_models=fallback or (),
                allowed_providers=provider or None,
                exclude_keys=exclude_key or (),
            )

        answered, failed = talk(ask, lambda: store.get_history(conv_id), notes)
    if answered or known.metadata is not None:
        again = shlex.join([conv_id, *(["--user", user] if user else [])])
        hours = settings.conversation_ttl_seconds / 3600
        note(notes, f"Go on within {hours:g} h with: python -m llm chat {again}")
    else:
        note(notes, "Nothing was said, so nothing is kept.")
    raise typer.Exit(1 if failed and not sys.stdin.isatty() else 0)


@app.command()
def explain(
    prompt: Annotated[str, typer.Argument(help="The prompt that would be sent.")],
    model: Model = None,
    system: System = None,
    max_output_tokens: Annotated[
        int, typer.Option(min=1, help="The most tokens that the answer may have.")
    ] = 2048,
    fallback: Fallbacks = None,
    provider: Providers = None,
    exclude_key: Excluded = None,
    as_json: Json = False,
) -> None:
    """Tell which key would serve a prompt now, and why not the others. Sends and reserves nothing.

    Exit code 0: a key would serve it. 1: none has room.
    """
    from llm.factory import build_router

    with build_router(cli_settings()) as router:
        explained = router.explain(
            prompt,
            model,
            system,
            max_output_tokens=max_output_tokens,
            fallback_models=fallback or (),
            allowed_providers=provider or None,
            exclude_keys=exclude_key or (),
        )
    if as_json:
        typer.echo(json.dumps(explained, indent=2))
    else:
        Console().print(tables.explain_table(explained["keys"]))
        typer.echo(
            f"{explained['estimated_tokens']} input tokens are estimated; the model's answers "
            f"taught a ratio of {explained['ratio']:g}, so {explained['input_tokens']} are reserved"
        )
    raise typer.Exit(0 if any(k["verdict"] == "chosen" for k in explained["keys"]) else 1)


@app.command()
def conversations(
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    as_json: Json = False,
) -> None:
    """List the conversations, the latest turn first."""
    with _conversations(cli_settings()) as store:
        found = store.list_conversations(user, limit)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    elif found:
        Console().print(tables.conversations_table(found))
    else:
        typer.echo("No conversations; python -m llm chat begins one.")


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
