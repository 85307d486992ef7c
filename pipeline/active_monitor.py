"""Metrics and alerts of one process, as far as they are asked for. What cannot be told is logged, and holds up nothing.

The launcher has one, over the board of all workers of this machine. On a distributed runner each worker process has its
own, over its own board, and the launcher's tells only how the run began and ended.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from pipeline.flag_values import Listen
from pipeline.monitor import BUG, Monitor
from pipeline.options import Job
from pipeline.report import FAILED, Report
from pipeline.usage import UsageError
from transforms.accounting.accounts import standing_of
from transforms.accounting.board import ForwarderName, JobCounts, Snapshot, Standing
from transforms.accounting.summary import Summary
from transforms.observing.alerts import Alert, AlertRules
from transforms.observing.metrics import End, Family, Forwarders, Told, families
from transforms.sinks.user_agent import installed_version
from transforms.storage import remedy
from transforms.telemetry.environment import asks_for, has_packages

if TYPE_CHECKING:
    from pipeline.alert_message import AlertTexts
    from pipeline.alert_sender import AlertSender, Destination
    from pipeline.otel_metrics import MetricsPusher
    from pipeline.prometheus import MetricsFile, MetricsServer

logger = logging.getLogger(__name__)

LOOK = 1.0
"""Seconds from one look at the board to the next, for alerts."""

_SHARE = 0.01
"""The share of the launcher's time that looks may take: with very many forwarders they come less often."""

FILE_INTERVAL = 10.0
"""Seconds from one write of the metrics file to the next."""


class ActiveMonitor(Monitor):
    """Metrics and alerts of one process.

    Args:
        job: what is asked for.
        command_line: with which a run that failed is run again; empty where that is not known.
        is_worker: whether this is a worker process of a distributed runner, and not the launcher.
    """

    def __init__(self, job: Job, command_line: Sequence[str] = (), *, is_worker: bool = False) -> None:
        super().__init__()
        self._job = job
        self._command_line = command_line
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

    def open(self) -> None:
        """Make ready what is asked for.

        Raises:
            UsageError: in the launcher, an address, a port or a file cannot be used. A worker logs that, and goes on
                without.
        """
        for part in (self._open_alerts, self._open_port, self._open_file, self._open_telemetry):
            try:
                part()
            except UsageError as error:
                if not self._is_worker:
                    raise
                logger.warning("%s; this worker goes on without", error)

    def problems(self) -> list[str]:
        """What of it cannot be used now, each in a sentence. Nothing is sent, and nothing stays open."""

        def port_is_free() -> None:
            if server := self._listening():
                server.close()

        problems = []
        for check in (self._destination, port_is_free, self._writable_file):
            try:
                check()
            except UsageError as error:
                problems.append(str(error))
        return problems

    def _open_alerts(self) -> None:
        job, to = self._job, self._destination()
        if to is None:
            return
        from pipeline.alert_message import AlertTexts
        from pipeline.alert_sender import AlertSender

        if to.signer is None and not self._is_worker:
            logger.warning("alerts are not signed: give --alert_secret, so that their receiver knows who sent them")
        self._texts = AlertTexts(job, self._command_line)
        self._sender = AlertSender(to, job.allow_networks)

    def _destination(self) -> "Destination | None":
        job = self._job
        if job.alert_url is None:
            return None
        from pipeline.alert_sender import AlertsError, destination, refusal

        try:
            to = destination(job.alert_url, job.alert_secret)
            refused = refusal(to.target, job.allow_networks)
        except AlertsError as error:
            raise UsageError(str(error)) from None
        if refused:
            raise UsageError(refused)
        return to

    def _open_port(self) -> None:
        self._server = self._listening()
        listen = self._job.metrics_port
        if self._server is not None and listen is not None:
            port = self._server.port
            logger.info("metrics are at http://%s/metrics", Listen(listen.host, port, port))

    def _listening(self) -> "MetricsServer | None":
        listen = self._job.metrics_port
        if listen is None or not self._tells_of_forwarders:
            return None
        from pipeline.prometheus import MetricsServer

        try:
            return MetricsServer(listen, self.families)
        except OSError as error:
            raise UsageError(
                f"--metrics_port {listen}: {os.strerror(error.errno or 0)}; name a port that is free, a range of ports "
                "such as 9464-9483, or 0 for any"
            ) from None

    def _open_file(self) -> None:
        self._file = self._writable_file()

    def _writable_file(self) -> "MetricsFile | None":
        path = self._job.metrics_file
        if path is None or self._is_worker:
            return None
        from pipeline.prometheus import MetricsFile

        file = MetricsFile(path, self.families)
        try:
            file.check()
        except OSError as error:
            raise UsageError(f"--metrics_file {path} cannot be written: {error.strerror}; {remedy(error)}") from None
        return file

    def _open_telemetry(self) -> None:
        if not (self._tells_of_forwarders and asks_for("metrics", os.environ) and has_packages()):
            return
        from pipeline.otel_metrics import MetricsPusher

        self._pusher = MetricsPusher.opened(self.families)

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
        if (self._sender is not None and self._tells_of_forwarders) or self._file is not None:
            self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)
            self._thread.start()

    def families(self) -> list[Family]:
        """All metrics as they are now."""
        with self._lock:
            snapshot = self._look() if self._last is None else self._last
            return list(families(snapshot, time.time(), self._told, self._labelled))

    def _watch(self) -> None:
        written, wait = 0.0, LOOK
        while not self._ended.wait(wait):
            began = time.thread_time()
            if self._sender is not None and self._tells_of_forwarders:
                self._send(self._rules.saw(self._look(), time.time()))
            if self._file is not None and time.monotonic() - written >= FILE_INTERVAL:
                self._file.write()
                written = time.monotonic()
            wait = max(LOOK, (time.thread_time() - began) / _SHARE)

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
            if self._tells_of_forwarders:
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
            rejected=summary.rejected_by_reason,
            folded=summary.read.accepted,
            derived=sum(summary.records.values()),
        )
    return replace(snapshot, job=job, forwarders=forwarders)
