"""A power cut, as often as you like: what a run did to its files is recorded, and a disk is made of any part of it.

`Recorder` stands in for the functions of `transforms.durability` and writes down each operation. `disk_after` makes the
directory that a machine finds when it is on again: what was synced is there, and of all else anything may be. The data
of a file may be cut off, full of zeros, torn, or whole; a name may be the old one, the new one, or missing.

It is stricter than the file systems that it stands for: ext4, say, writes the names of a directory in their order.
"""

import os
import random
import tempfile
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from schemas.buckets import BUCKETS
from tests.support.laboratory.http_fault_server import Answer, Arrival
from transforms import durability
from transforms.receipts.history import History
from transforms.receipts.index import index_history, remove_index
from transforms.receipts.journal import Journal, recover

_PAGE = 4096


@dataclass(frozen=True)
class MakeDirectory:
    path: Path


@dataclass(frozen=True)
class Create:
    path: Path
    file: int


@dataclass(frozen=True)
class Append:
    file: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    file: int
    size: int


@dataclass(frozen=True)
class Sync:
    """The first `size` bytes of a file are on the disk, which it had when the sync, operation `begun`, began."""

    path: Path
    file: int
    size: int
    begun: int


@dataclass(frozen=True)
class SyncDirectory:
    """What was done to the names in a directory before operation `begun` is on the disk."""

    path: Path
    begun: int


@dataclass(frozen=True)
class Rename:
    path: Path
    target: Path


@dataclass(frozen=True)
class Remove:
    path: Path


@dataclass(frozen=True)
class Note:
    """What happened beside the disk at that moment: `what` names it, `about` says of what."""

    what: str
    about: Any


Operation = MakeDirectory | Create | Append | Truncate | Sync | SyncDirectory | Rename | Remove | Note


class Recorder:
    """Does what `transforms.durability` does below `root`, but for the syncs, and records it.

    Attributes:
        operations: in the order in which they ended.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._lock = threading.RLock()
        self.operations: list[Operation] = []
        self._files: dict[Path, int] = {}
        self._sizes: list[int] = []
        self._directories = {root}
        self._do = {name: getattr(durability, name) for name in ("create", "append", "truncate", "replace", "remove")}
        for name in (*self._do, "make_directory", "sync", "sync_file", "sync_directory"):
            monkeypatch.setattr(durability, name, getattr(self, name))

    def note(self, what: str, about: Any) -> None:
        with self._lock:
            self.operations.append(Note(what, about))

    def make_directory(self, path: Path) -> None:
        with self._lock:
            path.mkdir(durability.DIRECTORY_MODE)
            self._add_directory(path)

    def create(self, path: Path) -> int:
        with self._lock:
            descriptor: int = self._do["create"](path)
            self._add_file(path)
            return descriptor

    def append(self, descriptor: int, data: bytes) -> int:
        with self._lock:
            written: int = self._do["append"](descriptor, data)
            if not _path_of(descriptor).is_relative_to(self._root):
                # A file that no run after a power cut looks at: one of what was read, until it is derived.
                return written
            file = self._file_of(descriptor)
            self.operations.append(Append(file, bytes(data[:written])))
            self._sizes[file] += written
            return written

    def truncate(self, descriptor: int, size: int) -> None:
        with self._lock:
            self._do["truncate"](descriptor, size)
            file = self._file_of(descriptor)
            self.operations.append(Truncate(file, size))
            self._sizes[file] = size

    def sync(self, descriptor: int) -> None:
        with self._lock:
            path, file = _path_of(descriptor), self._file_of(descriptor)
            begun, size = len(self.operations), self._sizes[file]
        # The others go on meanwhile, and what they write is not part of it.
        with self._lock:
            self.operations.append(Sync(path, file, size, begun))

    def sync_file(self, path: Path) -> None:
        """The file may be one that was written by other means, such as Beam's."""
        with self._lock:
            if path not in self._files:
                for above in reversed(path.relative_to(self._root).parents):
                    self._add_directory(self._root / above)
                content = path.read_bytes()
                file = self._add_file(path)
                self.operations.append(Append(file, content))
                self._sizes[file] = len(content)
            file = self._files[path]
            self.operations.append(Sync(path, file, self._sizes[file], len(self.operations)))

    def sync_directory(self, path: Path) -> None:
        with self._lock:
            self.operations.append(SyncDirectory(path, len(self.operations)))

    def replace(self, path: Path, target: Path) -> None:
        with self._lock:
            self._do["replace"](path, target)
            self._files[target] = self._files.pop(path)
            self.operations.append(Rename(path, target))

    def remove(self, path: Path) -> None:
        with self._lock:
            self._do["remove"](path)
            if self._files.pop(path, None) is not None:
                self.operations.append(Remove(path))

    def _add_directory(self, path: Path) -> None:
        if path not in self._directories:
            self._directories.add(path)
            self.operations.append(MakeDirectory(path))

    def _add_file(self, path: Path) -> int:
        file = self._files[path] = len(self._sizes)
        self._sizes.append(0)
        self.operations.append(Create(path, file))
        return file

    def _file_of(self, descriptor: int) -> int:
        return self._files[_path_of(descriptor)]


def _path_of(descriptor: int) -> Path:
    return Path(f"/proc/self/fd/{descriptor}").readlink()


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: int = 0

    def survivor(self, rng: random.Random) -> bytes:
        kept, tail = bytes(self.content[: self.synced]), bytes(self.content[self.synced :])
        fate = rng.choice(("dropped", "zeros", "torn", "pages", "kept"))
        if fate == "zeros":
            return kept + bytes(len(tail))
        if fate == "torn":
            return kept + tail[: rng.randint(0, len(tail))]
        if fate == "pages":
            # The page on which the synced data ends is written again as a whole, or not at all.
            pages = [tail[at : at + _PAGE] for at in range(0, len(tail), _PAGE)]
            return kept + b"".join(rng.choice((page, bytes(len(page)))) for page in pages)
        return kept + tail if fate == "kept" else kept


@dataclass
class _Directory:
    """The names that are synced, and what was done to them since: (when, name, what it stands for now or None)."""

    names: dict[str, int | None] = field(default_factory=dict)
    since: list[tuple[int, dict[str, int | None]]] = field(default_factory=list)

    def sync(self, begun: int) -> None:
        self.names = _applied(self.names, [change for when, change in self.since if when < begun])
        self.since = [(when, change) for when, change in self.since if when >= begun]

    def survivor(self, rng: random.Random) -> dict[str, int | None]:
        changes = [change for _, change in self.since]
        fate = rng.choice(("none", "first", "some", "all"))
        if fate == "first":
            changes = changes[: rng.randint(0, len(changes))]
        elif fate == "some":
            changes = [change for change in changes if rng.random() < 0.5]
        return _applied(self.names, [] if fate == "none" else changes)


_DIRECTORY = -1


def _applied(names: dict[str, int | None], changes: Sequence[dict[str, int | None]]) -> dict[str, int | None]:
    for change in changes:
        names = names | change
    return {name: file for name, file in names.items() if file is not None}


def disk_after(operations: Sequence[Operation], root: Path, rng: random.Random, target: Path) -> None:
    """Make the disk that a machine may find after a power cut.

    Args:
        operations: what was done until then.
        root: where it was done. Everything but that directory itself was recorded.
        rng: decides what becomes of what was not synced.
        target: an empty directory, which becomes what `root` is then.
    """
    files: dict[int, _File] = {}
    directories = {root: _Directory()}
    places: dict[Path, int] = {}
    for when, operation in enumerate(operations):
        match operation:
            case MakeDirectory(path):
                directories[path] = _Directory()
                directories[path.parent].since.append((when, {path.name: _DIRECTORY}))
            case Create(path, file):
                files[file], places[path] = _File(), file
                directories[path.parent].since.append((when, {path.name: file}))
            case Append(file, data):
                files[file].content += data
            case Truncate(file, size):
                del files[file].content[size:]
                files[file].synced = min(files[file].synced, size)
            case Sync(_, file, size, _):
                files[file].synced = max(files[file].synced, size)
            case SyncDirectory(path, begun) if path in directories:
                directories[path].sync(begun)
            case Rename(path, to):
                places[to] = places.pop(path)
                directories[path.parent].since.append((when, {path.name: None, to.name: places[to]}))
            case Remove(path):
                del places[path]
                directories[path.parent].since.append((when, {path.name: None}))
    _write(root, directories, files, rng, target)


def _write(
    path: Path, directories: dict[Path, _Directory], files: dict[int, _File], rng: random.Random, target: Path
) -> None:
    target.mkdir(exist_ok=True)
    for name, file in directories[path].survivor(rng).items():
        if file == _DIRECTORY:
            _write(path / name, directories, files, rng, target / name)
        elif file is not None:
            (target / name).write_bytes(files[file].survivor(rng))


def without(operations: Sequence[Operation], left_out: Callable[[Operation], bool]) -> list[Operation]:
    """The same operations without some of the syncs, as a program would do them that does not know better."""
    return [
        Note("left out", operation)
        if isinstance(operation, Sync | SyncDirectory) and left_out(operation)
        else operation
        for operation in operations
    ]


def note_settlements(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a journal say what it has settled, and sync and cut its files often enough in runs of a second."""
    settle = Journal.settle

    def noted(journal: Journal, settlements: Sequence[Any]) -> None:
        settle(journal, settlements)
        recorder.note("settled", [each.item.record.id for each in settlements if each.delivered])

    monkeypatch.setattr(Journal, "settle", noted)
    monkeypatch.setattr("transforms.receipts.journal.GROUP_SECONDS", 0.002)
    monkeypatch.setitem(Journal.__init__.__kwdefaults__ or {}, "part_bytes", 6000)


def settled_for_good(operations: Sequence[Operation]) -> set[str]:
    """The records that were settled as delivered when the last sync of receipts but one began.

    The first sync of a journal alone does not hold: its name comes after it.
    """
    syncs = [each.begun for each in operations if isinstance(each, Sync) and each.path.parent.name == "receipts"]
    begun = syncs[-2] if len(syncs) > 1 else 0
    return {
        id_ for each in operations[:begun] if isinstance(each, Note) and each.what == "settled" for id_ in each.about
    }


def note_acknowledged(recorder: Recorder, refused: Container[str]) -> Callable[[Arrival], Answer]:
    """A script for a receiver that does not take what is refused, and notes what it takes."""

    def script(arrival: Arrival) -> Answer:
        if arrival.key in refused:
            return Answer(400)
        recorder.note("acknowledged", arrival.key)
        return Answer()

    return script


def acknowledged(operations: Sequence[Operation]) -> set[str]:
    """The ids of what the receiver had taken by then."""
    return {each.about for each in operations if isinstance(each, Note) and each.what == "acknowledged"}


def settled_on(output: Path) -> tuple[set[str], set[str]]:
    """The ids that the next run finds delivered to `http`, and those of dead letters; journals are recovered first."""
    recover(str(output))
    index = index_history(str(output), "next", dead_letters=True)
    history = History(index, keep=BUCKETS)
    delivered = {id_ for bucket in range(BUCKETS) for id_ in history.bucket(bucket).get("http", frozenset())}
    letters = {letter.id for letter in history.undelivered_dead_letters()}
    remove_index(index)
    return delivered, letters


@dataclass(frozen=True)
class Recorded:
    """What was done to the files of a directory, by `Recorder`."""

    root: Path
    operations: list[Operation]

    def disks_after_cuts(
        self, count: int, directory: Path, left_out: Callable[[Operation], bool] = lambda operation: False
    ) -> Iterator[tuple[str, list[Operation], Path]]:
        """The name of each of `count` cuts, what was done before it, and the disk that it left, without some syncs."""
        performed = without(self.operations, left_out)
        for number, cut in enumerate(cuts(self.operations, count)):
            disk = directory / f"cut-{number}"
            disk_after(performed[:cut], self.root, random.Random(number), disk)  # noqa: S311
            yield f"cut {number} at {cut}", self.operations[:cut], disk

    def faults(
        self,
        wrong: Callable[[Sequence[Operation], Path], Iterable[str]],
        count: int,
        directory: Path,
        left_out: Callable[[Operation], bool] = lambda operation: False,
    ) -> Iterator[str]:
        """What is wrong after each cut, as `wrong` finds it by what was done and by the disk, or raises it."""
        for name, operations, disk in self.disks_after_cuts(count, directory, left_out):
            try:
                yield from (f"{name}: {each}" for each in wrong(operations, disk))
            except Exception as error:
                yield f"{name}: {error}"


def cuts(operations: Sequence[Operation], count: int) -> list[int]:
    """Moments for power cuts: after so many operations. The first is after all of them."""
    rng = random.Random(15)  # noqa: S311
    return [len(operations), *(rng.randint(0, len(operations)) for _ in range(count - 1))]


def is_sync(of: str, *, names: bool) -> Callable[[Operation], bool]:
    """Whether an operation syncs files in a directory of the name `of`, or their names."""

    def is_it(operation: Operation) -> bool:
        if names:
            return isinstance(operation, SyncDirectory) and operation.path.name == of
        return isinstance(operation, Sync) and operation.path.parent.name == of

    return is_it


@pytest.fixture
def disks() -> Iterator[Path]:
    """Where disks are made: in memory, if the machine has such a place."""
    memory = Path("/dev/shm")  # noqa: S108
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as directory:
        yield Path(directory)


@pytest.fixture
def nothing_is_synced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a cut is not cut again, and a sync takes longer than all else of it."""
    for name in ("sync", "sync_file", "sync_directory"):
        monkeypatch.setattr(durability, name, lambda of: None)
