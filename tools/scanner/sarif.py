"""Writes findings as SARIF 2.1.0, in the form that code-scanning services take."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from .findings import Finding, Unread

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def sarif(findings: Sequence[Finding], errors: Sequence[Unread], lasting: bool) -> str:
    """One run. `lasting` says that fingerprints are the same in every run."""
    rules = sorted({f.rule.id: f.rule for f in findings}.values(), key=lambda rule: rule.id)
    number = {rule.id: at for at, rule in enumerate(rules)}
    times: Counter[tuple[str, str, str]] = Counter()
    results = []
    for finding in findings:
        place = (finding.rule.id, finding.path, finding.shown)
        times[place] += 1
        results.append(_result(finding, number[finding.rule.id], times[place], lasting))
    run = {
        "tool": {
            "driver": {
                "name": "secret_scanner",
                "semanticVersion": "1.0.0",
                "rules": [
                    {
                        "id": rule.id,
                        "name": "".join(word.capitalize() for word in rule.id.split("-")),
                        "shortDescription": {"text": rule.description},
                        "fullDescription": {"text": f"{rule.description} in a file or in history."},
                        "help": {
                            "text": "Revoke the credential, then remove it and put it into a "
                            "secret store."
                        },
                        "defaultConfiguration": {"level": "error"},
                        "properties": {"tags": ["security"], "security-severity": "8.0"},
                    }
                    for rule in rules
                ],
            }
        },
        "columnKind": "utf16CodeUnits",
        "invocations": [
            {
                "executionSuccessful": not errors,
                "toolExecutionNotifications": [
                    {
                        "level": "error",
                        "message": {"text": f"{error.path}: {error.reason}"},
                        "locations": [
                            {"physicalLocation": {"artifactLocation": {"uri": _uri(error.path)}}}
                        ],
                    }
                    for error in errors
                ],
            }
        ],
        "results": results,
    }
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _result(finding: Finding, rule: int, time: int, lasting: bool) -> dict[str, object]:
    told = f"{finding.rule.description} {finding.shown}"
    told += f" in commit {finding.commit[:12]}" if finding.commit else ""
    if lasting:
        identity = finding.fingerprint
    else:
        parts = (finding.rule.id, finding.path, finding.shown, str(time))
        identity = hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:32]
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": told},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(finding.path.partition("!")[0])},
                    "region": {"startLine": finding.line, "startColumn": finding.column},
                }
            }
        ],
        "partialFingerprints": {f"secretScanner/v1:{time}": identity},
        "properties": {
            "confidence": finding.confidence,
            "layers": list(finding.layers),
            "path": finding.path,
            "commit": finding.commit,
        },
    }


def _uri(path: str) -> str:
    return quote(path.encode("utf-8", "surrogateescape"), safe="/~!$&'()*+,;=@:")
