"""Read: files go in; activity by bucket of its user comes out, and rejects and counts beside it."""

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes, FileSystem
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import IOTypeHints

from schemas import Reject
from transforms.accounting.board import Board
from transforms.accounting.words import counted
from transforms.bundles import OnStart, ReadOutputs, ReadsBlocks, nothing
from transforms.forwarders.source import ForwarderSource
from transforms.reading.blob_files import BlobFiles
from transforms.reading.blocks import FileFormat
from transforms.reading.bucket_blobs import ReadCounts
from transforms.reading.files import FormatError, blocks, format_of
from transforms.reading.input_formats import ACTIVITY, InputFormat
from transforms.reading.json_text import JsonText
from transforms.reading.leniency import STRICT, Leniency
from transforms.reading.local_names import is_pattern, matching, missing_folder
from transforms.reading.pipes import STANDARD_INPUT, Pipe, descriptor_of
from transforms.reading.reasons import Unit

logger = logging.getLogger(__name__)

RANGE_SIZE = 64 * 1024 * 1024
"""A plain JSON Lines file is split into ranges of this many bytes, so that workers can share it."""


class InputError(ValueError):
    """The input cannot be read as it was asked for. The text says what to change in how the job is started."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read, as it was when the job was started.

    Attributes:
        path: of any file system that Beam knows.
        size: bytes.
        changed: epoch s of its last change; 0 if that is not known.
        pipe: whether it can be read only once and from its beginning: a pipe, or standard input. Its size is 0.
    """

    path: str
    size: int
    changed: float = field(default=0.0, compare=False)
    pipe: bool = False


@dataclass(frozen=True, slots=True)
class FileRange:
    """What one worker reads at a time: a whole file, or a range of one.

    Attributes:
        size: bytes.
        start: where the range begins, a byte offset; see `transforms.reading.files.blocks`.
        end: where it ends; None for a whole file.
        pipe: see `InputFile`.
        number: of the file in the order of all files' paths.
    """

    path: str
    size: int
    file_format: FileFormat
    start: int = 0
    end: int | None = None
    pipe: bool = False
    number: int = 0


def match_files(patterns: Iterable[str], none_is_fine: bool = False) -> list[InputFile]:
    """The files that match, each once, in the order of their paths.

    A name that is there is that file, also when it could be a pattern. `-` is standard input.

    Args:
        patterns: paths or globs (`--input`).
        none_is_fine: whether a pattern may match no file, if the folder is there that it looks in.

    Raises:
        InputError: a pattern is empty, matches no file, a directory or a file whose name is not UTF-8, or its file
            system cannot be listed.
    """
    found: dict[str, InputFile] = {}
    above: dict[str, list[InputFile]] = {}
    for pattern in patterns:
        files = _match(pattern)
        above[pattern] = _match(_without_folders(pattern)) if "**/" in pattern else []
        if not files:
            _check_that_none_is_fine(pattern, none_is_fine, bool(above[pattern]))
        for file in files:
            if not file.path.isprintable() and any("\ud800" <= char <= "\udfff" for char in file.path):
                raise InputError(f"--input {pattern} matches {file.path!a}, a name that is not UTF-8: rename that file")
            found.setdefault(_identity(file.path), file)
    for pattern, files in above.items():
        left = [file for file in files if _identity(file.path) not in found]
        if left:
            logger.warning(
                "--input %s: ** stands for one folder or more, so what lies in the top folder is not read (%s); "
                "add --input '%s' to read it",
                pattern,
                counted(len(left), "file"),
                _without_folders(pattern),
            )
    return sorted(found.values(), key=lambda file: file.path)


def _match(pattern: str) -> list[InputFile]:
    if not pattern:
        raise InputError("--input is empty; give a file, a pattern, or - for standard input")
    if pattern == "-":
        return [InputFile(STANDARD_INPUT, 0, pipe=True)]
    if "://" not in pattern:
        try:
            if Path(pattern).is_dir():
                raise InputError(f"--input {pattern} is a directory; give {pattern.rstrip('/')}/*")
            return [_local_file(path) for path in matching(pattern, FileSystem.translate_pattern)]
        except OSError as error:
            raise InputError(f"cannot list {pattern}: {error.strerror or error}") from error
    try:
        there = is_pattern(pattern) and FileSystems.exists(pattern)
        (result,) = FileSystems.match([pattern.replace("[", "[[]") if there else pattern])
    except Exception as error:  # Beam's file systems raise whatever their clients do
        raise InputError(f"cannot list {pattern}: {error}") from error
    return [
        InputFile(metadata.path, metadata.size_in_bytes, metadata.last_updated_in_seconds or 0.0)
        for metadata in result.metadata_list
    ]


def _local_file(path: str) -> InputFile:
    state = Path(path).stat()
    if descriptor_of(path) is not None or not stat.S_ISREG(state.st_mode):
        return InputFile(path, 0, pipe=True)
    return InputFile(path, state.st_size, state.st_mtime)


def _identity(path: str) -> str:
    """The same for two spellings of one file."""
    return path if "://" in path else os.path.realpath(path)


def _without_folders(pattern: str) -> str:
    return pattern.replace("**/", "", 1)


def _check_that_none_is_fine(pattern: str, none_is_fine: bool, above: bool) -> None:
    """Raises InputError, unless a pattern that matches no file is to be expected to match some later."""
    if above and not none_is_fine:
        raise InputError(
            f"--input {pattern} matches no file: ** stands for one folder or more; "
            f"give '{_without_folders(pattern)}' for the top folder"
        )
    folder = None if "://" in pattern else missing_folder(pattern)
    if folder is not None:
        raise InputError(f"--input {pattern} matches no file: there is no folder {folder}")
    if not (none_is_fine and is_pattern(pattern)):
        raise InputError(f"--input {pattern} matches no file")


def ranges_of(file: InputFile, input_format: InputFormat = ACTIVITY, file_format: str | None = None) -> list[FileRange]:
    """How a file is read: in ranges if it is large and JSON Lines by its name, else as a whole.

    Whether it is text in which ranges can be told apart is for the worker to find out when it opens it: the launcher
    opens no file, and what a file holds may change until it is read.

    Args:
        file: to be read.
        input_format: what is in it.
        file_format: the format, whatever the extension says (`--file_format`).

    Raises:
        InputError: its format is not known, or cannot hold such input, or cannot be read from a pipe.
    """
    try:
        format_, compressed = format_of(file.path, file_format or (_pipe_format(file.path) if file.pipe else None))
    except FormatError as error:
        raise InputError(str(error)) from None
    if format_ not in input_format.file_formats:
        raise InputError(f"{file.path}: {input_format.title} are read from JSON, not from {format_}")
    if file.pipe and format_ == "parquet":
        raise InputError(f"{file.path}: Parquet is read from its end, which a pipe does not allow; give a file")
    if format_ != "jsonl" or compressed or file.size <= RANGE_SIZE:
        return [FileRange(file.path, file.size, format_, pipe=file.pipe)]
    return [
        FileRange(file.path, min(RANGE_SIZE, file.size - start), format_, start, min(start + RANGE_SIZE, file.size))
        for start in range(0, file.size, RANGE_SIZE)
    ]


def _pipe_format(path: str) -> str | None:
    """The format of a pipe whose name does not tell one."""
    try:
        format_of(path)
    except FormatError:
        return "jsonl"
    return None


class ReadActivity(beam.PTransform[beam.Pipeline, ReadOutputs]):
    """Reads files as session activity or as xAPI statements: Pipeline -> ReadOutputs.

    Args:
        files: to be read, as `match_files` returns them.
        input_format: what is in them.
        file_format: of all of them, whatever their extensions say.
        organisation: of activity that carries none.
        lrs_id: the store of activity that carries none.
        leniency: what is read beyond the rules.
        board: is told after each block (a quarter of a megabyte) how much was read. Before each block it is asked
            whether to stop; then the rest of the range stays unread, and counts as unfinished.
        blobs: where blobs lie until they are derived, if all workers are on this machine. None: they pass the runner.
        forwarders: of statements that are forwarded as they are, which are matched as they are read. None: they are
            not.
        on_start: called when a worker sets the step up.

    Raises:
        InputError: at once, for a file that cannot be read in this way.
    """

    def __init__(
        self,
        files: Iterable[InputFile],
        input_format: InputFormat = ACTIVITY,
        file_format: str | None = None,
        organisation: str | None = None,
        lrs_id: str | None = None,
        leniency: Leniency = STRICT,
        board: Board | None = None,
        blobs: BlobFiles | None = None,
        forwarders: ForwarderSource | None = None,
        on_start: OnStart = nothing,
    ) -> None:
        super().__init__()
        self.ranges = [
            replace(part, number=number)
            for number, file in enumerate(files)
            for part in ranges_of(file, input_format, file_format)
        ]
        decoder = input_format.decoder(organisation, lrs_id, leniency)
        self.read_range = ReadRange(decoder, board, blobs, forwarders, on_start)

    def default_type_hints(self) -> IOTypeHints:
        # Beam takes an output of several PCollections for one type, and warns.
        return IOTypeHints.empty()

    def expand(self, begin: beam.Pipeline) -> ReadOutputs:
        outputs = (
            begin
            | "File ranges" >> beam.Create(self.ranges)
            | "To all workers" >> beam.Reshuffle()
            | "Read ranges"
            >> beam.ParDo(self.read_range)
            .with_output_types(tuple[int, bytes], rejects=Reject, counts=ReadCounts)
            .with_outputs("rejects", "counts", main="blobs")
        )
        return ReadOutputs(outputs.blobs, outputs.rejects, outputs.counts)


class ReadRange(ReadsBlocks):
    """FileRange -> (bucket, blob), with the outputs `rejects` and `counts`."""

    def process(self, part: FileRange) -> Iterator[Any]:
        unit: Unit = "row" if part.file_format in ("avro", "parquet") else "element"
        with self._open(part) as file:
            counted = _Counted(file, part.size if part.file_format == "parquet" else None)
            parts = blocks(counted, part.file_format, part.start, part.end)
            counts = yield from self.sort_in_all(parts, part.path, counted.taken, part.start, unit, part.number)
            counts += ReadCounts(unfinished=int(isinstance(file, Pipe) and file.stopped))
            if part.end is not None and isinstance(parts, JsonText):
                counts += ReadCounts(line_ends={part.path: {part.start: parts.line_ends}})
        yield TaggedOutput("counts", counts)

    def _open(self, part: FileRange) -> IO[bytes] | Pipe:
        if part.pipe:
            return Pipe(part.path, self.stopping)
        opened: IO[bytes] = FileSystems.open(part.path, compression_type=CompressionTypes.UNCOMPRESSED)
        return opened


class _Counted:
    """A file that counts the bytes that are read of it.

    most: how many to count at most, of a file of which parts are read twice, as of Parquet.
    """

    def __init__(self, file: IO[bytes] | Pipe, most: int | None) -> None:
        self._file = file
        self._left = most
        self._read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def seek(self, offset: int, whence: int = 0) -> int:
        position: int = self.__getattr__("seek")(offset, whence)
        return position

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._read += len(content)
        return content

    def taken(self) -> int:
        """Bytes that were read since the last call."""
        read, self._read = self._read, 0
        if self._left is not None:
            read = min(read, self._left)
            self._left -= read
        return read
