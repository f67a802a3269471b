"""The commands of `python -m keys` on `keys.json`. Nothing here ever prints a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from core.errors import ConfigurationError, SecretError
from core.settings import environment, get_settings
from core.whole_files import replace_whole
from keys.presets import CONSOLES, Preset, Tier, preset_for
from keys.registry import parse_keys, read_keys_file
from keys.schema import NO_KEYS, json_schema
from keys.secret_commands import check_secrets, secret_app
from keys.secret_store import EnvSecretStore, SecretStore, close_store, get_secret_store
from keys.secrets.store import place_of
from keys.spec import KeySpec, build

SCHEMA_FILE = Path(__file__).with_name("keys.schema.json")
# Where each provider's SDK looks for another address; the router reads it in keys.json alone.
_ADDRESSES = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "gemini": "GOOGLE_GEMINI_BASE_URL",
}
_BUILT_IN = _ADDRESSES.keys()
_LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "max_parallel")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks can show local variables
    help="Check, start and describe keys.json, the list of keys that the router may use. "
    "Secrets stand in the environment or in .env, never in that file; or in a store that "
    "SECRET_STORE_TYPE names. `python -m llm keys` shows the keys in use, and disables, enables, "
    "rotates and revokes them.",
)
app.add_typer(secret_app, name="secret")
app.command(name="check-secrets")(check_secrets)


@app.command()
def validate(
    file: Annotated[
        Path | None, typer.Argument(help="The file to check; KEYS_FILE or keys.json if left out.")
    ] = None,
) -> None:
    """Check a keys.json: show its keys, or everything that is wrong with it and how to mend it.

    Exit code 0: the file is good. 1: it is not, or cannot be read. A missing secret and a provider
    that is not built in are pointed out, but are no fault of the file.
    """
    path = file or _keys_file()
    try:
        specs = parse_keys(read_keys_file(path), path=str(path))
    except ConfigurationError as error:
        _fail(str(error))
    try:
        store = get_secret_store(get_settings())
    except ConfigurationError as error:
        _fail(str(error))
    missing = _print_table(specs, store)
    close_store(store)
    typer.echo(f"{path} is good: {_count(len(specs), 'key')}.")
    if missing:
        typer.echo(f"Without a secret: {_count(len(missing), 'key')}. The first: {missing[0]}.")
    for provider in sorted({spec.provider for spec in specs} - _BUILT_IN):
        typer.echo(
            f"Provider {provider!r} is not built in: a program has to register it "
            "(docs/providers.md)."
        )


@app.command()
def init(
    tier: Annotated[
        Tier | None,
        typer.Option(help="Start from the limits of this tier, not those of a new account."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The file to write; KEYS_FILE or keys.json if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a first keys.json for the API keys that the environment and .env hold.

    Looks for OPENAI_API_KEY, ANTHROPIC_API_KEY, and GEMINI_API_KEY or GOOGLE_API_KEY. The entries
    find their secrets there at once. An address of your own (OPENAI_BASE_URL, ANTHROPIC_BASE_URL,
    GOOGLE_GEMINI_BASE_URL) is written into the file. The limits are the usual ones of your tier:
    check them in the provider's console, then edit the file.
    """
    path = output or _keys_file()
    values = environment()
    store = EnvSecretStore(lambda: values)
    chosen, faults = [], []
    for provider in CONSOLES:
        preset = preset_for(provider, tier, date.today())
        spec = _first_key(preset, {})  # the address of a provider without a key matters to nobody
        variable = store.variable_of(spec)
        if variable is None:
            continue
        try:
            store.fetch(spec)
        except SecretError as error:
            faults.append(str(error))
        else:
            chosen.append((preset, _first_key(preset, values), variable))
    if not chosen:
        _fail("\n".join([f"{path} was not written: {NO_KEYS}.", *faults]))
    _write(path, _file_for([spec for _, spec, _ in chosen], path), force=force)
    typer.echo(f"Wrote {path}.")
    for preset, spec, variable in chosen:
        typer.echo(
            f"  {spec.key_id}: {preset.model}, the usual limits of {preset.tier}; its secret is in "
            f"{variable}.\n    Check the limits: {CONSOLES[preset.provider]}"
        )
        if spec.base_url is not None:
            typer.echo(f"    It is asked at the address of {_ADDRESSES[preset.provider]}.")
        if preset.until is not None:
            typer.echo(f"    The provider serves this model until {preset.until}.")
    for fault in faults:
        typer.echo(f"Left out: {fault}.", err=True)


@app.command()
def schema() -> None:
    """Print the JSON Schema of keys.json, which gives editors completion and help."""
    typer.echo(json.dumps(json_schema(), indent=2))


def _keys_file() -> Path:
    try:
        return get_settings().keys_file
    except ConfigurationError as error:
        _fail(str(error))


def _first_key(preset: Preset, values: Mapping[str, str]) -> KeySpec:
    fields: dict[str, Any] = {
        "key_id": f"{preset.provider}-default",
        "model_name": preset.model,
        "provider": preset.provider,
        "active": True,
        "tags": {"tier": preset.tier.value},
        **preset.limits(),
    }
    variable = _ADDRESSES[preset.provider]
    if values.get(variable):
        fields["base_url"] = values[variable]
    spec, problems = build(fields)
    if spec is None:
        _fail(f"{variable} is no address to ask at: {'; '.join(problems.values())}")
    return spec


def _file_for(specs: Sequence[KeySpec], path: Path) -> dict[str, Any]:
    folder = path.absolute().parent
    if SCHEMA_FILE.is_relative_to(folder):
        schema = "./" + SCHEMA_FILE.relative_to(folder).as_posix()
    else:
        schema = SCHEMA_FILE.as_uri()
    return {"$schema": schema, "keys": [spec.model_dump(exclude_unset=True) for spec in specs]}


def _write(path: Path, content: dict[str, Any], *, force: bool) -> None:
    text = json.dumps(content, indent=2) + "\n"
    try:
        if not force:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
            return
        replace_whole(path, text.encode(), 0o644)  # running processes may look at any moment
    except FileExistsError:
        _fail(f"{path} is already there; edit it, or overwrite it with --force")
    except OSError as error:
        _fail(f"{path} cannot be written: {error.strerror}")


def _look_for_secret(spec: KeySpec, store: SecretStore) -> tuple[Text, str | None]:
    """Where a key's secret is, and what is wrong with it; other stores are not asked for it."""
    if not isinstance(store, EnvSecretStore):
        return Text(f"{place_of(store, spec)} (see check-secrets)"), None
    try:
        store.fetch(spec)
        return Text(f"in {store.variable_of(spec)}"), None
    except SecretError as error:
        found = "not usable" if store.variable_of(spec) else "missing"
        return Text(found, style="yellow"), str(error)


def _print_table(specs: Sequence[KeySpec], store: SecretStore) -> list[str]:
    table = Table()
    for title in ("key", "provider", "model", "limits", "secret"):
        table.add_column(title, overflow="fold")
    missing = []
    for spec in specs:
        secret, problem = _look_for_secret(spec, store)
        if problem is not None and spec.active:
            missing.append(problem)
        limits = [f"{name} {getattr(spec, name)}" for name in _LIMITS if getattr(spec, name)]
        name = Text(spec.key_id if spec.active else f"{spec.key_id} (not active)")
        what = Text(", ".join(limits) or "none")
        table.add_row(name, Text(spec.provider), Text(spec.model_name), what, secret)
    Console().print(table)
    return missing


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
