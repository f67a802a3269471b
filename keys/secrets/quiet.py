"""Keeps client libraries from logging what they fetch: at DEBUG some log whole replies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Fetching(threading.local):
    depth = 0


class _NotWhileFetching(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return _fetching.depth == 0 or record.levelno > logging.INFO


_fetching = _Fetching()
_filter = _NotWhileFetching()
_quieted: set[str] = set()


@contextmanager
def quiet(package: str) -> Iterator[None]:
    """Drop what a package's loggers say on this thread below WARNING.

    A filter, not a level: who has turned on the package's logs keeps them for all other calls.

    Args:
        package: the name that its loggers begin with, such as "botocore".
    """
    _fetching.depth += 1
    try:
        _hush(package)
        yield
    finally:
        _hush(package)  # loggers that were made meanwhile are quiet from the next call on
        _fetching.depth -= 1


def _hush(package: str) -> None:
    # A logger's filter does not see what its children say: each gets the filter.
    for name in list(logging.Logger.manager.loggerDict):
        if name not in _quieted and (name == package or name.startswith(f"{package}.")):
            logging.getLogger(name).addFilter(_filter)
            _quieted.add(name)
