"""`python -m keys check-secrets` and `python -m keys secret ...`. No secret is ever shown."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.errors import ConfigurationError, SecretError
from core.settings import Settings, get_settings
from keys.registry import parse_keys, read_keys_file
from keys.secret_store import close_store, get_secret_store
from keys.secrets.access import SecretAccess, check_access, spec_of, unknown_id
from keys.secrets.file import FileSecretStore
from keys.secrets.sealed_file import new_key
from keys.spec import KeySpec

secret_app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks can show local variables
    help="Keep secrets in one encrypted file (SECRET_STORE_TYPE=file). LLM_ENCRYPTION_KEY holds "
    "the key that encrypts it, SECRETS_FILE names it.",
)


def check_secrets(
    key_ids: Annotated[
        list[str] | None, typer.Argument(help="The keys to check; all active ones if left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fetch the secret of every active key from its store, and say which can be had. Shows none.

    Exit code 0: all can be had. 1: one cannot, or the store is wrongly configured.
    """
    with _told():
        settings = get_settings()
        store = get_secret_store(settings)
        keys = _chosen(key_ids or [], settings)
        try:
            found = check_access(keys, store, settings)
        finally:
            close_store(store)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        _print(found)
    missing = [result for result in found if not result["accessible"]]
    if missing:
        raise typer.Exit(1)


@secret_app.command(
    name="set", context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def set_secret(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The key, as keys.json names it.")],
) -> None:
    """Put the secret of a key into the encrypted file. It is read from a prompt or standard input.

    Where the key has one already, it takes its place.
    """
    if context.args:
        _fail(
            "a secret never stands on the command line, where your shell's history and every user "
            "of this machine can read it; nothing was stored. Leave it out: it is asked for, or "
            "read from standard input. Replace the secret that was written there"
        )
    with _told():
        key, store = _key(key_id), _store()
        store.put(key, _asked(key.key_id))
        typer.echo(f"The secret of {key.key_id} is stored in {get_settings().secrets_file}.")
        _hint()


@secret_app.command(name="list")
def list_secrets(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List whose secrets the encrypted file holds, and since when."""
    with _told():
        names = _store().names()
    if as_json:
        typer.echo(json.dumps(names, indent=2))
        return
    table = Table()
    for title in ("key", "changed (UTC)"):
        table.add_column(title, overflow="fold")
    for key_id, changed in names.items():
        table.add_row(Text(key_id), Text(changed))
    Console().print(table)


@secret_app.command(name="remove")
def remove_secret(
    key_id: Annotated[str, typer.Argument(help="The key, as `secret list` names it.")],
) -> None:
    """Remove the secret of a key from the encrypted file."""
    with _told():
        key = _key(key_id)
        _store().remove(key.key_id)
    typer.echo(f"The secret of {key.key_id} is removed.")


@secret_app.command(name="rotate-key")
def rotate_key() -> None:
    """Encrypt the file anew with the first key of LLM_ENCRYPTION_KEY.

    Put a new key before the old one, with a comma between them, wherever the router runs; run
    this; then take the old key away.
    """
    with _told():
        count = _store().reencrypt()
    typer.echo(
        f"{count} secret{'' if count == 1 else 's'} encrypted with the first key of "
        "LLM_ENCRYPTION_KEY; the others are not needed for this file any more."
    )


@secret_app.command(name="new-key")
def make_key() -> None:
    """Print a new key for LLM_ENCRYPTION_KEY. Keep it apart from the file that it encrypts."""
    typer.echo(new_key().get_secret_value())


def _store() -> FileSecretStore:
    return FileSecretStore(get_settings())


def _key(key_id: str) -> KeySpec:
    settings = get_settings()
    try:
        key = spec_of(key_id, settings)
    except ConfigurationError:
        _fail("this cannot be a key_id; write one of keys.json, such as gemini-flash-01")
    stranger = unknown_id(key_id, settings)
    if stranger:
        typer.echo(stranger, err=True)
    return key


def _chosen(key_ids: list[str], settings: Settings) -> list[KeySpec]:
    if key_ids:
        return [_key(key_id) for key_id in key_ids]
    known = parse_keys(read_keys_file(settings.keys_file), path=str(settings.keys_file))
    return [key for key in known if key.active]


def _asked(key_id: str) -> SecretStr:
    if sys.stdin.isatty():
        return SecretStr(typer.prompt(f"Secret of {key_id}", hide_input=True))
    return SecretStr(sys.stdin.read())


def _hint() -> None:
    chosen = get_settings().secret_store_type
    if chosen != "file":
        typer.echo(
            f"SECRET_STORE_TYPE is {chosen}: the router reads this file once it is file.", err=True
        )


def _print(found: list[SecretAccess]) -> None:
    table = Table()
    for title in ("key", "secret", "where"):
        table.add_column(title, overflow="fold")
    for result in found:
        good = result["accessible"]
        kind = Text("can be had", style="green") if good else Text(result["kind"], style="yellow")
        where = result.get("variable") or result.get("place") or ""
        table.add_row(Text(result["key_id"]), kind, Text(where))
    Console().print(table)
    for result in found:
        if not result["accessible"]:
            typer.echo(result["error"], err=True)


@contextmanager
def _told() -> Iterator[None]:
    """Tell an error of ours in one line, without a traceback."""
    try:
        yield
    except (ConfigurationError, SecretError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
