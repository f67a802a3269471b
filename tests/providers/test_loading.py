"""The SDKs are imported beside the event loop, which goes on meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from llm.providers.loading import Loading
from tests.providers.dialects import Dialect
from tools.simulated_provider import SimulatedProvider

WAITS_FOR_THE_LOOP = """
import builtins
if not builtins.loop_turned.wait(5):
    raise ImportError("the loop stood still")
"""


def test_the_loop_goes_on_while_a_module_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins
    import threading

    turned = threading.Event()
    monkeypatch.setattr(builtins, "loop_turned", turned, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_sdk_one.py").write_text(WAITS_FOR_THE_LOOP)

    async def ticks() -> None:
        for _ in range(20):
            await asyncio.sleep(0.001)
        turned.set()

    async def run() -> None:
        loading = Loading("slow_sdk_one")
        ticking = asyncio.create_task(ticks())
        waiting = [asyncio.create_task(loading.done()) for _ in range(50)]
        await asyncio.sleep(0)
        waiting[0].cancel()  # takes the import from nobody
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError)
        assert done[1:] == [None] * 49
        await ticking

    asyncio.run(run())


def test_an_import_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "slow_sdk_two.py"
    module.write_text("raise ImportError('half installed')")
    loading = Loading("slow_sdk_two")
    with pytest.raises(ImportError, match="half installed"):
        asyncio.run(loading.done())
    module.write_text("whole = 1")
    module.touch()
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        asyncio.run(loading.done())
    finally:
        sys.dont_write_bytecode = before
    assert sys.modules["slow_sdk_two"].whole == 1


SEND = """
import asyncio, importlib, sys, threading

on_the_loop = []

def audit(event, args):
    if event == "import" and threading.current_thread() is threading.main_thread() and watching:
        on_the_loop.append(args[0])

watching = False
sys.addaudithook(audit)

from pydantic import SecretStr
from core.types import Message
from llm.providers.base import ProviderCall

module, name, model, base_url, secret = sys.argv[1:]
adapter = getattr(importlib.import_module(module), name)()
call = ProviderCall(
    provider="p", key_id="k", secret=SecretStr(secret), model=model,
    messages=(Message("user", "Hello"),), system_prompt=None, max_output_tokens=50,
    temperature=None, timeout=30.0, base_url=base_url,
)

async def run():
    global watching
    watching = True
    reply = await adapter.asend(call)
    watching = False
    await adapter.aclose()
    return reply

assert asyncio.run(run()).content
sdks = ("openai", "anthropic", "google.genai", "httpx2", "aiohttp")
print(" ".join(name for name in on_the_loop if name.startswith(sdks)))
"""


def test_a_first_request_imports_nothing_of_the_sdk_on_the_loop(dialect: Dialect) -> None:
    kind = dialect.adapter
    with SimulatedProvider() as simulated:
        told = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SEND), kind.__module__, kind.__name__,
             MODELS[dialect.name], getattr(simulated, f"{dialect.name}_base_url"), "k" * 20],
            capture_output=True, text=True, timeout=90, check=False,
        )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert told.stdout.split() == []


MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-3-5-haiku", "gemini": "gemini-2.5-flash"}
