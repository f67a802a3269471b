"""The demo from end to end, smaller than usual: what it says is true, and it leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import ROOT

SIZE = ("--requests", "60", "--threads", "3", "--window", "3")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """What the demo must not use or touch: a Redis, keys and settings that would break it."""
    (tmp_path / ".env").write_text("REDIS_URL=redis://127.0.0.1:1/0\nLLM_MAX_RETRIES=many\n")
    (tmp_path / "tmp").mkdir()
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "REDIS_TIMEOUT_SECONDS": "never",
        "LLM_MULTI_KEY_ROUTER_ENABLED": "false",
        "API_KEY_OPENAI_1": "of-the-user",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }


def start(folder: Path, environment: dict[str, str], *size: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "llm", "demo", *size],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_behind(folder: Path) -> list[str]:
    """The processes that were started with this folder as their home."""
    mark = f"HOME={folder}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes() + b"\0":
                found.append((process / "cmdline").read_text())
        except OSError:  # it has just ended, or is somebody else's
            continue
    return found


def assert_gone(folder: Path) -> None:
    deadline = time.monotonic() + 2
    while left_behind(folder) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left_behind(folder) == []
    assert list((folder / "tmp").iterdir()) == []


def row(output: str, name: str) -> str:
    (value,) = re.findall(rf"^{name} +(\S+)", output, re.MULTILINE)
    return str(value)


def test_the_demo(tmp_path: Path, environment: dict[str, str]) -> None:
    began = time.monotonic()
    demo = start(tmp_path, environment, *SIZE)
    output, errors = demo.communicate(timeout=60)
    assert demo.returncode == 0, output + errors
    assert time.monotonic() - began < 90, "bounded, even on a busy machine"
    assert errors == ""
    assert "\x1b" not in output
    for event in ("openai-2 is revoked", "gemini fails", "gemini answers again"):
        assert event in output
    assert row(output, "sent") == "60"
    assert row(output, "answered") == "60"
    # 25 ms from a reservation to the provider is what so short a window allows for: a machine that
    # runs other tests beside may stall for longer, once.
    assert int(row(output, "refused by a provider")) <= 1
    assert row(output, "beyond a limit") == "0"
    assert float(row(output, "quota used").rstrip("%")) > 80
    assert "You sent 5 message(s)" in output
    speakers = re.findall(r"^(\S+) +You sent", output, re.MULTILINE)
    assert len(set(speakers)) == 3
    assert all(len(line.rstrip()) <= 80 for line in output.splitlines())
    assert_gone(tmp_path)


@pytest.mark.parametrize(("how", "when"), [(signal.SIGTERM, "loading"), (signal.SIGINT, "ready")])
def test_the_demo_can_be_stopped(
    tmp_path: Path, environment: dict[str, str], how: signal.Signals, when: str
) -> None:
    demo = start(tmp_path, environment, *SIZE)
    assert demo.stdout is not None
    while when not in (line := demo.stdout.readline()):
        assert line, demo.communicate()[1]
    demo.send_signal(how)
    output, errors = demo.communicate(timeout=20)
    assert demo.returncode == 130, output + errors
    assert errors == ""
    assert "stopped" in output
    assert_gone(tmp_path)
