"""Where a run keeps its books: a directory on a local disk, or one on any file system Beam knows.

The only module of the sending side that touches Beam, and only when the output is not local.
"""

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Protocol

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


class Storage(Protocol):
    """Files by name, relative to a root; `/` separates."""

    root: str

    def list(self, directory: str) -> list[str]:
        """Names (without the directory) of the files in `directory`, sorted; none if it does not exist."""
        ...

    def open(self, name: str) -> BinaryIO:
        """For reading. FileNotFoundError if it is not there."""
        ...

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        """The whole of a new file, from pieces that need not be in memory together."""
        ...

    def remove(self, name: str) -> None:
        """A file, or a directory and all in it; nothing happens if it is not there."""
        ...


def local_path(output: str) -> Path | None:
    """`output` as a local path; None when it is a url that Beam must open (s3://, gs://, hdfs://, ...)."""
    scheme = _SCHEME.match(output)
    if scheme is None:
        return Path(output)
    if scheme[1].lower() == "file":
        return Path(output[scheme.end() :])
    return None


def storage_at(output: str) -> Storage:
    """The storage whose root is `output`: a path, a file:// url, or a url of a file system registered with Beam."""
    path = local_path(output)
    return BeamStorage(output) if path is None else LocalStorage(path)


class LocalStorage:
    """A directory on this machine."""

    def __init__(self, root: Path) -> None:
        self.path = root
        self.root = str(root)

    def list(self, directory: str) -> list[str]:
        try:
            return sorted(entry.name for entry in os.scandir(self.path / directory) if entry.is_file())
        except FileNotFoundError:
            return []

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
        target = self.path / name
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


class BeamStorage:
    """A directory on a Beam file system.

    Object stores show a file when it is complete; elsewhere a reader may meet one cut short, and must bear it.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    def _url(self, name: str) -> str:
        return f"{self.root}/{name}"

    def list(self, directory: str) -> list[str]:
        files, failed = _beam()
        prefix = self._url(directory) + "/"
        try:
            matched = files.match([prefix + "*"])[0].metadata_list
        except failed:
            if files.exists(prefix):
                raise
            return []
        names = (metadata.path.removeprefix(prefix) for metadata in matched)
        return sorted(name for name in names if "/" not in name)

    def open(self, name: str) -> BinaryIO:
        files, _ = _beam()
        url = self._url(name)
        if not files.exists(url):
            raise FileNotFoundError(url)
        stream: BinaryIO = files.open(url, "application/octet-stream", compression_type="uncompressed")
        return stream

    def write(self, name: str, pieces: Iterable[bytes]) -> None:
        files, _ = _beam()
        with files.create(self._url(name), "application/octet-stream", compression_type="uncompressed") as stream:
            for piece in pieces:
                stream.write(piece)

    def remove(self, name: str) -> None:
        files, _ = _beam()
        url = self._url(name)
        inside = [metadata.path for metadata in files.match([url + "/**"])[0].metadata_list]
        whole = [*inside, url] if files.exists(url) else inside
        if whole:
            files.delete(whole)


def _beam() -> tuple[Any, type[Exception]]:
    """Beam's FileSystems (which is not typed) and what it raises; imported late, since that takes seconds."""
    from apache_beam.io.filesystem import BeamIOError
    from apache_beam.io.filesystems import FileSystems

    return FileSystems, BeamIOError
