"""The encrypted file: what it keeps, who may read it, and what happens when writing goes wrong."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from core.errors import (
    ConfigurationError,
    SecretDenied,
    SecretMalformed,
    SecretNotFound,
    SecretNotWritable,
)
from keys.secret_store import WritableStore, get_secret_store
from keys.secrets import sealed_file
from keys.secrets.file import FileSecretStore
from keys.secrets.sealed_file import new_key
from tests.conftest import MakeSettings
from tests.keys.fakes import fake_secret, spec
from tests.keys.secrets.stores import local_variables

ROOT = Path(__file__).parents[3]
KEY_IDS = st.text("abcABC012._:/@+-", min_size=1, max_size=12).map(lambda text: f"k{text}")
SECRETS = st.text(st.characters(min_codepoint=35, max_codepoint=126, exclude_characters="'"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secrets.enc"


@pytest.fixture
def make_store(settings: MakeSettings, path: Path) -> Callable[..., FileSecretStore]:
    mine = new_key().get_secret_value()

    def make(key: str = mine, **values: Any) -> FileSecretStore:
        chosen = {"secret_store_type": "file", "secrets_file": path, "llm_encryption_key": key}
        store = get_secret_store(settings(**{**chosen, **values}))
        assert isinstance(store, FileSecretStore)
        return store

    return make


@pytest.fixture
def store(make_store: Callable[..., FileSecretStore]) -> FileSecretStore:
    return make_store()


def keep(store: FileSecretStore, key_id: str, secret: str) -> None:
    store.put(spec(key_id), SecretStr(secret))


def read(store: FileSecretStore, key_id: str) -> str:
    return store.fetch(spec(key_id)).get_secret_value()


def test_what_was_kept_is_read_and_nothing_of_it_stands_in_the_file(
    store: FileSecretStore, path: Path
) -> None:
    secret = fake_secret()
    keep(store, "a", f" {secret}\n")
    keep(store, "b", "another-secret-1")
    assert (read(store, "a"), read(store, "b")) == (secret, "another-secret-1")
    keep(store, "a", "newer-secret-2")
    assert read(store, "a") == "newer-secret-2"
    assert list(store.names()) == ["a", "b"]
    assert b"secret" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store.remove("a")
    with pytest.raises(SecretNotFound, match="python -m keys secret set a"):
        read(store, "a")
    with pytest.raises(SecretNotFound):
        store.remove("a")
    assert isinstance(store, WritableStore)


@given(kept=st.dictionaries(KEY_IDS, SECRETS.filter(lambda text: len(text) > 3), max_size=5))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_secret_comes_back_as_it_was(
    make_store: Callable[..., FileSecretStore], path: Path, kept: dict[str, str]
) -> None:
    path.unlink(missing_ok=True)
    store, written = make_store(), {}
    for key_id, secret in kept.items():
        try:
            keep(store, key_id, secret)
        except SecretMalformed:
            continue  # a placeholder
        written[key_id] = secret
    assert {key_id: read(store, key_id) for key_id in written} == written


def test_what_can_be_no_secret_is_not_kept(store: FileSecretStore, path: Path) -> None:
    secret = fake_secret()
    for value in ("", "changeme", f"{secret} b"):
        with pytest.raises(SecretMalformed, match="what was given") as caught:
            store.put(spec("a"), SecretStr(value))
        assert secret not in local_variables(caught.value)
    assert not path.exists()


def test_no_file_yet(store: FileSecretStore) -> None:
    with pytest.raises(SecretNotFound, match="make it with: python -m keys secret set"):
        read(store, "a")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o610])
def test_a_file_that_others_may_read_or_write_is_refused(
    store: FileSecretStore, path: Path, mode: int
) -> None:
    keep(store, "a", "some-secret-1")
    path.chmod(mode)
    for use in (lambda: read(store, "a"), lambda: keep(store, "b", "x-secret"), store.reencrypt):
        with pytest.raises(SecretDenied, match=rf"mode is {mode:04o}.*chmod 600") as caught:
            use()
    assert "some-secret-1" not in str(caught.value)
    path.chmod(0o400)
    assert read(store, "a") == "some-secret-1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(
    store: FileSecretStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, "a", "some-secret-1")
    os.chown(path, 12345, -1)
    with pytest.raises(SecretDenied, match="belongs to another user"):
        read(store, "a")


def test_a_file_that_was_changed_is_refused(store: FileSecretStore, path: Path) -> None:
    keep(store, "a", "some-secret-1")
    sealed = path.read_bytes()
    for spoiled in (b"", sealed[:-5], sealed[:40] + b"A" + sealed[41:], b"{}", os.urandom(200)):
        path.write_bytes(spoiled)
        with pytest.raises(SecretMalformed, match="cannot be decrypted"):
            read(store, "a")
        with pytest.raises(SecretMalformed):
            keep(store, "b", "other-secret-2")
        assert path.read_bytes() == spoiled, "what cannot be read is left alone"


@pytest.mark.parametrize("text", ["[]", "no json", '{"version": 2}', '{"version": 1}', "null"])
def test_another_content_under_the_right_key_is_refused(
    make_store: Callable[..., FileSecretStore], path: Path, text: str
) -> None:
    key = Fernet.generate_key()
    path.touch(0o600)
    path.write_bytes(Fernet(key).encrypt(text.encode()))
    with pytest.raises(SecretMalformed, match="something else than secrets of version 1"):
        read(make_store(key.decode()), "a")


class TestEncryptionKeys:
    def test_they_are_rotated_while_old_and_new_programs_run(
        self, make_store: Callable[..., FileSecretStore], path: Path
    ) -> None:
        old, new = (new_key().get_secret_value() for _ in range(2))
        keep(make_store(old), "a", "some-secret-1")
        both = make_store(f"{new}, {old}")
        assert read(both, "a") == "some-secret-1"
        assert read(make_store(old), "a") == "some-secret-1", "nothing was written yet"
        before = path.read_bytes()
        assert both.reencrypt() == 1
        assert path.read_bytes() != before
        assert read(make_store(new), "a") == "some-secret-1"
        assert read(make_store(f"{old},{new}"), "a") == "some-secret-1"
        with pytest.raises(SecretMalformed):
            read(make_store(old), "a")

    @pytest.mark.parametrize("keys", ["short", "ä" * 44, "A" * 43, " , ", "{good},short"])
    def test_a_wrong_one_is_refused_and_not_shown(
        self, make_store: Callable[..., FileSecretStore], keys: str
    ) -> None:
        good = new_key().get_secret_value()
        with pytest.raises(ConfigurationError, match="python -m keys secret new-key") as caught:
            make_store(keys.format(good=good))
        assert good not in str(caught.value)
        assert "short" not in str(caught.value)

    def test_it_is_needed(self, make_store: Callable[..., FileSecretStore]) -> None:
        with pytest.raises(ConfigurationError, match="LLM_ENCRYPTION_KEY is not set"):
            make_store(llm_encryption_key=None)


class TestWriting:
    def test_a_full_disk_leaves_the_old_file(
        self, store: FileSecretStore, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(store, "a", "some-secret-1")

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(SecretNotWritable, match="No space left on device; what it held is"):
            keep(store, "b", "other-secret-2")
        assert list(store.names()) == ["a"]
        assert sorted(os.listdir(path.parent)) == [".secrets.enc.lock", "secrets.enc"]

    def test_a_disk_that_takes_half_of_it_leaves_the_old_file(
        self, store: FileSecretStore, path: Path
    ) -> None:
        keep(store, "a", "some-secret-1")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        try:
            with pytest.raises(SecretNotWritable, match="File too large"):
                keep(store, "b", "other-secret-2")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert list(store.names()) == ["a"]
        assert sorted(os.listdir(path.parent)) == [".secrets.enc.lock", "secrets.enc"]

    def test_a_folder_that_is_not_there_is_told(
        self, make_store: Callable[..., FileSecretStore], tmp_path: Path
    ) -> None:
        with pytest.raises(SecretNotWritable, match="No such file or directory"):
            keep(make_store(secrets_file=tmp_path / "no" / "s.enc"), "a", "some-secret-1")

    def test_a_link_stays_a_link(
        self, make_store: Callable[..., FileSecretStore], path: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real" / "s.enc")
        store = make_store()
        keep(store, "a", "some-secret-1")
        keep(store, "b", "other-secret-2")
        assert path.is_symlink()
        assert list(store.names()) == ["a", "b"]

    def test_a_writer_that_does_not_let_go_is_not_waited_for_for_ever(
        self, store: FileSecretStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keep(store, "a", "some-secret-1")
        monkeypatch.setattr(sealed_file, "LOCK_SECONDS", 0.1)
        with (
            store._file.locked(),
            pytest.raises(SecretNotWritable, match=r"another writer has held .*\.lock"),
        ):
            keep(store, "b", "other-secret-2")
        keep(store, "b", "other-secret-2")

    def test_processes_that_write_at_once_lose_nothing(
        self, store: FileSecretStore, make_store: Callable[..., FileSecretStore], path: Path
    ) -> None:
        key = new_key().get_secret_value()
        code = (
            "import sys\n"
            "from pydantic import SecretStr\n"
            "from core.settings import Settings\n"
            "from keys.secrets.file import FileSecretStore\n"
            "from keys.spec import KeySpec\n"
            "store = FileSecretStore(Settings(_env_file=None))\n"
            "for n in range(20):\n"
            "    name = f'{sys.argv[1]}-{n}'\n"
            "    key = KeySpec(key_id=name, model_name='m', provider='openai')\n"
            "    store.put(key, SecretStr(f'secret-{name}'))\n"
        )
        environment = {**os.environ, "SECRETS_FILE": str(path), "LLM_ENCRYPTION_KEY": key}
        writers = [
            subprocess.Popen([sys.executable, "-c", code, f"w{n}"], cwd=ROOT, env=environment)
            for n in range(4)
        ]
        assert [writer.wait(60) for writer in writers] == [0] * 4
        names = make_store(key).names()
        assert set(names) == {f"w{w}-{n}" for w in range(4) for n in range(20)}

    def test_a_writer_that_is_killed_leaves_a_whole_file_and_no_lock(
        self, make_store: Callable[..., FileSecretStore], path: Path
    ) -> None:
        key = new_key().get_secret_value()
        code = (
            "import itertools\n"
            "from pydantic import SecretStr\n"
            "from core.settings import Settings\n"
            "from keys.secrets.file import FileSecretStore\n"
            "from keys.spec import KeySpec\n"
            "store = FileSecretStore(Settings(_env_file=None))\n"
            "key = KeySpec(key_id='a', model_name='m', provider='openai')\n"
            "for n in itertools.count():\n"
            "    store.put(key, SecretStr(f'secret-{n}'))\n"
            "    print(n, flush=True)\n"
        )
        environment = {**os.environ, "SECRETS_FILE": str(path), "LLM_ENCRYPTION_KEY": key}
        store = make_store(key)
        for pause in (0.0, 0.003, 0.007):
            writer = subprocess.Popen(
                [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE
            )
            assert writer.stdout is not None
            writer.stdout.readline()
            time.sleep(pause)
            writer.kill()
            writer.wait()
            writer.stdout.close()
            assert read(store, "a").startswith("secret-")
            keep(store, "b", "other-secret-2")


def test_what_is_printed_shows_nothing(store: FileSecretStore) -> None:
    secret = fake_secret()
    keep(store, "a", secret)
    shown = f"{store} {vars(store)} {vars(store._file)} {store.fetch(spec('a'))!r}"
    assert secret not in shown
    for key in store._file._keys:
        assert key.get_secret_value() not in shown
