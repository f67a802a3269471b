"""How providers write durations and times in headers."""

from __future__ import annotations

import math
import time


def go_duration(seconds: float) -> str:
    """A duration as OpenAI's `x-ratelimit-reset-*` writes it, rounded up to a millisecond.

    >>> [go_duration(s) for s in (0.0, 0.012, 8.64, 360.0, 3723.5)]
    ['0s', '12ms', '8.64s', '6m0s', '1h2m3.5s']
    """
    milliseconds = math.ceil(round(seconds * 1000, 3))
    if milliseconds <= 0:
        return "0s"
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def plain_seconds(seconds: float, *, fine: bool) -> str:
    """Seconds rounded up: whole ones as providers send them, thousandths if `fine`.

    >>> plain_seconds(25.2, fine=False), plain_seconds(0.25, fine=True)
    ('26', '0.250')
    """
    if fine:
        return f"{math.ceil(round(seconds * 1000, 3)) / 1000:.3f}"
    return str(max(1, math.ceil(round(seconds, 6))))


def rfc3339(moment: float, *, fine: bool) -> str:
    """A time since the epoch in UTC, rounded up to a second, or to a millisecond if `fine`.

    >>> rfc3339(1755780058.2, fine=False), rfc3339(1755780058.25, fine=True)
    ('2025-08-21T12:40:59Z', '2025-08-21T12:40:58.250Z')
    """
    if not fine:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(math.ceil(moment)))
    whole, thousandths = divmod(math.ceil(round(moment * 1000, 3)), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{thousandths:03d}Z"
