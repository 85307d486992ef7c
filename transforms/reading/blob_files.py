"""Blobs of activity on a local disk, for runs whose workers are all on one machine.

A runner on one machine keeps in memory what is grouped, several times over. So the blobs lie in files, one of each
bucket and writer, and only their names pass the GroupByKey. The files are for the life of one run. They are not synced:
after a power cut the next run reads the input again.
"""

import os
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from transforms import durability
from transforms.storage import StorageError, remedy


class _Name(NamedTuple):
    """Where a blob is.

    Attributes:
        writer: who wrote it: a number that no other writer has.
        offset: of its first byte in the file of its bucket and writer.
        length: bytes.
    """

    writer: bytes
    offset: int
    length: int


_NAME = struct.Struct(">8sQI")


@dataclass(frozen=True)
class BlobFiles:
    """The blobs of one run in a directory of this machine. Pickles, so that every worker has it.

    Attributes:
        directory: of the run alone. The files are directly in it.
    """

    directory: Path

    def writer(self) -> "BlobWriter":
        """A new writer, for one thread."""
        return BlobWriter(self.directory)

    def blobs(self, bucket: int, names: Iterable[bytes]) -> "StoredBlobs":
        """The blobs of a bucket that have these names."""
        return StoredBlobs(self.directory, bucket, names)


class BlobWriter:
    """Appends blobs to files of its own, one of each bucket."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writer = uuid4().bytes[:8]
        self._sizes: dict[int, int] = {}

    def write(self, bucket: int, blob: bytes) -> bytes:
        """Put a blob away. Returns its name, for `BlobFiles.blobs`.

        Raises:
            StorageError: the disk does not take it. The text says what to do.
        """
        offset = self._sizes.get(bucket, 0)
        try:
            # Not kept open: a worker may have few descriptors, and connections need them.
            path = _path(self._directory, self._writer, bucket)
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, durability.FILE_MODE)
            try:
                durability.append_all(descriptor, blob)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(
                f"{self._directory} cannot hold what was read until it is derived: {error.strerror or error}; "
                f"{remedy(error)}, or give another directory with --temp_dir, then run again: nothing of this input "
                "was sent"
            ) from error
        self._sizes[bucket] = offset + len(blob)
        return _NAME.pack(self._writer, offset, len(blob))


class StoredBlobs(Collection[bytes]):
    """The blobs of one bucket. They are read from the disk whenever they are gone through, one at a time.

    Args:
        directory: where the files are.
        bucket: of the users.
        names: of the blobs, as `BlobWriter.write` gave them.
    """

    def __init__(self, directory: Path, bucket: int, names: Iterable[bytes]) -> None:
        self._files: dict[Path, list[_Name]] = {}
        # Sorted, so that each file is read from its beginning to its end.
        for name in sorted(_Name(*_NAME.unpack(name)) for name in names):
            self._files.setdefault(_path(directory, name.writer, bucket), []).append(name)

    def __len__(self) -> int:
        return sum(map(len, self._files.values()))

    def __contains__(self, blob: object) -> bool:
        return any(blob == each for each in self)

    def __iter__(self) -> Iterator[bytes]:
        """The blobs. Raises StorageError if one cannot be read."""
        for path, names in self._files.items():
            try:
                with path.open("rb") as file:
                    for name in names:
                        file.seek(name.offset)
                        blob = file.read(name.length)
                        if len(blob) < name.length:
                            raise StorageError(f"{path} is cut short: see that the disk is well, then run again")
                        yield blob
            except FileNotFoundError:
                raise StorageError(
                    f"{path} was deleted during the run: leave the directory of temporary files alone, then run again"
                ) from None
            except OSError as error:
                raise StorageError(
                    f"{path} cannot be read: {error.strerror or error}; {remedy(error)}, then run again"
                ) from error

    def remove(self) -> None:
        """Remove the files, so that their room on the disk is free before the run ends."""
        for path in self._files:
            with suppress(OSError):  # What cannot be removed now goes with the directory.
                path.unlink(missing_ok=True)


def _path(directory: Path, writer: bytes, bucket: int) -> Path:
    return directory / f"activity-{bucket:02}-{writer.hex()}"
