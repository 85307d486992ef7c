"""Read live sources: statements of a database or an LRS go in; what comes out is what comes of files."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import IOTypeHints

from schemas import Reject
from transforms.accounting.board import Board
from transforms.bundles import OnStart, ReadOutputs, ReadsBlocks, nothing
from transforms.forwarders.source import ForwarderSource
from transforms.reading.blob_files import BlobFiles
from transforms.reading.bucket_blobs import ReadCounts
from transforms.reading.input_formats import Decoder
from transforms.sources.base import SourceError, SourcePart, StatementSource, StoppedError

PARTS_EACH = 1 << 20
"""More parts than a source has."""


class ReadStatements(beam.PTransform[beam.Pipeline, ReadOutputs]):
    """Reads live sources: Pipeline -> ReadOutputs.

    A worker splits each source into parts, and all workers read the parts. A source that cannot be read to its end is
    no error of the graph: the counts say so (`ReadCounts.failures`).

    Args:
        sources: to be read.
        decoder: checks a statement.
        board: see `transforms.read.ReadActivity`.
        blobs: see `transforms.read.ReadActivity`.
        forwarders: see `transforms.read.ReadActivity`.
        on_start: see `transforms.read.ReadActivity`.
    """

    def __init__(
        self,
        sources: Iterable[StatementSource],
        decoder: Decoder,
        board: Board | None = None,
        blobs: BlobFiles | None = None,
        forwarders: ForwarderSource | None = None,
        on_start: OnStart = nothing,
    ) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.split = _SplitSource(board)
        self.read = _ReadPart(decoder, board, blobs, forwarders, on_start)

    def default_type_hints(self) -> IOTypeHints:
        # Beam takes an output of several PCollections for one type, and warns.
        return IOTypeHints.empty()

    def expand(self, begin: beam.Pipeline) -> ReadOutputs:
        parts = (
            begin
            | "Sources" >> beam.Create(list(enumerate(self.sources)))
            | "Split" >> beam.ParDo(self.split).with_outputs("counts", main="parts")
        )
        outputs = (
            parts.parts
            | "To all workers" >> beam.Reshuffle()
            | "Read parts"
            >> beam.ParDo(self.read)
            .with_output_types(tuple[int, bytes], rejects=Reject, counts=ReadCounts)
            .with_outputs("rejects", "counts", main="blobs")
        )
        counts = (parts.counts, outputs.counts) | "All counts" >> beam.Flatten().with_output_types(ReadCounts)
        return ReadOutputs(outputs.blobs, outputs.rejects, counts)


class _SplitSource(beam.DoFn):
    """(index, StatementSource) -> (number, SourcePart), with the output `counts` where a source cannot be split.

    The numbers of parts are in the order of the input: statements that were stored at one time leave in it.
    """

    def __init__(self, board: Board | None) -> None:
        self._board = board

    def process(self, indexed: tuple[int, StatementSource]) -> Iterator[Any]:
        index, source = indexed
        try:
            yield from enumerate(source.split(self._stopping), index * PARTS_EACH)
        except StoppedError:
            yield TaggedOutput("counts", ReadCounts(unfinished=1))
        except SourceError as error:
            yield TaggedOutput("counts", ReadCounts(failures=frozenset((str(error),))))

    def _stopping(self) -> bool:
        return self._board is not None and self._board.stopping()


class _ReadPart(ReadsBlocks):
    """(number, SourcePart) -> (bucket, blob), with the outputs `rejects` and `counts`.

    When one part of a source cannot be read, the others are not waited for: the run is in vain.
    """

    def setup(self) -> None:
        super().setup()
        self._failed: dict[str, ReadCounts] = {}

    def process(self, numbered: tuple[int, SourcePart]) -> Iterator[Any]:
        number, part = numbered
        failed = self._failed.get(part.key)
        if failed is not None:
            yield TaggedOutput("counts", failed)
            return
        reader = part.reader(self.stopping)
        try:
            counts = yield from self.sort_in_all(reader.blocks(), part.label, reader.taken, number=number)
        except SourceError as error:
            self._failed[part.key] = ReadCounts(failures=frozenset((str(error),)))
            yield TaggedOutput("counts", self._failed[part.key])
            return
        counts += ReadCounts(unfinished=int(reader.stopped))
        if reader.position is not None:
            counts += ReadCounts(positions={part.key: reader.position})
        yield TaggedOutput("counts", counts)
