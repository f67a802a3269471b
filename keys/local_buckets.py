"""The users' limits of one process while Redis is away: its share of every token bucket.

No clock, no lock, no input or output. What is kept is what `lua/user_limits.lua` keeps; as each
request costs what the requests of all routers cost, a bucket fills at this one's share of its rate.
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from lua.user_limit_calls import Allowance, Empty, Whose

MOST_USERS = 10_000
"""So many users' buckets are kept; whoever asked longest ago is forgotten first."""


class LocalBuckets:
    """Takes requests from a user's bucket and from that of all users, from both or from neither.

    A bucket that is new here holds one request, as its burst may have been used up in Redis.

    Args:
        each_user: what a user may ask; None for no limit.
        all_users: what all may ask together.
    """

    def __init__(
        self, each_user: Allowance | None, all_users: Allowance | None, minute_ms: int
    ) -> None:
        self._each_user, self._all_users = each_user, all_users
        self._minute_ms = minute_ms
        self._buckets: OrderedDict[str | None, tuple[int, int]] = OrderedDict()
        self._taken: Counter[str | None] = Counter()

    def take(self, user_id: str | None, routers: int, now_ms: int) -> Empty | None:
        """Take one request; None if it was taken.

        Args:
            routers: how many share the limits.
        """
        owners: tuple[tuple[Whose, str | None, Allowance | None], ...] = (
            (Whose.USERS_OWN, user_id, self._each_user if user_id is not None else None),
            (Whose.ALL_USERS, None, self._all_users),
        )
        after: dict[str | None, tuple[int, int]] = {}
        whose, wait_ms = Whose.ALL_USERS, 0
        for one, owner, allowance in owners:
            if allowance is None:
                continue
            debt, needed = self._after(owner, allowance, routers, now_ms)
            after[owner] = debt, now_ms
            if needed > wait_ms:
                whose, wait_ms = one, needed
        if wait_ms > 0:
            return Empty(whose, wait_ms)
        for owner, bucket in after.items():
            self._buckets[owner] = bucket
            self._buckets.move_to_end(owner)
            self._taken[owner] += 1
        while len(self._buckets) > MOST_USERS:
            self._buckets.popitem(last=False)
        return None

    def taken(self) -> Counter[str | None]:
        """What was taken since this was asked last, by user; None stands for all users."""
        taken, self._taken = self._taken, Counter()
        self._buckets.clear()
        return taken

    @property
    def anything_taken(self) -> bool:
        """Whether `taken` has anything to tell."""
        return bool(self._taken)

    def _after(
        self, owner: str | None, allowance: Allowance, routers: int, now_ms: int
    ) -> tuple[int, int]:
        """A bucket's debt after one request more, and how long (ms) that must wait."""
        cost = self._minute_ms * routers
        size = max(1, allowance.burst // routers) * cost
        debt, at = self._buckets.get(owner, (size - cost, now_ms))
        debt = max(0, debt - max(0, now_ms - at) * allowance.rpm) + cost
        return debt, -(-max(0, debt - size) // allowance.rpm)
