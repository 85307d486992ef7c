"""What a slow forwarder has not taken yet, on local disk: bounded memory however far it is behind.

Both classes keep order, hold at most a chunk (per user) in memory, and give back equal items. They are for one
process's life: the files are removed by `close`, and mean nothing to another run (that is what receipts are for).
"""

import shutil
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from transforms.sinks.base import Item

CHUNK_ITEMS = 256
CHUNK_BYTES = 1024 * 1024
"""A chunk is written once it has so many items or payload bytes."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""A file of the spool is removed once it was read; so it has at most about this size."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Item]).decode


class SpoolDirectory:
    """A private temporary directory (mode 0700), made when first needed, removed by `close`."""

    def __init__(self, parent: str | None = None) -> None:
        self._parent = parent
        self._path: Path | None = None

    def path(self) -> Path:
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="forwarder-spool-", dir=self._parent))
        return self._path

    def close(self) -> None:
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


class DiskSpool:
    """Items first in, first out (the lane's `Spool`). Raises OSError when the disk is full."""

    def __init__(self, directory: SpoolDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._length = 0
        self._tail: list[Item] = []
        self._tail_bytes = 0
        # Lengths of the chunks of each segment that are not read yet; the last segment is the one written to.
        self._segments: deque[tuple[IO[bytes], deque[int]]] = deque()
        self._names = 0

    def __len__(self) -> int:
        return self._length

    def append(self, items: Sequence[Item]) -> None:
        for item in items:
            self._tail.append(item)
            self._tail_bytes += len(item.payload)
            if len(self._tail) >= CHUNK_ITEMS or self._tail_bytes >= CHUNK_BYTES:
                self._write_tail()
        self._length += len(items)

    def _write_tail(self) -> None:
        encoded = _encode(self._tail)
        if not self._segments or self._segments[-1][0].seek(0, 2) >= SEGMENT_BYTES:
            self._names += 1
            path = self._directory.path() / f"{self._name}-{self._names}"
            self._segments.append((path.open("x+b"), deque()))
        file, chunks = self._segments[-1]
        file.seek(0, 2)
        file.write(encoded)
        chunks.append(len(encoded))
        self._tail = []
        self._tail_bytes = 0

    def take(self) -> list[Item]:
        if not self._segments:
            items, self._tail, self._tail_bytes = self._tail, [], 0
        else:
            file, chunks = self._segments[0]
            # Read from the front: what is left are the last chunks of the file.
            file.seek(-sum(chunks), 2)
            items = _decode(file.read(chunks.popleft()))
            if not chunks:
                self._segments.popleft()
                file.close()
                Path(file.name).unlink()
        self._length -= len(items)
        return items

    def close(self) -> None:
        while self._segments:
            self._segments.popleft()[0].close()


class DiskParking:
    """Items first in, first out per user (the lane's `Parking`), in one file that is reused once it was read.

    In memory: per user a chunk that is not full, and 100 bytes for each `chunk_items` items on disk. Raises OSError
    when the disk is full.
    """

    def __init__(self, directory: SpoolDirectory, name: str, chunk_items: int = 32) -> None:
        self._directory = directory
        self._name = name
        self._chunk_items = chunk_items
        self._length = 0
        self._on_disk = 0
        self._users: dict[str, tuple[deque[tuple[int, int]], list[Item]]] = {}
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._length

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._users

    def put(self, user_id: str, item: Item) -> None:
        entry = self._users.get(user_id)
        if entry is None:
            entry = self._users[user_id] = (deque(), [])
        chunks, tail = entry
        tail.append(item)
        self._length += 1
        if len(tail) >= self._chunk_items or len(item.payload) >= CHUNK_BYTES // 4:
            chunks.append(self._write(_encode(tail)))
            tail.clear()

    def _write(self, encoded: bytes) -> tuple[int, int]:
        if self._file is None:
            self._file = (self._directory.path() / self._name).open("x+b")
        offset = self._file.seek(0, 2)
        self._file.write(encoded)
        self._on_disk += 1
        return offset, len(encoded)

    def take(self, user_id: str) -> list[Item]:
        """The user's next chunk; KeyError when they have none."""
        chunks, tail = self._users[user_id]
        if chunks:
            items = self._read(*chunks.popleft())
        else:
            items = tail.copy()
            tail.clear()
        if not chunks and not tail:
            del self._users[user_id]
        self._length -= len(items)
        return items

    def _read(self, offset: int, length: int) -> list[Item]:
        if self._file is None:
            raise RuntimeError(f"{self._name}: a parked chunk without a file")
        self._file.seek(offset)
        items = _decode(self._file.read(length))
        self._on_disk -= 1
        if not self._on_disk:
            self._file.truncate(0)
        return items

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
