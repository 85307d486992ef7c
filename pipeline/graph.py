"""The job as a graph: read, derive, match, deliver, report."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import apache_beam as beam
from apache_beam.pvalue import PCollection

from pipeline.monitor import Monitor
from pipeline.monitoring import WorkerMonitor
from pipeline.options import Job
from schemas import Reject
from transforms.accounting.board import Board, ForwarderName
from transforms.accounting.summary import Summary, total
from transforms.bundles import OnStart, nothing
from transforms.catch_up import MatchBehindLetters
from transforms.deliver import DeliverMatches
from transforms.delivery.sender import DeliverOptions
from transforms.derive import Derived, DeriveRecords, DeriveSettings
from transforms.derive_streaming import AddVoids, DeriveStreaming, count_settled
from transforms.forwarders.source import ForwarderSource
from transforms.match import MatchForwarders
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder
from transforms.preview import CountMatches, ExplainRecord
from transforms.read import InputFile, ReadActivity
from transforms.read_kinesis import AdmitStreaming, ReadKinesis
from transforms.read_statements import PARTS_EACH, ReadStatements
from transforms.reading.blob_files import BlobFiles
from transforms.reading.bucket_blobs import ReadCounts
from transforms.reading.input_formats import ACTIVITY, InputFormat, statement_format
from transforms.receipts.index import HistoryIndex
from transforms.redrive import ReadDeadLetters
from transforms.sessions.state import StateOptions
from transforms.sources.base import StatementSource
from transforms.sources.kinesis_input import SCHEME, KinesisInput
from transforms.write import WriteRecords, WriteRejects, WriteStreamingRejects, WriteSummary


@dataclass(frozen=True)
class Plan:
    """A job, with everything that was looked up before it starts.

    Attributes:
        files: to be read.
        source: the forwarders that take part; None when records are only written.
        deliver: how records are delivered; None when nothing is sent.
        board: what launcher and workers tell each other.
        history: what earlier runs on the output settled; None where nobody asks.
        summary: the path at which the graph leaves its `Summary`.
        state: what earlier runs left of the sessions; None when no state is kept.
        sources: live sources to be read, in the place of files.
        blobs: where what is read lies until it is derived, if all workers are on this machine; else None.
        monitor: tells those who watch; None: nobody does.
        names: what the forwarders are called, by id.
    """

    job: Job
    run_id: str
    files: tuple[InputFile, ...]
    source: ForwarderSource | None
    deliver: DeliverOptions | None
    board: Board
    summary: str
    history: HistoryIndex | None = None
    state: StateOptions | None = None
    sources: tuple[StatementSource, ...] = ()
    blobs: BlobFiles | None = None
    monitor: Monitor | None = None
    names: Mapping[str, ForwarderName] = field(default_factory=dict)

    @property
    def on_start(self) -> OnStart:
        """What a worker process does before its first bundle: on a distributed runner it begins to tell of itself."""
        return nothing if self.job.is_direct else WorkerMonitor(self.job, self.run_id, self.board, self.names)


def build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Add the whole job to `pipeline`."""
    job = plan.job
    statements = StatementBuilder(job.actor_home_page, job.session_duration_unit)
    if job.streaming:
        _stream(pipeline, plan, statements)
        return
    parts = _redrive(pipeline, plan, statements) if job.redrive else _run(pipeline, plan, statements)
    _ = (
        parts
        | "All summaries" >> beam.Flatten()
        | "Total" >> beam.CombineGlobally(total)
        | "Report" >> WriteSummary(plan.summary)
    )


def _run(pipeline: beam.Pipeline, plan: Plan, statements: StatementBuilder) -> list[PCollection[Summary]]:
    job = plan.job
    read = pipeline | "Read" >> _read(plan)
    all_read = (
        read.counts
        | "Read summaries" >> beam.Map(_summary_of_reading).with_output_types(Summary)
        | "All read" >> beam.CombineGlobally(total)
    )
    derived = read.blobs | "Derive" >> DeriveRecords(_derive_settings(plan), all_read, plan.board)
    if job.output is not None and job.explain is None:
        rejects = (read.rejects, derived.rejects) | "All rejects" >> beam.Flatten().with_output_types(Reject)
        rejects | "Rejects" >> WriteRejects(f"{job.output}/rejects/{plan.run_id}")
    parts = [all_read, derived.summaries]
    if job.write_records is not None and job.output is not None:
        derived.records | "Records" >> WriteRecords(job.output, job.write_records, job.window.kinds)
    if plan.source is not None:
        if job.explain is not None:
            parts.append(derived.records | "Explain" >> ExplainRecord(job.explain, plan.source, statements))
        else:
            matches, stay = _match(derived, plan, plan.source, statements)
            parts += stay
            parts.append(_end(matches, plan, plan.source, statements))
    return parts


def _match(
    derived: Derived, plan: Plan, source: ForwarderSource, statements: StatementBuilder
) -> tuple[PCollection[list[Match]], list[PCollection[Summary]]]:
    """What is due to whom: what an outage left in earlier runs, and behind it what is new."""
    job = plan.job
    if not job.catches_up or plan.history is None or not plan.history.buckets:
        return derived.records | "Match" >> MatchForwarders(source, statements), []
    behind_letters = MatchBehindLetters(
        plan.history, source, statements, plan.board, block_user=job.on_failure == "block_user"
    )
    caught_up = derived.by_bucket | "Catch up, match" >> behind_letters
    return caught_up.matches, [caught_up.summaries]


def _read(plan: Plan) -> ReadActivity | ReadStatements:
    job, input_format = plan.job, _input_format(plan.job)
    # To explain a record it is matched apart from all others.
    forwarders = plan.source if job.explain is None else None
    if plan.sources:
        decoder = input_format.decoder(job.organisation, job.lrs_id, job.leniency)
        return ReadStatements(plan.sources, decoder, plan.board, plan.blobs, forwarders, plan.on_start)
    return ReadActivity(
        plan.files,
        input_format,
        job.file_format,
        job.organisation,
        job.lrs_id,
        job.leniency,
        board=plan.board,
        blobs=plan.blobs,
        forwarders=forwarders,
        on_start=plan.on_start,
    )


def _stream(pipeline: beam.Pipeline, plan: Plan, statements: StatementBuilder) -> None:
    """Reads a stream. It has no end, so nothing is summed up: what is counted goes to Beam's metrics."""
    job = plan.job
    if plan.source is None or plan.deliver is None or job.job_server_jar is None:
        raise ValueError("a streaming job needs forwarders, an output and the jar that holds its source")
    source, input_format = KinesisInput.parse(job.inputs[0]), _input_format(job)
    admitted = (
        pipeline
        | "Read" >> ReadKinesis(source, job.job_server_jar)
        | "Admit"
        >> AdmitStreaming(
            source.stream_name,
            input_format,
            job.organisation,
            job.lrs_id,
            job.leniency,
            board=plan.board,
            on_start=plan.on_start,
        )
    )
    derive = DeriveStreaming(
        job.session_ttl,
        job.session_duration_unit,
        input_format,
        job.window,
        job.receipts_horizon,
        place=f"{SCHEME}{source.stream_name}",
        board=plan.board,
    )
    lines = admitted.lines
    if input_format.has_voids:
        lines = lines | "Add voids" >> AddVoids(admitted.voids, job.session_ttl, input_format)
    derived = lines | "Derive" >> derive
    rejects = (admitted.rejects, derived.rejects) | "All rejects" >> beam.Flatten().with_output_types(Reject)
    _ = rejects | "Rejects" >> beam.ParDo(WriteStreamingRejects(plan.deliver.output, plan.run_id, job.durable))
    matches = derived.records | "Match" >> MatchForwarders(plan.source, statements)
    settled = matches | "Deliver" >> DeliverMatches(
        plan.source, statements, plan.deliver, plan.board, on_start=plan.on_start
    )
    _ = settled | "Count" >> beam.Map(count_settled)


def _redrive(pipeline: beam.Pipeline, plan: Plan, statements: StatementBuilder) -> list[PCollection[Summary]]:
    """Reads what earlier runs gave up, instead of the input."""
    job = plan.job
    if plan.source is None or plan.history is None:
        raise ValueError("a redrive needs forwarders and the history of an output")
    dead = pipeline | "Read dead letters" >> ReadDeadLetters(
        plan.history,
        plan.source,
        statements,
        plan.board,
        chosen=job.chosen_letters,
        block_user=job.on_failure == "block_user",
    )
    return [dead.summaries, _end(dead.matches, plan, plan.source, statements)]


def _end(
    matches: PCollection[list[Match]], plan: Plan, source: ForwarderSource, statements: StatementBuilder
) -> PCollection[Summary]:
    """The last step. A dry run is the same graph with another one."""
    summaries: PCollection[Summary]
    if plan.deliver is None:
        summaries = matches | "Count" >> CountMatches(source, statements)
    else:
        # What is caught up with may be of any kind.
        letters = plan.job.catches_up and plan.history is not None and bool(plan.history.buckets)
        voiding_last = letters or "statement" in plan.job.window.kinds
        deliver = DeliverMatches(source, statements, plan.deliver, plan.board, voiding_last, plan.on_start)
        summaries = matches | "Deliver" >> deliver
    return summaries


def _derive_settings(plan: Plan) -> DeriveSettings:
    job = plan.job
    return DeriveSettings(
        window=job.window,
        duration_unit=job.session_duration_unit,
        input_format=_input_format(job),
        reject_limit=job.reject_limit,
        state=plan.state,
        inputs=tuple(source.name for source in plan.sources) or tuple(file.path for file in plan.files),
        parts_each=PARTS_EACH if plan.sources else 1,
        blobs=plan.blobs,
        also=plan.history.buckets if job.catches_up and plan.history is not None else (),
    )


def _input_format(job: Job) -> InputFormat:
    if job.input_format == "activity":
        return ACTIVITY
    return statement_format(
        job.input_format,
        job.window.kinds,
        qualify_users=job.qualify_users,
        include_voided=job.include_voided,
        stored_now=job.stored_as == "now",
    )


def _summary_of_reading(counts: ReadCounts) -> Summary:
    summary = Summary(read=counts, stopped=counts.unfinished > 0)
    for counted in (counts.passed_over, counts.left_out):
        for name, count in counted.items():
            summary.pass_over(name, count)
    return summary
