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
from .engine import Engine
from .findings import Outcome, Redactor, Refused, Unread
from .fingerprints import Baseline, Fingerprints, baseline_text, new_salt
from .progress import Progress
from .reports import FORMATS, Report, summary, text
from .run import processes_for, scan_paths
from .scanner import Scanner

CLEAN, FOUND, FAILED = 0, 1, 2

_DESCRIPTION = """\
Find leaked credentials, keys of language models above all, in what is about to be published:
files, folders, archives, logs, notebooks, databases, and Git history.
"""
_EVERYTHING = """\
secret_scanner: scanning all files below the current folder, also those that Git ignores, such as
.venv; name what you are about to publish to scan less, or `git` to scan what is in Git
"""
_EXAMPLES = """\
examples:
  what you are about to publish; exit code 1 if a secret is in it:
      secret_scanner.py artifacts/ --fail-on-found
  a log, into a report:
      secret_scanner.py test.log --output report.json
  what the next commit adds; all of history; the commits of a branch:
      secret_scanner.py git --staged --fail-on-found
      secret_scanner.py git
      secret_scanner.py git --log-opts "main..HEAD"
  from a pipe:
      kubectl logs deploy/api | secret_scanner.py -
  what is known already, and is to stay, is left out:
      secret_scanner.py . -b baseline.json --write-baseline
      secret_scanner.py . -b baseline.json --fail-on-found

exit codes:
  0  no secret found, or found without --fail-on-found
  1  secrets found, with --fail-on-found or --exit-code
  2  wrong usage, or not everything could be scanned: see `errors` in the report

A line that holds  secret-scanner:allow  (or gitleaks:allow, pragma: allowlist secret) is passed
over. No option prints a secret: reports show its public prefix and its last four characters.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list_rules:
        for rule in all_rules():
            print(f"{rule.id:26} {rule.description}")
        return CLEAN
    try:
        return _run(given)
    except Refused as error:
        print(f"secret_scanner: {error}", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"secret_scanner: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("secret_scanner: stopped before the end", file=sys.stderr)
        return FAILED
    except Exception as error:  # noqa: BLE001 - code 1 would say that a secret was found
        print(f"secret_scanner: {_mistake(error)}", file=sys.stderr)
        return FAILED


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
    """Whole or not at all: a report that is cut short could read as clean."""
    temporary = Path(f"{path}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content.encode("utf-8", "backslashreplace"))
        temporary.replace(path)
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
        Engine(given.max_decode_depth, config.rules),
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="secret_scanner.py",
        usage="secret_scanner.py [options] PATH... | - | git [FOLDER]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "paths",
        nargs="*",
        metavar="PATH",
        help="files and folders (default: .), `-` for standard input, or `git` for history",
    )
    add("--staged", action="store_true", help="with `git`: only what the next commit adds")
    add(
        "--log-opts",
        metavar="OPTIONS",
        help="with `git`: options and revisions for git log (default: --all)",
    )
    add("--fail-on-found", action="store_true", help="exit with 1 if a secret is found")
    add("--exit-code", type=int, metavar="N", help="exit with N instead of 1 if a secret is found")
    add(
        "-f",
        "--format",
        choices=sorted(FORMATS),
        help="default: by the ending of --output, or text",
    )
    add("-o", "--output", metavar="FILE", help="write the report there, not to standard output")
    add("-c", "--config", metavar="FILE", help="rules and allowlists of your own (gitleaks' TOML)")
    add("-b", "--baseline", metavar="FILE", help="leave out the findings that this file knows")
    add("--write-baseline", action="store_true", help="write what is found to the baseline")
    add(
        "--enable-rule",
        action="append",
        default=[],
        metavar="RULE",
        help="only this rule; repeatable",
    )
    add(
        "--disable-rule",
        action="append",
        default=[],
        metavar="RULE",
        help="not this rule; repeatable",
    )
    add("--list-rules", action="store_true", help="list the built-in rules, then end")
    add(
        "--min-confidence",
        type=_share,
        default=0.5,
        metavar="X",
        help="leave out what is less certain, 0 to 1 (default: 0.5)",
    )
    add(
        "--max-decode-depth",
        type=_natural,
        default=3,
        metavar="N",
        help="encodings in encodings to read (default: 3)",
    )
    add(
        "--max-archive-depth",
        type=_natural,
        default=5,
        metavar="N",
        help="archives in archives to open (default: 5)",
    )
    add(
        "--max-target-megabytes",
        type=_size,
        default=0,
        metavar="MB",
        help="report larger files as not scanned (default: 0, no limit)",
    )
    add(
        "-j",
        "--jobs",
        type=_natural,
        default=1,
        metavar="N",
        help="processes; 0 takes every core (default: 1)",
    )
    add("--no-banner", action="store_true", help="no progress, no summary beside a report")
    return parser  # fmt: skip


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def _size(text: str) -> float:
    number = float(text)
    if not 0 <= number < 2**40:
        raise argparse.ArgumentTypeError("must be a number of megabytes, 0 or more")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return number
