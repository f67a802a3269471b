"""What the cache knows of one key's secret."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass

from pydantic import SecretStr

from core.errors import SecretError
from keys.spec import KeySpec


@dataclass(frozen=True, slots=True)
class Kept:
    """A secret, and until when by the cache's clock it is served."""

    secret: SecretStr
    expires: float


class Entry:
    """What is known of one key's secret. `changed` guards all but `kept`, which is read freely."""

    __slots__ = (
        "again", "begun", "changed", "ended", "flying", "kept", "key", "problem", "refresh_at",
        "retry_at",
    )  # fmt: skip

    def __init__(self, key: KeySpec) -> None:
        self.key = key
        self.kept: Kept | None = None
        self.problem: SecretError | None = None
        self.refresh_at = self.retry_at = -math.inf
        self.changed = threading.Condition()
        self.begun = self.ended = 0
        self.flying = self.again = False

    def fits(self, key: KeySpec) -> bool:
        return self.key is key or self.key.secret_variables == key.secret_variables

    def succeed(self, kept: Kept, refresh_at: float) -> None:
        self.kept, self.problem, self.refresh_at = kept, None, refresh_at
        self._end()

    def fail(self, problem: SecretError, retry_at: float) -> None:
        self.problem, self.retry_at, self.refresh_at = problem, retry_at, retry_at
        self._end()

    def _end(self) -> None:
        self.flying = False
        self.ended += 1
        self.changed.notify_all()

    def copy(self) -> Entry:
        entry = Entry(self.key)
        entry.kept, entry.refresh_at = self.kept, self.refresh_at
        return entry
