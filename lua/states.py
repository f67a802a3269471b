"""The states of a key, and which change of one into another is allowed: the one table.

A state is that of a key, of its quota group, or of its provider; a key fares as the worst of them
does. The scripts that change states include this table (`--- @include "states"`), so that Redis
itself refuses what is not in it, whichever process asks.

    Available ─ 429 ────────────▶ Throttled ─ its time is over ─▶ Recovering ─ answered ─▶ Available
        ├────── quota spent ────▶ Exhausted ─ its time is over ─▶ Recovering
        ├────── 401 ────────────▶ Invalid ─── enable, rotate ───▶ Available
        └────── disable, revoke ▶ Disabled ── enable (not what was revoked) ─▶ Available
"""

from __future__ import annotations

from enum import StrEnum


class KeyState(StrEnum):
    """How a key stands."""

    AVAILABLE = "available"
    THROTTLED = "throttled"
    EXHAUSTED = "exhausted"
    RECOVERING = "recovering"
    DISABLED = "disabled"
    INVALID = "invalid"


_TROUBLES = frozenset({KeyState.THROTTLED, KeyState.EXHAUSTED, KeyState.INVALID, KeyState.DISABLED})

ALLOWED: dict[KeyState, frozenset[KeyState]] = {
    KeyState.AVAILABLE: _TROUBLES,
    KeyState.THROTTLED: frozenset(
        {
            KeyState.AVAILABLE,
            KeyState.RECOVERING,
            KeyState.EXHAUSTED,
            KeyState.INVALID,
            KeyState.DISABLED,
        }
    ),
    # A late 429 tells nothing new of a quota that is spent.
    KeyState.EXHAUSTED: frozenset(
        {KeyState.AVAILABLE, KeyState.RECOVERING, KeyState.INVALID, KeyState.DISABLED}
    ),
    KeyState.RECOVERING: frozenset({KeyState.AVAILABLE}) | _TROUBLES,
    KeyState.INVALID: frozenset({KeyState.AVAILABLE, KeyState.RECOVERING, KeyState.DISABLED}),
    # Whoever took a key out of use decides alone that it comes back; no request can.
    KeyState.DISABLED: frozenset({KeyState.AVAILABLE}),
}
"""From each state to those that may follow it. A state may always be confirmed."""


def as_lua() -> str:
    """The table as the scripts include it: one text, so that a run which changes no state builds
    nothing.

    Example:
        >>> " disabled>available " in as_lua()
        True
    """
    changes = " ".join(
        f"{state}>{other}" for state, others in ALLOWED.items() for other in sorted(others)
    )
    return f"local STATE_ALLOWED = ' {changes} '\n"
