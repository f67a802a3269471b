"""Where the embedded server's data and socket are, whatever the machine looks like."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from pathlib import Path

import pytest

from core.embedded.folder import SOCKET_PATH_BYTES, data_folder, private_temp_folder, socket_path
from core.errors import ConfigurationError
from tests.core.processes import open_embedded

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def test_it_is_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert data_folder(None) == tmp_path / "xdg" / "llm-router"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert data_folder(None) == tmp_path / ".local" / "share" / "llm-router"
    assert stat.S_IMODE(data_folder(None).stat().st_mode) == 0o700


@pytest.mark.parametrize("home", ["/proc/nowhere", "a file", "missing"])
def test_without_a_usable_home_it_is_in_the_temp_folder(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", {"a file": str(tmp_path / "file"), "missing": ""}.get(home, home))
    monkeypatch.setattr("pathlib.Path.home", _no_home if home == "missing" else Path.home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert data_folder(None) == tmp_path / f"llm-router-{os.geteuid()}"


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@as_root
def test_a_home_of_another_user_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12_345, 12_345)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert data_folder(None).parent == tmp_path
    assert not list(home.iterdir())


def test_a_chosen_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="set LLM_DATA_DIR"):
        data_folder(tmp_path / "file" / "data")
    with pytest.raises(ConfigurationError, match="set LLM_DATA_DIR"):
        data_folder(tmp_path / "file")


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigurationError, match="chmod go-w"):
        data_folder(tmp_path)


@as_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    os.chown(tmp_path, 12_345, 12_345)
    with pytest.raises(ConfigurationError, match="belongs to another user"):
        data_folder(tmp_path)


def test_a_file_system_without_locks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(ConfigurationError, match="no file locks"):
        data_folder(tmp_path)


def test_the_temp_folder_is_private_and_no_link(tmp_path: Path) -> None:
    name = f"llm-router-{os.geteuid()}"
    (tmp_path / "loose" / name).mkdir(parents=True, mode=0o755)
    path = private_temp_folder(tmp_path / "loose")
    assert stat.S_IMODE(path.stat().st_mode) == 0o700

    (tmp_path / "link").mkdir()
    (tmp_path / "link" / name).symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="not a folder of yours"):
        private_temp_folder(tmp_path / "link")

    (tmp_path / "file").mkdir()
    (tmp_path / "file" / name).touch()
    with pytest.raises(ConfigurationError, match="not a folder of yours"):
        private_temp_folder(tmp_path / "file")


@as_root
def test_a_temp_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    path = private_temp_folder(tmp_path)
    os.chown(path, 12_345, 12_345)
    with pytest.raises(ConfigurationError, match="not a folder of yours"):
        private_temp_folder(tmp_path)


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / ("path" * 30)
    with open_embedded(folder) as connection, open_embedded(folder) as other:
        connection.call("SET", "name", "value")
        assert other.call("GET", "name") == "value"
        path = socket_path(folder)
        assert len(os.fsencode(path)) <= SOCKET_PATH_BYTES
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert (folder / "appendonlydir").exists()


@pytest.mark.parametrize(
    "name", ["with space", "qu'ote\"s", "back\\slash $x *", "ünï", "new\nline"]
)
def test_any_path_will_do(name: str, tmp_path: Path) -> None:
    with open_embedded(tmp_path / name) as connection:
        assert connection.call("SET", "name", "value") == "OK"


def test_a_link_to_the_folder_leads_to_the_same_server(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    with open_embedded(folder) as connection, open_embedded(tmp_path / "link") as other:
        connection.call("SET", "name", "value")
        assert other.call("GET", "name") == "value"


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "valkey.sock"))
    with open_embedded(folder) as connection:
        assert connection.call("PING") == "PONG"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_socket_is_never_removed(kind: str, folder: Path) -> None:
    folder.mkdir()
    path = folder / "valkey.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError, match="move it away"):
        open_embedded(folder)
    assert os.path.lexists(path)
