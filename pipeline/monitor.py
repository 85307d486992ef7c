"""What watches a run for those who are not at the terminal: metrics and alerts, as far as they are asked for.

The launcher has one `Monitor`, over the board of all workers of this machine. On a distributed runner each worker
process has its own, over its own board, and the launcher's tells only how the run began and ended. What cannot be told
is logged, and holds up nothing.

All that takes long to import is imported late, and only for what is asked for: the start does not pay for the rest.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from pipeline.flag_values import Listen
from pipeline.lock import OutputLockedError
from pipeline.options import Job
from pipeline.report import FAILED, USAGE, Report
from pipeline.usage import UsageError
from transforms.accounting.board import OTHER_REASONS, Board, ForwarderName, JobCounts, Snapshot, Standing
from transforms.accounting.standings import standing_of
from transforms.accounting.summary import Summary
from transforms.observing.alerts import Alert, AlertRules
from transforms.observing.metrics import End, Family, Forwarders, Told, families
from transforms.sinks.user_agent import installed_version
from transforms.storage import StorageError
from transforms.telemetry.environment import asks_for, lacking_packages

if TYPE_CHECKING:
    from pipeline.alert_message import AlertTexts
    from pipeline.alert_sender import AlertSender
    from pipeline.otel_metrics import MetricsPusher
    from pipeline.prometheus import MetricsFile, MetricsServer

logger = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds from one look at the board to the next, for alerts."""

FILE_INTERVAL = 10.0
"""Seconds from one write of the metrics file to the next."""

BUG = "an error ended it, which its log names"
"""Why a run failed, of whose error there is no sentence for a user."""


class Monitor:
    """Metrics and alerts of one process. Where nothing is asked for, it does nothing.

    Args:
        job: what is asked for.
        argv: the command line, for the alert of a run that failed.
        is_worker: whether this is a worker process of a distributed runner, and not the launcher.

    Attributes:
        exit_status: of the run, once that is known.
    """

    def __init__(self, job: Job, argv: Sequence[str] = (), *, is_worker: bool = False) -> None:
        self._job = job
        self._argv = argv
        self._is_worker = is_worker
        # Beside Flink's workers the launcher has nothing to tell of forwarders, and must not take a worker's port.
        self._tells_of_forwarders = is_worker or job.is_direct
        limit = None if job.streaming else job.reject_limit
        self._rules = AlertRules(job.alert_after, limit)
        self._told = Told(installed_version(), time.time(), reject_limit=None if limit is None else limit.ratio)
        self._labelled = Forwarders()
        self._lock = threading.Lock()
        self._look: Callable[[], Snapshot] = Snapshot
        self._last: Snapshot | None = None
        self._texts: AlertTexts | None = None
        self._sender: AlertSender | None = None
        self._server: MetricsServer | None = None
        self._file: MetricsFile | None = None
        self._pusher: MetricsPusher | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_told = False
        self.exit_status = FAILED

    def open(self) -> None:
        """Check what is asked for, and take the port.

        Raises:
            UsageError: an address, a port or a file cannot be used.
        """
        job = self._job
        if job.alert_url is not None:
            self._open_alerts(job.alert_url)
        if job.metrics_port is not None and self._tells_of_forwarders:
            from pipeline.prometheus import MetricsServer

            try:
                self._server = MetricsServer(job.metrics_port, self.families)
            except OSError as error:
                raise UsageError(
                    f"--metrics_port {job.metrics_port}: {error.strerror or error}; name a port that is free, a range "
                    "of ports such as 9464-9483, or 0 for any"
                ) from None
            port = self._server.port
            logger.info("metrics are at http://%s/metrics", Listen(job.metrics_port.host, port, port))
        if job.metrics_file is not None and not self._is_worker:
            from pipeline.prometheus import MetricsFile

            self._file = MetricsFile(job.metrics_file, self.families)
            try:
                self._file.check()
            except OSError as error:
                raise UsageError(f"--metrics_file {job.metrics_file} cannot be written: {error.strerror}") from None
        if self._tells_of_forwarders and asks_for("metrics", os.environ):
            if problem := lacking_packages():
                logger.warning("%s", problem)
            else:
                from pipeline.otel_metrics import MetricsPusher

                self._pusher = MetricsPusher.opened(self.families)

    def _open_alerts(self, url: str) -> None:
        from pipeline.alert_message import AlertTexts
        from pipeline.alert_sender import AlertSender, AlertsError, destination, refusal

        try:
            to = destination(url, self._job.alert_secret)
            if refused := refusal(to.target, self._job.allow_networks):
                raise UsageError(refused)
        except AlertsError as error:
            raise UsageError(str(error)) from None
        if to.signer is None and not self._is_worker:
            logger.warning("alerts are not signed: give --alert_secret, so that their receiver knows who sent them")
        self._texts = AlertTexts(self._job, self._argv)
        self._sender = AlertSender(to, self._job.allow_networks)

    def begin(self, run_id: str, look: Callable[[], Snapshot], names: Mapping[str, ForwarderName]) -> None:
        """Watch a run from now on.

        Args:
            run_id: its name.
            look: reads the board.
            names: what its forwarders are called, by id.
        """
        with self._lock:
            self._told = replace(self._told, run_id=run_id)
            self._look = look
        if self._texts is not None:
            self._texts.names = names
        if self._sender is not None or self._file is not None:
            self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)
            self._thread.start()

    def families(self) -> list[Family]:
        """All metrics as they are now."""
        with self._lock:
            snapshot = self._look() if self._last is None else self._last
            return list(families(snapshot, time.time(), self._told, self._labelled))

    def _watch(self) -> None:
        written = 0.0
        while not self._ended.wait(LOOK):
            if self._sender is not None:
                self._send(self._rules.saw(self._look(), time.time()))
            if self._file is not None and time.monotonic() - written >= FILE_INTERVAL:
                self._file.write()
                written = time.monotonic()

    def failed(self, reason: str) -> None:
        """The run has failed, or cannot begin.

        Args:
            reason: a sentence, without a secret.
        """
        self._is_told = True
        self._stop_watching()
        self._send(self._rules.failed(reason, time.time()))

    def ended(self, report: Report) -> None:
        """The run has ended, and this is what it comes to. Call it while the board is still there."""
        self._stop_watching()
        snapshot = _final(self._look(), report.summary)
        with self._lock:
            self._last = snapshot
        now = time.time()
        # Of a run that was ended by an error `failed` has told; and one that was stopped did as it was asked to.
        if not self._is_told and report.state != "failed":
            self._send(self._rules.saw(snapshot, now))
            self._send(self._rules.read_all(report.summary.read, now))
            if report.exit_status == FAILED and report.state != "stopped" and not report.summary.stopped:
                self._send(self._rules.failed(report.verdict().removeprefix("failed: "), now))
        self._is_told = True

    def close(self, exit_status: int) -> None:
        """Tell how the run ended, for the last time, and wait for that for a bounded time."""
        self._stop_watching()
        with self._lock:
            self._told = replace(self._told, end=End(time.time(), exit_status))
            if self._last is None:
                self._last = self._look()
        if exit_status == FAILED and not self._is_told:
            self._send(self._rules.failed(BUG, time.time()))
        if self._file is not None:
            self._file.write()
        if self._pusher is not None:
            self._pusher.close()
        if self._sender is not None:
            self._sender.close()
        if self._server is not None:
            self._server.close()

    def _stop_watching(self) -> None:
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _send(self, alerts: Sequence[Alert]) -> None:
        if self._sender is None or self._texts is None:
            return
        from pipeline.alert_message import message_id
        from pipeline.alert_sender import Message

        run_id = self._told.run_id
        for alert in alerts:
            name = f"{alert.type}, forwarder {alert.forwarder_id}" if alert.forwarder_id else alert.type
            identifier = message_id(run_id or f"{os.getpid()}-{self._told.started}", alert)
            self._sender.put(Message(identifier, name, self._texts.body(run_id, alert)))


def _final(snapshot: Snapshot, summary: Summary) -> Snapshot:
    """What the board says, with the counts of the books: on a distributed runner the board has none."""
    forwarders = dict(snapshot.forwarders)
    for forwarder_id, account in summary.books.accounts.items():
        counted = standing_of(account)
        known = forwarders.get(forwarder_id, Standing())
        forwarders[forwarder_id] = msgspec.structs.replace(
            known,
            due=counted.due,
            delivered=counted.delivered,
            already_delivered=counted.already_delivered,
            dead=counted.dead,
            waiting=account.pending,
            in_flight=0,
            calls=account.calls,
            bytes=counted.bytes,
            latency=counted.latency,
        )
    job = msgspec.structs.replace(snapshot.job, phase="ending")
    if job.read < summary.read.read:
        job = JobCounts(
            phase="ending",
            size=summary.read.size,
            read=summary.read.read,
            rejected={OTHER_REASONS: summary.read.rejected} if summary.read.rejected else {},
            folded=summary.read.accepted,
            derived=sum(summary.records.values()),
        )
    return replace(snapshot, job=job, forwarders=forwarders)


@contextmanager
def monitored(job: Job, argv: Sequence[str]) -> Iterator[Monitor]:
    """The launcher's monitor. It tells of every error that leaves the block, and how the run ended.

    A run that only looks tells nobody.

    Raises:
        UsageError: an address, a port or a file of it cannot be used.
    """
    if job.looks_only:
        job = replace(job, metrics_port=None, metrics_file=None, alert_url=None)
    monitor = Monitor(job, argv)
    status = FAILED
    try:
        monitor.open()
        yield monitor
        status = monitor.exit_status
    except UsageError as error:
        status = USAGE
        monitor.failed(str(error))
        raise
    except Exception as error:
        monitor.failed(str(error) if isinstance(error, OutputLockedError | StorageError) else BUG)
        raise
    finally:
        monitor.close(status)


@dataclass(frozen=True)
class WorkerMonitor:
    """Starts the monitor of a worker process of a distributed runner, once. It pickles, and holds no secret.

    Attributes:
        job: what is asked for.
        run_id: of the run.
        board: of this process.
        names: what the forwarders are called, by id.
    """

    job: Job
    run_id: str
    board: Board
    names: Mapping[str, ForwarderName] = field(default_factory=dict)

    def __call__(self) -> None:
        """Start it, unless this process has done so. What cannot be used is logged, and the worker goes on without."""
        with _starting:
            if self.run_id in _started:
                return
            monitor = _started[self.run_id] = Monitor(self.job, is_worker=True)
        try:
            monitor.open()
        except UsageError as error:
            logger.warning("%s; this worker goes on without", error)
        monitor.begin(self.run_id, self.board.mine, self.names)


_starting = threading.Lock()
# Of this process, by the run.
_started: dict[str, Monitor] = {}
