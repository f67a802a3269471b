"""Scores the secret scanner by kind and context, and measures its speed beside detect-secrets.

    python -m benchmarks.scanner [SEED]

The default seed is one that no test uses. Speed is megabytes in a CPU second of one process.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tests.tools.scanner.corpus import Planted, Scores, corpus, score, write
from tools.scanner.engine import LITERALS, Engine
from tools.scanner.prefilter import best, without
from tools.scanner.run import scan_target
from tools.scanner.scanner import Scanner
from tools.scanner.targets import Target, targets

_SEED = 77_003
_ROUNDS = 2
_MEGABYTES = 30.0
_OTHERS_MEGABYTES = 3.0
_PASSES = 3
_TREE = Path(sys.prefix) / "lib"
_PLAIN = (".py", ".json", ".md", ".txt", ".js", ".yaml", ".toml", ".cfg", ".pyi", ".rst", ".h")


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
    chosen = list(_plain(_MEGABYTES))
    few = list(_plain(_OTHERS_MEGABYTES))
    size = sum(target.size for target in chosen) / 1e6
    print(f"\nspeed on {len(chosen):,} text files of {_TREE} ({size:.0f} MB), MB in a CPU second")
    plain = Scanner(Engine(prefilter=without()))
    quick = Scanner(Engine(prefilter=best(LITERALS)))
    for name, scanner in (("secret_scanner", plain), ("with hyperscan", quick)):
        print(f"  {name:16}{_speed(chosen, lambda t, s=scanner: scan_target(s, t)):8.1f}")
    print(
        f"  {'detect-secrets':16}{_detect_secrets(few):8.1f}  (on {_OTHERS_MEGABYTES:.0f} MB of it)"
    )


def _plain(megabytes: float) -> Iterator[Target]:
    left = megabytes * 1e6
    found = [t for t in targets([str(_TREE)]) if isinstance(t, Target) and t.path.endswith(_PLAIN)]
    random.Random(_SEED).shuffle(found)
    for target in found:
        if left > 0:
            left -= target.size
            yield target


def _speed(chosen: Sequence[Target], scan: Callable[[Target], object]) -> float:
    """The best of three passes: what else the machine does only makes one slower."""
    size = sum(Path(target.path).stat().st_size for target in chosen) / 1e6
    best = 0.0
    for _ in range(_PASSES):
        began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for target in chosen:
            scan(target)
        best = max(best, size / (resource.getrusage(resource.RUSAGE_SELF).ru_utime - began))
    return best


def _detect_secrets(chosen: Sequence[Target]) -> float:
    from detect_secrets.core.scan import scan_file
    from detect_secrets.settings import default_settings

    with default_settings():
        return _speed(chosen, lambda target: list(scan_file(target.path)))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
