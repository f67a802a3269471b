"""Git: every version in history, what is staged, and failures that are no clean scan."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.scanner.test_files import zipped

Run = Callable[..., int]


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    def call(*arguments: str, folder: Path = tmp_path) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false",
                   "-C", str(folder), *arguments]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    call("init", "-q", "-b", "main")
    return call


@pytest.fixture
def report(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, list[dict[str, str]]]]:
    def scan(*arguments: str) -> dict[str, list[dict[str, str]]]:
        capsys.readouterr()
        run("git", "-f", "json", *arguments)
        read: dict[str, list[dict[str, str]]] = json.loads(capsys.readouterr().out)
        return read

    return scan


def commit(git: Callable[..., str], message: str) -> str:
    git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", message)
    return git("rev-parse", "HEAD")


def test_history_tells_where_a_secret_came_in(
    git: Callable[..., str],
    report: Callable[..., dict[str, list[dict[str, str]]]],
    tmp_path: Path,
    secret: str,
) -> None:
    file = tmp_path / "g\u00fc \u00e4.env"
    file.write_text("A=1\n")
    commit(git, "first")
    file.write_text(f"A=1\nKEY={secret}\n")
    leaked = commit(git, "second")
    file.write_text(f"A=2\nKEY={secret}\n")
    commit(git, "third")
    file.unlink()
    last = commit(git, "gone")
    (finding,) = report()["findings"]
    assert (finding["commit"], finding["path"], finding["line"]) == (leaked, file.name, 2)
    assert report("--log-opts", f"{leaked}..{last}")["findings"] != []
    assert report("--log-opts", f"-1 {last}")["findings"] == []


def test_history_reads_archives_merges_and_messages(
    git: Callable[..., str],
    report: Callable[..., dict[str, list[dict[str, str]]]],
    tmp_path: Path,
    secret: str,
) -> None:
    commit(git, "first")
    git("switch", "-q", "-c", "other")
    (tmp_path / "a.zip").write_bytes(zipped("x.env", f"KEY={secret}".encode()))
    commit(git, "an archive")
    git("switch", "-q", "main")
    commit(git, f"the key is {secret}")
    git("merge", "-q", "--no-ff", "other")
    (tmp_path / "evil.txt").write_text(secret[:-3] + "zAA")
    git("add", "-A")
    git("commit", "-q", "--amend", "--no-edit")
    paths = {f["path"] for f in report()["findings"]}
    assert paths == {"a.zip!x.env", "(commit message)", "evil.txt"}


def test_staged_is_what_the_commit_adds(
    run: Run,
    git: Callable[..., str],
    report: Callable[..., dict[str, list[dict[str, str]]]],
    tmp_path: Path,
    secret: str,
) -> None:
    file = tmp_path / "a.env"
    file.write_text(f"OLD={secret}\n")
    commit(git, "first")
    assert run("git", "--staged", "--fail-on-found") == 0
    file.write_text(f"X=1\nOLD={secret}\n")
    git("add", "-A")
    assert report("--staged")["findings"] == []
    file.write_text(f"OLD={secret}\nNEW={secret[:-3]}zAA\n")
    assert report("--staged")["findings"] == []  # not staged yet
    git("add", "-A")
    (finding,) = report("--staged")["findings"]
    assert finding["line"] == 2
    assert run("git", "--staged", "--fail-on-found") == 1


def test_a_failure_of_git_is_no_clean_scan(
    run: Run, git: Callable[..., str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    commit(git, "first")
    assert run("git", "--log-opts", "no-such-branch") == 2
    assert "no-such-branch" in capsys.readouterr().err
    (tmp_path / "no-repository").mkdir()
    assert run("git", "/") == 2
    assert "not a git repository" in capsys.readouterr().err
    assert run("git", "/", "--staged") == 2
    assert "not a git repository" in capsys.readouterr().err


def test_a_shallow_clone_is_incomplete(
    git: Callable[..., str], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(git, "first")
    commit(git, "second")
    git("clone", "-q", "--depth", "1", f"file://{tmp_path}", str(tmp_path / "shallow"))
    assert run("git", "shallow") == 2
    assert "shallow" in capsys.readouterr().out
    assert run("git", "shallow", "--log-opts=-1") == 0
