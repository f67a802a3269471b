"""What a router is made of; put together in `llm/factory.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm.routing.drivers import Parts
from llm.routing.flow import Surroundings

if TYPE_CHECKING:
    from core.redis_connection import RedisConnection
    from core.settings import Settings


@dataclass(frozen=True)
class RouterParts:
    """The parts of one router, and how to give them back."""

    settings: Settings
    redis: RedisConnection
    driver: Parts
    around: Surroundings
    on_close: tuple[Callable[[], None], ...] = ()

    def close(self) -> None:
        """Give everything back, the last made first; a second time it does nothing more."""
        self.driver.providers.close()
        self._give_back()

    async def aclose(self) -> None:
        """The same for a router of tasks, in their loop."""
        await self.driver.providers.aclose()
        # Threads are waited for; what belongs to this loop is closed on it.
        self.redis.leave_loop()
        await asyncio.to_thread(self._give_back)

    def _give_back(self) -> None:
        for give_back in reversed(self.on_close):
            give_back()
