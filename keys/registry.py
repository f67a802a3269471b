"""The keys in force: what `keys.json` says now, what was changed at run time for all processes, and
what this process added or removed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from core.errors import ConfigurationError
from core.events import Event, KeysLoaded, KeysRejected, emit
from keys.schema import NO_KEYS, conflicts, parse_keys
from keys.spec import KeySpec

__all__ = ["KeyRegistry", "parse_keys", "read_keys_file"]

_MOST_BYTES = 16 * 1024 * 1024
_SETTLED_NS = 2_000_000_000

_Signature = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _InForce:
    """What readers see; replaced as a whole, so that nobody sees half of a change."""

    keys: tuple[KeySpec, ...] = ()
    by_id: Mapping[str, KeySpec] = field(default_factory=dict)
    version: int = 0
    problem: str | None = None


class KeyRegistry:
    """Holds the keys in force and follows edits of the file. Safe to use from many threads.

    **Precedence.** A revoked key is out, whatever else is said. Then wins what this process says,
    for itself alone and until it says otherwise: `add` puts a key in, or in the place of another
    entry of that id; `remove` hides it. Then what all processes share (`share`), then the file. All
    of it outlives reloads of the file.

    An edit is noticed by the file's inode, size and times, through symlinks, so that editors that
    save by renaming and swapped mounts (ConfigMaps) are seen. A bad edit changes nothing but
    `problem`, and is reported once as `core.events.KeysRejected`.

    Args:
        path: the `keys.json`.
        check_interval: seconds that may pass between two looks at the file.
        clock: a monotonic clock in seconds, for tests.

    Raises:
        ConfigurationError: the file is missing, holds no key, or is wrong.

    Example:
        >>> registry = KeyRegistry(Path("keys_example.json"))
        >>> registry.get("gemini-flash-01").provider
        'gemini'
    """

    def __init__(
        self,
        path: Path,
        *,
        check_interval: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = Path(os.path.abspath(path))
        self._name = str(path)
        self._check_interval = check_interval
        self._clock = clock
        self._lock = Lock()
        self._in_force = _InForce()
        self._from_file: tuple[KeySpec, ...] = ()
        self._shared: dict[str, KeySpec] = {}
        self._revoked: frozenset[str] = frozenset()
        self._added: dict[str, KeySpec] = {}
        self._removed: set[str] = set()
        self._signature: _Signature | None = None
        self._settled = False
        self._last_seen: int | None = None
        self._next_check = clock() + check_interval
        self.reload()

    def keys(self) -> tuple[KeySpec, ...]:
        """The keys in force, in the file's order, added ones last. Cheap enough for every request.

        At most one thread looks at the file, once each `check_interval`; the others go on with
        what is in force.
        """
        if self._clock() >= self._next_check and self._lock.acquire(blocking=False):
            events: list[Event] = []
            try:
                self._next_check = self._clock() + self._check_interval
                if self._changed():
                    self._read(events)
            finally:
                self._lock.release()
            _emit_all(events)
        return self._in_force.keys

    def snapshot(self) -> tuple[int, tuple[KeySpec, ...]]:
        """The version and the keys that belong together, after the same look as `keys`."""
        self.keys()
        in_force = self._in_force
        return in_force.version, in_force.keys

    def get(self, key_id: str) -> KeySpec | None:
        """The key of that id as of the last look at the file, or None."""
        return self._in_force.by_id.get(key_id)

    def every_key(self) -> tuple[KeySpec, ...]:
        """All keys that are known from anywhere, those out of force too."""
        return (*self._from_file, *self._shared.values(), *self._added.values())

    def find(self, key_id: str) -> KeySpec | None:
        """The key of that id from anywhere, also one that is out of force; or None."""
        found = self._in_force.by_id.get(key_id)
        return found or next((s for s in self.every_key() if s.key_id == key_id), None)

    def check(self, spec: KeySpec) -> None:
        """Whether a key could stand beside those in force.

        Raises:
            ConfigurationError: it could not; the message says why.
        """
        problem = _first_conflict((*self._in_force.keys, spec))
        if problem is not None:
            raise ConfigurationError(problem)

    def sources_of(self, key_id: str) -> tuple[str, ...]:
        """Where a key comes from, the one that wins first: "revoked", "this process", "run time",
        "keys.json"."""
        holds = {
            "revoked": key_id in self._revoked,
            "this process": key_id in self._added or key_id in self._removed,
            "run time": key_id in self._shared,
            "keys.json": any(spec.key_id == key_id for spec in self._from_file),
        }
        return tuple(source for source, held in holds.items() if held)

    def share(self, shared: Mapping[str, KeySpec], revoked: Collection[str]) -> None:
        """Put in force what all processes share: keys that were registered at run time, and the ids
        of those that were revoked. One that cannot stand beside the others is left out and told."""
        rejected: list[Event] = []
        with self._lock:
            self._shared, self._revoked = {}, frozenset(revoked)
            keys = self._merge(self._from_file)
            for key_id, spec in shared.items():
                self._shared[key_id] = spec
                problem = _first_conflict(self._merge(self._from_file))
                if problem is None:
                    keys = self._merge(self._from_file)
                else:
                    del self._shared[key_id]
                    rejected.append(KeysRejected(f"{key_id}, registered at run time", problem))
            self._put_in_force(keys, self._in_force.problem)
        _emit_all(rejected)

    @property
    def version(self) -> int:
        """A number that changes whenever the set of keys does; as of the last look at the file."""
        return self._in_force.version

    @property
    def problem(self) -> str | None:
        """Why the newest state of the file was refused, or None while it is in force."""
        return self._in_force.problem

    def reload(self) -> int:
        """Read the file now, whether or not it changed.

        Returns:
            How many keys are in force.

        Raises:
            ConfigurationError: the file is wrong; what was in force stays so.
        """
        events: list[Event] = []
        with self._lock:
            self._last_seen = None
            self._read(events)
            in_force = self._in_force
        _emit_all(events)
        if in_force.problem is not None:
            raise ConfigurationError(in_force.problem)
        return len(in_force.keys)

    def add(self, spec: KeySpec) -> None:
        """Put a key in, or in the place of the one of that id, for this process alone.

        Raises:
            ConfigurationError: it cannot stand beside a key that is in force.
        """
        with self._lock:
            before = self._added, self._removed
            self._added = {**self._added, spec.key_id: spec}
            self._removed = self._removed - {spec.key_id}
            keys = self._merge(self._from_file)
            problem = _first_conflict(keys)
            if problem is None:
                self._put_in_force(keys, self._in_force.problem)
            else:
                self._added, self._removed = before
        if problem is not None:
            raise ConfigurationError(problem)

    def remove(self, key_id: str) -> bool:
        """Take a key out for this process alone, until it is added again.

        Returns:
            Whether the key was in force.
        """
        with self._lock:
            known = key_id in self._in_force.by_id
            self._added.pop(key_id, None)
            self._removed.add(key_id)
            keys = self._merge(self._from_file)
            self._put_in_force(keys, self._in_force.problem)
            if self._in_force.problem is not None:  # the key may be what the file clashed with
                self._last_seen, self._settled = None, False
        return known

    def _changed(self) -> bool:
        # A second edit within the file system's clock tick changes no time stamp: look again at
        # the text until the newest time stamp is old enough.
        return not self._settled or _signature(self._path) != self._signature

    def _read(self, events: list[Event]) -> None:
        signature = _signature(self._path)
        self._settled = signature is not None and abs(time.time_ns() - signature[0]) > _SETTLED_NS
        self._signature = signature
        text, problem = "", None
        try:
            text = read_keys_file(self._path, name=self._name)
        except ConfigurationError as error:
            problem = str(error)
        seen = hash((text, problem))
        if seen == self._last_seen:
            return
        self._last_seen = seen
        try:
            specs = () if problem else parse_keys(text, path=self._name)
        except ConfigurationError as error:
            problem = str(error)
        else:
            keys = self._merge(specs)
            problem = problem or _first_conflict(keys)
        if problem:
            self._put_in_force(self._in_force.keys, problem)
            events.append(KeysRejected(self._name, problem))
        else:
            self._from_file = specs
            self._put_in_force(keys, None)
            events.append(KeysLoaded(self._name, len(keys)))

    def _merge(self, from_file: tuple[KeySpec, ...]) -> tuple[KeySpec, ...]:
        """The keys in force, in the file's order, then those registered, then those added."""
        found = {spec.key_id: spec for spec in from_file}
        found.update(self._shared)
        for key_id in self._removed:
            found.pop(key_id, None)
        found.update(self._added)
        for key_id in self._revoked:
            found.pop(key_id, None)
        return tuple(found.values())

    def _put_in_force(self, keys: tuple[KeySpec, ...], problem: str | None) -> None:
        now = self._in_force
        version = now.version if keys == now.keys else now.version + 1
        by_id = MappingProxyType({spec.key_id: spec for spec in keys})
        self._in_force = _InForce(keys, by_id, version, problem)


def read_keys_file(path: Path, *, name: str | None = None) -> str:
    """The text of a `keys.json`, which must be a regular file of at most 16 MiB in UTF-8.

    Args:
        path: where it is.
        name: what messages call it; the path if left out.

    Raises:
        ConfigurationError: it cannot be read; the message says what to do.
    """
    name = name or str(path)
    data, problem = b"", ""
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                problem = "is no file; write the path of a keys.json"
            else:
                data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        problem = f"is not there: {NO_KEYS}"
    except IsADirectoryError:
        problem = "is a folder; write the path of a keys.json"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}; mend that or set KEYS_FILE to another path"
    except ValueError:
        problem = "is no path; set KEYS_FILE to the path of a keys.json"
    if len(data) > _MOST_BYTES:
        problem = f"is larger than {_MOST_BYTES >> 20} MiB; write fewer keys"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        problem = "is in UTF-16 or binary; save it as UTF-8"
    if problem:
        raise ConfigurationError(f"{name} {problem}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    # Raised out here, because the error above holds the whole file.
    raise ConfigurationError(f"{name}:{line}: this line is not in UTF-8; save the file as UTF-8")


def _open_without_waiting(path: str, flags: int) -> int:
    # A plain open of a FIFO waits until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _signature(path: Path) -> _Signature | None:
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    return seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size, seen.st_ino, seen.st_dev


def _first_conflict(keys: tuple[KeySpec, ...]) -> str | None:
    for index, other, _, reason in conflicts(keys):
        return f"key {keys[index].key_id!r}: {reason} (see key {keys[other].key_id!r})"
    return None


def _emit_all(events: list[Event]) -> None:
    for event in events:
        emit(event)
