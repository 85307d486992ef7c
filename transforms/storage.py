"""Where a run keeps its books: a directory on a local disk, or one on any file system Beam knows.

The cores read and write through this module alone. It imports Beam late, and only for what is not on a local disk:
importing Beam takes seconds.
"""

import os
import re
import shutil
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Protocol

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FRAME_LENGTH = struct.Struct("<I")


class Storage(Protocol):
    """Files by name, relative to a root; `/` separates."""

    root: str

    def list(self, directory: str) -> list[str]:
        """Names (without the directory) of the files in `directory`, sorted; none if it does not exist."""
        ...

    def modified(self, directory: str) -> dict[str, float]:
        """When each of the files that `list` names was last written to, in epoch seconds; 0 where nobody knows."""
        ...

    def open(self, name: str) -> BinaryIO:
        """For reading. FileNotFoundError if it is not there."""
        ...

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """The whole of a new file, from pieces that need not be in memory together. Not an empty one: S3 refuses it."""
        ...

    def remove(self, name: str) -> None:
        """A file; nothing happens if it is not there."""
        ...

    def remove_all(self, directory: str) -> None:
        """A directory and all in it; nothing happens if it is not there."""
        ...


def local_path(output: str) -> Path | None:
    """`output` as a local path; None when it is a url that Beam must open (s3://, gs://, hdfs://, ...)."""
    scheme = _SCHEME.match(output)
    if scheme is None:
        return Path(output)
    if scheme[1].lower() == "file":
        return Path(output[scheme.end() :])
    return None


def storage_at(output: str | Storage) -> Storage:
    """The storage whose root is `output`: a path, a file:// url, or a url of a file system registered with Beam.

    A storage is taken as it is: a test's, or one that stores elsewhere.
    """
    if not isinstance(output, str):
        return output
    path = local_path(output)
    return BeamStorage(output) if path is None else LocalStorage(path)


def read_files(location: str, suffixes: tuple[str, ...]) -> dict[str, bytes]:
    """Path to content of the file at `location`, or of the files in that directory whose names end with `suffixes`.

    Any file system that Beam knows; what is compressed stays so. Raises FileNotFoundError when nothing is there, and
    whatever the file system's client raises.
    """
    from apache_beam.io.filesystem import CompressionTypes

    files, _ = _beam()
    inside = files.match([files.join(location, "*")])[0].metadata_list
    paths = [found.path for found in inside if found.path.endswith(suffixes)]
    if not paths and not files.exists(location):
        raise FileNotFoundError(location)
    contents = {}
    for path in paths or [location]:
        with files.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            contents[path] = file.read()
    return contents


class LocalStorage:
    """A directory on this machine."""

    def __init__(self, root: Path) -> None:
        self.path = root
        self.root = str(root)

    def list(self, directory: str) -> list[str]:
        return sorted(entry.name for entry in self._files(directory))

    def modified(self, directory: str) -> dict[str, float]:
        times: dict[str, float] = {}
        for entry in self._files(directory):
            times[entry.name] = 0.0
            with suppress(FileNotFoundError):  # a journal that has become a part meanwhile
                times[entry.name] = entry.stat().st_mtime
        return times

    def _files(self, directory: str) -> Iterator[os.DirEntry[str]]:
        with suppress(FileNotFoundError), os.scandir(self.path / directory) as entries:
            yield from (entry for entry in entries if entry.is_file())

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb", buffering=1 << 20)

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """In one step: a reader sees the old file or the new one, never half of it."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        with unfinished.open("wb") as stream:
            stream.writelines(pieces)
        unfinished.replace(target)

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def remove_all(self, directory: str) -> None:
        if (self.path / directory).exists():
            shutil.rmtree(self.path / directory)


class BeamStorage:
    """A directory on a Beam file system, which must have been given its options (`FileSystems.set_options`).

    Every call costs some 0.1 s on S3, since Beam makes a new client for each: so few files, and few calls. Object
    stores show a file when it is complete; elsewhere a reader may meet one cut short, and must bear it.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def _url(self, name: str) -> str:
        return f"{self.root}/{name}"

    def list(self, directory: str) -> list[str]:
        return sorted(self.modified(directory))

    def modified(self, directory: str) -> dict[str, float]:
        files, failed = _beam()
        prefix = self._url(directory) + "/"
        try:
            matched = files.match([prefix + "*"])[0].metadata_list
        except failed:
            if files.exists(prefix):
                raise
            return {}
        times = {found.path.removeprefix(prefix): found.last_updated_in_seconds or 0.0 for found in matched}
        return {name: time for name, time in times.items() if "/" not in name}

    def open(self, name: str) -> BinaryIO:
        files, _ = _beam()
        url = self._url(name)
        try:
            stream: BinaryIO = files.open(url, "application/octet-stream", compression_type="uncompressed")
        except Exception as error:  # each file system has its own for what is not there
            if files.exists(url):
                raise
            raise FileNotFoundError(url) from error
        return stream

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        files, _ = _beam()
        with files.create(self._url(name), "application/octet-stream", compression_type="uncompressed") as stream:
            for piece in pieces:
                stream.write(piece)

    def remove(self, name: str) -> None:
        self._delete([self._url(name)])

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
    """Beam's FileSystems (which is not typed) and what it raises; imported late, since that takes seconds."""
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    return FileSystems, BeamIOError


# Files of frames: for each, the length of its data in four bytes (little-endian), then the data.


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """Append `data` (less than 4 GiB) to a file of frames."""
    stream.write(_FRAME_LENGTH.pack(len(data)))
    stream.write(data)


def frame(data: bytes) -> bytes:
    """What `write_frame` writes."""
    return _FRAME_LENGTH.pack(len(data)) + data


def read_frames(stream: IO[bytes], offset: int = 0, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """The offset and data of each frame, from where the stream is, at `offset`, to `end` or the end of the stream."""
    while offset != end and (head := stream.read(_FRAME_LENGTH.size)):
        (size,) = _FRAME_LENGTH.unpack(head)
        yield offset, stream.read(size)
        offset += _FRAME_LENGTH.size + size


def read_frame(stream: IO[bytes], offset: int) -> bytes:
    """The data of the frame at `offset`, as `read_frames` gave it."""
    stream.seek(offset)
    (size,) = _FRAME_LENGTH.unpack(stream.read(_FRAME_LENGTH.size))
    return stream.read(size)
