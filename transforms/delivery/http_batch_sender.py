"""Sends a lane over HTTP, many records a request."""

import asyncio
from collections.abc import Sequence

from schemas.times import now_ms
from transforms.delivery.bisection import Bisection
from transforms.delivery.call_log import log_call
from transforms.delivery.http_sender import HttpSender, LoopThread
from transforms.delivery.lane import Lane
from transforms.delivery.lane_sender import EngineState
from transforms.delivery.policy import BreakerState
from transforms.sinks.base import AttemptResult, HttpBatchSink, Item, Runs, Settle, Settlement, Verdict

_LOOKS = 0.1
"""Seconds after which a worker that waits for the limit of the rate looks whether deliveries have ended."""

_COMING_BACK = 0.05
"""Seconds that a request which is not full waits at most for others that are under way, when nothing else comes in."""


class HttpBatchSender(HttpSender):
    """Sends a lane over HTTP, many records a request.

    A request that is refused for what is in it is sent in parts by its worker, one after the other: what ended with one
    part is settled before the next is sent.

    Args:
        lane: what to send, and when; `is_atomic` as the sink.
        sink: makes the requests.
        concurrency: requests that may be in flight at a time.
        settle: makes settlements durable.
        state: of the engine.
        loop: where the requests are made.
        linger: seconds that a request which is not full may wait for more records while these are still coming in.
    """

    def __init__(
        self,
        lane: Lane,
        sink: HttpBatchSink,
        concurrency: int,
        settle: Settle,
        state: EngineState,
        loop: LoopThread,
        linger: float,
    ) -> None:
        super().__init__(lane, sink, concurrency, settle, state, loop)
        self._batches = sink
        self._linger = linger
        self._flush = False
        # Since when records are ready that are too few for a request that is full; None while there are none.
        self._since: float | None = None
        self._in_flight = 0

    def flush(self, on: bool) -> None:
        self._flush = on
        if on:
            self.wake()

    def _calls_ready(self, now: float) -> tuple[int, float | None]:
        lane = self.lane
        if not lane.ready(now) or not lane.breaker.allows(now):
            return 0, lane.wake_at()
        patience = self._patience(now)
        if patience > 0:
            return 0, now + patience
        wake_at = lane.wake_at()
        # One at a time: whether there is a second request, its worker sees when it has taken the first.
        return (0 if wake_at is not None and wake_at > now else 1), wake_at

    def _runs(self) -> Runs | None:
        size = self._batches.max_bytes
        return Runs(size, size) if self._batches.is_atomic else None

    def _patience(self, now: float) -> float:
        """Seconds to wait for a request that is fuller than one would be now."""
        if self._since is None:
            self._since = now
        waited = now - self._since
        if self.lane.breaker.state is not BreakerState.CLOSED:
            return 0.0
        if self._flush and (self._batches.is_atomic or not self._in_flight):
            return 0.0
        linger = min(self._linger, _COMING_BACK) if self._flush else self._linger
        if waited >= linger or self.lane.may_fill(self._batches.max_items, self._batches.max_bytes, self._runs()):
            return 0.0
        return linger - waited

    def _take(self, now: float) -> Sequence[Item]:
        if not self.lane.ready(now) or self._patience(now) > 0:
            return []
        taken = self.lane.take(now, now_ms(), self._batches.max_items, self._batches.max_bytes, self._runs())
        if taken:
            self._since = now if self.lane.ready(now) else None
            self._loop.call_soon(self._look)
        return taken

    async def _send(self, taken: Sequence[Item]) -> None:
        self._in_flight += 1
        try:
            bisection = Bisection(taken)
            while part := self._next_part(bisection):
                if len(part) < len(taken) and not await self._may_send(len(part)):
                    with self._lock:
                        self.lane.put_back(bisection.left())
                    return
                outcomes = await self._batches.send_batch(part)
                if self._sealed:
                    return
                if outcomes[0].verdict is Verdict.SPLIT:
                    self._split(part, outcomes[0], bisection)
                else:
                    self._finish(part, outcomes, bisection)
        finally:
            self._in_flight -= 1

    def _next_part(self, bisection: Bisection[Item]) -> Sequence[Item]:
        """The records of a batch that are to be sent next; empty when there are none."""
        while part := bisection.next():
            with self._lock:
                left, blocked = self.lane.part_of(part)
            if blocked:
                self._end(blocked)
                bisection.keep(left)
            if left:
                return left
        return ()

    async def _may_send(self, records: int) -> bool:
        """Wait until the limit of the rate allows a part of so many records; False: deliveries have ended."""
        while not self._state.ended:
            with self._lock:
                wait = self.lane.allow_part(self._state.clock(), records)
            if not wait:
                return True
            await asyncio.sleep(min(wait, _LOOKS))
        return False

    def _split(self, part: Sequence[Item], refusal: AttemptResult, bisection: Bisection[Item]) -> None:
        log_call(part, [refusal] * len(part))
        if refusal.status is not None:
            with self._lock:
                self.lane.split(len(part))
        if refusal.ambiguous:
            for item in part:
                item.ambiguous = True
        bisection.refused(for_its_size=refusal.status in (None, 413))

    def _finish(self, part: Sequence[Item], outcomes: Sequence[AttemptResult], bisection: Bisection[Item]) -> None:
        """Hand what became of a part to the lane, and settle what ends with it."""
        # Most answers are of one outcome, or a few, for all records.
        distinct = {id(outcome): outcome for outcome in outcomes}.values()
        if all(outcome.verdict is Verdict.DELIVERED and (outcome.status or 0) < 300 for outcome in distinct):
            bisection.taken()
        else:
            bisection.judged()
        settlements: list[Settlement]
        with self._lock:
            if any(outcome.verdict is Verdict.RETRY for outcome in distinct):
                # What stands behind it in the batch is in no better place.
                self.lane.put_back(bisection.left())
            settlements = self.lane.finish(part, outcomes, self._state.clock())
        log_call(part, outcomes)
        if settlements:
            self._end(settlements)
        self._note_lacks(outcomes)
        self._look()
