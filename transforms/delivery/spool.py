"""What a slow forwarder has not taken yet, on local disk, so that memory is bounded however far it is behind.

Items come back in order, and equal to those that were put in. The files are for the life of one process, and removed
with it. Another run learns from receipts what is still to be sent.
"""

import errno
import shutil
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import msgspec

from transforms.sinks.base import Item
from transforms.storage import StorageError, not_written, remedy

CHUNK_ITEMS = 256
CHUNK_BYTES = 1024 * 1024
"""The spool writes a chunk once it has CHUNK_ITEMS items or CHUNK_BYTES bytes of payload. It keeps one in memory."""

SEGMENT_BYTES = 64 * 1024 * 1024
"""Bytes of one file of the spool, more or less. A file is removed when it has been read, so that disk is freed."""

_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))

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
        """The directory, which is there from now on. Raises _NoRoomError if the disk is too full for one."""
        if self._path is None:
            try:
                self._path = Path(tempfile.mkdtemp(prefix="forwarder-spool-", dir=self._parent))
            except OSError as error:
                # Where it cannot write to any directory of temporary files, Python says that there is none.
                if error.errno in _NO_ROOM or (self._parent is None and error.errno == errno.ENOENT):
                    raise _NoRoomError from error
                raise not_written(f"{self._parent or 'the directory of temporary files'} (TMPDIR)", error) from error
        return self._path

    def close(self) -> None:
        """Remove the directory with all that is in it."""
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None


class _NoRoomError(Exception):
    """The disk is full, so that nothing was written."""


def _append(path: Path, offset: int, data: bytes) -> None:
    """Write `data` at the end of a file, which is at `offset`, and make the file if it is not there.

    The file is not kept open: there are many of them, and descriptors are for connections.

    Raises:
        _NoRoomError: the disk is full. The file is as it was.
        StorageError: it cannot be written for another reason.
    """
    try:
        with path.open("ab", buffering=0) as file:
            view = memoryview(data)
            try:
                while view:
                    view = view[file.write(view) :]
            except OSError:
                file.truncate(offset)
                raise
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _NoRoomError from error
        raise not_written(path, error) from error


def _read(path: Path, offset: int, length: int) -> list[Item]:
    """The items of a chunk. Raises StorageError if they cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            file.seek(offset)
            return _decode(file.read(length))
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror or error}; {remedy(error)}, then run again"
        ) from error
    except msgspec.DecodeError as error:
        raise StorageError(f"{path} is damaged: see that the disk of TMPDIR is well, then run again") from error


class _Segment:
    """A file of the spool: chunks are written at its end and read from its beginning.

    Attributes:
        path: of the file.
        size: bytes that were written.
        chunks: the lengths of the chunks that are not read yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self.chunks: deque[int] = deque()

    def write(self, chunk: bytes) -> None:
        """Put a chunk at the end. Raises as `_append`."""
        _append(self.path, self.size, chunk)
        self.size += len(chunk)
        self.chunks.append(len(chunk))

    def read(self) -> list[Item]:
        """Take the first chunk. Raises as `_read`."""
        # Those that are left are the last bytes of the file.
        items = _read(self.path, self.size - sum(self.chunks), self.chunks[0])
        self.chunks.popleft()
        return items


class DiskSpool:
    """A lane's `Spool`, in files of the directory that are named `name` and a number. It raises StorageError."""

    def __init__(self, directory: SpoolDirectory, name: str) -> None:
        self._directory = directory
        self._name = name
        self._length = 0
        self._tail: list[Item] = []
        self._tail_bytes = 0
        self._segments: deque[_Segment] = deque()  # The last one is written to.
        self._names = 0

    def __len__(self) -> int:
        return self._length

    def append(self, items: Sequence[Item]) -> int:
        """Put items in, behind all others. Returns how many of the first ones; fewer than all if the disk is full."""
        taken = 0
        for item in items:
            if self._is_chunk() and not self._write_tail():
                break
            self._tail.append(item)
            self._tail_bytes += len(item.payload)
            taken += 1
            if self._is_chunk():
                self._write_tail()
        self._length += taken
        return taken

    def _is_chunk(self) -> bool:
        return len(self._tail) >= CHUNK_ITEMS or self._tail_bytes >= CHUNK_BYTES

    def _write_tail(self) -> bool:
        """Write the tail to the disk. False: the disk is full, and the tail stays in memory."""
        try:
            if not self._segments or self._segments[-1].size >= SEGMENT_BYTES:
                self._names += 1
                self._segments.append(_Segment(self._directory.path() / f"{self._name}-{self._names}"))
            self._segments[-1].write(_encode(self._tail))
        except _NoRoomError:
            return False
        self._tail = []
        self._tail_bytes = 0
        return True

    def take(self) -> list[Item]:
        """Take out the next chunk; [] when the spool is empty."""
        while self._segments and not self._segments[0].chunks:
            self._drop_first()  # Nothing could be written to it.
        if not self._segments:
            items, self._tail, self._tail_bytes = self._tail, [], 0
        else:
            items = self._segments[0].read()
            if not self._segments[0].chunks:
                self._drop_first()
        self._length -= len(items)
        return items

    def _drop_first(self) -> None:
        self._segments.popleft().path.unlink(missing_ok=True)


class DiskParking:
    """A lane's `Parking`, in one file, `name` in the directory, which is written anew once all of it has been read.

    Memory holds for each user a chunk that is not full, and some 100 bytes for each chunk on disk. It raises
    StorageError.

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
        self._path: Path | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, user_id: object) -> bool:
        return user_id in self._users

    def put(self, user_id: str, item: Item) -> bool:
        """Put an item in, behind all others of the user. False: it was not, because the disk is full."""
        entry = self._users.get(user_id)
        if entry is None:
            entry = self._users[user_id] = (deque(), [])
        chunks, tail = entry
        if self._is_chunk(tail) and not self._write(chunks, tail):
            return False
        tail.append(item)
        self._length += 1
        if self._is_chunk(tail):
            self._write(chunks, tail)
        return True

    def _is_chunk(self, tail: list[Item]) -> bool:
        return bool(tail) and (len(tail) >= self._chunk_items or len(tail[-1].payload) >= CHUNK_BYTES // 4)

    def _write(self, chunks: deque[tuple[int, int]], tail: list[Item]) -> bool:
        """Write a user's tail to the disk. False: the disk is full, and the tail stays in memory."""
        encoded = _encode(tail)
        try:
            if self._path is None:
                self._path = self._directory.path() / self._name
            _append(self._path, self._size, encoded)
        except _NoRoomError:
            return False
        chunks.append((self._size, len(encoded)))
        self._size += len(encoded)
        self._on_disk += 1
        tail.clear()
        return True

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
        if self._path is None:
            raise RuntimeError(f"{self._name}: a parked chunk without a file")
        items = _read(self._path, offset, length)
        self._on_disk -= 1
        if not self._on_disk:
            self._path.unlink(missing_ok=True)
            self._size = 0
        return items
