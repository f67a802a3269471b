"""Writes what a scan came to as text, JSON, CSV or JUnit; SARIF has a file of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from .findings import Finding, Unread


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run, ready to be shown: nothing in it holds more of a secret than `shown`."""

    findings: list[Finding]
    errors: list[Unread]
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    allowed: int = 0
    known: int = 0
    stale: list[tuple[str, str, str]] = field(default_factory=list)
    lasting: bool = False

    @property
    def complete(self) -> bool:
        return not self.errors


def text(report: Report) -> str:
    """One line a finding, for people."""
    lines = [
        f"{_place(f)}: {f.rule.description} [{f.rule.id}] {f.shown}"
        + (f" in {f.name}" if f.name else "")
        + (f" ({' > '.join(f.layers)})" if f.layers else "")
        for f in report.findings
    ]
    lines += [f"{e.path}: NOT SCANNED: {e.reason}" for e in report.errors]
    lines += [f"{path}: stale baseline entry [{rule}]: remove it" for rule, path, _ in report.stale]
    return "\n".join([*lines, summary(report), ""])


def summary(report: Report) -> str:
    """The last line of a run."""
    found = len(report.findings)
    parts = ["no secret found" if not found else f"{found} secret{'s' * (found > 1)} found"]
    if report.known:
        parts.append(f"{report.known} known to the baseline")
    if report.allowed:
        parts.append(f"{report.allowed} allowed")
    if report.errors:
        parts.append(f"INCOMPLETE: {len(report.errors)} not scanned")
    scanned = f"{report.files:,} files, {report.bytes / 1e6:,.1f} MB, {report.seconds:.1f} s"
    return f"{', '.join(parts)} ({scanned})"


def _place(finding: Finding) -> str:
    commit = f"{finding.commit[:12]}:" if finding.commit else ""
    return f"{commit}{finding.path}:{finding.line}:{finding.column}"


def _fields(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule.id,
        "description": finding.rule.description,
        "path": finding.path,
        "line": finding.line,
        "column": finding.column,
        "commit": finding.commit,
        "secret": finding.shown,
        "name": finding.name,
        "layers": list(finding.layers),
        "confidence": finding.confidence,
        "fingerprint": finding.fingerprint,
    }


def as_json(report: Report) -> str:
    return json.dumps(
        {
            "version": 1,
            "complete": report.complete,
            "findings": [_fields(f) for f in report.findings],
            "errors": [{"path": e.path, "reason": e.reason} for e in report.errors],
            "stale_baseline": [{"rule": r, "path": p, "hash": h} for r, p, h in report.stale],
            "summary": {
                "found": len(report.findings),
                "known": report.known,
                "allowed": report.allowed,
                "files": report.files,
                "bytes": report.bytes,
                "seconds": round(report.seconds, 3),
            },
        },
        indent=2,
    )


def as_csv(report: Report) -> str:
    """A row a finding, then a row for each thing that was not scanned (rule `error`)."""
    import csv
    import io

    out = io.StringIO()
    names = ("rule", "path", "line", "column", "commit", "secret", "name", "layers", "confidence",
             "fingerprint", "description")  # fmt: skip
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for finding in report.findings:
        row = _fields(finding) | {"layers": " > ".join(finding.layers)}
        writer.writerow({name: _harmless(row[name]) for name in names})
    for error in report.errors:
        row = {"rule": "error", "path": _harmless(error.path), "description": error.reason}
        writer.writerow(row)
    return out.getvalue()


def _harmless(value: object) -> object:
    # A spreadsheet would run a cell that begins so.
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value


def junit(report: Report) -> str:
    """A failed test a finding, an error for each thing that was not scanned."""
    from xml.sax.saxutils import escape, quoteattr

    cases = []
    for finding in report.findings:
        message = quoteattr(_printable(f"{finding.rule.description}: {finding.shown}"))
        place = quoteattr(_printable(_place(finding)))
        cases.append(
            f'    <testcase classname={quoteattr(finding.rule.id)} name={place} time="0">\n'
            f"      <failure type={quoteattr(finding.rule.id)} message={message}/>\n    </testcase>"
        )
    for error in report.errors:
        name, reason = quoteattr(_printable(error.path)), quoteattr(_printable(error.reason))
        cases.append(
            f'    <testcase classname="scan" name={name} time="0">\n'
            f'      <error type="not-scanned" message={reason}/>\n    </testcase>'
        )
    if not cases:
        cases.append('    <testcase classname="scan" name="no secret found" time="0"/>')
    numbers = (
        f'tests="{len(cases)}" failures="{len(report.findings)}" errors="{len(report.errors)}"'
        f' skipped="0" time="{report.seconds:.3f}"'
    )
    body = "\n".join(cases)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites {numbers}>\n'
        f'  <testsuite name="secret_scanner" {numbers}>\n{body}\n'
        f"    <system-out>{escape(_printable(summary(report)))}</system-out>\n"
        "  </testsuite>\n</testsuites>\n"
    )


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def as_sarif(report: Report) -> str:
    from .sarif import sarif

    return sarif(report.findings, report.errors, report.lasting)


FORMATS: dict[str, Callable[[Report], str]] = {
    "text": text,
    "json": as_json,
    "sarif": as_sarif,
    "csv": as_csv,
    "junit": junit,
}
