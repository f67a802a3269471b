"""One connection to Redis for all tasks of an event loop; their commands share it in a pipeline.

redis-py opens it (TLS, AUTH, SELECT, a sentinel's advice), in a thread; then its socket is read and
written here, whenever the loop says that it can be. Replies come in the order of the commands, so
who waits for which is a queue. A task that is cancelled leaves its place in it, and its replies are
dropped. Commands of one turn of the loop leave in one packet.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any

import redis

from core.deadlines import end_of_patience
from core.per_loop import PerLoop
from core.redis_patience import OutOfTime

_READ_BYTES = 65_536
_LEAST_SECONDS = 0.05
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Exchange:
    """Commands that were sent together, and who waits for their replies."""

    __slots__ = ("count", "cut", "future", "replies", "until")

    def __init__(
        self, future: asyncio.Future[list[Any]], count: int, until: float, cut: bool
    ) -> None:
        self.future = future
        self.cut = cut  # whether the request's own time ends it, not Redis's
        self.count = count
        self.replies: list[Any] = []
        self.until = until


class TaskLink:
    """A connection that redis-py has opened, on the running loop.

    Args:
        reader: a hiredis reader that gives `incomplete` where more data is needed.
    """

    def __init__(self, connection: Any, reader: Any, incomplete: object) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._reader = reader
        self._incomplete = incomplete
        self._where = getattr(connection, "path", None) or f"{connection.host}:{connection.port}"
        self._seconds: float = connection.socket_timeout or math.inf
        self._socket = connection._sock  # redis-py has no public name for it
        self._socket.setblocking(False)
        self._encrypted = isinstance(self._socket, ssl.SSLSocket)
        self._waiting: deque[_Exchange] = deque()
        self._out: list[bytes] = []
        self._rest = b""
        self._flushing = False
        self._retired = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._heard = 0
        self._looked = -math.inf
        self.closed = False
        self._loop.add_reader(self._socket.fileno(), self._readable)

    async def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send `packed`, which holds `count` commands, and return as many replies.

        Raises:
            redis.ConnectionError: the connection is gone.
            redis.TimeoutError: no reply in time.
        """
        if self.closed:
            raise redis.ConnectionError(f"the connection to {self._where} is closed")
        now = self._loop.time()
        until = now + self._seconds
        end = end_of_patience()
        if end != math.inf:
            until = min(until, max(now + _LEAST_SECONDS, end))
        cut = until < now + self._seconds
        waiting = _Exchange(self._loop.create_future(), count, until, cut)
        alone = not self._waiting
        self._waiting.append(waiting)
        self._out.append(packed)
        if alone:
            self._flush()
        elif not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)
        if until < self._timer_at:
            self._wake_at(until)
        return await waiting.future

    def retire(self) -> None:
        """Take no more commands, and close once those that were sent are answered."""
        self._retired = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Close it at once; whoever waits is told that the connection is gone."""
        self._fail(redis.ConnectionError(f"the connection to {self._where} was closed"))

    # -- inside --------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flushing = False
        if self.closed:
            return
        if self._out:
            self._rest += b"".join(self._out)
            self._out.clear()
        try:
            while self._rest:
                sent = self._socket.send(self._rest)
                self._rest = self._rest[sent:]
        except _NOT_NOW:
            self._loop.add_writer(self._socket.fileno(), self._writable)
        except OSError as error:
            self._lost(error)

    def _writable(self) -> None:
        self._loop.remove_writer(self._socket.fileno())
        self._flush()

    def _readable(self) -> None:
        try:
            while True:
                data = self._socket.recv(_READ_BYTES)
                if not data:
                    raise ConnectionResetError("closed by the server")
                self._heard += len(data)
                self._reader.feed(data)
                if not self._encrypted:
                    break  # of a TLS record more may be there without the loop knowing
        except _NOT_NOW:
            pass
        except OSError as error:
            self._lost(error)
            return
        try:
            self._deliver()
        except redis.RedisError as error:
            self._fail(error)

    def _deliver(self) -> None:
        waiting, gets, incomplete = self._waiting, self._reader.gets, self._incomplete
        while (reply := gets()) is not incomplete:
            if not waiting:
                raise redis.InvalidResponse(f"{self._where} sent more than it was asked for")
            first = waiting[0]
            first.replies.append(reply)
            if len(first.replies) == first.count:
                waiting.popleft()
                if not first.future.done():
                    first.future.set_result(first.replies)
        if self._retired and not waiting:
            self.close()

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        """Somebody's time may be over; then all behind it wait in vain too.

        Unless it was this loop that was late: the answer may be there unread, or the command have
        left only now. Then the server has a moment more.
        """
        self._timer, self._timer_at = None, math.inf
        heard = self._heard
        self._readable()
        if self.closed or not self._waiting:
            return
        now = self._loop.time()
        soonest = min(self._waiting, key=lambda exchange: exchange.until)
        if soonest.until > now:
            self._wake_at(soonest.until)
        elif self._heard != heard or now - self._looked > 2 * _LEAST_SECONDS:
            self._looked = now
            self._wake_at(now + _LEAST_SECONDS)
        else:
            kind = OutOfTime if soonest.cut else redis.TimeoutError
            self._fail(kind(f"{self._where} did not answer in time"))

    def _lost(self, error: OSError) -> None:
        self._fail(redis.ConnectionError(f"lost the connection to {self._where}: {error}"))

    def _fail(self, error: redis.RedisError) -> None:
        if self.closed:
            return
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        descriptor = self._socket.fileno()
        if descriptor >= 0:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
        self._connection.disconnect()
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            if not exchange.future.done():
                exchange.future.set_exception(_again(error))


class TaskLinks:
    """The link of each loop, opened at its first command and again after it was lost.

    Args:
        connect: opens a connection; called in a thread.
        wrap: makes the link of it.
    """

    def __init__(self, connect: Callable[[], Any], wrap: Callable[[Any], TaskLink]) -> None:
        self._connect = connect
        self._wrap = wrap
        self._places: PerLoop[_Place] = PerLoop(_Place)

    async def get(self) -> TaskLink:
        """The link of this loop.

        Raises:
            redis.ConnectionError, redis.TimeoutError: none comes about.
        """
        place = self._places()
        if place.link is not None and not place.link.closed:
            return place.link
        if place.opening is None:
            place.opening = asyncio.get_running_loop().create_task(self._open(place))
            place.opening.add_done_callback(_seen)
        return await asyncio.shield(place.opening)

    def drop(self) -> None:
        """Use the link of this loop for nothing more; what was sent on it is still answered."""
        try:
            place = self._places()
        except RuntimeError:
            return  # no loop is running in this thread
        link, place.link = place.link, None
        if link is not None:
            link.retire()

    async def _open(self, place: _Place) -> TaskLink:
        try:
            place.link = self._wrap(await asyncio.to_thread(self._connect))
            return place.link
        finally:
            place.opening = None


class _Place:
    """What one loop has."""

    def __init__(self) -> None:
        self.link: TaskLink | None = None
        self.opening: asyncio.Task[TaskLink] | None = None


def _seen(opening: asyncio.Task[TaskLink]) -> None:
    """Whoever waited may be gone: then nobody else looks at what went wrong."""
    if not opening.cancelled():
        opening.exception()


def _again(error: redis.RedisError) -> redis.RedisError:
    """The same error for each who waits: they would share its traceback."""
    return type(error)(*error.args)
