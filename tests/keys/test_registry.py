from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import events
from core.errors import ConfigurationError
from core.events import KeysLoaded, KeysRejected
from keys import registry as registry_module
from keys.registry import KeyRegistry, parse_keys, read_keys_file
from tests.keys.fakes import Clock, entry, fake_secret, spec, text_of


class Look:
    """A registry on a clock of its own: each call lets half a second pass and tells the ids."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.registry = KeyRegistry(path, clock=clock)
        self.clock = clock

    def __call__(self) -> list[str]:
        self.clock.now += 0.5
        return ids(self.registry)


def ids(registry: KeyRegistry) -> list[str]:
    keys = registry.keys()
    return [key.key_id for key in keys]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(text_of(entry("a")))
    return file


@pytest.fixture
def seen() -> Iterator[list[events.Event]]:
    found: list[events.Event] = []
    stop = events.subscribe(found.append)
    yield found
    stop()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def look(path: Path, clock: Clock) -> Look:
    return Look(path, clock)


def test_a_saved_edit_is_in_force_at_the_next_look(
    path: Path, look: Look, seen: list[events.Event]
) -> None:
    version = look.registry.version
    path.write_text(text_of(entry("a"), entry("b")))
    assert look() == ["a", "b"]
    assert look.registry.version == version + 1
    assert look.registry.get("b") == spec("b")
    assert seen == [KeysLoaded(str(path), 2)]


def test_on_the_real_clock_an_edit_is_in_force_within_two_seconds(path: Path) -> None:
    registry = KeyRegistry(path)
    path.write_text(text_of(entry("b")))
    started = time.monotonic()
    while ids(registry) != ["b"]:
        assert time.monotonic() - started < 2
        time.sleep(0.02)


def test_between_two_looks_the_file_is_not_touched(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = KeyRegistry(path, clock=clock)
    looks: list[Path] = []
    real = registry_module._signature

    def counted(path: Path) -> tuple[int, ...] | None:
        looks.append(path)
        return real(path)

    monkeypatch.setattr(registry_module, "_signature", counted)
    registry._settled = True
    for _ in range(100):
        registry.keys()
    assert looks == []
    for _ in range(3):
        clock.now += 0.5
        registry.keys()
        registry.keys()
    assert len(looks) == 3


def test_a_settled_file_is_looked_at_and_not_read(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(path, (time.time() - 60, time.time() - 60))
    registry = KeyRegistry(path, clock=clock)
    monkeypatch.setattr(registry_module, "read_keys_file", lambda *_, **__: pytest.fail("read"))
    clock.now += 5
    assert len(registry.keys()) == 1


def test_two_edits_in_one_tick_of_the_file_systems_clock_are_both_seen(
    path: Path, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Same inode, size and time stamps: what a file system with coarse times shows.
    frozen = registry_module._signature(path)
    assert frozen is not None
    now = (time.time_ns(), *frozen[1:])
    monkeypatch.setattr(registry_module, "_signature", lambda _: now)
    path.write_text(text_of(entry("b")))
    assert look() == ["b"]
    path.write_text(text_of(entry("c")))
    assert look() == ["c"]


def test_an_edit_that_keeps_size_and_modification_time_is_seen(path: Path, look: Look) -> None:
    old = time.time() - 60
    os.utime(path, (old, old))
    assert look() == ["a"]
    path.write_text(text_of(entry("b")))
    os.utime(path, (old, old))
    assert look() == ["b"]


def test_an_editor_that_saves_by_renaming_is_followed(path: Path, look: Look) -> None:
    other = path.with_suffix(".tmp")
    other.write_text(text_of(entry("b")))
    os.utime(other, ns=(path.stat().st_mtime_ns,) * 2)
    other.replace(path)
    assert look() == ["b"]


def test_a_swapped_symlink_is_followed(tmp_path: Path, clock: Clock) -> None:
    """As Kubernetes updates a ConfigMap: keys.json -> ..data/keys.json, ..data -> ..version."""
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys.json").write_text(text_of(entry(name)))
        os.utime(tmp_path / name / "keys.json", (1, 1))
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "keys.json").symlink_to("data/keys.json")
    registry = KeyRegistry(tmp_path / "keys.json", clock=clock)
    (tmp_path / "data2").symlink_to("v2")
    (tmp_path / "data2").replace(tmp_path / "data")
    clock.now += 0.5
    assert ids(registry) == ["v2"]


def test_a_bad_edit_changes_nothing_and_is_reported_once(
    path: Path, look: Look, seen: list[events.Event]
) -> None:
    version = look.registry.version
    path.write_text(text_of(entry("b", rpm=-5)))
    for _ in range(3):
        assert look() == ["a"]
    assert look.registry.version == version
    problem = look.registry.problem
    assert problem is not None
    assert "keys[0] 'b': rpm is -5; write a whole number of 1 or more" in problem
    assert seen == [KeysRejected(str(path), problem)]

    path.write_text(text_of(entry("b", rpm=-6)))
    look()
    assert len(seen) == 2

    path.write_text(text_of(entry("b", rpm=6)))
    assert look() == ["b"]
    assert look.registry.problem is None
    assert seen[2:] == [KeysLoaded(str(path), 1)]


def test_an_edit_that_is_undone_leaves_no_problem(path: Path, look: Look) -> None:
    good, version = path.read_text(), look.registry.version
    path.write_text("{")
    look()
    assert look.registry.problem is not None
    path.write_text(good)
    assert look() == ["a"]
    assert look.registry.problem is None
    assert look.registry.version == version


def test_a_new_layout_is_no_new_version(path: Path, look: Look) -> None:
    version = look.registry.version
    path.write_text(path.read_text().replace("\n", " "))
    assert look() == ["a"]
    assert look.registry.version == version


@pytest.mark.parametrize("state", ["missing", "empty", "half", "no keys"])
def test_the_moments_of_a_save_harm_nobody(path: Path, look: Look, state: str) -> None:
    good = path.read_text()
    if state == "missing":
        path.unlink()
    else:
        path.write_text({"empty": "", "half": good[: len(good) // 2]}.get(state, '{"keys": []}'))
    assert look() == ["a"]
    assert look.registry.problem is not None
    path.write_text(text_of(entry("b")))
    assert look() == ["b"]
    assert look.registry.problem is None


@pytest.mark.parametrize("text", [None, "", '{"keys": []}'])
def test_a_start_without_keys_names_both_ways(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "keys.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"python -m keys init.*keys_example\.json"):
        KeyRegistry(path)


def test_reload_tells_how_many_keys_there_are_or_raises(path: Path, look: Look) -> None:
    registry = look.registry
    path.write_text(text_of(entry("a"), entry("b")))
    assert registry.reload() == 2
    path.write_text("[]")
    with pytest.raises(ConfigurationError, match="around the keys"):
        registry.reload()
    with pytest.raises(ConfigurationError, match="around the keys"):
        registry.reload()
    assert len(registry.keys()) == 2


def test_added_keys_win_over_the_file_until_they_are_removed(path: Path, look: Look) -> None:
    registry = look.registry
    versions = [registry.version]
    registry.add(spec("a", rpm=7))
    registry.add(spec("z"))
    versions.append(registry.version)
    path.write_text(text_of(entry("b"), entry("a", rpm=1)))
    assert look() == ["b", "a", "z"]
    found = registry.get("a")
    assert found is not None
    assert found.rpm == 7
    versions.append(registry.version)

    assert registry.remove("a")
    assert look() == ["b", "z"]
    path.write_text(text_of(entry("a"), entry("c")))
    assert look() == ["c", "z"]
    registry.add(spec("a", rpm=9))
    assert look() == ["a", "c", "z"]
    assert not registry.remove("nobody")
    assert versions == sorted(set(versions))


def test_adding_the_same_key_again_is_no_new_version(look: Look) -> None:
    registry = look.registry
    registry.add(spec("z"))
    version = registry.version
    registry.add(spec("z"))
    assert registry.version == version


def test_a_key_that_clashes_cannot_be_added(look: Look) -> None:
    registry = look.registry
    with pytest.raises(ConfigurationError, match=r"key 'A': key_id leads to the same secret"):
        registry.add(spec("A"))
    assert look() == ["a"]


def test_an_edit_that_clashes_with_an_added_key_waits_for_its_removal(
    path: Path, look: Look
) -> None:
    registry = look.registry
    registry.add(spec("b-1"))
    path.write_text(text_of(entry("b_1")))
    assert look() == ["a", "b-1"]
    assert "leads to the same secret" in str(registry.problem)
    registry.remove("b-1")
    assert look() == ["b_1"]
    assert registry.problem is None


def test_a_subscriber_may_use_the_registry(path: Path, clock: Clock) -> None:
    registry = KeyRegistry(path, clock=clock)
    found: list[int] = []

    def use(_: events.Event) -> None:
        found.append(len(registry.keys()))
        registry.add(spec("z"))

    stop = events.subscribe(use)
    path.write_text(text_of(entry("a"), entry("b")))
    clock.now += 1
    registry.keys()
    stop()
    assert found == [2]
    assert len(registry.keys()) == 3


def test_readers_never_see_half_of_a_change(path: Path) -> None:
    sets = [[entry(f"k{n}-{i}", priority=n) for i in range(20)] for n in range(4)]
    path.write_text(text_of(*sets[0]))
    registry = KeyRegistry(path, check_interval=0.0)
    faults: list[str] = []
    done = threading.Event()

    def read() -> None:
        last = 0
        while not done.is_set():
            keys = registry.keys()
            if len({key.priority for key in keys}) != 1 or len(keys) != 20:
                faults.append("torn")
            if registry.version < last:
                faults.append("version went back")
            last = registry.version

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for round_ in range(16):
        other = path.with_suffix(".new")
        other.write_text(text_of(*sets[round_ % 4]))
        other.replace(path)
        if round_ % 5 == 0:
            registry.reload()
    done.set()
    for thread in threads:
        thread.join()
    registry.reload()
    assert faults == []
    assert registry.keys()[0].priority == 3


def test_only_one_thread_reads_and_nobody_waits_for_it(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = KeyRegistry(path, clock=clock)
    reading, go_on = threading.Event(), threading.Event()
    real = read_keys_file

    def slow(*args: object, **names: object) -> str:
        reading.set()
        assert go_on.wait(5)
        return real(*args, **names)  # type: ignore[arg-type]

    monkeypatch.setattr(registry_module, "read_keys_file", slow)
    path.write_text(text_of(entry("b")))
    clock.now += 1
    first = threading.Thread(target=registry.keys)
    first.start()
    assert reading.wait(5)
    clock.now += 1
    assert ids(registry) == ["a"]
    go_on.set()
    first.join()
    assert ids(registry) == ["b"]


def test_a_folder_of_the_process_that_changes_moves_no_file(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    registry = KeyRegistry(Path("keys.json"), clock=clock)
    path.write_text(text_of(entry("b")))
    monkeypatch.chdir("/")
    clock.now += 1
    assert ids(registry) == ["b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (text_of(entry()).encode("utf-16"), "is in UTF-16 or binary; save it as UTF-8"),
        (text_of(entry()).encode("utf-16-le"), "is in UTF-16 or binary; save it as UTF-8"),
        (b'{"keys":\n["\xff"]}', "keys.json:2: this line is not in UTF-8; save the file as UTF-8"),
        ("{\n\n'é'".encode("latin-1"), "keys.json:3: this line is not in UTF-8"),
        (b" " * (16 * 1024 * 1024 + 1), "is larger than 16 MiB; write fewer keys"),
    ],
)
def test_other_encodings_and_sizes_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError) as caught:
        read_keys_file(path)
    assert message in str(caught.value)
    assert caught.value.__context__ is None


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in {
        "fifo": "is no file; write the path of a keys.json",
        ".": "is a folder; write the path of a keys.json",
        "loop": "cannot be read: Too many levels of symbolic links",
        "nobody": "is not there: there are no keys yet",
        "a\0b": "is no path; set KEYS_FILE",
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            KeyRegistry(tmp_path / name)
        assert message in str(caught.value)
    with pytest.raises(ConfigurationError, match="is no file"):
        read_keys_file(Path("/dev/zero"))


def test_a_file_that_may_not_be_read_is_refused(path: Path) -> None:
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        KeyRegistry(path)


def test_no_file_descriptor_is_left_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "bad").write_bytes(b"\xff")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        for name in (".", "fifo", "bad", "nobody"):
            with pytest.raises(ConfigurationError):
                read_keys_file(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail_in_another_way(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed.json"
    path.write_bytes(data)
    with pytest.raises(ConfigurationError):
        parse_keys(read_keys_file(path), path="keys.json")


def test_a_secret_in_an_edit_is_in_no_event_problem_or_error(
    path: Path, look: Look, seen: list[events.Event]
) -> None:
    secret = fake_secret()
    path.write_text(text_of(entry("a", api_key=secret), entry(secret)))
    look()
    with pytest.raises(ConfigurationError) as caught:
        look.registry.reload()
    assert "secrets never live in keys.json" in str(caught.value)
    assert caught.value.__context__ is None
    told = (
        f"{seen} {look.registry.problem} {caught.value!r} {vars(look.registry)} {look.registry!r}"
    )
    assert secret not in told
