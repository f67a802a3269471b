"""Runs a scan over files, in one process or several, or over standard input."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import BinaryIO, cast

from .engine import LITERALS
from .files import open_file
from .findings import Outcome, Unread
from .prefilter import InTime
from .progress import Progress
from .scanner import Scanner
from .targets import Target, targets

_BATCH = 32
_scanner: Scanner | None = None


def scan_target(scanner: Scanner, target: Target) -> Outcome:
    """Scans one file; what goes wrong with it is in the outcome."""
    try:
        with open_file(target.path, target.size) as stream:
            return scanner.scan(stream, target.name, target.size)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        return Outcome(errors=[Unread(target.name, reason)])


def scan_paths(
    scanner: Scanner, paths: Sequence[str], processes: int, progress: Progress
) -> tuple[Outcome, set[str]]:
    """Everything under `paths` and the names of what was scanned."""
    whole = Outcome()
    found: list[Target] = []
    for item in targets([path for path in paths if path != "-"]):
        if isinstance(item, Target):
            found.append(item)
        else:
            whole.errors.append(item)
    size = sum(target.size for target in found)
    # Here it is known how much there is.
    scanner.engine.prefilter = InTime(LITERALS, size // max(processes, 1))
    if "-" in paths:
        whole.add(scanner.scan(cast(BinaryIO, _Stdin()), "(stdin)", 0))
    # The largest first, so that no process is left alone with one at the end.
    order = sorted(found, key=lambda t: -t.size) if processes > 1 else found
    for done, outcome in enumerate(_outcomes(scanner, order, processes), 1):
        whole.add(outcome)
        progress.at(done, len(found), whole.bytes)
    return whole, {target.name for target in found}


def _outcomes(scanner: Scanner, order: Sequence[Target], processes: int) -> Iterator[Outcome]:
    if processes <= 1 or len(order) <= 1:
        for target in order:
            yield scan_target(scanner, target)
        return
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait

    waiting = iter(order)
    with ProcessPoolExecutor(processes, initializer=_begin, initargs=(scanner,)) as pool:
        running: set[Future[list[Outcome]]] = set()
        more = True
        while running or more:
            while more and len(running) < processes * 2:
                batch = list(islice(waiting, 1 if len(running) < processes else _BATCH))
                more = bool(batch)
                if batch:
                    running.add(pool.submit(_scan_batch, batch))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()


def _begin(scanner: Scanner) -> None:
    global _scanner
    _scanner = scanner


def _scan_batch(batch: list[Target]) -> list[Outcome]:
    assert _scanner is not None
    return [scan_target(_scanner, target) for target in batch]


class _Stdin(io.RawIOBase):
    """Standard input, whose size nobody knows."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return sys.stdin.buffer.read(size)


def processes_for(asked: int) -> int:
    """`asked`, or all that this process may use where it is 0."""
    if asked:
        return asked
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
