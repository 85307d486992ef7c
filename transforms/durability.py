"""Files that outlive a power cut: the one place that asks the kernel to put something on the disk.

What a program has written is in the kernel's memory. There it survives the death of the process, but not of the
machine. A file is on the disk after `sync`. Its name is an entry of its directory, and is on the disk after
`sync_directory`. Between the two calls nothing is promised: after a power cut a file may be empty though its name is
there, hold zeros where data should be, or be gone though its data was synced (POSIX fsync; fsync(2) of Linux).

So whoever commits something makes sure, in this order, that all of it is on the disk that it speaks of:

1. Dead letters are synced before the receipts that say so (`transforms/receipts/journal.py`).
2. At the end of a run these are on the disk with the entries of their directories: dead letters, receipts, rejects and
   records, the parts of the session state, the report.
3. Only then `current.json` says that the input is read. It is written under another name, synced, renamed, and its
   directory is synced (`write_file`).
4. Only then the parts of the earlier state are removed.

Files are made readable by their owner alone, and so are directories: they hold learners' data. What is there already
keeps its mode. Tests replace the functions here to record what a run does, and cut the power anywhere in it
(`tests/support/power.py`). So callers go through the module: `durability.sync(...)`.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Durability = Literal["none", "group", "each"]
"""What a run on a local disk syncs (`--durability`).

`none`: nothing. `group`: what was settled within GROUP_SECONDS, together, and everything else at the end. `each`: as
`group`, and a record counts as settled only when its receipt is on the disk.
"""

GROUP_SECONDS = 0.05
"""Seconds for which receipts may wait until they are synced together."""

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700

_PIECE = 1 << 20
_UNFINISHED = re.compile(r".+\.\d+\.tmp")


@contextmanager
def private_files() -> Iterator[None]:
    """Let this process make files that only their owner can read, whoever in it makes them: Beam does, too."""
    before = os.umask(0o777 & ~DIRECTORY_MODE)
    try:
        yield
    finally:
        os.umask(before)


def make_directories(path: Path) -> None:
    """Make a directory, and those above it, if they are missing. Their names are on the disk when this returns."""
    if path.is_dir():
        return
    make_directories(path.parent)
    try:
        make_directory(path)
    except FileExistsError:
        if not path.is_dir():
            raise
        return  # Another worker was faster.
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make one directory. Raises FileExistsError if it is there."""
    path.mkdir(DIRECTORY_MODE)


def create(path: Path) -> int:
    """Make a file to append to, and open it. Returns its descriptor. Raises FileExistsError if it is there."""
    return os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, FILE_MODE)


def append(descriptor: int, data: bytes | memoryview) -> int:
    """Append `data` to a file, in one write. Returns how many bytes of it were written, which may be fewer."""
    return os.write(descriptor, data)


def append_all(descriptor: int, data: bytes) -> None:
    """Append all of `data`: one write, and more only if the system writes a part of it."""
    view = memoryview(data)
    while view:
        view = view[append(descriptor, view) :]


def truncate(descriptor: int, size: int) -> None:
    """Cut a file to its first `size` bytes."""
    os.ftruncate(descriptor, size)


def sync(descriptor: int) -> None:
    """Wait until the data of a file is on the disk, and its length."""
    os.fdatasync(descriptor)


def sync_file(path: Path) -> None:
    """Wait until the data of a file is on the disk, whoever wrote it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Wait until the names of the files in a directory are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # fsync(2): what the file system cannot sync, such as the directories of some network file systems.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def replace(path: Path, target: Path) -> None:
    """Rename a file. What has the name `target` is replaced, in one step."""
    path.replace(target)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    path.unlink(missing_ok=True)


def write_file(path: Path, pieces: Iterable[bytes], *, durable: bool = True) -> None:
    """Write a whole file in one step: a reader, and who comes after a power cut, sees the old file or the new one.

    Args:
        path: of the file. Its directory is made if it is missing.
        pieces: the content. It need not be in memory together.
        durable: whether the file is on the disk when this returns. Without it a power cut may leave it empty.

    Raises:
        OSError: it cannot be written. The old file is there still, and nothing of the new one.
    """
    make_directories(path.parent)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    remove(unfinished)  # A process that was killed had the same number.
    try:
        descriptor = create(unfinished)
        try:
            for piece in _gathered(pieces):
                append_all(descriptor, piece)
            if durable:
                sync(descriptor)
        finally:
            os.close(descriptor)
        replace(unfinished, path)
    except BaseException:
        remove(unfinished)
        raise
    if durable:
        sync_directory(path.parent)


def remove_unfinished(directory: Path) -> None:
    """Remove what `write_file` left half written in a directory when its process was killed. Nobody may write there."""
    for path in directory.glob("*.tmp"):
        if _UNFINISHED.fullmatch(path.name):
            remove(path)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of a megabyte or more, since each is a call of the system."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _PIECE:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)
