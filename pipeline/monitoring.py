"""Starts what watches a run for those who are not at its terminal: in the launcher, and on workers.

Where metrics or alerts are asked for, that is an `ActiveMonitor`. It brings what takes long to import, so it is
imported only then.
"""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.console import INTERRUPTED
from pipeline.lock import OutputLockedError
from pipeline.monitor import BUG, Monitor
from pipeline.options import Job
from pipeline.report import FAILED, USAGE
from pipeline.usage import UsageError
from transforms.accounting.board import Board, ForwarderName
from transforms.storage import StorageError
from transforms.telemetry.environment import asks_for


def _is_asked_for(job: Job) -> bool:
    flags = (job.metrics_port, job.metrics_file, job.alert_url)
    return any(flag is not None for flag in flags) or asks_for("metrics", os.environ)


def _monitor(job: Job, command_line: Sequence[str] = (), *, is_worker: bool = False) -> Monitor:
    """The monitor of this process, to be opened. A run that only looks tells nobody."""
    if job.looks_only or not _is_asked_for(job):
        return Monitor()
    from pipeline.active_monitor import ActiveMonitor

    return ActiveMonitor(job, command_line, is_worker=is_worker)


def monitor_problems(job: Job) -> list[str]:
    """Why a run could not be watched as asked for, each in a sentence. Nobody is told of anything."""
    return _monitor(job).problems()


@contextmanager
def monitored(job: Job, command_line: Sequence[str]) -> Iterator[Monitor]:
    """The launcher's monitor. It tells of every error that leaves the block, and how the run ended.

    Raises:
        UsageError: an address, a port or a file of it cannot be used.
    """
    monitor = _monitor(job, command_line)
    status = FAILED
    try:
        monitor.open()
        yield monitor
        status = monitor.exit_status
    except KeyboardInterrupt:
        status = INTERRUPTED  # As asked for: there is nothing to tell.
        raise
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
            monitor = _started[self.run_id] = _monitor(self.job, is_worker=True)
        monitor.open()
        monitor.begin(self.run_id, self.board.mine, self.names)


_starting = threading.Lock()
# Of this process, by the run.
_started: dict[str, Monitor] = {}
