"""The directory of a run's temporary files: its own, private, locked while it is used, and removed when it is not.

A run that was killed cannot remove its directory. The next run does, if nobody holds the lock: a kill frees it, and so
does a power cut.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from transforms.durability import DIRECTORY_MODE
from transforms.storage import not_written

_PREFIX = "session-forwarder-run-"


@contextmanager
def run_directory(parent: str | None) -> Iterator[Path]:
    """A new directory for the time of one run. What killed runs left beside it is removed first.

    Args:
        parent: where it is made (`--temp_dir`); None for where temporary files go (`TMPDIR`).

    Raises:
        StorageError: it cannot be made.
    """
    try:
        base = tempfile.gettempdir() if parent is None else parent
        _remove_left(Path(base))
        path, lock = _made(base)
    except OSError as error:
        place = f"{os.environ.get('TMPDIR', 'the directory of temporary files')} (TMPDIR)"
        raise not_written(place if parent is None else f"{parent} (--temp_dir)", error) from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if lock is not None:
            os.close(lock)


@contextmanager
def temporary_files_in(directory: Path) -> Iterator[None]:
    """Let all temporary files of this process, and of those that it starts, go to `directory`."""
    before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(directory)
    try:
        yield
    finally:
        tempfile.tempdir = before
        if variable is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = variable


def hold_directory() -> None:
    """Keep the run's directory, which is `TMPDIR`, from being removed while this worker process lives.

    A worker may outlive a launcher that was killed by some seconds.
    """
    directory = Path(tempfile.gettempdir())
    if directory.name.startswith(_PREFIX):
        with suppress(OSError):  # On a file system without locks no run removes what another one left.
            _lock(directory, fcntl.LOCK_SH)


def _made(parent: str) -> tuple[Path, int | None]:
    """A new directory, and the descriptor that holds its lock; None on a file system without locks."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        path.chmod(DIRECTORY_MODE)
        try:
            lock = _lock(path, fcntl.LOCK_SH)
        except OSError:
            return path, None
        # Another run may have taken it for one that was left, before it was locked.
        if lock is not None and path.is_dir():
            return path, lock
        if lock is not None:
            os.close(lock)


def _lock(path: Path, kind: int) -> int | None:
    """The descriptor of a directory that is locked from now on; None if it is gone, or another's lock is in the way.

    Raises OSError if it cannot be opened or locked.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _remove_left(parent: Path) -> None:
    """Remove the directories of runs of this user that nobody holds."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid == os.getuid() and (lock := _lock(path, fcntl.LOCK_EX)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(lock)
