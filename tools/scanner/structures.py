"""Reads SQLite databases and pickles as text in which names stand beside values."""

from __future__ import annotations

import pickletools
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from .texts import SQLITE


def structured(data: bytes) -> Iterator[tuple[str, bytes]]:
    """What `data` says, each part with the layer it was taken from."""
    if data.startswith(SQLITE):
        yield from (("sqlite", table) for table in _tables(data))
    else:
        yield "pickle", _pickled(data)


def _tables(data: bytes) -> Iterator[bytes]:
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(data)
            database.text_factory = lambda raw: raw.decode("utf-8", "replace")
            names = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall()
            for (name,) in names:
                quoted = str(name).replace('"', '""')
                rows = database.execute(f'SELECT * FROM "{quoted}"')
                lines = ["\t".join(str(column[0]) for column in rows.description)]
                lines += ["\t".join(map(_cell, row)) for row in rows]
                yield "\n".join([*lines, ""]).encode("utf-8", "replace")
    except sqlite3.Error:
        return  # damaged: its strings were scanned as those of any binary


def _cell(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.replace("\t", " ").replace("\n", " ")


def _pickled(data: bytes) -> bytes:
    """Each string of a pickle beside the one before it; nothing of it is ever loaded."""
    lines, before = [], ""
    try:
        for _, argument, _ in pickletools.genops(data):
            if isinstance(argument, bytes):
                argument = argument.decode("latin-1")
            if isinstance(argument, str) and "\n" not in argument and len(argument) < 2000:
                lines.append(f'{before} = "{argument}"' if len(before) < 80 else argument)
                before = argument
    except ValueError:
        pass  # damaged: what came before the damage counts
    return "\n".join(lines).encode("utf-8", "replace")
