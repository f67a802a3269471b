from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.constellations import Cluster
from tests.integration.routers import events, make_router, sdks, simulator
from tests.servers import PlainServer

__all__ = ["events", "make_router", "sdks", "simulator", "until_slot_is_back"]


@contextmanager
def until_slot_is_back(cluster: Cluster, slot: int) -> Iterator[PlainServer]:
    """Another master than the slot's; whatever is moved there is moved back at the end."""
    home = cluster.master_of(slot)
    yield next(server for server in cluster.masters if server is not home)
    if cluster.master_of(slot) is not home:
        cluster.move(slot, home)
