"""Files that hide what they hold, or that trap who reads them."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.tools.scanner.conftest import Found
from tests.tools.scanner.credentials import Fake
from tools.scanner.findings import Unread
from tools.scanner.progress import Progress
from tools.scanner.run import scan_paths
from tools.scanner.scanner import Scanner
from tools.scanner.texts import WINDOW


def zipped(name: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return out.getvalue()


def test_lines_and_columns_are_those_of_the_file(found: Found, secret: str) -> None:
    (finding,) = found(f"one\ntwo\n  key={secret}\n")
    assert (finding.line, finding.column) == (3, 7)


def test_a_secret_across_the_edge_of_a_window_is_found_once(found: Found, secret: str) -> None:
    for before in (WINDOW - 40, WINDOW, 2 * WINDOW - 33_000):
        text = b"." * (before - 1) + b"\n" + secret.encode() + b"\n" + b"." * WINDOW
        (finding,) = found(text)
        assert (finding.line, finding.column) == (2, 1)


def test_a_long_line_is_read_to_its_end(found: Found, secret: str) -> None:
    (finding,) = found("var a=1;" * 1_500_000 + f"k='{secret}'")
    assert finding.line == 1


def test_archives_in_archives_are_named_in_the_path(found: Found, secret: str) -> None:
    inner = zipped("app.env", f"KEY={secret}".encode())
    (finding,) = found(gzip.compress(zipped("b/inner.zip", inner)), "a.zip.gz")
    assert finding.path == "a.zip.gz!b/inner.zip!app.env"
    assert finding.layers == ("gzip", "zip", "zip")


def test_a_bomb_is_reported_and_passed_over(secret: str) -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * (70 * 2**20), 9), 9)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in (("bomb.gz", bomb), ("app.env", f"KEY={secret}".encode())):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    outcome = Scanner().scan_bytes(archive.getvalue(), "a.tar")
    assert any("bomb" in error.reason for error in outcome.errors)


def test_depth_is_bounded(secret: str) -> None:
    data = f"KEY={secret}".encode()
    for _ in range(4):
        data = zipped("x", data)
    shallow, deep = Scanner(archive_depth=2), Scanner(archive_depth=4)
    assert "max-archive-depth" in shallow.scan_bytes(data, "a.zip").errors[0].reason
    assert len(deep.scan_bytes(data, "a.zip").findings) == 1


def test_a_damaged_archive_is_an_error_and_what_came_before_counts(secret: str) -> None:
    noise = os.urandom(200_000)
    packed = gzip.compress(f"KEY={secret}\n".encode() + noise)
    outcome = Scanner().scan_bytes(packed[: len(packed) // 2], "a.gz")
    assert len(outcome.findings) == 1
    assert outcome.errors


def test_links_pipes_and_holes_are_no_traps(tmp_path: Path, secret: str) -> None:
    (tmp_path / "a.env").write_text(f"KEY={secret}\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "again.env").symlink_to(tmp_path / "a.env")
    os.link(tmp_path / "a.env", tmp_path / "same.env")
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(20 * 2**30)
        file.write(f"\nKEY={secret}\n".encode())
    outcome, scanned = scan_paths(Scanner(), [str(tmp_path)], 1, Progress(False))
    assert outcome.errors == []
    assert len(scanned) == 2
    assert len(outcome.findings) == 2


def test_what_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    missing, pipe = str(tmp_path / "missing"), str(tmp_path / "pipe")
    outcome, _ = scan_paths(Scanner(), [missing, pipe], 1, Progress(False))
    assert [type(error) for error in outcome.errors] == [Unread, Unread]


def test_a_file_over_the_limit_is_an_error(secret: str) -> None:
    outcome = Scanner(largest=1000).scan_bytes(b"x" * 2000, "big.txt")
    assert "larger" in outcome.errors[0].reason


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_find_the_same(tmp_path: Path, fake: Fake, secret: str, processes: int) -> None:
    for number in range(80):
        (tmp_path / f"{number}.env").write_text(f"KEY={secret}\n" if number % 2 else "nothing\n")
    outcome, _ = scan_paths(Scanner(), [str(tmp_path)], processes, Progress(False))
    assert len(outcome.findings) == 40
    assert outcome.files == 80


def test_a_scanner_goes_to_processes_that_share_nothing(secret: str) -> None:
    """Not every system makes processes as copies of the one that asks for them."""
    again: Scanner = pickle.loads(pickle.dumps(Scanner()))
    assert [f.secret for f in again.scan_bytes(secret.encode(), "a.txt").findings] == [secret]


def test_a_manifest_of_secrets_is_read_in_the_clear(found: Found) -> None:
    # "prod": nothing but the manifest says that it is secret.
    text = json.dumps({"kind": "Secret", "data": {"password": "cGFzc3dvcmQ="}})
    assert found(text) == []  # it says "password"


def test_the_name_of_a_file_may_be_a_secret(found: Found, secret: str) -> None:
    (finding,) = found("nothing", f"backup/{secret}.txt")
    assert finding.layers == ("path",)
