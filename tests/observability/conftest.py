from __future__ import annotations

from tests.integration.routers import events, make_router, sdks, simulator

__all__ = ["events", "make_router", "sdks", "simulator"]
