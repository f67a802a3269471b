"""A local HTTP server that behaves like OpenAI, Anthropic and Gemini: limits, errors and faults.

Run it with `python -m tools.simulated_provider`, or from Python:

    with SimulatedProvider(SimulationSettings(window_seconds=2)) as provider:
        provider.configure_key("key-1", name="first", rpm=60, tpm=10_000)
        client = openai.OpenAI(api_key="key-1", base_url=provider.openai_base_url)
        provider.add_fault("server_error", times=1)
        print(provider.report())

`SimulatedProvider` serves from a thread, `SimulatedProviderProcess` from a subprocess.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from tools.simulation.accounts import KeyReport, LimitReport, Report
from tools.simulation.client import SimulationClient
from tools.simulation.errors import describe
from tools.simulation.faults import Fault
from tools.simulation.inprocess import SimulatedProvider
from tools.simulation.latency import FORMS
from tools.simulation.limits import Kind
from tools.simulation.process import SimulatedProviderProcess
from tools.simulation.server import serve_until
from tools.simulation.settings import LIMITS, KeySettings, SimulationSettings

__all__ = [
    "Fault",
    "KeyReport",
    "KeySettings",
    "LimitReport",
    "Report",
    "SimulatedProvider",
    "SimulatedProviderProcess",
    "SimulationClient",
    "SimulationSettings",
    "main",
]

_DESCRIPTION = """\
Serve a simulation of the OpenAI, Anthropic and Gemini APIs on one port.
The real SDKs work against it: give them its address as their base URL.
Any API key is taken; keys that are not configured get the limits of --limit.
"""

_EXAMPLES = f"""\
examples:
  60 requests and 10,000 tokens a minute for every key:
      python -m tools.simulated_provider --port 8080 --limit rpm=60 --limit tpm=10000

  a "minute" of two seconds, so that limits recover while you watch:
      python -m tools.simulated_provider --port 8080 --window-seconds 2 --limit rpm=5

  keys with limits of their own, from a file:
      python -m tools.simulated_provider --config sim.json
      sim.json:  {{"window_seconds": 10, "latency": "lognormal:0.3:0.5",
                  "keys": [{{"secret": "key-1", "name": "first", "rpm": 60, "tpm": 10000}}],
                  "faults": [{{"kind": "overloaded_error", "probability": 0.05}}]}}

  while it runs:
      curl -X POST http://127.0.0.1:8080/_sim/faults -d '{{"kind": "server_error", "times": 3}}'
      curl -X POST http://127.0.0.1:8080/_sim/revoke -d '{{"key": "key-1"}}'
      curl http://127.0.0.1:8080/_sim/report

base URLs:   OpenAI http://HOST:PORT/v1    Anthropic and Gemini http://HOST:PORT
limits:      {", ".join(LIMITS)}
latency:     {FORMS} (seconds)
faults:      latency, hang, drop, drop_midway, stall, garbage, empty, html, flap,
             and every error of --list-errors
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line until it is told to stop; returns the exit status."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.list_errors:
        print(describe())
        return 0
    try:
        settings = _settings(given)
    except (OSError, ValueError, TypeError) as error:
        parser.error(str(error))
    try:
        asyncio.run(_serve(settings, given.announce, given.exit_with_parent))
    except OSError as error:
        print(f"cannot listen on {settings.host}:{settings.port}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.simulated_provider",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", metavar="FILE", help="JSON file, or JSON text, with any setting; options win")
    add("--host", help="address to listen on (default: 127.0.0.1)")
    add("--port", type=int, help="0 takes any free port (default: 0)")
    add("--kind", choices=get_args(Kind), help="how limits count (default: sliding)")
    add("--window-seconds", type=float, metavar="S", help='what "a minute" lasts (default: 60)')
    add("--day-seconds", type=float, metavar="S", help='what "a day" lasts (default: 86400)')
    add(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="a limit of every key that is not configured; may be repeated",
    )
    add("--count-refused", action="store_true", default=None, help="refused requests count too")
    add("--completion-tokens", type=int, metavar="N", help="length of answers (default: an echo)")
    add("--chars-per-token", type=float, metavar="N", help="the tokenizer (default: 4)")
    add("--latency", metavar="L", help="before each answer, in seconds or as below (default: 0)")
    add("--seed", type=int, help="of every random choice (default: 0)")
    add("--announce", action="store_true", help="print the address as one line of JSON")
    add(
        "--exit-with-parent",
        action="store_true",
        help="end when stdin does, so that a killed parent leaves nothing behind",
    )
    add("--list-errors", action="store_true", help="print every named error, then end")
    return parser


def _settings(given: argparse.Namespace) -> SimulationSettings:
    settings = SimulationSettings.load(given.config) if given.config else SimulationSettings()
    names = (
        "host", "port", "kind", "window_seconds", "day_seconds", "count_refused",
        "completion_tokens", "chars_per_token", "latency", "seed",
    )  # fmt: skip
    options = {name: value for name in names if (value := getattr(given, name)) is not None}
    limits: dict[str, int] = {}
    for text in given.limit:
        name, _, number = text.partition("=")
        if name not in LIMITS or not number.isdigit():
            raise ValueError(f"--limit {text!r} is not NAME=NUMBER with a name of {LIMITS}")
        limits[name] = int(number)
    if limits:
        options["default"] = KeySettings.from_mapping(limits)
    return replace(settings, **options)


async def _serve(settings: SimulationSettings, announce: bool, with_parent: bool) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def started(url: str) -> None:
        if announce:
            print(json.dumps({"url": url, "pid": os.getpid()}), flush=True)
        else:
            print(f"Simulating OpenAI ({url}/v1), Anthropic and Gemini ({url}).", flush=True)
            print(f"Report: {url}/_sim/report   Stop: Ctrl-C", flush=True)

    serving = serve_until(stop, settings, started)
    if not with_parent:
        await serving
        return
    threading.Thread(target=_await_end_of_stdin, args=(loop, stop), daemon=True).start()
    orphaned = loop.create_task(_await_new_parent(stop))
    try:
        await serving
    finally:
        orphaned.cancel()


def _await_end_of_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    # Not sys.stdin: a thread that holds its lock at exit would abort the interpreter.
    while os.read(0, 4096):
        pass
    loop.call_soon_threadsafe(stop.set)


async def _await_new_parent(stop: asyncio.Event) -> None:
    # Stdin stays open if the dead parent had forked: its other children hold the pipe too.
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(0.5)
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
