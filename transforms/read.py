"""Read: files go in; activity by bucket of its user comes out, and rejects and counts beside it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import IOTypeHints

from schemas import Reject
from transforms.accounting.progress import Progress
from transforms.bundles import at_end_of_bundle
from transforms.reading.blocks import Block, Broken, Compression, FileFormat
from transforms.reading.bucket_blobs import BLOB_SIZE, BucketBlobs, ReadCounts, sort_in
from transforms.reading.files import FormatError, blocks, format_of
from transforms.reading.input_formats import ACTIVITY, Decoder, InputFormat
from transforms.reading.leniency import STRICT, Leniency
from transforms.reading.reasons import Unit

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
    """

    path: str
    size: int
    changed: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class FileRange:
    """What one worker reads at a time: a whole file, or a part of one.

    Attributes:
        size: bytes.
        start: only lines that start at this byte or after it.
        end: only lines that start before this byte; None for a whole file.
    """

    path: str
    size: int
    file_format: FileFormat
    compression: Compression | None
    start: int = 0
    end: int | None = None

    @property
    def has_others(self) -> bool:
        """Whether other ranges of the same file follow or come before."""
        return self.start > 0 or (self.end is not None and self.end >= RANGE_SIZE)


class ReadOutputs(NamedTuple):
    """What reading gives.

    Attributes:
        blobs: (bucket, blob), see `transforms.reading.bucket_blobs`.
        rejects: what was refused.
        counts: one for each range, to be added up.
    """

    blobs: PCollection[tuple[int, bytes]]
    rejects: PCollection[Reject]
    counts: PCollection[ReadCounts]


def match_files(patterns: Iterable[str]) -> list[InputFile]:
    """The files that match, each once, in the order of their paths.

    Args:
        patterns: paths or globs (`--input`).

    Raises:
        InputError: a pattern matches no file, or a directory, or its file system cannot be listed.
    """
    patterns = list(patterns)
    files: dict[str, InputFile] = {}
    try:
        results = FileSystems.match(patterns)
    except Exception as error:  # Beam's file systems raise whatever their clients do
        raise InputError(f"cannot list {', '.join(patterns)}: {error}") from error
    for pattern, result in zip(patterns, results, strict=True):
        if not result.metadata_list:
            raise InputError(f"--input {pattern} matches no file")
        if Path(pattern).is_dir():
            raise InputError(f"--input {pattern} is a directory; give {pattern.rstrip('/')}/*")
        for metadata in result.metadata_list:
            # Beam's local file system does not say when a file was changed.
            changed = metadata.last_updated_in_seconds or _changed(metadata.path)
            files[metadata.path] = InputFile(metadata.path, metadata.size_in_bytes, changed)
    return [files[path] for path in sorted(files)]


def _changed(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


def ranges_of(file: InputFile, input_format: InputFormat = ACTIVITY, file_format: str | None = None) -> list[FileRange]:
    """How a file is read: in ranges if it is plain JSON Lines, else as a whole.

    Args:
        file: to be read.
        input_format: what is in it.
        file_format: the format, whatever the extension says (`--file_format`).

    Raises:
        InputError: its format is not known, or cannot hold such input.
    """
    try:
        format_, compression = format_of(file.path, file_format)
    except FormatError as error:
        raise InputError(str(error)) from None
    if format_ not in input_format.file_formats:
        raise InputError(f"{file.path}: {input_format.title} are read from JSON, not from {format_}")
    if format_ != "jsonl" or compression:
        return [FileRange(file.path, file.size, format_, compression)]
    return [
        FileRange(
            file.path, min(RANGE_SIZE, file.size - start), format_, None, start, min(start + RANGE_SIZE, file.size)
        )
        for start in range(0, file.size, RANGE_SIZE)
    ]


class ReadActivity(beam.PTransform[beam.Pipeline, ReadOutputs]):
    """Reads files as session activity or as xAPI statements: Pipeline -> ReadOutputs.

    Args:
        files: to be read, as `match_files` returns them.
        input_format: what is in them.
        file_format: of all of them, whatever their extensions say.
        organisation: of activity that carries none.
        lrs_id: the store of activity that carries none.
        leniency: what is read beyond the rules.
        progress: is told after each block (a quarter of a megabyte) how much was read. Before each block it is asked
            whether to stop; then the rest of the range stays unread, and counts as unfinished.

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
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.ranges = [part for file in files for part in ranges_of(file, input_format, file_format)]
        self.read_range = ReadRange(input_format.decoder(organisation, lrs_id, leniency), progress)

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


class ReadRange(beam.DoFn):
    """FileRange -> (bucket, blob), with the outputs `rejects` and `counts`.

    The activity of small files is gathered, and leaves in common blobs.
    """

    def __init__(self, decoder: Decoder, progress: Progress | None) -> None:
        self._decoder = decoder
        self._progress = progress

    def start_bundle(self) -> None:
        self._blobs = BucketBlobs()

    def process(self, part: FileRange) -> Iterator[Any]:
        counts = ReadCounts()
        line_ends = 0
        unit: Unit = "row" if part.file_format in ("avro", "parquet") else "element"
        with FileSystems.open(part.path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            counted = _Counted(file)
            for block in blocks(counted, part.file_format, part.compression, part.start, part.end):
                if self._progress and self._progress.stopping():
                    counts += ReadCounts(unfinished=1)
                    break
                read, rejects = sort_in(block, part.path, self._decoder, self._blobs, part.start, unit)
                line_ends = _last_line(block) or line_ends
                for reject in rejects:
                    yield TaggedOutput("rejects", reject)
                size = counted.taken()
                counts += read + ReadCounts(size=size)
                if self._progress:
                    self._progress.advance(size=size, records=read.accepted + read.rejected)
                if self._blobs.size >= BLOB_SIZE:
                    yield from self._blobs.take()
            counts += ReadCounts(size=counted.taken())
            if part.has_others:
                counts += ReadCounts(line_ends={part.path: {part.start: line_ends}})
        yield TaggedOutput("counts", counts)

    def finish_bundle(self) -> Iterator[Any]:
        for blob in self._blobs.take():
            yield at_end_of_bundle(blob)


def _last_line(block: Block | Broken) -> int | None:
    """The number of the last line in a block, where the file is read by lines."""
    if isinstance(block, Broken):
        return block.line
    return block.line_of(len(block.items) - 1)


class _Counted:
    """A file that counts the bytes that are read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._read = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._read += len(content)
        return content

    def taken(self) -> int:
        """Bytes that were read since the last call."""
        read, self._read = self._read, 0
        return read
