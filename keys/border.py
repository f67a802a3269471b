"""Where Redis meets the limits: its errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import RedisError

from core.errors import StorageError
from core.redis_watch import OutOfService


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Turn what Redis reports within the block into a StorageError.

    Args:
        what: what was being done, for "could not ...".
    """
    try:
        yield
    except OutOfService as error:
        raise StorageError(f"could not {what}: {error}") from error
    except RedisError as error:
        raise StorageError(f"could not {what}: Redis said {error}") from error
