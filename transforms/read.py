"""Reading: files in; activity by bucket of its user, rejects and counts out."""

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
from transforms.reading.blocks import Compression, FileFormat
from transforms.reading.bucket_blobs import BLOB_SIZE, BucketBlobs, ReadCounts, sort_in
from transforms.reading.files import FormatError, blocks, format_of
from transforms.reading.input_formats import ACTIVITY, Decoder, InputFormat

RANGE_SIZE = 64 * 1024 * 1024
"""A plain JSON Lines file is split into ranges of this many bytes, so that workers can share it."""


class InputError(ValueError):
    """Input that cannot be read as asked for: a mistake in how the job was started."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read, its size in bytes and when it was last changed (epoch s), as it was when the job started."""

    path: str
    size: int
    changed: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class FileRange:
    """What one worker reads at a time: a whole file, or the lines that start in [start, end)."""

    path: str
    size: int
    file_format: FileFormat
    compression: Compression | None
    start: int = 0
    end: int | None = None


class ReadOutputs(NamedTuple):
    """`blobs`: (bucket, blob), see `transforms.reading.bucket_blobs`; `rejects`; `counts`: to be added up."""

    blobs: PCollection[tuple[int, bytes]]
    rejects: PCollection[Reject]
    counts: PCollection[ReadCounts]


def match_files(patterns: Iterable[str]) -> list[InputFile]:
    """The files that `patterns` match, each once, in the order of their paths. Raises InputError."""
    asked = list(patterns)
    found: dict[str, InputFile] = {}
    try:
        results = FileSystems.match(asked)
    except Exception as error:  # Beam's file systems raise whatever their clients do
        raise InputError(f"cannot list {', '.join(asked)}: {error}") from error
    for pattern, result in zip(asked, results, strict=True):
        if not result.metadata_list:
            raise InputError(f"--input {pattern} matches no file")
        if Path(pattern).is_dir():
            raise InputError(f"--input {pattern} is a directory; give {pattern.rstrip('/')}/*")
        for metadata in result.metadata_list:
            # Beam's local file system does not say when.
            changed = metadata.last_updated_in_seconds or _changed(metadata.path)
            found[metadata.path] = InputFile(metadata.path, metadata.size_in_bytes, changed)
    return [found[path] for path in sorted(found)]


def _changed(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError:
        return 0.0


def ranges_of(file: InputFile, input_format: InputFormat = ACTIVITY, file_format: str | None = None) -> list[FileRange]:
    """How to read `file`: by the range if it is plain JSON Lines, else whole. Raises InputError."""
    try:
        known, compression = format_of(file.path, file_format)
    except FormatError as error:
        raise InputError(str(error)) from None
    if known not in input_format.file_formats:
        raise InputError(f"{file.path}: {input_format.title} are read from JSON, not from {known}")
    if known != "jsonl" or compression:
        return [FileRange(file.path, file.size, known, compression)]
    return [
        FileRange(file.path, min(RANGE_SIZE, file.size - start), known, None, start, min(start + RANGE_SIZE, file.size))
        for start in range(0, file.size, RANGE_SIZE)
    ]


class ReadActivity(beam.PTransform[beam.Pipeline, ReadOutputs]):
    """Reads `files` as activity, or as xAPI statements; applied to the pipeline itself.

    `file_format` overrides what the extensions say; `organisation` and `lrs_id` are given to activity that carries
    none. Both hooks are asked or told once a block (a quarter of a megabyte); once `stop` says so, no more is read.
    Raises InputError at once for files that cannot be read in this way.
    """

    def __init__(
        self,
        files: Iterable[InputFile],
        input_format: InputFormat = ACTIVITY,
        file_format: str | None = None,
        organisation: str | None = None,
        lrs_id: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__()
        self.ranges = [part for file in files for part in ranges_of(file, input_format, file_format)]
        self.read_range = ReadRange(input_format.decoder(organisation, lrs_id), progress)

    def default_type_hints(self) -> IOTypeHints:
        return IOTypeHints.empty()  # Beam warns of annotations that name several outputs

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
    """A range of a file to its activity. What many small files hold is gathered into common blobs."""

    def __init__(self, decoder: Decoder, progress: Progress | None) -> None:
        self._decoder = decoder
        self._progress = progress

    def start_bundle(self) -> None:
        self._blobs = BucketBlobs()

    def process(self, part: FileRange) -> Iterator[Any]:
        counts = ReadCounts()
        with FileSystems.open(part.path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            counted = _Counted(file)
            for block in blocks(counted, part.file_format, part.compression, part.start, part.end):
                if self._progress and self._progress.stopping():
                    counts += ReadCounts(unfinished=1)
                    break
                read, rejects = sort_in(block, part.path, self._decoder, self._blobs)
                for reject in rejects:
                    yield TaggedOutput("rejects", reject)
                size = counted.taken()
                counts += read + ReadCounts(size=size)
                if self._progress:
                    self._progress.advance(size=size, records=read.accepted + read.rejected)
                if self._blobs.size >= BLOB_SIZE:
                    yield from self._blobs.take()
            counts += ReadCounts(size=counted.taken())
        yield TaggedOutput("counts", counts)

    def finish_bundle(self) -> Iterator[Any]:
        for blob in self._blobs.take():
            yield at_end_of_bundle(blob)


class _Counted:
    """A file that counts what is read of it."""

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
        """Bytes read since the last call."""
        read, self._read = self._read, 0
        return read
