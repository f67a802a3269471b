"""What a configuration allows: paths, commits, secrets and lines."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowlist:
    """One list of gitleaks' form. Without `all_of` any of its conditions is enough."""

    paths: tuple[re.Pattern[str], ...] = ()
    commits: tuple[str, ...] = ()
    regexes: tuple[re.Pattern[str], ...] = ()
    target: str = "secret"
    stopwords: tuple[str, ...] = ()
    rules: frozenset[str] = frozenset()
    all_of: bool = False

    def allows(self, rule: str, secret: str, line: str, path: str, commit: str) -> bool:
        if self.rules and rule not in self.rules:
            return False
        text = line if self.target in {"line", "match"} else secret
        checks = []
        if self.paths:
            checks.append(any(p.search(path) for p in self.paths))
        if self.commits:
            checks.append(bool(commit) and any(commit.startswith(c) for c in self.commits))
        if self.regexes:
            checks.append(any(r.search(text) for r in self.regexes))
        if self.stopwords:
            checks.append(any(word in secret.lower() for word in self.stopwords))
        return bool(checks) and (all(checks) if self.all_of else any(checks))


@dataclass(frozen=True, slots=True)
class Allowlists:
    """Every list that is in force."""

    lists: tuple[Allowlist, ...] = ()

    def allows(self, rule: str, secret: str, line: bytes, path: str, commit: str) -> bool:
        text = line.decode("utf-8", "replace")
        return any(item.allows(rule, secret, text, path, commit) for item in self.lists)

    def allows_path(self, path: str, commit: str) -> bool:
        """Whether nothing in the file can matter, so that it need not be read."""
        return any(
            not item.rules and not item.all_of and item.allows("", "", "", path, commit)
            for item in self.lists
            if item.paths or item.commits
        )
