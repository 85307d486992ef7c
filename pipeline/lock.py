"""One run at a time on one output (docs/spec/forwarders.md section 4).

On a local disk the lock is one of the kernel (flock). So it is free as soon as the process is gone, whatever ended it.
On other file systems it is a lease: a small object, which holds for LEASE seconds and is renewed in the background. How
old it is, is told by the clock of the store: those of two machines may differ by days.
"""

import contextlib
import fcntl
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from transforms import durability
from transforms.accounting.holder import LOCK, Holder, expiry_of
from transforms.storage import LocalStorage, Storage, storage_at

logger = logging.getLogger(__name__)

LEASE = 30.0
"""Seconds for which a lease holds. So long an output stays locked after a run on it was killed."""

_RESOLUTION = 1.0
"""Seconds: stores tell when an object was written in whole seconds."""

RENEWALS = 3
"""How often a lease is renewed within its time. Two renewals may fail before it is lost."""


class OutputLockedError(RuntimeError):
    """Another run holds the output. The text says which one, and what to do."""


class OutputLostError(RuntimeError):
    """The output is no longer this run's: its lease ran out, or its directory was deleted or moved."""


class _Lock(Protocol):
    def acquire(self) -> None: ...
    def release(self) -> None: ...
    def check(self) -> None: ...


def _elapsed() -> float:
    """Seconds since the machine was started. While it sleeps they go on, where the system can say so."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class OutputLock:
    """Holds an output for as long as the `with` block runs.

    Entering raises OutputLockedError when another run holds it, and OSError when the directory cannot be written.

    Args:
        output: a path, or a url of a file system of Beam.
        clock: gives epoch seconds. Only for a store that does not tell when a file was written, leases compare it
            between machines; there their clocks must agree within a few seconds.
        elapsed: gives seconds, and is never set: for how long this lease has been held.
        lease: seconds for which a lease holds.
        board: where the board of the run is, for whoever asks who holds the output.
    """

    def __init__(
        self,
        output: str | Storage,
        *,
        board: str | None = None,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = _elapsed,
        lease: float = LEASE,
    ) -> None:
        storage = storage_at(output)
        self._lock: _Lock
        if isinstance(storage, LocalStorage):
            self._lock = _FileLock(storage.path, board)
        else:
            self._lock = _Lease(storage, clock, elapsed, lease, board)

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def check(self) -> None:
        """Call this now and then, and stop the run when it raises.

        Raises:
            OutputLostError: the lease is lost; on a local disk, the directory or the lock in it is gone.
        """
        self._lock.check()


def _myself(board: str | None) -> Holder:
    started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return Holder(uuid.uuid4().hex, os.getpid(), socket.gethostname(), started, board)


class _FileLock:
    def __init__(self, directory: Path, board: str | None) -> None:
        self._directory = directory
        self._board = board
        self._descriptor: int | None = None

    def acquire(self) -> None:
        durability.make_directories(self._directory)
        path = self._directory / LOCK
        # Python opens files close-on-exec, so no program that is started inherits the lock. For forks see below.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, durability.FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            content = os.read(descriptor, 4096)
            os.close(descriptor)
            raise OutputLockedError(
                f"{self._directory} is in use by another run ({_named(content)}): wait for its end, or give another "
                "directory"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise OutputLockedError(
                f"{self._directory} cannot be locked ({error.strerror}): put --output on a file system that has locks"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, msgspec.json.encode(_myself(self._board)) + b"\n")
        self._descriptor = descriptor
        _held.add(self)

    def release(self) -> None:
        """The file stays. If it were removed, a run that has just opened it would lock what nobody else can see."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            self.drop()

    def drop(self) -> None:
        """Close this process's hold on the lock. What others have of it stays."""
        _held.discard(self)
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def check(self) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):
            if os.path.samestat((self._directory / LOCK).stat(), os.fstat(self._descriptor)):
                return
        raise OutputLostError(
            f"{self._directory} was deleted or moved during the run, so nothing more is sent: leave it alone while a "
            "run is under way. Put it back if you can, then run again: what is not in the receipts is sent again"
        )


def holder_of(directory: Path) -> str | None:
    """Who holds a directory of this machine, in words; None if nobody does. It is not locked by this, nor made."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDONLY)
    except OSError:
        return None
    try:
        content = os.read(descriptor, 4096)
        if not content:
            return None  # A run that ends leaves it empty. So a run that begins right now is not disturbed.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(content)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


_held: set[_FileLock] = set()


def _drop_in_child() -> None:
    """A forked child shares the lock, and would keep it after the run's process is gone."""
    for lock in list(_held):
        lock.drop()


os.register_at_fork(after_in_child=_drop_in_child)


def _named(content: bytes) -> str:
    try:
        return str(msgspec.json.decode(content, type=Holder))
    except msgspec.DecodeError:
        return "which has only just begun or ended"


class _Lease:
    """A directory of leases, of which at most one has not expired.

    Their names tell whose they are, and until when by the clock of their machine. It counts only where the store does
    not tell when they were written.

    A file system of Beam's cannot replace an object on a condition, so a run first adds its own lease and then looks
    whether there is another. Of two runs the one that adds last always sees the other; when both add before either
    looks, both give way. Every object is written once and listed after that, which object stores show consistently.
    """

    def __init__(
        self,
        storage: Storage,
        clock: Callable[[], float],
        elapsed: Callable[[], float],
        seconds: float,
        board: str | None,
    ) -> None:
        self._storage = storage
        self._clock = clock
        self._elapsed = elapsed
        self._seconds = seconds
        self._me = _myself(board)
        self._name = ""
        self._expires = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        self._add()
        written = self._storage.modified(LOCK)
        now = written.get(self._name.removeprefix(f"{LOCK}/"), 0.0)
        for name in sorted(written):
            if name.startswith(self._me.id):
                continue
            left = self._left(name, written[name], now)
            if left <= 0:
                self._storage.remove(f"{LOCK}/{name}")
                continue
            self._storage.remove(self._name)
            raise OutputLockedError(
                f"{self._storage.root} is in use by another run ({self._holder(name)}): wait for its end, or give "
                f"another directory. If it was killed, this one is free in {max(round(left), 1)} s"
            )
        self._thread = threading.Thread(target=self._keep, name="output lease", daemon=True)
        self._thread.start()

    def _left(self, name: str, written: float, now: float) -> float:
        """Seconds for which another's lease still holds.

        Args:
            name: of the lease.
            written: when it was written, in epoch seconds by the store's clock; 0 where nobody knows.
            now: the same of the lease of this run, which was written just now.
        """
        expiry = expiry_of(name)
        if not expiry:
            return 0.0
        return written + self._seconds + _RESOLUTION - now if written and now else expiry - self._clock()

    def _holder(self, name: str) -> str:
        """Who holds the lease of that name. If it was renewed since it was listed, it is found under its new name."""
        owner = name.rpartition("-")[0]
        for lease in chain([name], self._leases_of(owner)):
            try:
                with self._storage.open(f"{LOCK}/{lease}") as stream:
                    return _named(stream.read())
            except FileNotFoundError:
                continue
        return _named(b"")

    def _leases_of(self, owner: str) -> Iterator[str]:
        yield from (name for name in self._storage.list(LOCK) if name.startswith(owner))

    def _add(self) -> None:
        began = self._elapsed()
        name = f"{LOCK}/{self._me.id}-{self._clock() + self._seconds:.3f}"
        self._storage.write(name, [msgspec.json.encode(self._me)])
        self._name, self._expires = name, began + self._seconds

    def _keep(self) -> None:
        while not self._stop.wait(self._seconds / RENEWALS):
            before, until = self._name, self._expires
            try:
                self._add()
                # If it came too late, a run that looked in the meantime found the output free.
                if self._elapsed() >= until:
                    self._expires = until
                    self._storage.remove(self._name)
                    logger.error("the lease on %s ran out before it could be renewed", self._storage.root)
                    return
                if self._name != before:  # The same, if the clock was set back just so far.
                    self._storage.remove(before)
            except Exception:
                logger.warning("renewing the lease on %s failed; trying again", self._storage.root, exc_info=True)

    def check(self) -> None:
        if self._elapsed() >= self._expires:
            raise OutputLostError(
                f"the lease on {self._storage.root} ran out before it could be renewed, so another run may have it: "
                "see that the store can be reached, then run again"
            )

    def release(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for name in self._storage.list(LOCK):
            if name.startswith(self._me.id):
                with contextlib.suppress(Exception):  # it expires by itself
                    self._storage.remove(f"{LOCK}/{name}")
