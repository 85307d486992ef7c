"""Sends a lane in calls of many records: PutRecords or PutRecordBatch."""

import threading
from collections.abc import Mapping, Sequence

from schemas.times import now_ms
from transforms.delivery.call_log import log_call
from transforms.delivery.call_threads import CallThreads
from transforms.delivery.lane import Lane
from transforms.delivery.lane_sender import EngineState, LaneSender
from transforms.sinks.base import AttemptResult, BatchSink, Item, Settle, Settlement

RETRIES_TOGETHER = 0.1
"""Seconds that a call of retries may wait for other retries, to be fuller. The first backoff is of up to 0.5 s."""


class BatchSender(LaneSender):
    """Sends a lane in calls of many records. Each call in flight has a thread, of those that all such lanes share.

    Args:
        lane: what to send, and when.
        sink: makes the calls.
        settle: makes settlements durable.
        state: of the engine.
        linger: seconds that a call which is not full may wait for more records while they are still coming in.
        threads: those of the engine.
    """

    def __init__(
        self, lane: Lane, sink: BatchSink, settle: Settle, state: EngineState, linger: float, threads: CallThreads
    ) -> None:
        super().__init__(lane, settle, state)
        self._sink = sink
        self._linger = linger
        self._threads = threads
        self._wake = threading.Condition(self._lock)
        self._in_flight = 0
        self._flush = False
        self._submitted_at = 0.0
        self._called_at = 0.0
        self._settling = 0
        self._opening = threading.Lock()
        self._opened = self._closed = False

    def _remarks(self) -> Mapping[str, int]:
        return self._sink.remarks

    def submit(self, items: Sequence[Item]) -> None:
        with self._lock:
            self.lane.submit(items)
            self._submitted_at = self._state.clock()
            self._look()
        self._settle_overflow()

    def flush(self, on: bool) -> None:
        with self._lock:
            self._flush = on
            if on and self.lane.pending:
                self._look()

    def wake(self) -> None:
        with self._lock:
            self._wake.notify_all()

    def await_idle(self, seconds: float) -> bool:
        with self._wake:
            return self._wake.wait_for(lambda: not self._in_flight, seconds)

    def seal(self) -> None:
        with self._wake:
            self._sealed = True
            self._wake.wait_for(lambda: not self._settling)

    def close(self) -> None:
        # A call that is still in flight ends by its own time-out. Its result is ignored.
        with self._opening:
            opened, self._opened, self._closed = self._opened, False, True
        if opened:
            self._sink.close()

    def turn(self) -> None:
        """Make one call, or settle what ends without a call; or see to it that there is a turn when it is time for it.

        Called by one of the threads.
        """
        try:
            if self._is_open():
                self._step()
        except BaseException as error:
            self._state.fail(error)

    def _is_open(self) -> bool:
        """Open the sink before the first call. False if it is closed, or another thread is about to open it."""
        if self._opened:
            return True
        if not self._opening.acquire(blocking=False):
            return False
        try:
            if self._opened or self._closed:
                return self._opened
            self._sink.open()
            self._opened = True
        finally:
            self._opening.release()
        with self._lock:
            self._look()  # For what came while it was being opened.
        return True

    def _look(self) -> None:
        """See that a thread looks at the lane, unless all that may do so make calls. The caller holds the lock."""
        if self._in_flight < max(1, self._sink.calls_in_flight) and not self._state.ended:
            self._threads.look(self)

    def _step(self) -> None:
        with self._lock:
            ended, batch = self._work()
            if not ended and not batch:
                return
            self._in_flight += 1
            self._settling += bool(ended)
        outcomes: list[AttemptResult] = []
        try:
            if batch:
                called = self._call(batch)
                if called is None:
                    return
                ended, outcomes = called
            log_call(batch, outcomes)
            self._settle_and_release(ended)
            self._note_lacks(outcomes)
        finally:
            with self._lock:
                self._in_flight -= 1
                self._wake.notify_all()
                self._look()

    def _call(self, batch: Sequence[Item]) -> tuple[list[Settlement], list[AttemptResult]] | None:
        """Send the batch. Returns what ended with it, to be settled, and its outcomes; None after `seal`."""
        outcomes = self._sink.send(batch)
        now = self._state.clock()
        with self._lock:
            if self._sealed:
                return None
            ended = self.lane.finish(batch, outcomes, now)
            self._settling += 1
            return ended, outcomes

    def _settle_and_release(self, ended: list[Settlement]) -> None:
        """Settle without holding the lock: while the journal is written, other records may be submitted and sent."""
        try:
            if ended:
                self._settle(ended)
            self._release(ended)
        finally:
            with self._lock:
                self._settling -= 1

    def _work(self) -> tuple[list[Settlement], Sequence[Item]]:
        """What to do now. The caller holds the lock.

        Returns:
            Settlements that need no call, or else the items of the next call. Both are empty if there is nothing to do
            yet, or deliveries have ended.
        """
        if self._state.ended:
            return [], []
        now = self._state.clock()
        ended = self.lane.ended(now)
        batch = [] if ended else self._take(now)
        if ended or batch:
            # This thread is not counted yet.
            if self.lane.ready(now) and self._in_flight + 1 < self._sink.calls_in_flight:
                self._look()
        elif (nap := self._nap(now)) is not None:
            self._threads.look_in(self, nap)
        return ended, batch

    def _take(self, now: float) -> Sequence[Item]:
        """The items of a call that may be made now; [] for none."""
        if self._in_flight >= self._sink.calls_in_flight or self._patience(now) > 0:
            return []
        sink = self._sink
        batch = self.lane.take(now, now_ms(), sink.max_items, sink.max_bytes, sink.runs)
        if batch:
            self._called_at = now
        return batch

    def _patience(self, now: float) -> float:
        """Seconds to wait for a call that is fuller than one would be now: a call costs as much as 100 records."""
        ready = self.lane.ready(now)
        runs = self._sink.runs
        most = self._sink.max_items if runs is None else runs.users
        if ready >= most or (runs is not None and self.lane.may_fill(self._sink.max_items, runs.bytes, runs)):
            return 0.0
        if not self._flush and now - self._submitted_at < self._linger:
            return max(0.0, self._called_at + self._linger - now)
        # No more is coming in. But a call that comes back lets its users' next records go.
        if ready >= most // 2:
            return 0.0
        if self._in_flight:
            return self._linger
        # The retries of a throttled stream become due one by one. If most are due soon, they go together.
        soon = self._called_at + RETRIES_TOGETHER - now
        return soon if soon > 0 and self.lane.retries_due(now + soon, ready + 1) > ready else 0.0

    def _nap(self, now: float) -> float | None:
        """Seconds after which to look at the lane again; None if news will come of it."""
        wake_at = self.lane.wake_at()
        if wake_at is None or wake_at > now:
            return None if wake_at is None else wake_at - now
        # Something is ready, and waits for a fuller call or until fewer calls are in flight.
        return self._patience(now) or self._linger
