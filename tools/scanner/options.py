"""The options of the command line, and the help that teaches them."""

from __future__ import annotations

import argparse
import math

from .reports import FORMATS

_DESCRIPTION = """\
Find leaked credentials, keys of language models above all, in what is about to be published:
files, folders, archives, logs, notebooks, databases, and Git history.
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


def parser() -> argparse.ArgumentParser:
    """What reads the arguments."""
    made = argparse.ArgumentParser(
        prog="secret_scanner.py",
        usage="secret_scanner.py [options] PATH... | - | git [FOLDER]",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
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
    add(
        "--exit-code",
        type=_exit_code,
        metavar="N",
        help="exit with N instead of 1 if a secret is found",
    )
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
    return made


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, not {text!r}")
    return int(text)


def _exit_code(text: str) -> int:
    number = _natural(text)
    if number > 255:  # a shell sees the rest of a division by 256, and 256 as success
        raise argparse.ArgumentTypeError(f"must be from 0 to 255, not {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # in no range


def _size(text: str) -> float:
    number = _number(text)
    if not 0 <= number < 2**40:
        raise argparse.ArgumentTypeError("must be a number of megabytes, 0 or more")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return number
