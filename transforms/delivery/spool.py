"""What a slow forwarder has not taken yet, on local disk, so that memory is bounded however far it is behind.

Items come back in order, and equal to those that were put in. The files are for the life of one process, and removed
with it. Another run learns from receipts what is still to be sent.
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
"""The spool writes a chunk once it has CHUNK_ITEMS items or CHUNK_BYTES bytes of payload. It keeps one in memory."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""Bytes of one file of the spool, more or less. A file is removed when it has been read, so that disk is freed."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Item]).decode


class SpoolDirectory:
    """A private temporary directory (mode 0700), made when it is first needed, and removed by `close`.

    Args:
        parent: the directory to make it in; None for the system's temporary directory.
    """

    def __init__(self, parent: str | None = None) -> None:
        self._parent = parent
        self._path: Path | None = None

    def path(self) -> Path:
        """The directory, which is there from now on."""
        if self._path is None:
            self._path = Path(tempfile.mkdtemp(prefix="forwarder-spool-", dir=self._parent))
        return self._path

    def close(self) -> None:
        """Remove the directory with all that is in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


class DiskSpool:
    """A lane's `Spool`, in files of the directory that are named `name` and a number. OSError when the disk is full."""

    def __init__(self, directory: SpoolDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._length = 0
        self._tail: list[Item] = []
        self._tail_bytes = 0
        # The files, and for each the lengths of its chunks that are not read yet. The last file is written to.
        self._segments: deque[tuple[IO[bytes], deque[int]]] = deque()
        self._names = 0

    def __len__(self) -> int:
        return self._length

    def append(self, items: Sequence[Item]) -> None:
        """Put items in, behind all others."""
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
        """Take out the next chunk; [] when the spool is empty."""
        if not self._segments:
            items, self._tail, self._tail_bytes = self._tail, [], 0
        else:
            file, chunks = self._segments[0]
            # Chunks are read from the front, so those that are left are the last bytes of the file.
            file.seek(-sum(chunks), 2)
            items = _decode(file.read(chunks.popleft()))
            if not chunks:
                self._segments.popleft()
                file.close()
                Path(file.name).unlink()
        self._length -= len(items)
        return items

    def close(self) -> None:
        """Close the files."""
        while self._segments:
            self._segments.popleft()[0].close()


class DiskParking:
    """A lane's `Parking`, in one file, `name` in the directory, which is written anew once all of it has been read.

    Memory holds for each user a chunk that is not full, and some 100 bytes for each chunk on disk. Raises OSError when
    the disk is full.

    Args:
        directory: where the file is.
        name: the file's.
        chunk_items: items of a full chunk; one with much payload is written earlier.
    """

    def __init__(self, directory: SpoolDirectory, name: str, chunk_items: int = 32) -> None:
        self._directory = directory
        self._name = name
        self._chunk_items = chunk_items
        self._length = 0
        self._on_disk = 0
        # For each user the offset and length of the chunks on disk, and the items that come after those.
        self._users: dict[str, tuple[deque[tuple[int, int]], list[Item]]] = {}
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return self._length

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._users

    def put(self, user_id: str, item: Item) -> None:
        """Put an item in, behind all others of the user."""
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
        """Take out the user's next chunk. Raises KeyError when the user has none."""
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
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
