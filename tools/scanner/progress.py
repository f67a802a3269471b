"""A line on the terminal that says how far a scan has come."""

from __future__ import annotations

import sys
import time


class Progress:
    """Drawn on standard error, and only where that is a terminal and `wanted`."""

    def __init__(self, wanted: bool) -> None:
        self._draws = wanted and sys.stderr.isatty()
        self._began = time.monotonic()
        self._drawn = 0.0

    def at(self, done: int, total: int, size: int) -> None:
        """`done` of `total` files (0: not known), `size` bytes so far."""
        now = time.monotonic()
        if not self._draws or now - self._drawn < 0.1:
            return
        self._drawn = now
        rate = size / 1e6 / max(now - self._began, 0.001)
        if total:
            filled = 24 * done // total
            bar = f"[{'#' * filled}{'.' * (24 - filled)}] {done:,}/{total:,} files"
        else:
            bar = f"{done:,} files"
        sys.stderr.write(f"\r\x1b[K{bar}  {size / 1e6:,.0f} MB  {rate:,.0f} MB/s")
        sys.stderr.flush()

    def end(self) -> None:
        if self._draws and self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
