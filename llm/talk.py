"""What is said beside an answer, and the loop of an interactive talk."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import choice, randrange
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.text import Text

from core.events import ConversationNotSaved, subscribe
from core.types import Reply
from llm import tables

if TYPE_CHECKING:
    from conversation.records import HistoryMessage
    from conversation.store import ConversationStore

_CHAT_HELP = "/history shows the whole talk, /quit leaves it; anything else is sent."
_ADJECTIVES = ("amber", "brave", "calm", "clever", "gentle", "merry", "quiet", "sunny", "swift")
_ANIMALS = ("badger", "falcon", "heron", "lynx", "marten", "otter", "robin", "stork", "wren")

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
    "secret_unavailable": "python -m keys check-secrets shows which keys have a secret",
    "redis_unavailable": "python -m llm.router --health-check shows what is wrong",
    "conversation_unavailable": "python -m llm.router --health-check shows what is wrong",
}


def note(notes: Console, text: str, style: str = "dim") -> None:
    """Say something that is no answer."""
    notes.print(Text(text, style), soft_wrap=True)


def show_outcome(reply: Reply, notes: Console) -> None:
    """Which key answered, after which tries; or why none did, and what to do."""
    tokens = reply["tokens"]
    if reply["success"]:
        cut = "; cut at --max-output-tokens" if reply.get("stop_reason") == "length" else ""
        note(
            notes,
            f"{reply['key_id']}, {reply['model']}: {tokens['input']} + {tokens['output']} tokens, "
            f"{reply['duration_ms']:.0f} ms{cut}",
        )
    if len(reply["attempts"]) > 1:
        notes.print(tables.attempts_table(reply["attempts"]), style="dim")
    if not reply["success"]:
        kind = reply["error_type"]
        note(notes, f"{kind}: {reply['error']}", "red")
        if kind in _ADVICE:
            note(notes, f"What to do: {_ADVICE[kind]}.")


def shown(message: HistoryMessage) -> str:
    """One line of a talk that is shown again: its texts, and what else it holds in brackets."""
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    said = [part["text"] if part["type"] == "text" else "[an image]" for part in parts]
    if message["role"] == "tool":
        said = [f"[{len(''.join(said))} characters of a result]"]
    said += [f"[called tool {call['function']['name']}]" for call in message.get("tool_calls", ())]
    return f"{message['role']}: {' '.join(text for text in said if text)}"


def talk(
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
                    note(notes, shown(message))
            elif line.startswith("/"):
                note(notes, _CHAT_HELP)
            elif line:
                reply = ask(line)
                answered, failed = answered + reply["success"], failed + (not reply["success"])
                typer.echo(reply["content"] or "", nl=reply["success"])
                show_outcome(reply, notes)
                if not reply["success"]:
                    note(notes, "This turn is not part of the history.")
                for event in unsaved:
                    note(notes, f"The turn was not saved: {event.error}", "red")
                unsaved.clear()
    except KeyboardInterrupt:
        note(notes, "")
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


def new_id(store: ConversationStore) -> str:
    """A name that is easy to type and not taken."""
    while True:
        name = f"{choice(_ADJECTIVES)}-{choice(_ANIMALS)}-{randrange(10, 100)}"
        if not store.exists(name):
            return name
