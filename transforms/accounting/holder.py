"""Who holds an output: what the run that has locked it says of itself (`pipeline.lock`)."""

import contextlib
import time

import msgspec

from transforms.storage import LocalStorage, storage_at

LOCK = ".lock"
"""A file of the output on a local disk, a directory of leases elsewhere."""


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock.

    Attributes:
        id: of the lock, random.
        pid: of the process.
        host: its machine.
        started: RFC 3339.
        board: the directory of the run, on that machine (`transforms.accounting.board`); None if it has no board.
    """

    id: str
    pid: int
    host: str
    started: str
    board: str | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, started {self.started}"


def expiry_of(name: str) -> float:
    """The epoch seconds in the name of a lease; 0 for a file that is no lease."""
    try:
        return float(name.rpartition("-")[2])
    except ValueError:
        return 0.0


def named_holder(output: str) -> Holder | None:
    """Who says that they hold an output; None if nobody does. Nothing is locked by this, nor made.

    A run that was killed is still named: on a local disk until the next run, elsewhere until its lease is over.

    Args:
        output: a path, or a url of a file system of Beam.
    """
    storage = storage_at(output)
    content = b""
    with contextlib.suppress(OSError):
        if isinstance(storage, LocalStorage):
            content = (storage.path / LOCK).read_bytes()
        elif leases := [name for name in storage.list(LOCK) if expiry_of(name) > time.time()]:
            with storage.open(f"{LOCK}/{max(leases, key=expiry_of)}") as stream:
                content = stream.read()
    try:
        return msgspec.json.decode(content, type=Holder) if content else None
    except msgspec.DecodeError:
        return None
