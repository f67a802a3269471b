"""Scores the secret scanner by kind and context, and measures its speed beside detect-secrets.

    python -m benchmarks.scanner [SEED]

The default seed is one that no test uses. Speed is that of whole runs of the command line.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.scanner_loads import write_loads
from tests.tools.scanner.corpus import Planted, Scores, corpus, score, write
from tools.scanner.scanner import Scanner

_SEED = 77_003
_ROUNDS = 2
_MEGABYTES = 60.0
_OTHERS_MEGABYTES = 0.5
_PASSES = 3
# Of the standard library alone, and with hyperscan.
_PROMISES = (20.0, 60.0)
# What a team is about to publish holds some of each.
_TOGETHER = ("text", "logs", "code")
_SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "secret_scanner.py"


def main(seed: int = _SEED) -> None:
    """Prints all tables."""
    files = list(corpus(seed, _ROUNDS))
    planted = sum(bool(file.kind) for file in files)
    print(f"corpus of seed {seed}: {planted:,} secrets, {len(files) - planted:,} that are none")
    with tempfile.TemporaryDirectory() as folder:
        write(files, Path(folder))
        ours = score(files, _ours(files, folder))
        _table("kind", ours.found)
        _table("context", ours.contexts)
        print("\nreported without reason:", dict(+Counter(ours.false)) or "nothing")
        print("missed:", Counter(f"{f.kind} in {f.context}" for f in ours.missed).most_common(12))
        print(f"\n{'':16}{'recall':>8}{'on LLM':>8}{'precision':>11}")
        _line("secret_scanner", ours)
        _line("detect-secrets", score(files, _theirs(Path(folder))))
    _speeds()


def _ours(files: Sequence[Planted], folder: str) -> Mapping[str, int]:
    scanner = Scanner()
    return {f.path: len(scanner.scan_bytes(f.content, f.path).findings) for f in files}


def _theirs(folder: Path) -> Mapping[str, int]:
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    with default_settings():
        return {
            path.relative_to(folder).as_posix(): sum(1 for _ in scan_file(str(path)))
            for path in folder.rglob("*")
            if path.is_file()
        }


def _table(title: str, rows: Mapping[str, Sequence[int]]) -> None:
    print(f"\nrecall by {title}")
    cells = [
        f"{name:20}{hits / total:6.3f} of {total:4}" for name, (hits, total) in sorted(rows.items())
    ]
    for start in range(0, len(cells), 3):
        print("  " + "  ".join(cells[start : start + 3]))


def _line(name: str, scores: Scores) -> None:
    print(f"{name:16}{scores.recall:8.3f}{scores.llm_recall:8.3f}{scores.precision:11.3f}")


def _speeds() -> None:
    """Whole runs of the command line, its start and its report included."""
    print(f"\nspeed of the command line, MB in a CPU second of one process, the best of {_PASSES}")
    busy, cores = os.getloadavg()[0], os.cpu_count()
    print(f"(load average {busy:.1f} on {cores} cores: a second of a busy machine does less)")
    print(f"{'':20}{'standard library':>24}{'with hyperscan':>24}{'detect-secrets':>16}")
    with tempfile.TemporaryDirectory() as folder:
        many = write_loads(Path(folder, "many"), _MEGABYTES, _SEED)
        few = write_loads(Path(folder, "few"), _OTHERS_MEGABYTES, _SEED)
        absent = Path(folder, "absent")
        absent.mkdir()
        (absent / "hyperscan.py").write_text("raise ImportError\n")
        ours = [sys.executable, str(_SCRIPT), "--no-banner", "-o", str(Path(folder, "report.json"))]
        theirs = [sys.executable, "-m", "detect_secrets", "scan", "--all-files"]
        rows = {", ".join(_TOGETHER): _TOGETHER, **{load: (load,) for load in many}}
        for name, loads in rows.items():
            folders = [many[load] for load in loads]
            speeds = [
                _speed(ours, folders, {"PYTHONPATH": str(absent)}),
                _speed(ours, folders, {}),
            ]
            shown = [
                f"{speed:8.1f} {'kept' if speed >= promise else f'NOT KEPT ({promise:.0f})':>14}"
                for speed, promise in zip(speeds, _PROMISES, strict=True)
            ]
            other = _speed(theirs, [few[load] for load in loads], {}, passes=1)
            print(f"{name:20}{shown[0]:>24}{shown[1]:>24}{other:16.2f}")
        empty = Path(folder, "empty")
        empty.mkdir()
        print(f"start and end without a file: {_seconds(ours, [empty], {}):.3f} CPU seconds")
    if find_spec("hyperscan") is None:
        print("hyperscan is not installed: both columns are of the standard library")


def _speed(
    command: Sequence[str],
    folders: Sequence[Path],
    environment: Mapping[str, str],
    passes: int = _PASSES,
) -> float:
    """The best of some passes: what else the machine does only makes one slower."""
    size = sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file())
    return size / 1e6 / min(_seconds(command, folders, environment) for _ in range(passes))


def _seconds(
    command: Sequence[str], folders: Sequence[Path], environment: Mapping[str, str]
) -> float:
    # Beside the folders, for detect-secrets looks no further than the folder it is run in.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [*command, *(folder.name for folder in folders)],
        cwd=folders[0].parent,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=600,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
