"""The graph on its runner: signals, the live view, and what a failure is reported as."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import apache_beam as beam
from apache_beam.options.pipeline_options import FlinkRunnerOptions, GoogleCloudOptions, PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.portability.python_urns import SUBPROCESS_SDK
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner, RunnerResult
from apache_beam.runners.runner import PipelineResult, PipelineState

from pipeline.beam_signatures import remember_signatures
from pipeline.faults import causes, is_interrupt, places_of, told
from pipeline.flink import cancel_job
from pipeline.graph import Plan, build
from pipeline.monitor import BUG
from pipeline.options import FLINK_RUNNERS, Job
from pipeline.report import State
from pipeline.terminal import LiveView
from pipeline.usage import UsageError
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary
from transforms.write import read_summary

logger = logging.getLogger(__name__)
_POLL = 0.5
_CANCEL_WITHIN = 30.0


def execute(plan: Plan, options: PipelineOptions) -> tuple[State, Summary]:
    """Run the graph to its end. Signals ask it to stop, and how far it is is shown.

    Args:
        plan: of the job.
        options: Beam's.

    Returns:
        How it ended, and what the workers counted (nothing if it failed).
    """
    job = plan.job
    remember_signatures()
    pipeline = _pipeline(job, options)
    build(pipeline, plan)
    try:
        with _stopping_on_signals(plan.board), LiveView(plan.board, draws=job.log_format == "text"):
            _wait(pipeline.run(), plan, options)
    except (Exception, KeyboardInterrupt) as error:
        _report(error, plan)
        return "failed", Summary()
    summary = read_summary(plan.summary)
    if summary.read.failures:
        return "source_unread", summary
    if job.reject_limit.is_exceeded(summary.read):
        return "too_many_rejects", summary
    return "done", summary


def _pipeline(job: Job, options: PipelineOptions) -> beam.Pipeline:
    """An empty pipeline on the job's runner. Raises UsageError where Beam refuses the flags that are its own."""
    try:
        return beam.Pipeline(runner=_DirectRunner() if job.is_direct else job.runner, options=options)
    except (ImportError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        text = " ".join(str(error).split())
        raise UsageError(f"Beam cannot start with the flags that are its own: {text}") from error


def _report(error: BaseException, plan: Plan) -> None:
    """Log what ended a run, and tell it to those who watch, unless the user interrupted it."""
    job = plan.job
    interrupted = is_interrupt(error)
    line = None if interrupted else told(error, places_of(job.output, job.state))
    if line is not None:
        logger.error("%s", line)
    logger.error(
        "%s; what was delivered is in the receipts, run the same command again to go on",
        "interrupted" if interrupted else "the run failed",
        exc_info=None if interrupted or line is not None else list(causes(error))[-1],
    )
    if plan.monitor is not None and not interrupted:
        plan.monitor.failed(line or BUG)


def execute_until_stopped(plan: Plan, options: PipelineOptions) -> bool:
    """Run a streaming graph until a signal or the loss of its lock cancels it.

    Returns:
        True if a signal cancelled it. False if it failed, or lost its lock.
    """
    stopping = _Stop()
    pipeline = _pipeline(plan.job, options)
    try:
        with _stopping_on_signals(stopping, "cancelling the job"):
            build(pipeline, plan)
            result = pipeline.run()
        logger.info("the job is on Flink; Ctrl-C or SIGTERM cancels it")
        # When Beam started its job server, it replaced our handler of Ctrl-C by its own.
        with _stopping_on_signals(stopping, "cancelling the job"):
            while not PipelineState.is_terminal(result.state):
                if stopping.is_asked or plan.board.stopping():
                    _cancel(result, plan.job, options)
                    logger.info("the job is cancelled; what was delivered is in the receipts")
                    return stopping.is_asked
                time.sleep(_POLL)
            result.wait_until_finish()
    except Exception as error:
        line = told(error, places_of(plan.job.output))
        if line is not None:
            logger.error("%s", line)
        logger.error(
            "the job failed; what was delivered is in the receipts and is not sent again by the same command",
            exc_info=None if line is not None else list(causes(error))[-1],
        )
        if plan.monitor is not None:
            plan.monitor.failed(line or BUG)
    return False


class _Stop:
    """Whether a signal has asked for the end.

    The steps are not told to stop. What they left undone would then be committed by the next checkpoint.
    """

    is_asked = False

    def stop(self) -> None:
        self.is_asked = True


def _cancel(result: PipelineResult, job: Job, options: PipelineOptions) -> None:
    result.cancel()
    deadline = time.monotonic() + _CANCEL_WITHIN
    while not PipelineState.is_terminal(result.state) and time.monotonic() < deadline:
        time.sleep(_POLL)
    if job.runner.lower() in FLINK_RUNNERS:
        name = options.view_as(GoogleCloudOptions).job_name
        cancel_job(options.view_as(FlinkRunnerOptions).flink_master, name, _CANCEL_WITHIN)


class _DirectRunner(FnApiRunner):
    """Beam's runner on this machine. It leaves to the launcher what a signal means for its worker processes.

    Ctrl-C reaches every process of a terminal, and a supervisor's SIGTERM often does, too. A worker that is ended by a
    signal takes its counts with it, and fails the run. So workers ignore both signals, and are told to stop through the
    files of `Board`.
    """

    def run_via_runner_api(
        self, pipeline_proto: beam_runner_api_pb2.Pipeline, options: PipelineOptions
    ) -> RunnerResult:
        """As Beam's, but a shell starts each worker, after it has set it to ignore both signals.

        A process that is started inherits that a signal is ignored. What is started is `pipeline.worker_start`.
        """
        for environment in pipeline_proto.components.environments.values():
            if environment.urn == SUBPROCESS_SDK:
                command = environment.payload.replace(
                    b"apache_beam.runners.worker.sdk_worker_main", b"pipeline.worker_start"
                )
                environment.payload = b"trap '' INT TERM; exec " + command
        return super().run_via_runner_api(pipeline_proto, options)


def _wait(result: PipelineResult, plan: Plan, options: PipelineOptions) -> None:
    """Wait for the end of a job. If that is interrupted, the job is cancelled and does not stay behind on a cluster."""
    # When Beam started its job server, it replaced our handler of Ctrl-C by one that kills the server at once.
    with _stopping_on_signals(plan.board):
        try:
            result.wait_until_finish()
        except KeyboardInterrupt:
            _cancel(result, plan.job, options)
            raise


@contextmanager
def _stopping_on_signals(
    board: Board | _Stop, effect: str = "finishing what is in flight, then stopping"
) -> Iterator[None]:
    """Let SIGTERM and the first Ctrl-C ask the run to stop, and a second Ctrl-C interrupt it.

    Args:
        board: is asked to stop.
        effect: what that does, for the log.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        logger.warning("%s: %s", signal.Signals(number).name, effect)
        board.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
