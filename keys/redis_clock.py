"""The server's clock as seen from this process."""

from __future__ import annotations

KEEP_SECONDS = 60.0


class RedisClock:
    """Translates the server's milliseconds to this process's monotonic seconds.

    A reply that tells the server's time was asked for before that time, so each one bounds the
    difference of the clocks from below; the largest bound of the last minute is the closest.

    Example:
        >>> clock = RedisClock()
        >>> clock.observe(10.0, 5_000)
        >>> clock.local(7_000)
        12.0
    """

    def __init__(self) -> None:
        self._difference: float | None = None
        self._since = 0.0

    def observe(self, asked_at: float, now_ms: int) -> None:
        """Learn from a reply.

        Args:
            asked_at: the monotonic time (s) just before the server was asked.
            now_ms: what the server said.
        """
        difference = asked_at - now_ms / 1000
        stale = asked_at - self._since > KEEP_SECONDS
        if self._difference is None or stale or difference > self._difference:
            self._difference, self._since = difference, asked_at

    def local(self, ms: int) -> float:
        """The earliest monotonic time (s) at which the server's clock may have shown `ms`."""
        return ms / 1000 + (self._difference or 0.0)
