"""The waiting room of a process: who waits for a key, and is told when it is their turn.

Redis keeps the queues and decides (`lua/includes/queue.lua`); it tells a process on a channel of
its own. One thread listens there, another calls `wake.lua` at the times that Redis named, so that
two hundred who wait cost two threads and no polling.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from redis.exceptions import RedisError

from core.bridge import Bell, aside
from lua.limiter_types import GroupKeys, Shard, Turn

_log = logging.getLogger(__name__)

LISTEN_SECONDS = 0.2
"""So long the listener sleeps on its socket before it looks whether it shall end."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0
"""Seconds between two tries to open the channel again: from the first, doubled, to the longest."""

Wake = Callable[[Shard, GroupKeys], None]


@dataclass
class Ticket:
    """One request that waits.

    Args:
        groups: the groups that may serve it, by their field "g:<provider>/<group>".
        lost: the connection dropped meanwhile: the queue may be gone, or a turn untold.
    """

    id: str
    shard: Shard
    groups: dict[str, GroupKeys]
    turn: Turn | None = None
    lost: bool = False
    told: Bell = field(default_factory=Bell)


class WaitingRoom:
    """Where the requests of one process wait. Its threads start with the first of them.

    Args:
        pubsub: makes a redis-py PubSub on the Redis that keeps the queues.
        channel: the name of a process's channel on a shard.
        wake: calls wake.lua for a group.
        patience: seconds without any news after which a group is looked at all the same, in case
            the process that should have done it has died.
        away: whether Redis is known to be away, so that its channel need not be tried.
    """

    _pubsub: Any
    _told_on: str | None

    def __init__(
        self,
        pubsub: Callable[[], Any],
        channel: Callable[[Shard, str], str],
        wake: Wake,
        *,
        patience: float,
        away: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_pubsub = pubsub
        self._channel = channel
        self._wake = wake
        self._patience = patience
        self._away = away
        self._clock = clock
        self._reset()

    def enter(self, ticket: Ticket) -> str:
        """Expect the ticket's turn, and return the channel on which it will be told.

        Raises:
            redis.exceptions.RedisError: the channel cannot be opened.
        """
        if self._pid != os.getpid():
            self._reset()  # a forked child has its parent's tickets, but not its threads
        channel = self._told_on or aside(self._open_once, ticket.shard)
        with self._changed:
            self._tickets[ticket.id] = ticket
        return channel

    def wait(self, ticket: Ticket, seconds: float) -> Turn | None:
        """The ticket's turn; None if it does not come within so many seconds, or is `lost`."""
        ticket.told.wait(seconds)
        ticket.told.clear()
        return ticket.turn

    def exit(self, ticket: Ticket) -> None:
        """Expect the ticket no longer."""
        with self._changed:
            self._tickets.pop(ticket.id, None)

    def look_later(self, shard: Shard, group: GroupKeys, seconds: float) -> None:
        """Call `wake` for a group in so many seconds."""
        with self._changed:
            at = self._clock() + max(0.0, seconds)
            due = self._due.get(group.ring)
            if due is None or at < due:
                self._push(at, shard, group)
                self._changed.notify()

    def disturb(self) -> None:
        """Redis is lost: whoever waits looks again."""
        for ticket in list(self._tickets.values()):
            ticket.lost = True
            ticket.told.set()

    def close(self) -> None:
        """End the threads and the subscription. Whoever waits is left to its deadline."""
        with self._changed:
            self._closed = True
            self._changed.notify()
            pubsub, self._pubsub = self._pubsub, None
        for thread in self._threads:
            thread.join(timeout=2.0)
        if pubsub is not None:
            pubsub.close()

    # -- inside --------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._process_id = uuid4().hex
        self._changed = threading.Condition()
        self._tickets: dict[str, Ticket] = {}
        self._told_on = None
        self._looks: list[tuple[float, int, Shard, GroupKeys]] = []
        self._pushed = itertools.count()
        self._due: dict[str, float] = {}
        self._pubsub = None
        self._threads: list[threading.Thread] = []
        self._last_news = self._clock()
        self._closed = False

    def _open_once(self, shard: Shard) -> str:
        with self._changed:
            if self._told_on is None:
                self._told_on = self._open(shard)
            return self._told_on

    def _open(self, shard: Shard) -> str:
        # One channel for all shards: a cluster passes what is published on to all its nodes.
        channel = self._channel(shard, self._process_id)
        pubsub = self._make_pubsub()
        pubsub.subscribe(channel)
        # Only once the server has confirmed it can a turn be told there.
        pubsub.get_message(timeout=5.0)
        self._pubsub = pubsub
        self._start(lambda: self._listen(pubsub), "turns")
        self._start(self._look, "looks")
        return channel

    def _start(self, run: Callable[[], None], name: str) -> None:
        thread = threading.Thread(target=run, name=f"llm-router {name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self, pubsub: Any) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            try:
                message = pubsub.get_message(timeout=LISTEN_SECONDS)
            except (RedisError, ValueError, OSError) as error:
                if self._closed:
                    return
                if pause == FIRST_PAUSE:
                    _log.info("the waiting room's channel is away: %s", error)
                    self.disturb()
                time.sleep(pause * random.uniform(0.75, 1.25))
                while self._away() and not self._closed:
                    time.sleep(FIRST_PAUSE)
                pause = min(LONGEST_PAUSE, 2 * pause)
                continue
            pause = FIRST_PAUSE
            if message is None:
                continue
            self._last_news = self._clock()
            if message["type"] == "message":
                self._hear(str(message["data"]))
            elif message["type"] == "subscribe":
                # It may have restarted without its queues, and what was told meanwhile is lost.
                self.disturb()

    def _hear(self, text: str) -> None:
        kind, *parts = text.split("#")
        if kind == "G":
            ticket = self._tickets.get(parts[0])
            if ticket is not None:
                ticket.turn = Turn(parts[1], int(parts[2]), int(parts[3]))
                ticket.told.set()
        elif kind == "T":
            for ticket in list(self._tickets.values()):
                if parts[0] in ticket.groups:
                    seconds = (int(parts[1]) - int(parts[2])) / 1000
                    self.look_later(ticket.shard, ticket.groups[parts[0]], seconds)
                    return

    def _look(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = self._clock()
                if not self._looks or self._looks[0][0] > now:
                    self._look_after_silence(now)
                    until = self._looks[0][0] - now if self._looks else self._patience
                    self._changed.wait(min(until, self._patience))
                    continue
                at, _, shard, group = heapq.heappop(self._looks)
                if self._due.get(group.ring) != at:
                    continue  # an earlier look took its place
                del self._due[group.ring]
            try:
                self._wake(shard, group)
            except RedisError as error:
                _log.info("a group of the queue could not be looked at: %s", error)
                self.look_later(shard, group, 0.5)

    def _look_after_silence(self, now: float) -> None:
        oldest = next(iter(self._tickets.values()), None)
        if oldest is None or now - self._last_news < self._patience:
            return
        self._last_news = now
        for group in oldest.groups.values():
            if group.ring not in self._due:
                self._push(now, oldest.shard, group)

    def _push(self, at: float, shard: Shard, group: GroupKeys) -> None:
        self._due[group.ring] = at
        heapq.heappush(self._looks, (at, next(self._pushed), shard, group))
