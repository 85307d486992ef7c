"""Read a Kinesis data stream: streaming activity comes out, and rejects beside it.

The source is Beam's own, in Java. Flink runs it itself (`local/flink/src/main/java`).
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.external import (
    ExpansionAndArtifactRetrievalStub,
    ExternalTransform,
    ImplicitSchemaPayloadBuilder,
)
from apache_beam.typehints.decorators import IOTypeHints
from apache_beam.utils.subprocess_server import JavaHelper, SubprocessServer

from schemas import Reject
from schemas.reject import CONTENT_LIMIT
from transforms.accounting.board import Board
from transforms.bundles import OnStart, nothing
from transforms.reading.activity import ActivityError, decode_admitted
from transforms.reading.admission import Outcome, admit_message
from transforms.reading.aggregated import inner_records, is_aggregated
from transforms.reading.avro_message import avro_activities, is_avro
from transforms.reading.input_formats import ACTIVITY, Decoder, InputFormat
from transforms.reading.leniency import STRICT, Leniency
from transforms.reading.originals import OriginalDecoder, decode_original
from transforms.reading.reasons import name_of
from transforms.reading.voids import Void
from transforms.reading.xapi import PassedOverError
from transforms.sources.kinesis_input import SCHEME, KinesisInput
from transforms.telemetry.tracing import tracing

if TYPE_CHECKING:
    from transforms.telemetry.spans import Tracing

_URN = "session_forwarder:transform:kinesis_read:v1"
_EXPANSION_SERVICE = "org.apache.beam.sdk.expansion.service.ExpansionService"
# With these, the source stays a primitive Read, which Flink runs itself. Without them Beam makes a splittable DoFn of
# it, which needs a worker in Java.
_PRIMITIVE_READ = "--experiments=use_deprecated_read,beam_fn_api_use_deprecated_read"
_IDLE_MS = 60_000
"""After so long without a message, a shard holds the watermark back no longer."""


@dataclass(eq=False)
class ReadKinesis(beam.PTransform[beam.Pipeline, PCollection[tuple[str, bytes]]]):
    """Reads a data stream: Pipeline -> PCollection[tuple[str, bytes]] of (shard id:sequence number, data).

    Beam's source takes aggregated records apart. See `AdmitStreaming` for the places of what is in them.

    The timestamp of an element is the time at which Kinesis took it in. So is the watermark.

    Attributes:
        source: the stream.
        jar: the path, on this machine, of what `local/flink/pom.xml` makes. A Java process expands the transform, and
            ends.

    Raises:
        RuntimeError: when it is applied, and the expansion fails.
    """

    source: KinesisInput
    jar: str

    def expand(self, begin: beam.Pipeline) -> PCollection[tuple[str, bytes]]:
        # A value that is None is left out of the payload, and becomes null in Java.
        configuration = {**asdict(self.source), "watermark_idle_duration_threshold": _IDLE_MS}
        # Nothing is staged, since the jar is that of the job server and is in Flink's class path already.
        command = [JavaHelper.get_java(), "-cp", self.jar, _EXPANSION_SERVICE]
        command += ["{{PORT}}", "--filesToStage=", _PRIMITIVE_READ]
        service = SubprocessServer(ExpansionAndArtifactRetrievalStub, command)
        read = ExternalTransform(_URN, ImplicitSchemaPayloadBuilder(configuration), service)
        data: PCollection[tuple[str, bytes]] = begin | "Kinesis" >> read
        return data


class AdmitOutputs(NamedTuple):
    """What admitting gives.

    Attributes:
        lines: (user id, line), as `Decoder.admit` returns them.
        voids: the activity in `lines`, now or ever, that is to count as never read.
        rejects: what was refused.
    """

    lines: PCollection[tuple[str, bytes]]
    voids: PCollection[Void]
    rejects: PCollection[Reject]


class AdmitStreaming(beam.PTransform[PCollection[tuple[str, bytes]], AdmitOutputs]):
    """Checks what was read of a stream: PCollection[tuple[str, bytes]] of `ReadKinesis` -> AdmitOutputs.

    A message holds activity, one or several, in JSON or in Avro (see `transforms.reading.avro_message`), or xAPI
    statements in JSON. An aggregated record holds several messages (`transforms.reading.aggregated`).

    Args:
        stream_name: for the `file` of rejects, which is kinesis://STREAM/SHARD:SEQUENCE. Of the second message of an
            aggregated record, and of those after it, its number among them follows: `:1`.
        input_format: what is in the stream.
        organisation: of activity that carries none.
        lrs_id: the store of activity that carries none.
        leniency: what is read beyond the rules.
        board: told how much was read, and what was refused.
        on_start: called when a worker sets the step up.
    """

    def __init__(
        self,
        stream_name: str,
        input_format: InputFormat = ACTIVITY,
        organisation: str | None = None,
        lrs_id: str | None = None,
        leniency: Leniency = STRICT,
        board: Board | None = None,
        on_start: OnStart = nothing,
    ) -> None:
        super().__init__()
        decoder = input_format.decoder(organisation, lrs_id, leniency)
        self.admit = _Admit(stream_name, decoder, input_format.has_avro_messages, board, on_start)

    def default_type_hints(self) -> IOTypeHints:
        # Beam takes an output of several PCollections for one type, and warns.
        return IOTypeHints.empty()

    def expand(self, data: PCollection[tuple[str, bytes]]) -> AdmitOutputs:
        outputs = data | "Admit each" >> beam.ParDo(self.admit).with_output_types(
            tuple[str, bytes], rejects=Reject, voids=Void
        ).with_outputs("rejects", "voids", main="lines")
        return AdmitOutputs(outputs.lines, outputs.voids, outputs.rejects)


class _Admit(beam.DoFn):
    def __init__(self, stream_name: str, decoder: Decoder, avro: bool, board: Board | None, on_start: OnStart) -> None:
        self._stream_name = stream_name
        self._decoder = decoder
        self._avro = avro
        self._board = board
        self._on_start = on_start
        self._tracing: Tracing | None = None

    def setup(self) -> None:
        self._on_start()
        self._tracing = tracing()
        if self._board is not None:
            # That there is a stream, though it may be silent.
            self._board.advance(lag=0)

    def start_bundle(self) -> None:
        self._size = self._accepted = self._passed_over = 0
        self._rejected: Counter[str] = Counter()

    def finish_bundle(self) -> None:
        if self._board is not None:
            self._board.advance(
                "reading",
                size=self._size,
                read=self._accepted + self._passed_over + self._rejected.total(),
                accepted=self._accepted,
                rejected=self._rejected,
            )

    def process(self, element: tuple[str, bytes]) -> Iterator[Any]:
        place, message = element
        self._size += len(message)
        if is_aggregated(message):
            try:
                messages = inner_records(message)
            except ActivityError as error:
                yield self._reject(place, 0, error, message)
                return
            for number, inner in enumerate(messages):
                yield from self._admitted(_place_in(place, number), inner)
        else:
            yield from self._admitted(place, message)
        for void in self._decoder.take_voids():
            yield TaggedOutput("voids", void)
        for name, count in self._decoder.take_left_out().items():
            Metrics.counter("streaming", name).inc(count)

    def _admitted(self, place: str, message: bytes) -> Iterator[Any]:
        began = time.time_ns() if self._tracing is not None else 0
        for index, outcome in enumerate(self._outcomes(message)):
            if isinstance(outcome, PassedOverError):
                self._passed_over += 1
                Metrics.counter("streaming", outcome.name).inc()
                if outcome.voids is not None:
                    yield TaggedOutput("voids", outcome.voids)
            elif isinstance(outcome, ActivityError):
                yield self._reject(place, index, outcome, message)
            else:
                self._accepted += 1
                if self._tracing is not None and self._tracing.takes(outcome[0]):
                    self._tracing.read(outcome[0], self._record_id(outcome[1]), self._file(place), began)
                yield outcome

    def _record_id(self, line: bytes) -> str:
        if isinstance(self._decoder, OriginalDecoder):
            return decode_original(line).id
        return decode_admitted(line).record_id

    def _file(self, place: str) -> str:
        return f"{SCHEME}{self._stream_name}/{place}"

    def _reject(self, place: str, index: int, error: ActivityError, message: bytes) -> Any:
        self._rejected[name_of(*error.kind)] += 1
        return TaggedOutput(
            "rejects", Reject(self._file(place), index, str(error), message[:CONTENT_LIMIT], len(message))
        )

    def _outcomes(self, message: bytes) -> Iterator[Outcome]:
        if not (self._avro and is_avro(message)):
            yield from admit_message(message, self._decoder)
            return
        for row in avro_activities(message):
            try:
                yield row if isinstance(row, ActivityError) else self._decoder.admit_row(row)
            except ActivityError as error:
                yield error


def _place_in(place: str, number: int) -> str:
    """Where a record of an aggregated record is, as Flink's source says it."""
    return f"{place}:{number}" if number else place
