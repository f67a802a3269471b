"""Writes what the secret scanner's speed is measured on: text, logs, code and assignments."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.tools.scanner.credentials import Fake
from tools.scanner.words import words

_CODE = Path(sys.prefix) / "lib"
_ENDINGS = (".py", ".pyi", ".js", ".json", ".toml", ".cfg", ".h", ".yaml")
_WORDS = sorted(
    words("""
    the router keeps each limit in one place and asks it before it calls a model so that no worker
    goes over what its provider allows while hardly any of the allowance is lost to caution when
    several machines share their keys and one of them stops in the middle of a request
""")
)
_NAMES = sorted(
    words("""
    HOST PORT URL NAME MODE LEVEL SIZE PATH REGION TIMEOUT KEY API_KEY TOKEN SECRET PASSWORD
""")
)
_FILE = 2**18
# So slow that a part of the others' size tells as much.
_SHARE_OF_ASSIGNMENTS = 0.1


def write_loads(folder: Path, megabytes: float, seed: int) -> dict[str, Path]:
    """A folder of `megabytes` for each kind of load, under `folder`, by their names."""
    fake = Fake(seed)
    loads = {"text": _text, "logs": _logs, "dense assignments": _assignments}
    folders = {"code": _code(folder / "code", megabytes, fake)}
    for name, lines in loads.items():
        share = _SHARE_OF_ASSIGNMENTS if lines is _assignments and megabytes > 5 else 1.0
        folders[name] = _filled(folder / name.replace(" ", "-"), lines, megabytes * share, fake)
    return folders


def _code(folder: Path, megabytes: float, fake: Fake) -> Path:
    """A part of the libraries that are installed here, in the folders that they have there."""
    found = sorted(p for p in _CODE.rglob("*") if p.suffix in _ENDINGS and p.is_file())
    fake.shuffle(found)
    left = megabytes * 1e6
    for path in found:
        if left <= 0:
            break
        left -= path.stat().st_size
        copy = folder / path.relative_to(_CODE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return folder


def _filled(
    folder: Path,
    line: Callable[[Fake], str],
    megabytes: float,
    fake: Fake,
) -> Path:
    folder.mkdir(parents=True)
    for number in range(max(1, round(megabytes * 1e6 / _FILE))):
        (folder / f"{number}.txt").write_text("".join(_lines(line, fake)))
    return folder


def _lines(line: Callable[[Fake], str], fake: Fake) -> Iterator[str]:
    left = _FILE
    while left > 0:
        written = line(fake) + "\n"
        left -= len(written)
        yield written


def _text(fake: Fake) -> str:
    return " ".join(fake.choices(_WORDS, k=16)) + "."


def _logs(fake: Fake) -> str:
    """A line in which hashes and identifiers make up more than half."""
    time = f"2026-07-{fake.randint(10, 28)}T10:{fake.randint(10, 59)}:07.{fake.hex(3)}Z"
    number = fake.randint(1, 99_999)
    return fake.choice(
        (
            f"{time} INFO request_id={fake.hex(32)} span_id={fake.hex(16)} GET /v1/models {number}",
            f"{time} DEBUG pulled layer sha256:{fake.hex(64)} size={number}",
            f"{time} INFO commit {fake.hex(40)} tokens_used={number} key_id=k{number}",
            f'{{"time": "{time}", "prompt_tokens": {number}, "hash": "{fake.hex(64)}"}}',
            f'{time} WARN cache miss key=llm:{fake.hex(40)} etag="{fake.hex(32)}" ttl={number}',
        )
    )


def _assignments(fake: Fake) -> str:
    """A variable of its own name and value; every third name is that of a credential."""
    one, two, number = fake.choice(_WORDS), fake.choice(_WORDS), fake.randint(1, 10**6)
    value = fake.choice(
        (f"{one}-{two}-{number}", f"/var/lib/{one}/{number}", f"{one}.{two}:{number}", str(number))
    )
    return f'{one.upper()}_{number}_{fake.choice(_NAMES)} = "{value}"'
