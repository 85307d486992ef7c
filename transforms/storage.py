"""Where a run keeps its files: a directory on a local disk, or on any file system that Beam knows.

The cores read and write through this module alone. It imports Beam late, and only for what is not on a local disk,
because importing Beam takes seconds.
"""

import errno
import os
import re
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import gettempdir
from typing import IO, Any, BinaryIO, Protocol

from transforms import durability
from transforms.beam_import import import_beam_file_systems

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FRAME_LENGTH = struct.Struct("<I")


class StorageError(RuntimeError):
    """A file of a run cannot be written or read, or is not as the job wrote it.

    The text names the file and says what to do. It is the end of a run, and no fault of the program: whoever reports
    it shows the text alone, without a traceback.
    """


_REMEDIES = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room: the quota of that disk is used up",
    errno.EFBIG: "allow larger files (`ulimit -f`)",
    errno.EMFILE: "allow this process more open files (`ulimit -n`)",
    errno.ENFILE: "allow this machine more open files (`fs.file-max`)",
    errno.ENOMEM: "give this machine more memory",
    errno.EACCES: "give the job the right to it",
    errno.EPERM: "give the job the right to it",
    errno.ENOENT: "make the directory that it is to be in",
    errno.EROFS: "give another directory: that file system takes no writes",
}
"""What to do about an error of the operating system, by its number."""


def remedy(error: OSError) -> str:
    """What to do about an error of the operating system, for a message."""
    return _REMEDIES.get(error.errno or 0, "see to the disk")


def not_written(path: str | Path, error: OSError) -> StorageError:
    """The error that says that a file cannot be written, and what to do."""
    return StorageError(f"{path} cannot be written: {error.strerror or error}; {remedy(error)}, then run again")


def temporary_place() -> str:
    """Where temporary files go, for a message."""
    try:
        return f"{gettempdir()} (TMPDIR)"
    except OSError:  # It looks for a directory that it can write to, and there is none.
        return "the directory of temporary files (TMPDIR)"


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turns an OSError of what is done inside into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise not_written(path, error) from error


class Storage(Protocol):
    """Files in a directory and its subdirectories. Names are relative to the root, with `/` between their parts.

    Attributes:
        root: the directory, as a path or a url.
    """

    root: str

    def directories(self, directory: str) -> list[str]:
        """The names of the directories in `directory`, sorted. Elsewhere than on a local disk: of those with files."""
        ...

    def list(self, directory: str) -> list[str]:
        """The names of the files in `directory`, without the directory, sorted; none if it does not exist."""
        ...

    def modified(self, directory: str) -> dict[str, float]:
        """When the files that `list` names were last written to, by name, in epoch seconds; 0 where nobody knows."""
        ...

    def sizes(self, directory: str) -> dict[str, int]:
        """The bytes of the files that `list` names, by name."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading. Raises FileNotFoundError if it is not there."""
        ...

    def write(self, name: str, pieces: Iterable[bytes], *, durable: bool = True) -> None:
        """Write a whole file. Its pieces need not be in memory together. It must not be empty, which S3 refuses.

        With `durable` it survives a power cut when this returns. Elsewhere than on a local disk that is always so.

        Raises StorageError if it cannot be written. Nothing is left of it then.
        """
        ...

    def sync(self, directory: str, names: Iterable[str]) -> None:
        """Make files of a directory durable that others have written there. A local disk alone needs that."""
        ...

    def keep_time(self, name: str, modified: float) -> None:
        """Say that a file was last written to at that time (epoch s). A store that cannot says its own."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def remove_each(self, names: Iterable[str]) -> None:
        """Remove files, as far as they are there. Elsewhere than on a local disk that takes few calls."""
        ...

    def remove_all(self, directory: str) -> None:
        """Remove a directory and all that is in it, if it is there."""
        ...


def local_path(output: str) -> Path | None:
    """`output` as a path of this machine; None if it is a url that Beam must open (s3://, gs://, hdfs://, ...)."""
    scheme = _SCHEME.match(output)
    if scheme is None:
        return Path(output)
    if scheme[1].lower() == "file":
        return Path(output[scheme.end() :])
    return None


def storage_at(output: str | Storage) -> Storage:
    """The storage whose root is `output`.

    Args:
        output: a path, a file:// url, or a url of a file system that is registered with Beam. A storage is given back
            as it is.
    """
    if not isinstance(output, str):
        return output
    path = local_path(output)
    return BeamStorage(output) if path is None else LocalStorage(path)


def read_files(location: str, suffixes: tuple[str, ...]) -> dict[str, bytes]:
    """Read a file, or the files of a directory, on any file system that Beam knows. What is compressed stays so.

    Args:
        location: the path or url of the file or the directory.
        suffixes: how the names of the files in a directory must end.

    Returns:
        The content of each file by its path.

    Raises:
        FileNotFoundError: nothing is there.
        Exception: whatever the client of the file system raises.
    """
    path = local_path(location)
    if path is not None:
        return _read_local_files(location, path, suffixes)
    files, _ = _beam()
    from apache_beam.io.filesystem import CompressionTypes

    inside = files.match([files.join(location, "*")])[0].metadata_list
    paths = [metadata.path for metadata in inside if metadata.path.endswith(suffixes)]
    if not paths and not files.exists(location):
        raise FileNotFoundError(location)
    contents = {}
    for path in paths or [location]:
        with files.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            contents[path] = file.read()
    return contents


def _read_local_files(location: str, path: Path, suffixes: tuple[str, ...]) -> dict[str, bytes]:
    """As `read_files`, without Beam."""
    if path.is_dir():
        names = sorted(file.name for file in path.iterdir() if file.is_file() and file.name.endswith(suffixes))
        if names:
            return {f"{location.rstrip('/')}/{name}": (path / name).read_bytes() for name in names}
    return {location: path.read_bytes()}


class LocalStorage:
    """A directory on this machine."""

    def __init__(self, root: Path) -> None:
        self.path = root
        self.root = str(root)

    def directories(self, directory: str) -> list[str]:
        try:
            with os.scandir(self.path / directory) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir())
        except FileNotFoundError:
            return []

    def list(self, directory: str) -> list[str]:
        return sorted(entry.name for entry in self._files(directory))

    def modified(self, directory: str) -> dict[str, float]:
        times: dict[str, float] = {}
        for entry in self._files(directory):
            times[entry.name] = 0.0
            with suppress(FileNotFoundError):  # It was a journal, and has become a part meanwhile.
                times[entry.name] = entry.stat().st_mtime
        return times

    def _files(self, directory: str) -> Iterator[os.DirEntry[str]]:
        with suppress(FileNotFoundError), os.scandir(self.path / directory) as entries:
            yield from (entry for entry in entries if entry.is_file())

    def sizes(self, directory: str) -> dict[str, int]:
        return {entry.name: entry.stat().st_size for entry in self._files(directory)}

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb", buffering=1 << 20)

    def write(self, name: str, pieces: Iterable[bytes], *, durable: bool = True) -> None:
        """Write a whole file in one step: a reader sees the old file or the new one, and never a half of it."""
        with writing(self.path / name):
            durability.write_file(self.path / name, pieces, durable=durable)

    def sync(self, directory: str, names: Iterable[str]) -> None:
        """Make files and their names durable. Nothing is done if there are none."""
        names = sorted(names)
        for name in names:
            durability.sync_file(self.path / directory / name)
        if names:
            durability.sync_directory(self.path / directory)
            durability.sync_directory((self.path / directory).parent)

    def keep_time(self, name: str, modified: float) -> None:
        os.utime(self.path / name, (modified, modified))

    def remove(self, name: str) -> None:
        durability.remove(self.path / name)

    def remove_each(self, names: Iterable[str]) -> None:
        for name in names:
            self.remove(name)

    def remove_all(self, directory: str) -> None:
        if (self.path / directory).exists():
            shutil.rmtree(self.path / directory)


class BeamStorage:
    """A directory on a Beam file system, which must have been given its options (`FileSystems.set_options`).

    Each call is one request or more. So write few files, and make few calls.
    Object stores show a file when it is complete. On other file systems a reader may meet one that is cut short.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def _url(self, name: str) -> str:
        return f"{self.root}/{name}"

    def directories(self, directory: str) -> list[str]:
        inside = self._matched(directory, "**")
        return sorted({name.partition("/")[0] for name in inside if "/" in name})

    def list(self, directory: str) -> list[str]:
        return sorted(self._files(directory))

    def modified(self, directory: str) -> dict[str, float]:
        return {name: file.last_updated_in_seconds or 0.0 for name, file in self._files(directory).items()}

    def sizes(self, directory: str) -> dict[str, int]:
        return {name: file.size_in_bytes for name, file in self._files(directory).items()}

    def _files(self, directory: str) -> dict[str, Any]:
        """What Beam knows of the files in a directory, by their names."""
        return {name: file for name, file in self._matched(directory, "*").items() if "/" not in name}

    def _matched(self, directory: str, pattern: str) -> dict[str, Any]:
        files, failed = _beam()
        prefix = self._url(directory).rstrip("/") + "/"
        try:
            matched = files.match([prefix + pattern])[0].metadata_list
        except failed:
            if files.exists(prefix):
                raise
            return {}
        return {file.path.removeprefix(prefix): file for file in matched}

    def open(self, name: str) -> BinaryIO:
        files, _ = _beam()
        url = self._url(name)
        try:
            stream: BinaryIO = files.open(url, "application/octet-stream", compression_type="uncompressed")
        except Exception as error:  # Each file system raises its own for what is not there.
            if files.exists(url):
                raise
            raise FileNotFoundError(url) from error
        return stream

    def write(self, name: str, pieces: Iterable[bytes], *, durable: bool = True) -> None:
        files, _ = _beam()
        url = self._url(name)
        try:
            with files.create(url, "application/octet-stream", compression_type="uncompressed") as stream:
                for piece in pieces:
                    stream.write(piece)
        except StorageError:
            raise
        except Exception as error:  # Each file system raises its own.
            raise StorageError(
                f"{url} cannot be written: {error}; see that the store can be reached and written, then run again"
            ) from error

    def sync(self, directory: str, names: Iterable[str]) -> None:
        """Nothing to do: what is uploaded is durable."""

    def keep_time(self, name: str, modified: float) -> None:
        """Nothing to do: a store has its own times."""

    def remove(self, name: str) -> None:
        self._delete([self._url(name)])

    def remove_each(self, names: Iterable[str]) -> None:
        self._delete([self._url(name) for name in names])

    def remove_all(self, directory: str) -> None:
        files, failed = _beam()
        try:
            matched = files.match([self._url(directory) + "/**"])[0].metadata_list
        except failed:
            return self._delete([self._url(directory)])
        return self._delete([metadata.path for metadata in matched])

    def _delete(self, urls: Sequence[str]) -> None:
        files, failed = _beam()
        if not urls:
            return
        try:
            files.delete(list(urls))
        except failed:
            if any(files.exists(url) for url in urls):
                raise


def _beam() -> tuple[Any, type[Exception]]:
    """Beam's FileSystems, which is not typed, and what it raises. Imported late, because that takes seconds."""
    import_beam_file_systems()
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    return FileSystems, BeamIOError


# Files of frames: for each, the length of its data in four bytes (little-endian), then the data.


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """Append `data` (less than 4 GiB) to a file of frames."""
    stream.write(_FRAME_LENGTH.pack(len(data)))
    stream.write(data)


def frame(data: bytes) -> bytes:
    """The bytes that `write_frame` writes."""
    return _FRAME_LENGTH.pack(len(data)) + data


def read_frames(stream: IO[bytes], offset: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The offset and the data of each frame.

    Args:
        stream: where it is, a frame begins.
        offset: that place in the file.
        end: the offset where the last frame ends; None for the end of the file.

    Raises:
        EOFError: the file ends in the middle of a frame.
    """
    while offset != end and (head := stream.read(_FRAME_LENGTH.size)):
        size = _size_of_frame(head)
        yield offset, _exactly(stream, size)
        offset += _FRAME_LENGTH.size + size


def read_frame(stream: IO[bytes], offset: int) -> bytes:
    """The data of one frame, at an offset that `read_frames` gave. Raises EOFError as that does."""
    stream.seek(offset)
    return _exactly(stream, _size_of_frame(stream.read(_FRAME_LENGTH.size)))


def _size_of_frame(head: bytes) -> int:
    if len(head) < _FRAME_LENGTH.size:
        raise EOFError
    (size,) = _FRAME_LENGTH.unpack(head)
    return int(size)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    """The next `size` bytes of a file. A damaged length asks for no more memory than the file has bytes."""
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
