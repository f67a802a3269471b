"""The simulation as a process: its command line, its subprocess, and its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import openai
import pytest

from tools.simulated_provider import (
    KeySettings,
    SimulatedProviderProcess,
    SimulationSettings,
    main,
)
from tools.simulation.errors import TABLE

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "tools.simulated_provider"]

# Starts a simulation, says where it is, and waits for its own death; `fork` leaves a child that
# keeps the simulation's stdin open.
PARENT = """
import json, os, sys, time
from tools.simulated_provider import SimulatedProviderProcess
with SimulatedProviderProcess() as provider:
    child = os.fork() if sys.argv[1] == "fork" else 0
    if sys.argv[1] != "fork" or child:
        print(json.dumps({"url": provider.url, "pid": provider.pid, "child": child}), flush=True)
    time.sleep(60)
"""


def reachable(url: str) -> bool:
    try:
        with urlopen(url + "/_sim/health", timeout=1) as response:
            return bool(response.status == 200)
    except (URLError, ConnectionError):
        return False


def gone_within(seconds: float, url: str) -> bool:
    deadline = time.monotonic() + seconds
    while reachable(url):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def provider() -> Iterator[SimulatedProviderProcess]:
    settings = SimulationSettings(
        window_seconds=5, keys={"key-1": KeySettings(name="first", rpm=2)}
    )
    with SimulatedProviderProcess(settings) as running:
        yield running


def test_a_subprocess_takes_the_same_calls(provider: SimulatedProviderProcess) -> None:
    client = openai.OpenAI(api_key="key-1", base_url=provider.openai_base_url, max_retries=0)

    def ask() -> None:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello"}])

    ask()
    provider.add_fault("server_error", times=1)
    with pytest.raises(openai.InternalServerError):
        ask()
    ask()
    with pytest.raises(openai.RateLimitError):
        ask()
    report = provider.report(timestamps=True)["keys"]["first"]
    assert report["refused_by"] == {"server_error": 1, "rpm": 1}
    assert report["window_seconds"] == 5
    assert abs(report["accepted_at"][0][0] - time.time()) < 60
    provider.reset()
    provider.revoke("first")
    with pytest.raises(openai.AuthenticationError):
        ask()
    provider.clear_faults()
    assert provider.health() == {"status": "ok", "faults": []}


def test_secrets_are_not_on_the_command_line(provider: SimulatedProviderProcess) -> None:
    assert b"key-1" not in Path(f"/proc/{provider.pid}/cmdline").read_bytes()


def test_a_subprocess_ends_with_its_block() -> None:
    with SimulatedProviderProcess() as provider:
        url = provider.url
        assert reachable(url)
    assert not reachable(url)


def test_a_subprocess_that_cannot_start_says_so(
    provider: SimulatedProviderProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    port = int(provider.url.rpartition(":")[2])
    with pytest.raises(RuntimeError, match="did not start"):
        SimulatedProviderProcess(SimulationSettings(port=port)).__enter__()
    assert "cannot listen" in capfd.readouterr().err


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_killed_parent_leaves_nothing_behind(how: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert parent.stdout is not None
        told = json.loads(parent.stdout.readline())
        assert reachable(told["url"])
    finally:
        parent.kill()
        parent.wait()
        assert parent.stdout is not None
        parent.stdout.close()
    try:
        assert gone_within(10, told["url"])
    finally:
        if told["child"]:
            os.kill(told["child"], signal.SIGKILL)


def test_the_command_announces_itself_and_ends_on_a_signal() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--announce", "--limit", "rpm=1"], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["pid"] == process.pid
        assert reachable(told["url"])
        process.terminate()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_the_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for word in ("examples:", "--config", "--limit", "--exit-with-parent", "/_sim/report", "flap"):
        assert word in told


def test_all_errors_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-errors"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for rows in TABLE.values() for name in rows)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--limit", "rps=5"],
        ["--limit", "rpm=many"],
        ["--latency", "slow"],
        ["--kind", "leaky"],
        ["--config", "no-such-file.json"],
        ["--config", '{"windows": 3}'],
    ],
)
def test_wrong_options_are_explained(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(wrong)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_configuration_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sim.json"
    path.write_text(
        json.dumps(
            {
                "window_seconds": 2,
                "default": {"rpm": 5},
                "keys": [{"secret": "key-1", "name": "first", "rpm": 60, "kind": "bucket"}],
                "faults": [{"kind": "overloaded_error", "probability": 0.5}],
            }
        )
    )
    settings = SimulationSettings.load(str(path))
    assert settings.keys["key-1"].kind == "bucket"
    assert settings.default.rpm == 5
    assert settings.faults[0].kind == "overloaded_error"
