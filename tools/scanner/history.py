"""Scans what Git holds: every version of every file in history, or what is staged."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

from .findings import Outcome, Refused, Unread
from .scanner import Scanner

_EMPTY = "0" * 40
_LARGEST_BLOB = 512 * 2**20
_SUBMODULE = "160000"
_LINK = "120000"


class GitFailed(Refused):
    """Git could not do what was asked of it."""


@dataclass(frozen=True, slots=True)
class Change:
    """A file that a commit added or changed; `before` is the blob that it replaced."""

    commit: str
    path: str
    blob: str
    before: str


def scan_history(scanner: Scanner, folder: str, log_options: str | None) -> Iterator[Outcome]:
    """Every version of every file, oldest first; a secret is told of where it came in."""
    known: set[tuple[str, str]] = set()
    seen: set[tuple[str, str]] = set()
    if (
        log_options is None
        and _git(folder, "rev-parse", "--is-shallow-repository").strip() == b"true"
    ):
        reason = (
            "is a shallow clone, so its history is incomplete; fetch all of it, or say with "
            "--log-opts what to scan"
        )
        yield Outcome(errors=[Unread(folder, reason)])
    with _Blobs(folder) as blobs:
        for item in _log(folder, log_options):
            if isinstance(item, Outcome):
                yield item
            elif isinstance(item, tuple):
                commit, message = item
                yield _fresh(scanner.scan_bytes(message, "(commit message)", commit), known)
            elif (item.blob, item.path) not in seen:
                seen.add((item.blob, item.path))
                yield _fresh(_scan_blob(scanner, blobs, item), known)


def scan_staged(scanner: Scanner, folder: str) -> Iterator[Outcome]:
    """What the next commit would add: a secret that the file held before is left out."""
    _git(folder, "rev-parse", "--git-dir")  # elsewhere `diff` takes other options, and lists them
    raw = _git(folder, "diff", "--cached", "--raw", "-z", "--no-renames", "--no-abbrev",
               "--ignore-submodules")  # fmt: skip
    with _Blobs(folder) as blobs:
        for change in _changes(raw.split(b"\0"), ""):
            outcome = _scan_blob(scanner, blobs, change)
            if outcome.findings and change.before != _EMPTY:
                before = _scan_blob(scanner, blobs, replace(change, blob=change.before))
                held = {f.secret for f in before.findings}
                outcome.findings = [f for f in outcome.findings if f.secret not in held]
            yield outcome


def _fresh(outcome: Outcome, known: set[tuple[str, str]]) -> Outcome:
    fresh = [f for f in outcome.findings if (f.path, f.secret) not in known]
    known.update((f.path, f.secret) for f in fresh)
    outcome.findings = fresh
    return outcome


def _scan_blob(scanner: Scanner, blobs: _Blobs, change: Change) -> Outcome:
    data = blobs.read(change.blob)
    if data is None:
        reason = f"version {change.blob[:12]} is missing or too large"
        return Outcome(errors=[Unread(change.path, reason)])
    return scanner.scan(io.BytesIO(data), change.path, len(data), change.commit)


def _log(folder: str, options: str | None) -> Iterator[Change | tuple[str, bytes] | Outcome]:
    chosen = ["--all"] if options is None else shlex.split(options)
    command = _command(folder, "log", "--raw", "-z", "--no-abbrev", "--no-renames", "--root", "-m",
                       "--reverse", "--no-color", "--no-show-signature",
                       "--format=%x01%H%x01%B%x01", *chosen)  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        commit = ""
        fields: list[bytes] = []
        for field in _fields(process.stdout):
            if b"\x01" in field:
                parts = field.split(b"\x01")
                commit = parts[1].decode()
                yield commit, parts[2]
                field = parts[3].lstrip(b"\n")
            field = field.lstrip(b"\n")
            if not field:
                continue
            fields.append(field)
            if len(fields) == 2:
                yield from _changes(fields, commit)
                fields = []
        errors = process.stderr.read().decode("utf-8", "replace").strip()
    if process.returncode:
        raise GitFailed(f"git log failed: {errors or process.returncode}")


def _fields(stream: IO[bytes]) -> Iterator[bytes]:
    rest = b""
    while chunk := stream.read(2**16):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def _changes(fields: Sequence[bytes], commit: str) -> Iterator[Change]:
    for status, path in zip(fields[::2], fields[1::2], strict=False):
        _, mode, before, blob, _ = status.lstrip(b":").decode().split(" ")
        if blob.strip("0") and mode not in (_SUBMODULE, _LINK):
            yield Change(commit, os.fsdecode(path), blob, before if before.strip("0") else _EMPTY)


def _command(folder: str, *arguments: str) -> list[str]:
    return ["git", "-C", folder, "-c", "core.quotePath=false", "-c", "log.showSignature=false",
            *arguments]  # fmt: skip


def _git(folder: str, *arguments: str) -> bytes:
    try:
        done = subprocess.run(
            _command(folder, *arguments), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError as error:
        raise GitFailed(f"git cannot be run: {error.strerror}") from error
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip()
        raise GitFailed(f"git {arguments[0]} failed: {reason or done.returncode}")
    return done.stdout


class _Blobs:
    """Reads blobs out of one `git cat-file`."""

    def __init__(self, folder: str) -> None:
        self._process = subprocess.Popen(
            _command(folder, "cat-file", "--batch"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> _Blobs:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def read(self, blob: str) -> bytes | None:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(blob.encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise GitFailed(f"git cat-file ended early: {error.strerror}") from error
        header = self._process.stdout.readline().split()
        if len(header) != 3:
            return None
        size = int(header[2])
        data = self._process.stdout.read(size) if size <= _LARGEST_BLOB else None
        missing = 1 if data is not None else size + 1
        while missing:
            missing -= len(self._process.stdout.read(min(missing, 2**20)) or b"." * missing)
        return data
