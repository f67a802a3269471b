"""`import llm.router` costs little: SDKs, stores and consoles are loaded when they are needed."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

LATER = (
    "openai", "anthropic", "google.genai", "tiktoken", "boto3", "hvac", "azure", "rich", "typer",
    "cryptography.fernet", "fakeredis", "structlog", "aiohttp", "httpx", "httpx2",
)  # fmt: skip

_TIMED = """
import json, sys, time
began = time.process_time()
import {module}
print(json.dumps([time.process_time() - began, sorted(sys.modules)]))
"""


def imported(module: str) -> tuple[float, list[str]]:
    """CPU seconds that an import takes in a fresh interpreter, and all modules that it loads."""
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(module=module)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    seconds, modules = json.loads(done.stdout)
    return seconds, modules


def test_importing_the_router_is_quick_and_loads_nothing_that_can_wait() -> None:
    runs = [imported("llm.router") for _ in range(5)]
    assert [name for name in (*LATER, "pydantic") if name in runs[0][1]] == []
    seconds = sorted(seconds for seconds, _ in runs)
    median = statistics.median(seconds)
    print(f"import llm.router: median {median:.3f} s of {seconds}")
    assert median < 1.5


def test_what_a_router_is_made_of_loads_nothing_that_can_wait() -> None:
    _, modules = imported("llm.factory, conversation.store, keys.secret_store")
    assert [name for name in LATER if name in modules] == []
