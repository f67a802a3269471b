"""Events as structured log lines, each with its request id. They never hold prompts or secrets."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any

from core.events import (
    AttemptFinished,
    CircuitOpened,
    ConversationNotSaved,
    Event,
    KeyChanged,
    KeyCooledDown,
    KeysLoaded,
    KeysRejected,
    RedisAway,
    RedisBack,
    RedisRecovering,
    RequestFinished,
    SecretChanged,
    SecretNotRefreshed,
    SecretStoreFailing,
    SecretStoreRestored,
    SettleFailed,
    StorageDegraded,
)
from core.settings import Settings
from observability.following import SharedSubscription

LOGGER = "llm_router"

_LEVELS: dict[type[Event], tuple[int, str]] = {
    KeyCooledDown: (logging.WARNING, "key passed over"),
    KeyChanged: (logging.WARNING, "key changed"),
    CircuitOpened: (logging.WARNING, "circuit opened"),
    SettleFailed: (logging.ERROR, "reservation not settled; it ages out"),
    ConversationNotSaved: (logging.ERROR, "turn not saved"),
    KeysLoaded: (logging.INFO, "keys loaded"),
    KeysRejected: (logging.ERROR, "edit of keys refused; the keys in force stay"),
    RedisAway: (logging.ERROR, "Redis is away"),
    RedisRecovering: (logging.WARNING, "Redis answers again"),
    RedisBack: (logging.WARNING, "Redis decides again"),
    StorageDegraded: (logging.WARNING, "limits degraded"),
    SecretStoreFailing: (logging.ERROR, "secret store does not answer; cached secrets are served"),
    SecretStoreRestored: (logging.WARNING, "secret store answers again"),
    SecretNotRefreshed: (logging.ERROR, "secret not refreshed; it is served until it expires"),
    SecretChanged: (logging.INFO, "secret changed in its store"),
}


def follow_with_logs(settings: Settings) -> Callable[[], None]:
    """Write a line for each event, from `LOG_LEVEL` on, as `LOG_FORMAT` says, until it is ended.

    Lines go to the logger `llm_router`: to where the program's own logging goes, or, where it has
    none, to standard error. Several routers of a process write each line once, as the settings of
    the newest say.

    Returns:
        A function that ends it.
    """
    global _format
    _logger.setLevel(settings.log_level)
    if not _logger.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        _logger.addHandler(handler)
        _logger.propagate = False
    _format = settings.log_format
    return _shared.follow()


def _write(event: Event) -> None:
    level, text = _level_of(event)
    if _logger.isEnabledFor(level):
        values = {f.name: getattr(event, f.name) for f in fields(event)}
        told = {name: value for name, value in values.items() if value is not None}
        _structured(_format).log(level, text, **told)


def _level_of(event: Event) -> tuple[int, str]:
    if isinstance(event, (AttemptFinished, RequestFinished)) and event.outcome == "cancelled":
        return logging.INFO, "stopped by the caller"
    if isinstance(event, AttemptFinished):
        good = event.outcome == "success"
        return (logging.DEBUG, "attempt") if good else (logging.WARNING, "attempt failed")
    if isinstance(event, RequestFinished):
        if event.outcome == "user_rate_limited":
            return logging.INFO, "user refused"  # who hammers must not fill the log
        good = event.outcome == "success"
        return (logging.INFO, "request") if good else (logging.WARNING, "request failed")
    return _LEVELS.get(type(event), (logging.DEBUG, type(event).__name__))


@cache
def _structured(form: str) -> Any:
    # Imported at the first line that is written: structlog costs 50 ms, and most programs that
    # start with LOG_LEVEL=WARNING never write one.
    import structlog

    render: Any = structlog.processors.JSONRenderer()
    if form == "console":
        render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    return structlog.wrap_logger(
        _logger,
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            render,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )


_logger = logging.getLogger(LOGGER)
_format = "console"
_shared = SharedSubscription(_write)
