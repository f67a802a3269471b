"""Whether Redis can be relied on, and what happens while it cannot: for one shard, in one process.

UP          Redis decides. A beat every second or two tells that this router is there, and
            brings what must be known should Redis go away.
  | a command fails as only a Redis in trouble fails, or its state may be lost
  v
AWAY        The local limiter decides within this process's share, or requests are refused.
  | a probe is answered: what was used is told
  v
RECOVERING  Both must have room, Redis and the share, as other routers may not have told yet.
  | all routers were heard since, or a window is over
  v
UP
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from uuid import uuid4

from redis.exceptions import RedisError

from core.events import RedisAway, RedisBack, RedisRecovering, emit
from core.redis_calls import Calls
from core.redis_patience import OutOfTime
from core.redis_watch import OutOfService, StateLost, out_of_service
from keys.local_limiter import LocalLimiter, Seen, Share
from keys.local_queue import LocalQueue
from keys.own_use import OwnUse
from keys.places import Places
from keys.reservations import End, Reservation
from keys.spec import KeySpec
from lua.limiter_types import Geometry, GroupKeys, Shard
from lua.loader import ScriptCall
from lua.outage_calls import DayUse, Entry, Presence, Pulse, beat, most_of, restore

_log = logging.getLogger(__name__)

SILENT_BEATS = 5
LEAST_SILENCE_SECONDS = 5.0
"""A router that was not heard for five beats, and five seconds, counts no more."""

ASKED_GROUPS = 64
"""So many groups are asked after with one beat; of a larger pool others with the next."""

TOLD_AT_ONCE = 200
"""So many reservations are told in one call."""

FIRST_PROBE, LONGEST_PROBE = 0.1, 1.0
"""Seconds between two probes of a Redis that is away: from the first, doubled, to the longest."""


class State(Enum):
    """Who decides. See the top of this file."""

    UP = "up"
    RECOVERING = "recovering"
    AWAY = "away"


class Outage:
    """The state of one shard. Safe under threads: `lock` guards what is not a single assignment.

    Args:
        redis: the shard's commands, unwatched.
        description: where Redis is, for people.
        admits: whether requests are admitted locally while Redis is away.
        keys: gives the keys as configured.
        settlement: makes the call that settles a reservation.
        disturb: called when Redis is lost: whoever waits there waits in vain.
        due: set when a beat is due at once.

    Attributes:
        state: who decides.
        away: why Redis is not asked; None while it is.
        epoch: the epoch in which Redis is believed to be; "" before the first beat.
        routers: how many routers share the limits, as Redis told it last.
        trouble_since: when it was not UP for the last time began, in monotonic seconds. What Redis
            promised ahead of that time for after it does not hold: others count on the same room.
    """

    def __init__(
        self,
        redis: Calls,
        description: str,
        places: Places,
        geometry: Geometry,
        shard: Shard,
        *,
        admits: bool,
        keys: Callable[[], Sequence[KeySpec]],
        settlement: Callable[[Reservation, End], ScriptCall],
        disturb: Callable[[], None],
        due: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.admits = admits
        self._redis = redis
        self._description = description
        self._places, self._geometry, self._shard = places, geometry, shard
        self._keys, self._settlement, self._disturb = keys, settlement, disturb
        self._clock = clock
        self._beat = min(2.0, max(0.1, geometry.window_ms / 12_000))
        self.begin_anew(due)

    def begin_anew(self, due: threading.Event) -> None:
        """Know nothing, as in a child of a process that forked."""
        self.state = State.UP
        self.away: str | None = None
        self.epoch = ""
        self.routers = 0
        self.lock = threading.RLock()
        self.own = OwnUse(self._places, self._geometry)
        self.queue = LocalQueue()
        self.admitted_locally = 0
        self._due = due
        self._local: LocalLimiter | None = None
        self._router_id = uuid4().hex
        self._rank = 0
        self._joined = 0.0
        self._told_epoch = ""
        self._seen: dict[str, Seen] = {}
        self._looks: dict[str, deque[Seen]] = {}
        self._marks: tuple[tuple[str, int], ...] = ()
        self._next_group = 0
        self._probe = FIRST_PROBE
        self._rejoined = True
        self._since_ms = 0
        self._needed = 1
        self.trouble_since = 0.0

    # -- what others ask -----------------------------------------------------------------------

    @property
    def local(self) -> LocalLimiter:
        """The local limiter; call it with the lock held, and only while not UP.

        Raises:
            OutOfService: this process does not know its share, or requests are to be refused.
        """
        if self._refuses:
            raise OutOfService(self.away or "away")
        if self._local is None:
            raise OutOfService(self.describe())
        return self._local

    @property
    def has_share(self) -> bool:
        """Whether this process knows how much it may use by itself."""
        return self._local is not None

    @property
    def counting(self) -> LocalLimiter | None:
        """The local limiter, if it counts, whether or not it may admit."""
        return self._local

    @property
    def _refuses(self) -> bool:
        return self.state is State.AWAY and not self.admits

    def now_ms(self) -> int:
        """The time of the local limiter."""
        return int(self._clock() * 1000)

    def describe(self) -> str:
        """The state in words."""
        if self.state is State.UP:
            return "Redis decides"
        if self._refuses:
            return f"{self.away}; requests are refused"
        if self._local is None:
            return (
                f"{self.away or f'{self._description} is back'}; this process began without it and "
                "never learned how many share the limits, so it sends nothing until Redis decides"
            )
        share = f"its share, one of {self.routers}"
        if self.state is State.RECOVERING:
            return (
                f"{self._description} is back; until all routers have told it what they used, "
                f"this one is kept within {share}"
            )
        return f"{self.away}; this process goes on with {share}"

    # -- what goes wrong -----------------------------------------------------------------------

    def failed(self, error: RedisError) -> None:
        """A command failed; if Redis is in trouble, it is not asked until a probe is answered."""
        if self.away is not None or isinstance(error, OutOfTime) or not out_of_service(error):
            return
        with self.lock:
            if self.away is not None:
                return
            self._begin()
            self.away = self._reason(error)
            self.state = State.AWAY
            self._probe = FIRST_PROBE
            locally = self.admits and self._local is not None
        emit(RedisAway(self._description, _said(error), locally, self.routers))
        self._due.set()
        self._disturb()

    def forgotten(self) -> None:
        """The server has forgotten a script: was it only that?

        Raises:
            StateLost: no; it is another server, or an emptied one.
            RedisError: it does not answer.
        """
        if self.epoch:
            self.ask_again()

    def ask_again(self) -> None:
        """Ask whether the server is still in the epoch in which it was believed to be.

        Raises:
            As `forgotten`.
        """
        try:
            pulse = self._ask("asking")
        except RedisError as error:
            self.failed(error)
            raise
        if pulse.epoch != self.epoch:
            self._lose(pulse)
            raise StateLost(self.describe())

    def covers(self, error: RedisError) -> bool:
        """Whether a failed request is to be decided anew, as the state is not UP any more."""
        if isinstance(error, StateLost) and self.state is State.UP:
            with contextlib.suppress(RedisError):  # it changes the state
                self.ask_again()
        else:
            self.failed(error)
        return self.state is not State.UP

    # -- beats ---------------------------------------------------------------------------------

    def tick(self) -> float:
        """Do what is due, and return after how many seconds to come again."""
        self._redis.hear()
        self.own.forget_the_old(self._clock())
        if self._local is not None:
            with self.lock:
                if self._local is not None:
                    self._local.tidy(self.now_ms())
        try:
            if self.state is State.AWAY or not self._rejoined:
                self._rejoin()
            else:
                self._go_on()
        except StateLost:
            return 0.05
        except RedisError as error:
            self.failed(error)
            if not out_of_service(error):
                _log.error("a beat of %s was refused: %s", self._description, error)
            if self.state is State.AWAY:
                self.away = self._reason(error)
                seconds, self._probe = self._probe, min(LONGEST_PROBE, 2 * self._probe)
                return seconds * random.uniform(0.75, 1.25)
        return self._beat * random.uniform(0.9, 1.1)

    def leave(self) -> None:
        """Tell that this router is gone, if Redis is there."""
        if self.epoch and self.away is None:
            with contextlib.suppress(RedisError):  # else it is forgotten soon
                self._ask("leaving")

    def _go_on(self) -> None:
        groups = self._groups_to_ask()
        asked = self._clock()
        pulse = self._ask("here", groups)
        if self._told_epoch and pulse.epoch != self._told_epoch:
            self._lose(pulse)
            self._rejoin()
            return
        self.epoch = self._told_epoch = pulse.epoch
        self._learn(pulse, groups, asked)
        if self.own.anything_untold:
            self._tell(self.own.untold(self._clock(), everything=False), {})
        if self.state is State.RECOVERING:
            self._recover(pulse)

    def _rejoin(self) -> None:
        """Redis answers again: tell it what it does not know, and be counted."""
        pulse = self._ask("asking")
        newcomer = not self._told_epoch
        everything = pulse.epoch != self._told_epoch and not newcomer
        self._lose(pulse)
        entries = self.own.untold(self._clock(), everything=everything)
        days = self.own.days(everything=everything and pulse.empty)
        told = self._tell(entries, days)
        self.own.days_told()
        groups = self._groups_to_ask()
        asked = self._clock()
        pulse = self._ask("here", groups)
        if pulse.epoch != self.epoch:
            raise StateLost("lost again")
        needed = self.routers
        self._told_epoch = pulse.epoch
        self._learn(pulse, groups, asked)
        self._needed = max(needed, pulse.routers)
        self._since_ms = pulse.now_ms
        self._rejoined = True
        reason = "it may have lost what was charged last" if everything else "it was away"
        if newcomer:
            self._be_up()
        else:
            emit(RedisRecovering(self._description, reason, told))

    def _recover(self, pulse: Pulse) -> None:
        """Rely on Redis again once everybody was heard, or a window is over."""
        elapsed = pulse.now_ms - self._since_ms
        alone = self._needed == pulse.routers == 1
        all_heard = pulse.heard >= max(self._needed, pulse.routers)
        beats = elapsed / (1000 * self._beat)
        window_ms = self._geometry.counted * self._geometry.slot_ms
        if (alone and beats >= 1) or (all_heard and beats >= 2) or elapsed >= window_ms:
            self._be_up()

    def _be_up(self) -> None:
        with self.lock:
            if self.own.anything_untold:
                return  # it is told with the next beat
            self.state, self.away, self._local = State.UP, None, None
            for waiter in self.queue.dismiss():
                waiter.tell()
            seconds, admitted = self._clock() - self.trouble_since, self.admitted_locally
            self.admitted_locally = 0
        emit(RedisBack(self._description, round(seconds, 3), admitted))

    def _lose(self, pulse: Pulse) -> None:
        """From now on until everybody has told what it used, Redis does not decide alone."""
        with self.lock:
            self._begin()
            self.epoch = pulse.epoch
            self.state, self.away = State.RECOVERING, None
            self._rejoined = False
        self._due.set()

    def _begin(self) -> None:
        """Count what this process used before, unless that was done."""
        if self.state is not State.UP:
            return
        self.trouble_since = self._clock()
        unknown = self.trouble_since - self._joined < 2.5 * self._beat and self.routers > 1
        if self.routers == 0 or unknown:
            return  # others do not count this one yet
        now_ms = self.now_ms()
        local = LocalLimiter(
            self._geometry, Share(self.routers, self._rank), now_ms, dict(self._seen)
        )
        for field, left in self._marks:
            local.mark(field, -1 if left < 0 else now_ms + left)
        # The state first, then what was noted: whoever notes later sees the state, and counts it.
        self.state = State.RECOVERING
        self._local = local
        for use in self.own.uses():
            self._count(use.reservation)

    def note(self, reservation: Reservation) -> None:
        """Redis reserved it."""
        self.own.note(reservation)
        if self.state is not State.UP:
            with self.lock:
                self._count(reservation)

    def _count(self, reservation: Reservation) -> None:
        """Count locally what Redis reserved; it is not counted twice."""
        local = self._local
        if local is None:
            return
        use = self.own.use(reservation)
        local.count_before(
            reservation.id,
            self._places.group(reservation.key).ring,
            reservation.key,
            int(use.sent_at * 1000),
            use.amounts,
            held=reservation.weights.output,
            till_ms=0 if use.charge is not None else int(use.lease_end * 1000),
        )

    # -- inside --------------------------------------------------------------------------------

    def _reason(self, error: RedisError) -> str:
        return f"{self._description} is away: {_said(error)}"

    def _ask(self, presence: Presence, groups: Sequence[GroupKeys] = ()) -> Pulse:
        silence = max(LEAST_SILENCE_SECONDS, SILENT_BEATS * self._beat)
        return beat(
            self._redis,
            self._geometry,
            self._shard,
            router_id=self._router_id,
            silence_ms=round(silence * 1000),
            new_epoch=uuid4().hex[:16],
            presence=presence,
            since_ms=self._since_ms,
            epoch=self.epoch,
            groups=groups,
        )

    def _groups_to_ask(self) -> list[GroupKeys]:
        groups = list(
            dict.fromkeys(
                self._places.group(key)
                for key in self._keys()
                if self._places.shard(key.provider) == self._shard
            )
        )
        if len(groups) <= ASKED_GROUPS:
            return groups
        start = self._next_group % len(groups)
        self._next_group = start + ASKED_GROUPS
        return (groups + groups)[start : start + ASKED_GROUPS]

    def _learn(self, pulse: Pulse, groups: Sequence[GroupKeys], asked: float) -> None:
        if self.routers == 0:
            self._joined = asked
        self.routers, self._rank, self._marks = pulse.routers, pulse.rank, pulse.marks
        at_ms = int(asked * 1000)
        for group, use in zip(groups, pulse.uses, strict=True):
            looks = self._looks.setdefault(group.ring, deque())
            looks.append(Seen(at_ms, use))
            while looks[0].at_ms < at_ms - self._geometry.window_ms:
                looks.popleft()
            # Where many wait, what is free now is full in a moment: the most is believed.
            self._seen[group.ring] = Seen(at_ms, most_of([look.use for look in looks]))

    def _tell(self, entries: list[tuple[Reservation, Entry]], days: dict[str, DayUse]) -> int:
        """Charge entries in Redis, then settle what was settled meanwhile."""
        told = 0
        rest: dict[str, DayUse] = dict(days)
        while entries or rest:
            batch, entries = entries[:TOLD_AT_ONCE], entries[TOLD_AT_ONCE:]
            told += self._tell_batch(batch, rest)
            self.own.told([entry.id for _, entry in batch])
            rest = {}
        for reservation, end in self.own.pending():
            self._settlement(reservation, end).run(self._redis)
            self.own.pending_told(reservation.id)
        return told

    def _tell_batch(self, batch: list[tuple[Reservation, Entry]], days: dict[str, DayUse]) -> int:
        groups: dict[GroupKeys, DayUse] = {}
        for key in self._keys():
            place = self._places.group(key)
            if place.ring in days:
                groups[place] = days[place.ring]
        for reservation, _ in batch:
            place, key = self._places.group(reservation.key), reservation.key
            if place not in groups:
                counts = key.rpd is not None or key.tpd is not None
                groups[place] = DayUse(reservation.weights.day_end_ms if counts else 0)
        places = list(groups)
        return restore(
            self._redis,
            self._geometry,
            self._shard,
            epoch=self.epoch,
            groups=places,
            days=list(groups.values()),
            ahead_ms=max([0, *(-entry.age_ms for _, entry in batch)]),
            entries=[
                entry.of_group(places.index(self._places.group(reservation.key)))
                for reservation, entry in batch
            ],
        )


def _said(error: RedisError) -> str:
    """What Redis said, without the place in a script where it said it."""
    return str(error).partition(" script: ")[0].removesuffix(".")
