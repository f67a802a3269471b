"""Tells secrets apart without holding them: keyed hashes, and the baselines made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .findings import Finding, Redactor, Refused

KEY_VARIABLE = "SECRET_SCANNER_KEY"
_VERSION = 1
# Slow on purpose: a baseline is public, and what it stands for may be a short password.
_ROUNDS = 20_000


class BadBaseline(Refused):
    """A baseline that cannot be used."""


@dataclass(slots=True)
class Fingerprints:
    """Hashes under one key: SECRET_SCANNER_KEY's, a baseline's, or this run's own."""

    key: bytes
    lasting: bool = False
    _cache: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(cls, salt: str = "") -> Fingerprints:
        secret = os.environ.get(KEY_VARIABLE, "")
        key = f"{salt}:{secret}" if salt or secret else os.urandom(16).hex()
        return cls(key.encode(), bool(salt or secret))

    def of(self, secret: str) -> str:
        import hashlib
        import hmac

        if secret not in self._cache:
            raw = hmac.digest(self.key, secret.encode("utf-8", "replace"), "sha256")
            # A key of this run alone is thrown away with it, so that nobody can try passwords.
            if self.lasting:
                raw = hashlib.pbkdf2_hmac("sha256", raw, self.key, _ROUNDS)
            self._cache[secret] = raw[:16].hex()
        return self._cache[secret]


@dataclass(slots=True)
class Baseline:
    """Findings that were looked at and left: rule, file and hash, but no line numbers."""

    salt: str
    entries: set[tuple[str, str, str]]

    @classmethod
    def load(cls, path: str) -> Baseline:
        """Reads a baseline.

        Raises:
            BadBaseline: the file is missing, no JSON, or of another form.
        """
        try:
            content: Any = json.loads(Path(path).read_text("utf-8"))
            if content["version"] != _VERSION:
                raise BadBaseline(
                    f"baseline {path} is of version {content['version']}, not {_VERSION}"
                )
            entries = {(e["rule"], e["path"], e["hash"]) for e in content["entries"]}
            return cls(str(content["salt"]), entries)
        except OSError as error:
            hint = "; write one with --write-baseline"
            raise BadBaseline(f"baseline {path} cannot be read: {error.strerror}{hint}") from error
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, BadBaseline):
                raise
            reason = (
                f"baseline {path} is no baseline of this scanner; write one with --write-baseline"
            )
            raise BadBaseline(reason) from error

    def divide(
        self, findings: Iterable[Finding], scanned: set[str]
    ) -> tuple[list[Finding], int, list[tuple[str, str, str]]]:
        """The new findings, how many were known, and entries that nothing answers to any more."""
        new, met = [], set()
        known = 0
        for finding in findings:
            entry = (finding.rule.id, finding.path, finding.fingerprint)
            if entry in self.entries:
                met.add(entry)
                known += 1
            else:
                new.append(finding)
        stale = sorted(
            entry
            for entry in self.entries - met
            if entry[1].partition("!")[0] in scanned
            or not os.path.exists(entry[1].partition("!")[0])
        )
        return new, known, stale


def new_salt() -> str:
    return os.urandom(16).hex()


def baseline_text(findings: Iterable[Finding], salt: str) -> str:
    """A baseline of `findings`, as it is written to a file."""
    findings = list(findings)
    redact = Redactor.of(findings)
    entries = sorted({(f.rule.id, redact(f.path), f.fingerprint) for f in findings})
    return json.dumps(
        {
            "version": _VERSION,
            "salt": salt,
            "entries": [{"rule": r, "path": p, "hash": h} for r, p, h in entries],
        },
        indent=2,
    )
