"""One run: check everything that the user supplied, run the graph, report."""

import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions, PipelineOptions

from pipeline.beam_options import beam_options
from pipeline.execute import execute, execute_until_stopped
from pipeline.graph import Plan
from pipeline.lock import OutputLock, OutputLostError
from pipeline.logs import name_run
from pipeline.monitor import Monitor
from pipeline.options import Job
from pipeline.preflight import Chosen
from pipeline.report import FAILED, Report, target
from pipeline.runs import latest_run, leave
from pipeline.session_state import ClockLimits, SessionState
from pipeline.standard_output import ReaderGoneError, print_all, width_of_output
from pipeline.temporary import run_directory, temporary_files_in
from pipeline.usage import UsageError
from schemas.times import now_ms
from transforms.accounting.board import Board, ForwarderName, RunInfo
from transforms.accounting.words import counted
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.sender import DeliverOptions
from transforms.read import InputError, InputFile, match_files, ranges_of
from transforms.reading.blob_files import BlobFiles
from transforms.reading.input_formats import INPUT_FORMATS
from transforms.reading.pipes import STANDARD_INPUT, descriptor_of
from transforms.reading.record_files import RECORDS
from transforms.receipts.index import HistoryIndex, index_history, remove_index
from transforms.receipts.journal import JournalError, close_journals, recover
from transforms.receipts.outage_letters import OutageLetters
from transforms.receipts.runs import new_run_id, next_run_number, run_number
from transforms.sinks.data_streams import StreamLimits
from transforms.sinks.lacks import raise_descriptor_limit
from transforms.sources.base import Access, StatementSource
from transforms.sources.locations import is_source, source_at
from transforms.statements.attachment_files import FOLDER
from transforms.storage import StorageError, local_path, storage_at
from transforms.write import remove_records, remove_unfinished

logger = logging.getLogger(__name__)

_LOCK_CHECK = 1.0
"""Seconds from one look at the lock to the next."""

_LINGER = 1.0
"""Seconds that a call to Kinesis waits for more records (`DeliverySettings.linger`).

Nobody waits for a single record of a bounded run, and a full call costs what a part-filled one does.
"""

_STREAMING_LINGER = 0.05
_LEAST_RETRY_HORIZON = 600.0


def run(job: Job, chosen: Chosen, monitor: Monitor | None = None) -> int:
    """Run a job to its end, print the report, and write `report.json` and `report.html`.

    Args:
        job: what to run.
        chosen: the forwarders that take part.
        monitor: tells those who watch; None: nobody does.

    Returns:
        The exit status.

    Raises:
        UsageError: before anything is read or sent, when the job cannot run as it was asked to.
    """
    raise_descriptor_limit()
    monitor = monitor or Monitor()
    started, clock = now_ms(), time.monotonic()
    options = beam_options(job)
    with ExitStack() as stack:
        matched = _input_files(job, options)
        work = stack.enter_context(run_directory(job.temp_dir))
        if job.is_direct:
            stack.enter_context(temporary_files_in(work))
        board = Board(str(work))
        lost = threading.Event()
        if job.output is not None:
            lost = _lock("--output", job.output, board, stack)
            remove_unfinished(job.output)
        run_id = _named_run(job, options)
        sessions = _session_state(job, run_id, started, board, stack)
        sources = _sources(job, sessions)
        files = sessions.new_files(matched) if sessions else matched
        for file in files:
            logger.debug("%s is read: %s", file.path, counted(file.size, "byte"))
        for forwarder_id in chosen.inactive:
            logger.debug("forwarder %s: its document is not active, so it gets nothing", forwarder_id)
        if job.output is not None and job.write_records is not None:
            remove_records(job.output)
        history = _history(job, run_id, sessions, stack)
        info = _run_info(job, run_id, started, files, chosen)
        board.begin(info)
        plan = Plan(
            job=job,
            run_id=run_id,
            files=files,
            source=chosen.source,
            deliver=_deliver_options(job, run_id, chosen.limits, history),
            board=board,
            history=history,
            summary=_summary_path(job, run_id, work, stack),
            state=sessions.options(read_only=job.looks_only) if sessions else None,
            sources=sources,
            blobs=BlobFiles(work) if job.is_direct else None,
            monitor=monitor,
            names=info.forwarders,
        )
        monitor.begin(run_id, board.read, info.forwarders)
        if job.streaming:
            return _run_streaming(plan, options)
        state, summary = execute(plan, options)
        board.advance("ending")
        board.publish(at_once=True)
        if state == "failed" and job.output is not None:
            remove_unfinished(job.output)
        if lost.is_set():
            # A report or a part would be in another directory of the same name now, or in another run's.
            with suppress(StorageError):
                close_journals()
            return FAILED
        _end_journals(plan)
        rejects = _reject_files(job, run_id) if summary.rejected else ()
        _make_durable(job, rejects)
        report = Report(
            job=job,
            run_id=run_id,
            state=state,
            summary=summary,
            forwarders=chosen.forwarders,
            inactive=chosen.inactive,
            warnings=chosen.warnings,
            files=len(files),
            digest=chosen.digest,
            started=started,
            elapsed=time.monotonic() - clock,
            rejects=rejects,
            sources=tuple(source.name for source in sources),
            delivered_since=history.delivered_since if history and job.redrive else {},
        )
        leave(report)
        # An incomplete run leaves the state as it was, so that the next run reads the same files again.
        if sessions and report.complete and not job.looks_only:
            # From here on the input counts as read. So all that came of it is on the disk by now.
            try:
                sessions.commit(summary, matched)
            except Exception:
                leave(replace(report, state="failed"))
                raise
        monitor.ended(report)
        _print(report)
        return report.exit_status


def _run_info(job: Job, run_id: str, started: int, files: Sequence[InputFile], chosen: Chosen) -> RunInfo:
    """What the board says of the run as a whole."""
    return RunInfo(
        run_id=run_id,
        pid=os.getpid(),
        started=started / 1000,
        output=job.output,
        total_bytes=sum(file.size for file in files) or None,
        forwarders={
            forwarder.id: ForwarderName(forwarder.description, target(forwarder)) for forwarder in chosen.forwarders
        },
    )


def _run_streaming(plan: Plan, options: PipelineOptions) -> int:
    stopped = execute_until_stopped(plan, options)
    try:
        _end_journals(plan)
    except JournalError as error:
        # If its jar is in Flink's own class path, Beam keeps workers for a while after their job.
        logger.warning("%s; that closes its journal", error)
    return 0 if stopped else FAILED


def _named_run(job: Job, options: PipelineOptions) -> str:
    """The id of the run, with its number among the runs of the output. On a cluster the job is found by it."""
    number = 1 if job.output is None else next_run_number(job.output, latest_run(job.output))
    run_id = new_run_id(number, replay=job.sends_again)
    name_run(run_id)
    named = options.view_as(GoogleCloudOptions)
    # Dataflow allows no capitals in a job's name.
    named.job_name = named.job_name or f"session-forwarder-{run_id}".lower()
    return run_id


def _end_journals(plan: Plan) -> None:
    """Close every journal, so that it becomes a part. Beam does not tear down the steps of a run that failed."""
    if plan.deliver is not None:
        close_journals()
        recover(plan.deliver.output)


def _sources(job: Job, sessions: SessionState | None) -> tuple[StatementSource, ...]:
    """The live sources that the job reads, as far as they are new."""
    keeps = job.output is not None and not job.looks_only
    attachments = f"{job.output}/{FOLDER}" if keeps else None
    access = Access(job.input_auth, job.allow_networks, job.max_backoff, job.outage_budget, attachments)
    sources = tuple(source_at(location, access) for location in job.inputs if is_source(location))
    for source in sources:
        if warning := source.warning:
            logger.warning("--input %s: %s", source.name, warning)
    return sessions.new_statements(sources) if sessions else sources


def _input_files(job: Job, options: PipelineOptions) -> tuple[InputFile, ...]:
    if job.streaming or job.reads_sources:
        return ()
    try:
        files = match_files(job.inputs, none_is_fine=job.state is not None) if job.inputs else []
        for file in files:
            ranges_of(file, INPUT_FORMATS[job.input_format], job.file_format)
    except InputError as error:
        raise UsageError(str(error)) from None
    for file in files:
        if file.pipe:
            _check_pipe(file.path, job, options)
    return tuple(files)


def _check_pipe(path: str, job: Job, options: PipelineOptions) -> None:
    """Raises UsageError where what can be read only once, and on this machine only, is not to be read."""
    name = "-" if path == STANDARD_INPUT and "-" in job.inputs else path
    if job.state is not None:
        raise UsageError(f"--input {name} is a pipe, which --state cannot know again: write it to a file first")
    if not job.is_direct:
        raise UsageError(f"--input {name} is a pipe on this machine: use --runner=DirectRunner, or write it to a file")
    if descriptor_of(path) is not None and options.view_as(DirectOptions).direct_running_mode == "multi_processing":
        raise UsageError(
            f"--input {name} is open in this process only: leave --direct_running_mode=multi_processing out, or write "
            "it to a file"
        )


def _session_state(job: Job, run_id: str, now: int, board: Board, stack: ExitStack) -> SessionState | None:
    if job.state is None:
        return None
    _lock("--state", job.state, board, stack)
    clock = ClockLimits(job.max_forget_ratio, job.trust_clock)
    return SessionState.opened(job.state, run_id, now, job.session_ttl, clock, durable=job.durable)


def _lock(flag: str, directory: str, board: Board, stack: ExitStack) -> threading.Event:
    """Hold the output or the state for the run. If the lock is lost, the run is asked to stop.

    Returns:
        What is set when the lock is lost.
    """
    try:
        lock = stack.enter_context(OutputLock(directory, board=board.directory))
    except OSError as error:
        raise UsageError(f"{flag} {directory} cannot be written: {error.strerror or error}") from None
    ended, lost = threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(_LOCK_CHECK):
            try:
                lock.check()
            except OutputLostError as error:
                logger.error("%s", error)
                lost.set()
                board.stop()
                return

    thread = threading.Thread(target=watch, name="output lock", daemon=True)
    thread.start()
    stack.callback(thread.join)
    stack.callback(ended.set)
    return lost


def _history(job: Job, run_id: str, sessions: SessionState | None, stack: ExitStack) -> HistoryIndex | None:
    """What earlier runs on the output settled, as far as this run has to know it."""
    if job.output is None or not (job.delivers or job.redrive or job.catches_up):
        return None
    recover(job.output)
    if job.sends_again:
        return HistoryIndex(job.output, "")
    catch_up = None
    if job.catches_up and sessions is not None:
        since = run_number(sessions.current.run_id)
        catch_up = OutageLetters(since, block_user=job.on_failure == "block_user", looks_only=job.looks_only)
    index = index_history(job.output, run_id, dead_letters=job.redrive, horizon=job.receipts_horizon, catch_up=catch_up)
    stack.callback(remove_index, index)
    return index


def _deliver_options(
    job: Job, run_id: str, limits: Mapping[str, StreamLimits], history: HistoryIndex | None
) -> DeliverOptions | None:
    if job.output is None or history is None or not job.delivers:
        return None
    return DeliverOptions(
        output=job.output,
        run_id=run_id,
        history=history,
        limits=limits,
        allow_networks=job.allow_networks,
        attachments=(*((job.attachments,) if job.attachments else ()), f"{job.output}/{FOLDER}"),
        settings=DeliverySettings(
            max_backoff=job.max_backoff,
            outage_budget=job.outage_budget,
            on_failure=job.on_failure,
            catches_up=job.catches_up,
            linger=_STREAMING_LINGER if job.streaming else _LINGER,
        ),
        streaming=job.streaming,
        horizon=_retry_horizon(job) if job.streaming else None,
        durability=job.durability,
        aws_client=job.aws_client,
        tries_again=not job.is_direct,
    )


def _retry_horizon(job: Job) -> float:
    """Seconds before the latest receipt of a job, within which lies all that the job may still read or try again.

    After a failure it reads again from its last checkpoint, and it tries records for as long as an outage may last. The
    horizon holds ten checkpoints and two outages.
    """
    return max(_LEAST_RETRY_HORIZON, 10 * job.checkpointing_interval / 1000, 2 * job.outage_budget)


def _summary_path(job: Job, run_id: str, work: Path, stack: ExitStack) -> str:
    """Where the workers leave their summary. Both they and the launcher have to reach it."""
    if job.output is None or local_path(job.output) is not None:
        return str(work / "summary")
    name = f".summaries/{run_id}.json"
    stack.callback(storage_at(job.output).remove, name)
    return f"{job.output}/{name}"


def _reject_files(job: Job, run_id: str) -> tuple[str, ...]:
    """The files that this run wrote its rejects to."""
    if job.output is None or job.explain is not None:
        return ()
    names = sorted(storage_at(job.output).list("rejects"))
    return tuple(f"{job.output}/rejects/{name}" for name in names if name.startswith(run_id))


def _make_durable(job: Job, rejects: Sequence[str]) -> None:
    """Sync the files that Beam wrote: rejects and records. What else the run writes is synced by who writes it.

    Raises:
        JournalError: that fails.
    """
    if job.output is None or not job.durable or job.looks_only:
        return
    storage = storage_at(job.output)
    files = {"rejects": [path.rpartition("/")[2] for path in rejects]}
    if job.write_records is not None:
        files[RECORDS] = storage.list(RECORDS)
    try:
        for directory, names in files.items():
            storage.sync(directory, names)
    except OSError as error:
        raise JournalError(
            f"cannot write {error.filename or job.output}: {error.strerror}; make room, or see to the disk, then run "
            "again: what is in the receipts is not sent twice"
        ) from error


def _print(report: Report) -> None:
    """Print the report. A run has done what it has done, whether that can be printed or not."""
    try:
        print_all(report.as_text(width_of_output()))
    except ReaderGoneError:
        pass
    except StorageError as error:
        logger.warning("the report is not printed: %s", error)
