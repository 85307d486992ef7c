"""What steps share: batches and how they are encoded, how elements leave at a bundle's end, how blocks are read."""

import gc
import pickle
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
from apache_beam.coders.typecoders import registry
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from schemas import Record, Reject
from transforms.accounting.board import Board
from transforms.accounting.summary import rejected_by_reason
from transforms.forwarders.source import ForwarderSource
from transforms.matching.matcher import Match, StatementMatcher
from transforms.reading.activity import decode_admitted
from transforms.reading.blob_files import BlobFiles, BlobWriter
from transforms.reading.blocks import Block, Broken
from transforms.reading.bucket_blobs import BLOB_SIZE, BucketBlobs, ReadCounts, sort_in
from transforms.reading.input_formats import Decoder
from transforms.reading.originals import OriginalDecoder
from transforms.reading.reasons import Unit
from transforms.telemetry.tracing import tracing

if TYPE_CHECKING:
    from transforms.telemetry.spans import Tracing

BATCH_SIZE = 512
"""About how many records travel as one element: a runner's cost is for each element (docs/beam-notes.md section 2)."""

_BESIDE_BODY = 600
"""About how many bytes a pickled record takes beside its body: its ids, its message as an object, its metadata."""

OnStart = Callable[[], None]
"""What a worker process does before its first bundle. It pickles, and is called more than once, by any thread."""


def nothing() -> None:
    """What most workers do before their first bundle."""


class _PickleCoder(beam.coders.Coder):
    """Pickles what batches hold, where it passes between processes. Elsewhere it only says how large that would be.

    Beam measures a sample of what passes between steps, also of fused ones. With a coder of its own it pickles all of
    the sample only to see how long that is (docs/performance.md).
    """

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)  # noqa: S301 - of this run's own workers, as all that Beam pickles

    def is_deterministic(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class RecordCoder(_PickleCoder):
    """Encodes a `Record`."""

    def estimate_size(self, value: Record) -> int:
        """About how many bytes the record takes encoded."""
        return len(value.body) + _BESIDE_BODY


class MatchCoder(_PickleCoder):
    """Encodes a `Match`."""

    def estimate_size(self, value: Match) -> int:
        """About how many bytes the match takes encoded. A statement holds about what its record does."""
        size = len(value.record.body) + _BESIDE_BODY
        if value.stored is not None:
            size += len(value.stored.payload)
        return size if value.statement is None else 2 * size


registry.register_coder(Record, RecordCoder)
registry.register_coder(Match, MatchCoder)


def keep_live_objects_out_of_the_garbage_collector() -> None:
    """Freeze what `setup` made, and collect rarely.

    A worker holds thousands of records, which form no cycles. To walk over them costs more than Beam does
    (docs/performance.md). Records and activities are `gc=False` structs. Cycles of other objects are still collected.
    """
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)


_END_OF_TIME = GlobalWindow().max_timestamp()


def at_end_of_bundle(element: object) -> WindowedValue:
    """`element` in the form in which `finish_bundle` has to yield it, by itself or in a TaggedOutput.

    What `process` yields has the time and the window of the element that is processed. At the end of a bundle there is
    no such element, so Beam asks for both. The window is the global one, which is the only one here, and the time is
    its end.
    """
    return WindowedValue(element, _END_OF_TIME, (GlobalWindow(),))


class ReadOutputs(NamedTuple):
    """What reading gives.

    Attributes:
        blobs: (bucket, blob), see `transforms.reading.bucket_blobs`; (bucket, name) if blobs lie in `BlobFiles`.
        rejects: what was refused.
        counts: one for each part of the input, to be added up.
    """

    blobs: PCollection[tuple[int, bytes]]
    rejects: PCollection[Reject]
    counts: PCollection[ReadCounts]


class ReadsBlocks(beam.DoFn):
    """A part of the input -> (bucket, blob), with the outputs `rejects` and `counts`.

    The activity of small parts is gathered, and leaves in common blobs. If there are files for blobs, it is their names
    that leave.

    Statements that are forwarded as they are are matched here, if there are forwarders. So each is decoded once, while
    its text is in the processor's cache.
    """

    def __init__(
        self,
        decoder: Decoder,
        board: Board | None,
        files: BlobFiles | None = None,
        forwarders: ForwarderSource | None = None,
        on_start: OnStart = nothing,
    ) -> None:
        self._on_start = on_start
        self._decoder = decoder
        self._board = board
        self._files = files
        self._forwarders = forwarders
        self._tracing: Tracing | None = None

    def setup(self) -> None:
        self._on_start()
        self._tracing = tracing()
        keep_live_objects_out_of_the_garbage_collector()
        if self._forwarders is not None and isinstance(self._decoder, OriginalDecoder):
            self._decoder.show(StatementMatcher(self._forwarders.load()))

    def start_bundle(self) -> None:
        self._blobs = BucketBlobs()
        # By user who is traced: the lines in `_blobs` that were told.
        self._traced: dict[str, int] = {}
        self._writer: BlobWriter | None = None if self._files is None else self._files.writer()

    def finish_bundle(self) -> Iterator[Any]:
        for blob in self._take():
            yield at_end_of_bundle(blob)

    def _take(self) -> Iterator[tuple[int, bytes]]:
        """What was gathered: (bucket, blob), or (bucket, name)."""
        self._traced.clear()
        for bucket, blob in self._blobs.take():
            yield bucket, blob if self._writer is None else self._writer.write(bucket, blob)

    def stopping(self) -> bool:
        """Whether the run was asked to stop."""
        return self._board is not None and self._board.stopping()

    def sort_in_all(
        self,
        blocks: Iterable[Block | Broken],
        file: str,
        taken: Callable[[], int],
        start: int = 0,
        unit: Unit = "element",
        number: int = 0,
    ) -> Generator[Any, None, ReadCounts]:
        """Give on what is in the blocks of a part, until the run is asked to stop.

        Args:
            blocks: of the part.
            file: where they were read, for rejects.
            taken: gives the bytes that were read since it was last called.
            start: see `sort_in`.
            unit: see `sort_in`.
            number: see `sort_in`.

        Yields:
            Elements of all outputs but `counts`.

        Returns:
            How much there was.
        """
        counts = ReadCounts()
        for block in blocks:
            if self.stopping():
                return counts + ReadCounts(unfinished=1)
            began = time.time_ns() if self._tracing is not None else 0
            read, rejects = sort_in(block, file, self._decoder, self._blobs, start, unit, number)
            if self._tracing is not None:
                self._trace(self._tracing, file, began)
            for reject in rejects:
                yield TaggedOutput("rejects", reject)
            size = taken()
            counts += read + ReadCounts(size=size)
            if self._board:
                self._board.advance(
                    "reading", size=size, read=read.read, accepted=read.accepted, rejected=rejected_by_reason(read)
                )
            if self._blobs.size >= BLOB_SIZE:
                yield from self._take()
        return counts + ReadCounts(size=taken())

    def _trace(self, tracing: "Tracing", file: str, began: int) -> None:
        """Tell of what the last block held of the users who are traced."""
        for user_id, lines in self._blobs.lines.items():
            if tracing.takes(user_id):
                for line in lines[self._traced.get(user_id, 0) :]:
                    tracing.read(user_id, decode_admitted(line).record_id, file, began)
                self._traced[user_id] = len(lines)
        for user_id, originals in self._blobs.originals.items():
            if tracing.takes(user_id):
                for original in originals[self._traced.get(user_id, 0) :]:
                    tracing.read(user_id, original.id, file, began)
                self._traced[user_id] = len(originals)
