"""Rules of the user's own, in the form of gitleaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from .findings import Match, Rule
from .shapes import entropy


@dataclass(frozen=True, slots=True)
class CustomRule:
    """A rule out of a configuration file; `keywords` are lower case, any one must occur."""

    rule: Rule
    pattern: re.Pattern[bytes] | None
    group: int = 0
    entropy: float = 0.0
    keywords: tuple[bytes, ...] = ()
    path: re.Pattern[str] | None = None

    def matches(self, data: bytes, lower: bytes) -> Iterator[Match]:
        if self.pattern is None or (self.keywords and not any(k in lower for k in self.keywords)):
            return
        for found in self.pattern.finditer(data):
            group = self.group or (1 if self.pattern.groups and found[1] else 0)
            secret = found[group] or b""
            if secret and entropy(secret.decode("latin-1")) >= self.entropy:
                yield Match(self.rule, *found.span(group), secret, 0.9)
