from __future__ import annotations

import pytest

from tests.integration.routers import TASKS, THREADS, events, make_router, sdks, simulator

__all__ = ["events", "make_router", "sdks", "simulator"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The tests of a module with `BOTH_ROUTERS = True` are the contract of both routers, but for
    those in its `OF_THREADS`."""
    if getattr(metafunc.module, "BOTH_ROUTERS", False) and "make_router" in metafunc.fixturenames:
        alone = metafunc.function.__name__ in getattr(metafunc.module, "OF_THREADS", ())
        kinds = [THREADS] if alone else [THREADS, TASKS]
        metafunc.parametrize("make_router", kinds, indirect=True)
