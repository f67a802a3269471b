"""Reads the scripts beside this file, expands their includes and runs them by their digest."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError, ResponseError

from core.redis_calls import Calls, Command
from lua import states

_HERE = Path(__file__).parent
_INCLUDE = re.compile(r'^--- @include "(?P<name>[a-z_]+)"[^\n]*\n', re.MULTILINE)
_WRITTEN_IN_PYTHON = {"states": states.as_lua}


class Script:
    """One Lua script: its whole text and its SHA-1 digest.

    Example:
        >>> load("reserve").name
        'reserve'
    """

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"Script({self.name!r})"

    def run(self, redis: Calls, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run the script in one round trip; after a restart or SCRIPT FLUSH, in two.

        Raises:
            redis.exceptions.RedisError: whatever Redis or the connection reports.
        """
        try:
            return redis.call("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            # EVAL, not SCRIPT LOAD: it stores the script as well, and some hosts block SCRIPT.
            return redis.call("EVAL", self.source, len(keys), *keys, *args)


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A script with its keys and arguments, ready to run alone or in a pipeline."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[Any, ...]

    @property
    def command(self) -> Command:
        """It as a command that names the script by its digest."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    def run(self, redis: Calls) -> Any:
        """Run it alone."""
        return self.script.run(redis, self.keys, self.args)


def run_pipeline(redis: Calls, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run several scripts in one round trip, each on its own: one that fails stops no other.

    Returns:
        A result for each call, in order; for one that failed, its exception.

    Raises:
        redis.exceptions.ConnectionError, TimeoutError: nothing is known of any of them.
    """
    results = redis.call_many([call.command for call in calls])
    for index, result in enumerate(results):
        if isinstance(result, NoScriptError):
            try:
                results[index] = calls[index].run(redis)
            except ResponseError as error:
                results[index] = error
    return results


@cache
def load(name: str) -> Script:
    """The script `name`.lua with its includes; read once a process.

    Raises:
        FileNotFoundError: no such script or include.
    """
    return Script(name, _expand((_HERE / f"{name}.lua").read_text(encoding="utf-8"), frozenset()))


def _expand(text: str, seen: frozenset[str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match["name"]
        if name in seen:
            raise ValueError(f"lua/includes/{name}.lua includes itself")
        if name in _WRITTEN_IN_PYTHON:
            return _WRITTEN_IN_PYTHON[name]()
        included = (_HERE / "includes" / f"{name}.lua").read_text(encoding="utf-8")
        return _expand(included, seen | {name})

    return _INCLUDE.sub(replace, text)
