"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import configuration
from .catalogue import all_rules
from .configuration import Configuration
from .engine import LITERALS, Engine
from .findings import Outcome, Redactor, Refused, Unread
from .fingerprints import Baseline, Fingerprints, baseline_text, new_salt
from .options import parser
from .prefilter import InTime
from .progress import Progress
from .reports import FORMATS, Report, summary, text
from .run import processes_for, scan_paths
from .scanner import Scanner

CLEAN, FOUND, FAILED = 0, 1, 2

_EVERYTHING = """\
secret_scanner: scanning all files below the current folder, also those that Git ignores, such as
.venv; name what you are about to publish to scan less, or `git` to scan what is in Git
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    given = parser().parse_args(arguments)
    try:
        return _list_rules() if given.list_rules else _run(given)
    except Refused as error:
        print(f"secret_scanner: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:
        # Python flushes at its end, and would fail there once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"secret_scanner: {place}{error.strerror}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("secret_scanner: stopped before the end", file=sys.stderr)
        return FAILED
    except Exception as error:  # noqa: BLE001 - code 1 would say that a secret was found
        print(f"secret_scanner: {_mistake(error)}", file=sys.stderr)
        return FAILED


def _list_rules() -> int:
    for rule in all_rules():
        print(f"{rule.id:26} {rule.description}")
    sys.stdout.flush()
    return CLEAN


def _mistake(error: Exception) -> str:
    """Where this program went wrong. The error's own words may quote what was scanned."""
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    place = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
    return f"stopped by a mistake of its own, {type(error).__name__} at {place}; please report it"


class _Usage(Refused):
    """Arguments that do not fit together."""


def _run(given: argparse.Namespace) -> int:
    began = time.monotonic()
    scanner = _scanner(given)
    baseline, salt = _baseline(given)
    progress = Progress(not given.no_banner)
    try:
        outcome, scanned = _scan(given, scanner, progress)
    finally:
        progress.end()
    prints = Fingerprints.new(salt)
    redact = Redactor.of(outcome.findings)
    findings = [
        f._replace(path=redact(f.path), name=redact(f.name), fingerprint=prints.of(f.secret))
        for f in sorted(outcome.findings, key=lambda f: (f.path, f.line, f.column, f.rule.id))
    ]
    errors = [Unread(redact(e.path), redact(e.reason)) for e in outcome.errors]
    if given.write_baseline:
        _write(given.baseline, baseline_text(findings, salt) + "\n")
        print(f"{len(findings)} findings written to {given.baseline}", file=sys.stderr)
    new, known = findings, 0
    stale: list[tuple[str, str, str]] = []
    if baseline:
        new, known, stale = baseline.divide(findings, {redact(name) for name in scanned})
    report = Report(new, errors, outcome.files, outcome.bytes, time.monotonic() - began,
                    outcome.allowed, known, stale, prints.lasting)  # fmt: skip
    if given.output or not given.write_baseline:
        _show(given, report)
    if given.write_baseline:
        return FAILED if errors else CLEAN
    if new and (given.fail_on_found or given.exit_code is not None):
        return FOUND if given.exit_code is None else int(given.exit_code)
    return FAILED if errors else CLEAN


def _show(given: argparse.Namespace, report: Report) -> None:
    content = FORMATS[_format(given)](report)
    if given.output in (None, "-"):
        sys.stdout.buffer.write(content.encode("utf-8", "backslashreplace"))
        if not content.endswith("\n"):
            sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
        return
    _write(given.output, content)
    if not given.no_banner:
        shown = text(report) if _format(given) != "text" else summary(report) + "\n"
        sys.stderr.write(shown.encode("utf-8", "backslashreplace").decode())
        print(f"report: {given.output}", file=sys.stderr)


def _write(path: str, content: str) -> None:
    """Whole or not at all: a report that is cut short could read as clean. A link stays a link."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f"{target.name}.{os.getpid()}.part")
    data = content.encode("utf-8", "backslashreplace")
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            Path(path).write_bytes(data)  # a file in the place of /dev/null would harm all
            return
        temporary.write_bytes(data)
        temporary.replace(target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _Usage(f"{path} cannot be written: {error.strerror}") from error


def _format(given: argparse.Namespace) -> str:
    if given.format:
        return str(given.format)
    endings = {".json": "json", ".sarif": "sarif", ".csv": "csv", ".xml": "junit"}
    return endings.get(Path(given.output or "").suffix.lower(), "text")


def _scan(
    given: argparse.Namespace, scanner: Scanner, progress: Progress
) -> tuple[Outcome, set[str]]:
    paths: list[str] = given.paths or ["."]
    if not given.paths and not given.no_banner:
        print(_EVERYTHING, file=sys.stderr)
    if paths[0] != "git" or (os.path.exists("git") and not (given.staged or given.log_opts)):
        if given.staged or given.log_opts is not None:
            raise _Usage("--staged and --log-opts belong to `git`: secret_scanner.py git --staged")
        return scan_paths(scanner, paths, processes_for(given.jobs), progress)
    if len(paths) > 2:
        raise _Usage("`git` takes one folder at most")
    folder = paths[1] if len(paths) == 2 else "."
    whole = Outcome()
    for done, part in enumerate(_history(given, scanner, folder), 1):
        whole.add(part)
        progress.at(done, 0, whole.bytes)
    return whole, {f.path for f in whole.findings}


def _history(given: argparse.Namespace, scanner: Scanner, folder: str) -> Iterator[Outcome]:
    from .history import scan_history, scan_staged

    if given.staged:
        if given.log_opts is not None:
            raise _Usage("--staged and --log-opts exclude each other")
        return scan_staged(scanner, folder)
    return scan_history(scanner, folder, given.log_opts)


def _scanner(given: argparse.Namespace) -> Scanner:
    config = configuration.load(given.config) if given.config else Configuration()
    known = {rule.id for rule in all_rules()} | {rule.rule.id for rule in config.rules}
    enabled, disabled = set(given.enable_rule), set(given.disable_rule) | config.disabled
    for name in sorted(enabled | set(given.disable_rule)):
        if name not in known:
            raise _Usage(f"no rule is called {name!r}; --list-rules tells them all")
    if not config.defaults:
        enabled |= {rule.rule.id for rule in config.rules}
    return Scanner(
        Engine(given.max_decode_depth, config.rules, prefilter=InTime(LITERALS)),
        given.max_archive_depth,
        given.min_confidence,
        int(given.max_target_megabytes * 2**20),
        frozenset(enabled),
        frozenset(disabled),
        config.allowlists,
        {rule.rule.id: rule.path for rule in config.rules if rule.path},
    )


def _baseline(given: argparse.Namespace) -> tuple[Baseline | None, str]:
    if given.write_baseline:
        if not given.baseline:
            raise _Usage("--write-baseline needs the file: -b FILE")
        return None, new_salt()
    if given.baseline:
        baseline = Baseline.load(given.baseline)
        return baseline, baseline.salt
    return None, ""
