"""The examples of docs/requests.md run, one after the other, as they stand."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.routers import MakeRouter, key
from tools.simulated_provider import SimulatedProvider

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


def test_the_examples_run(
    make_router: MakeRouter,
    simulator: SimulatedProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    blocks = BLOCK.findall((ROOT / "docs" / "requests.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 6
    (tmp_path / "cat.png").write_bytes(base64.b64decode("iVBORw0KGgo="))
    monkeypatch.chdir(tmp_path)
    router = make_router(
        keys=[key("a"), key("g", "gemini"), key("e", model_name="text-embedding-3-small")]
    )
    names: dict[str, Any] = {"router": router}
    for block in blocks:
        exec(compile(block, "docs/requests.md", "exec"), names)
        assert names["reply"]["success"], (block, names["reply"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert "celsius" in printed[1]
    assert printed[3].startswith("3 ")
