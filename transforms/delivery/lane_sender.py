"""What the senders of all targets have in common: a lane, counts, and the state of the engine."""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transforms.accounting.board import Standing
from transforms.delivery.lane import Lane
from transforms.delivery.lane_watch import LaneWatch
from transforms.sinks.base import AttemptResult, Item, Settle, Settlement
from transforms.sinks.lacks import Patience

logger = logging.getLogger(__name__)


class DeliveryStoppedError(RuntimeError):
    """Items were submitted, or waited for, after the engine was told to stop."""


@dataclass(frozen=True, slots=True)
class LaneCounts:
    """How one forwarder stands: what its lane was given, and what became of it. For whoever watches a running engine.

    Attributes:
        matched: records that the lane was given: `delivered` + `dead_lettered` + `pending`.
        delivered: those that the forwarder got.
        dead_lettered: those that were given up.
        pending: those that have not ended yet.
        attempts: times that a record was sent, throttled ones too.
        calls: calls in which they were sent.
        bytes: payload bytes of the delivered records.
        spooled: those of `pending` that are outside the window, mostly on disk.
        unavailable: whether the outage budget is over, and records are given up unsent.
        remarks: what the sink counted, such as hashed partition keys.
    """

    matched: int
    delivered: int
    dead_lettered: int
    pending: int
    attempts: int
    calls: int
    bytes: int
    spooled: int
    unavailable: bool
    remarks: Mapping[str, int] = field(default_factory=dict)


class EngineState:
    """What all senders of an engine share: whether to go on, and news for the thread that waits for them.

    Args:
        patience: waits out what this machine lacks.
        clock: monotonic seconds, of the lanes.

    Attributes:
        changed: notified when a lane becomes idle, when it has room again while somebody waits for that, and when
            deliveries end.
        stopping: whether the engine was told to stop.
        waiting: how many threads wait for room. Change it holding `changed`.
        error: what made the engine fail.
        patience: waits out what this machine lacks.
        clock: gives the `now` of the lanes.
    """

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        self.patience = patience
        self.clock = clock
        self.changed = threading.Condition()
        self.stopping = False
        self.waiting = 0
        self.error: BaseException | None = None

    @property
    def ended(self) -> bool:
        """Whether no more is to be sent."""
        return self.stopping or self.error is not None

    def check(self) -> None:
        """Raises what made the engine fail, or DeliveryStoppedError if it was told to stop."""
        if self.error is not None:
            raise self.error
        if self.stopping:
            raise DeliveryStoppedError("deliveries were stopped")

    def stop(self) -> None:
        """Send no more."""
        with self.changed:
            self.stopping = True
            self.changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Send no more because of `error`; only the first one counts."""
        with self.changed:
            if self.error is None:
                self.error = error
            self.changed.notify_all()

    def notify(self) -> None:
        """Wake the threads that wait for news."""
        with self.changed:
            self.changed.notify_all()


class LaneSender(ABC):
    """Sends what is in one lane. Every public method may be called from any thread.

    Args:
        lane: what to send, and when.
        settle: makes settlements durable.
        state: of the engine.
    """

    def __init__(self, lane: Lane, settle: Settle, state: EngineState) -> None:
        self.lane = lane
        self._settle = settle
        self._state = state
        self._lock = threading.Lock()
        self._lane_watch = LaneWatch(lane)
        self._reported_full = False
        self._sealed = False

    @abstractmethod
    def submit(self, items: Sequence[Item]) -> None:
        """Take in items, as `Lane.submit` does, and see that they are sent."""

    @abstractmethod
    def flush(self, on: bool) -> None:
        """Set whether no more items come for now. Then no call waits to be fuller."""

    @abstractmethod
    def wake(self) -> None:
        """Look at the state of the engine again."""

    @abstractmethod
    def await_idle(self, seconds: float) -> bool:
        """Wait until no call is in flight, for at most so many seconds; says whether that is so."""

    @abstractmethod
    def seal(self) -> None:
        """Ignore the results of calls from now on. Those that came before are settled when this returns."""

    @abstractmethod
    def close(self) -> None:
        """Release threads, connections and the sink."""

    @property
    def settled(self) -> int:
        """Items that have ended so far."""
        return self.lane.delivered + self.lane.dead_lettered

    @property
    def is_crowded(self) -> bool:
        """Whether the window is nearly full, so that more items would soon be spooled."""
        return self.lane.fullness > 0.75

    @property
    def is_hungry(self) -> bool:
        """Whether the window is nearly empty, so that the sender could soon have nothing to send."""
        return self.lane.fullness < 0.05

    def _release(self, settlements: Sequence[Settlement]) -> None:
        """Release settlements that are durable, and wake whoever waits for this lane."""
        with self._lock:
            self.lane.release(settlements)
        self._settle_overflow()
        idle = not self.lane.pending
        if idle or (self._state.waiting and self.lane.fullness < 0.5):
            self._state.notify()

    def _settle_overflow(self) -> None:
        """Settle what the disk has no room for. Others go on: it is of this lane alone. The caller holds no lock."""
        while True:
            with self._lock:
                overflow = self.lane.overflow()
            if not overflow:
                return
            if not self._reported_full:
                self._reported_full = True
                logger.warning(
                    "forwarder %s: the disk of TMPDIR has no room for what it has not taken yet; more of its records "
                    "are given up as spool_full",
                    self.lane.forwarder_id,
                )
            self._settle(overflow)
            with self._lock:
                self.lane.dropped(overflow)
            if not self.lane.pending:
                self._state.notify()

    def _note_lacks(self, outcomes: Sequence[AttemptResult]) -> None:
        """Tell the engine's patience whether a call could be made. Call it when all that ended with it is settled.

        Raises LackError when none could be made for too long.
        """
        lack = next((outcome for outcome in outcomes if outcome.lack), None)
        if lack is None:
            self._state.patience.had()
        else:
            self._state.patience.lacked(lack.response or "")

    def _remarks(self) -> Mapping[str, int]:
        """What the sink counted that a report should mention."""
        return {}

    def counts(self) -> LaneCounts:
        """How the lane stands at this moment."""
        lane = self.lane
        with self._lock:
            return LaneCounts(
                matched=lane.submitted,
                delivered=lane.delivered,
                dead_lettered=lane.dead_lettered,
                pending=lane.pending,
                attempts=lane.attempts,
                calls=lane.calls,
                bytes=lane.delivered_bytes,
                spooled=lane.spooled,
                unavailable=lane.abandoned,
                remarks=dict(self._remarks()),
            )

    def standing(self, unix: float) -> Standing:
        """What the board says of the lane. `unix` is the present moment, in unix seconds."""
        with self._lock:
            return self._lane_watch.standing(self._state.clock(), unix)
