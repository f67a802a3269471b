from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.processes import kill, running, wait_for


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder of the test's own. When the test is over, nothing may run for it."""
    path = tmp_path / "data"
    yield path
    gone = wait_for(lambda: not running(path))
    left = running(path)
    for pid in left:
        kill(pid)
    assert gone, f"processes were left behind: {left}"
