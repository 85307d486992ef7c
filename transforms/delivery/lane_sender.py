"""What the senders of all targets do alike: a lane, the results of its sink, and whether to go on."""

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transforms.delivery.lane import Lane
from transforms.sinks.base import Settle, Settlement

logger = logging.getLogger(__name__)


class DeliveryStoppedError(RuntimeError):
    """Work was handed in, or waited for, after `stop`."""


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """What one forwarder got so far. `attempts` counts every record sent, also those that spent no attempt.

    `matched` = `delivered` + `dead_lettered` + `pending`. `bytes` are delivered payload bytes, `spooled` the records of
    `pending` that wait on disk. `remarks` are the sink's, such as hashed partition keys.
    """

    matched: int
    delivered: int
    dead_lettered: int
    pending: int
    attempts: int
    bytes: int
    spooled: int
    unavailable: bool
    remarks: Mapping[str, int] = field(default_factory=dict)


class EngineState:
    """What all runs share: whether to go on, and word of lanes that became idle."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.stopping = False
        self.waiting = 0
        self.error: BaseException | None = None

    @property
    def ended(self) -> bool:
        return self.stopping or self.error is not None

    def check(self) -> None:
        if self.error is not None:
            raise self.error
        if self.stopping:
            raise DeliveryStoppedError("deliveries were stopped")

    def stop(self) -> None:
        with self.changed:
            self.stopping = True
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self.changed:
            if self.error is None:
                self.error = error
            self.changed.notify_all()

    def notify(self) -> None:
        with self.changed:
            self.changed.notify_all()


class LaneSender:
    """A lane, its sink's results, and what both kinds of runs do alike."""

    def __init__(self, lane: Lane, settle: Settle, state: EngineState) -> None:
        self.lane = lane
        self._settle = settle
        self._state = state
        self._lock = threading.Lock()
        self._reported_unavailable = False
        self._sealed = False

    @property
    def settled(self) -> int:
        return self.lane.delivered + self.lane.dead_lettered

    @property
    def is_crowded(self) -> bool:
        """Whether it is close to spooling."""
        return self.lane.fullness > 0.75

    @property
    def is_hungry(self) -> bool:
        """Whether it could soon have nothing to do."""
        return self.lane.fullness < 0.05

    def _release(self, settlements: Sequence[Settlement]) -> None:
        """They are durable; tell who waits for that."""
        with self._lock:
            self.lane.release(settlements)
            self._report_availability()
            idle = not self.lane.pending
        if idle or (self._state.waiting and self.lane.fullness < 0.5):
            self._state.notify()

    def _remarks(self) -> Mapping[str, int]:
        return {}

    def counts(self) -> LaneCounts:
        lane = self.lane
        with self._lock:
            return LaneCounts(
                matched=lane.submitted,
                delivered=lane.delivered,
                dead_lettered=lane.dead_lettered,
                pending=lane.pending,
                attempts=lane.attempts,
                bytes=lane.delivered_bytes,
                spooled=lane.spooled,
                unavailable=lane.abandoned,
                remarks=dict(self._remarks()),
            )

    def _report_availability(self) -> None:
        """One log line when the forwarder is given up, one when it is back; the lock is held."""
        if self.lane.abandoned == self._reported_unavailable:
            return
        self._reported_unavailable = self.lane.abandoned
        if self.lane.abandoned:
            logger.warning(
                "forwarder %s: no progress for the outage budget (last: %s); its records are given up as unavailable",
                self.lane.forwarder_id,
                self.lane.last_failure.reason if self.lane.last_failure else "",
            )
        else:
            logger.warning("forwarder %s: takes records again", self.lane.forwarder_id)
