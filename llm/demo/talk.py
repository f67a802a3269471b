"""A short conversation, whose keys change from turn to turn while its history stays."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from core.types import Reply
from llm.demo.cast import EXPECTED_TOKENS, MAX_OUTPUT_TOKENS, MODELS
from llm.demo.show import Show
from llm.demo.stage import Stage
from llm.demo.stopping import Stopping

CONVERSATION = "demo-talk"

_MAX_WAIT_SECONDS = 30.0
_LABEL_CELLS = 10


def talk(stage: Stage, show: Show, stopping: Stopping) -> bool:
    """Three turns: any key; its model again after that key was revoked; another provider.

    Returns:
        Whether every turn was answered.

    Raises:
        KeyboardInterrupt: from `stopping`.
    """
    show.head("A conversation, whose history lives apart from the keys")
    first = _turn(stage, show, "My name is Bo.", None)
    if not first["success"]:
        return False
    stopping.check()
    stage.providers.revoke(str(first["key_id"]))
    _note(show, f"{first['key_id']} is revoked; its model goes on with another key")
    second = _turn(stage, show, "What is my name?", first["model"])
    stopping.check()
    other = next(model for model in MODELS if model != second["model"])
    _note(show, "and now another provider is asked for")
    third = _turn(stage, show, "Thank you, goodbye.", other)
    _note(show, "each key was sent the whole talk; simulated models just count and repeat it")
    return second["success"] and third["success"]


def _turn(stage: Stage, show: Show, prompt: str, model: str | None) -> Reply:
    _line(show, "you", Text(prompt))
    reply = stage.router.send_chat(
        CONVERSATION,
        prompt,
        model_preference=model,
        expected_completion_tokens=EXPECTED_TOKENS,
        max_output_tokens=MAX_OUTPUT_TOKENS,
        max_wait=_MAX_WAIT_SECONDS,
    )
    if reply["success"]:
        _line(show, str(reply["key_id"]), Text(reply["content"] or ""), "cyan")
    else:
        _line(show, "failed", Text(f"{reply['error_type']}: {reply['error']}"), "red")
    return reply


def _note(show: Show, text: str) -> None:
    _line(show, "", Text(f"({text})", "dim"))


def _line(show: Show, label: str, text: Text, style: str = "bold") -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(width=_LABEL_CELLS, no_wrap=True)
    table.add_row(Text(label, style), text)
    show.console.print(table)
