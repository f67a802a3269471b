"""`python -m llm.router --health-check`, and the settings that the commands use."""

from __future__ import annotations

import argparse
import json
from typing import Any

import typer
from rich.console import Console

from core.errors import RouterError
from core.settings import Settings, load_settings
from llm import tables


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
        with build_router(cli_settings()) as router:
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


def cli_settings() -> Settings:
    """The settings, quiet: what is worth a warning is shown by the commands themselves."""
    settings = load_settings()
    changes: dict[str, Any] = {"prometheus_port": None}  # it belongs to the program that serves
    if "log_level" not in settings.model_fields_set:
        changes["log_level"] = "CRITICAL"
    return settings.model_copy(update=changes)
