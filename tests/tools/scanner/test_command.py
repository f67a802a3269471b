"""The command line: its two calls, its exit codes, and what it never prints."""

from __future__ import annotations

import csv
import io
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.tools.scanner.conftest import ROOT, SCRIPT, script
from tests.tools.scanner.credentials import KINDS, Fake
from tools.scanner import cli
from tools.scanner.reports import FORMATS

Run = Callable[..., int]


def test_the_script_stands_alone(tmp_path: Path, secret: str) -> None:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "a.env").write_text(f"KEY={secret}\n")
    done = script("artifacts/", "--fail-on-found", cwd=tmp_path)
    assert done.returncode == 1
    assert b"artifacts/a.env:1:5" in done.stdout
    assert secret.encode() not in done.stdout + done.stderr


def test_a_log_into_a_report(tmp_path: Path, secret: str) -> None:
    (tmp_path / "test.log").write_text(f"key={secret}\n")
    done = script("test.log", "--output", "report.json", cwd=tmp_path)
    assert done.returncode == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert [f["rule"] for f in report["findings"]] == ["anthropic-api-key"]
    assert secret.encode() not in (tmp_path / "report.json").read_bytes() + done.stderr


def test_copied_elsewhere_it_still_runs(tmp_path: Path, secret: str) -> None:
    package = tmp_path / "ci"
    subprocess.run(["cp", "-r", ROOT / "tools" / "scanner", SCRIPT, tmp_path], check=True)
    package.mkdir()
    command = ["python3", "-I", tmp_path / "secret_scanner.py", "-"]
    done = subprocess.run(
        command, input=secret.encode(), capture_output=True, cwd=package, check=True
    )
    assert b"(stdin):1:1" in done.stdout


def test_exit_codes(run: Run, tmp_path: Path, secret: str) -> None:
    (tmp_path / "clean.txt").write_text("nothing\n")
    (tmp_path / "a.env").write_text(f"KEY={secret}\n")
    assert run("clean.txt", "--fail-on-found") == 0
    assert run("a.env") == 0
    assert run("a.env", "--fail-on-found") == 1
    assert run("a.env", "--exit-code", "7") == 7
    assert run("missing.txt") == 2
    assert run("missing.txt", "--fail-on-found") == 2
    assert run("clean.txt", "-o", "no/such/folder/report.json") == 2
    assert run(".", "--disable-rule", "no-such-rule") == 2
    assert run(".", "--staged") == 2
    for wrong in (["--no-such-option"], ["--exit-code", "256"], ["--exit-code", "-1"], ["-j", "x"],
                  ["--min-confidence", "x"], ["--max-target-megabytes", "-1"]):  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            run("a.env", *wrong)
        assert stopped.value.code == 2


def test_a_report_goes_through_pipes_and_links_and_replaces_neither(
    tmp_path: Path, secret: str
) -> None:
    (tmp_path / "a.env").write_text(f"KEY={secret}\n")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert script("a.env", "-o", "pipe", "-f", "json", cwd=tmp_path).returncode == 0
        assert json.loads(os.read(reader, 2**16))["summary"]["found"] == 1
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    (tmp_path / "link.csv").symlink_to("real.csv")
    assert script("a.env", "-o", "link.csv", cwd=tmp_path).returncode == 0
    assert (tmp_path / "link.csv").is_symlink()
    assert "a.env" in (tmp_path / "real.csv").read_text()


@pytest.mark.parametrize("arguments", [["--list-rules"], ["a.env"]])
def test_who_reads_the_output_may_close_it(
    tmp_path: Path, secret: str, arguments: list[str]
) -> None:
    (tmp_path / "a.env").write_text(f"KEY={secret}\n")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            ["python3", SCRIPT, *arguments], stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path,
            check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (2, b"")


def test_a_mistake_of_its_own_is_no_finding_and_shows_nothing(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    secret: str,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(secret)

    monkeypatch.setattr(cli, "scan_paths", fail)
    assert run(".", "--fail-on-found") == 2
    shown = capsys.readouterr()
    assert "RuntimeError at test_command.py:" in shown.err
    assert secret not in shown.out + shown.err


def test_an_incomplete_scan_is_never_clean(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 damaged")
    assert run(".", "-f", "json", "--fail-on-found") == 2
    report = json.loads(capsys.readouterr().out)
    assert report["complete"] is False
    assert report["errors"][0]["path"] == "a.zip"


def test_a_report_is_written_whole_or_not_at_all(run: Run, tmp_path: Path, secret: str) -> None:
    (tmp_path / "a.env").write_text(f"KEY={secret}\n")
    (tmp_path / "report.json").mkdir()
    assert run("a.env", "-o", "report.json") == 2
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_no_format_prints_a_secret(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake: Fake, format: str
) -> None:
    secrets = [kind.make(fake) for kind in KINDS]
    lines = [
        f'{k.variable}_{n} = "{s}"' for n, (k, s) in enumerate(zip(KINDS, secrets, strict=True))
    ]
    (tmp_path / "all.py").write_text("\n".join(lines))
    anthropic = next(s for s in secrets if s.startswith("sk-ant"))
    (tmp_path / f"{anthropic}.txt").write_text(" ".join(secrets[:20]))
    (tmp_path / f"x{anthropic}.zip").write_bytes(b"PK\x03\x04")
    run(".", "-f", format, "--min-confidence", "0")
    shown = capsys.readouterr()
    text = shown.out + shown.err
    for secret in secrets:
        for start in range(24, max(25, len(secret) - 12), 6):
            part = secret[start : start + 12]
            assert len(part) < 12 or part not in text
    assert anthropic[13:] not in text


def test_formats_can_be_read(run: Run, tmp_path: Path, secret: str) -> None:
    (tmp_path / "a.env").write_text(f"=KEY={secret}\n")
    for name in ("r.csv", "r.xml", "r.txt"):
        assert run("a.env", "missing", "-o", name) == 2
    rows = list(csv.DictReader(io.StringIO((tmp_path / "r.csv").read_text())))
    assert [row["rule"] for row in rows] == ["anthropic-api-key", "error"]
    tree = ElementTree.parse(tmp_path / "r.xml").getroot()
    assert (tree.get("failures"), tree.get("errors")) == ("1", "1")
    assert "NOT SCANNED" in (tmp_path / "r.txt").read_text()


def test_rules_can_be_chosen(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake: Fake, secret: str
) -> None:
    (tmp_path / "a.env").write_text(f"KEY={secret}\nDB_PASSWORD={fake.alnum(14)}9x!\n")
    for chosen, rules in (
        (["--enable-rule", "password"], {"password"}),
        (["--disable-rule", "password"], {"anthropic-api-key"}),
        (["--min-confidence", "0.9"], {"anthropic-api-key"}),
    ):
        run("a.env", "-f", "json", *chosen)
        assert {f["rule"] for f in json.loads(capsys.readouterr().out)["findings"]} == rules


@pytest.mark.parametrize(
    "comment", ["secret-scanner:allow", "gitleaks:allow", "pragma: allowlist secret"]
)
def test_a_line_can_be_allowed_and_hides_no_other(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], secret: str, comment: str
) -> None:
    (tmp_path / "a.py").write_text(f"A = '{secret}'  # {comment}\nB = '{secret[:-3]}xAA'\n")
    run("a.py", "-f", "json")
    report = json.loads(capsys.readouterr().out)
    assert [f["line"] for f in report["findings"]] == [2]
    assert report["summary"]["allowed"] == 1


def test_a_baseline_and_a_report_in_one_run(run: Run, tmp_path: Path, secret: str) -> None:
    (tmp_path / "a.env").write_text(f"KEY={secret}\n")
    assert (
        run("a.env", "-b", "known.json", "--write-baseline", "-o", "r.json", "--exit-code", "7")
        == 0
    )
    report = json.loads((tmp_path / "r.json").read_text())
    assert [f["rule"] for f in report["findings"]] == ["anthropic-api-key"]
    assert run("a.env", "-b", "known.json", "--fail-on-found") == 0


def test_without_a_path_it_says_that_it_scans_all_below(tmp_path: Path, secret: str) -> None:
    """Also what Git ignores: artifacts are often ignored, and published all the same."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("dist/\n")
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "a.js").write_text(f"key = '{secret}'\n")
    done = script("--fail-on-found", cwd=tmp_path)
    assert done.returncode == 1
    assert b"dist/a.js:1:8" in done.stdout
    assert b"below the current folder, also those that Git ignores" in done.stderr
    for quiet in (["."], ["--no-banner"]):
        done = script("--fail-on-found", *quiet, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (1, b"")


def test_help_teaches(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    for word in ("git --staged", "exit codes", "--write-baseline", "secret-scanner:allow"):
        assert word in text


def test_this_repository_holds_no_secret() -> None:
    folders = ["core", "lua", "keys", "conversation", "llm", "observability", "tools", "tests",
               "benchmarks", "docs", "README.md", ".env.example", "pyproject.toml"]  # fmt: skip
    done = script(*folders, "--fail-on-found", "--no-banner", cwd=ROOT)
    assert done.returncode == 0, done.stdout.decode()
