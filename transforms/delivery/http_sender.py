"""Sends a lane over HTTP, one record a request."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

import uvloop

from schemas.times import now_ms
from transforms.delivery.call_log import log_calls
from transforms.delivery.lane import Lane
from transforms.delivery.lane_sender import EngineState, LaneSender
from transforms.sinks.base import AttemptResult, HttpSink, Item, Settle, Settlement, Verdict


class LoopThread:
    """One asyncio loop in one thread, which all HTTP lanes share."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="deliver-http", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def close(self) -> None:
        """End the loop and its thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


class HttpSender(LaneSender):
    """Sends a lane over HTTP, one record a request.

    Each request in flight has a worker, a task on the loop, which is started when there is need of it.

    Args:
        lane: what to send, and when.
        sink: makes the requests.
        concurrency: requests that may be in flight at a time.
        settle: makes settlements durable.
        state: of the engine.
        loop: where the requests are made.
    """

    def __init__(
        self, lane: Lane, sink: HttpSink, concurrency: int, settle: Settle, state: EngineState, loop: LoopThread
    ) -> None:
        super().__init__(lane, settle, state)
        self._sink = sink
        self._concurrency = concurrency
        self._loop = loop.loop
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._open: asyncio.Task[None] | None = None
        self._finished: list[tuple[Item, AttemptResult]] = []
        self._poked = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # From any thread.

    def submit(self, items: Sequence[Item]) -> None:
        with self._lock:
            self.lane.submit(items)
            poked, self._poked = self._poked, True
        self._settle_overflow()
        if not poked:
            self._loop.call_soon_threadsafe(self._poke)

    def flush(self, on: bool) -> None:
        """Nothing to do: a request holds one record, and waits for no other."""

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._poke)

    def await_idle(self, seconds: float) -> bool:
        done: Future[bool] = asyncio.run_coroutine_threadsafe(self._await_workers(seconds), self._loop)
        return done.result()

    def seal(self) -> None:
        asyncio.run_coroutine_threadsafe(self._seal(), self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    # On the loop.

    def _poke(self) -> None:
        self._poked = False
        self._look()

    def _look(self) -> None:
        """Settle what ends without an attempt, and wake or start a worker for each record that is ready."""
        try:
            now = self._state.clock()
            if self._state.ended:
                while self._idle:
                    self._wake_one()
                return
            with self._lock:
                ended = self.lane.ended(now)
            if ended:
                self._end(ended)
                self._loop.call_soon(self._look)  # There may be many more, but it is the other lanes' turn first.
                return
            with self._lock:
                ready, wake_at = self._calls_ready(now)
            for _ in range(min(ready, self._concurrency)):
                if not self._wake_one():
                    break
            self._set_timer(now, wake_at)
        except BaseException as error:
            self._fail(error)

    def _calls_ready(self, now: float) -> tuple[int, float | None]:
        """How many requests may be made now; and when to look again, if nothing happens until then."""
        ready = self.lane.ready(now) if self.lane.breaker.allows(now) else 0
        return ready, self.lane.wake_at()

    def _wake_one(self) -> bool:
        """Wake or start one worker. False: all that the forwarder may have are at work."""
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return True
        if len(self._workers) >= self._concurrency or self._state.ended:
            return False
        worker = self._loop.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)
        return True

    def _set_timer(self, now: float, wake_at: float | None) -> None:
        """See that the lane is looked at again at the time `wake_at`, unless workers do that already."""
        if self._timer is not None:
            if wake_at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        # A time that has come means that records are ready: workers look at the lane for those.
        if wake_at is not None and wake_at > now:
            self._timer_at = wake_at
            self._timer = self._loop.call_later(wake_at - now, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._look()

    async def _work(self) -> None:
        """Send one record after the other, and sleep when none is ready, until deliveries end."""
        try:
            if self._open is None:
                self._open = self._loop.create_task(self._sink.open())
            await asyncio.shield(self._open)
            while not self._state.ended:
                now = self._state.clock()
                with self._lock:
                    taken = self._take(now)
                    wake_at = None if taken else self.lane.wake_at()
                if not taken:
                    if wake_at is not None and wake_at > now:
                        self._set_timer(now, wake_at)  # The limit of the rate is known only when it was asked.
                    waiter = self._loop.create_future()
                    self._idle.append(waiter)
                    await waiter
                    continue
                await self._send(taken)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)

    def _take(self, now: float) -> Sequence[Item]:
        """The items of a request that may be made now; [] for none. The caller holds the lock."""
        return self.lane.take(now, now_ms())

    async def _send(self, taken: Sequence[Item]) -> None:
        """Make the request, and see that what ends with it is settled."""
        (item,) = taken
        outcome = await self._sink.send(item)
        # Requests that end in the same turn of the loop are settled together.
        self._finished.append((item, outcome))
        if len(self._finished) == 1:
            self._loop.call_soon(self._settle_finished)

    def _settle_finished(self) -> None:
        """Hand the requests that ended in this turn of the loop to the lane, and settle what ends with them."""
        try:
            finished, self._finished = self._finished, []
            if self._sealed:
                return
            now = self._state.clock()
            settlements: list[Settlement] = []
            with self._lock:
                if all(outcome.verdict is Verdict.DELIVERED for _, outcome in finished):
                    items, outcomes = [item for item, _ in finished], [outcome for _, outcome in finished]
                    settlements = self.lane.finish(items, outcomes, now, calls=len(items))
                else:
                    # Each request is a call of its own to the lane, which counts failures in a row.
                    for item, outcome in finished:
                        settlements += self.lane.finish((item,), (outcome,), now)
            log_calls(finished)
            if settlements:
                self._end(settlements)
            self._note_lacks([outcome for _, outcome in finished])
            # Else there is no need to look: busy workers take what is ready by themselves.
            if self._idle or self.lane.has_troubles:
                self._look()
        except BaseException as error:
            self._fail(error)

    def _end(self, settlements: list[Settlement]) -> None:
        self._settle(settlements)
        self._release(settlements)

    def _fail(self, error: BaseException) -> None:
        self._state.fail(error)

    async def _await_workers(self, seconds: float) -> bool:
        if self._workers:
            _, busy = await asyncio.wait(self._workers, timeout=seconds)
            await asyncio.sleep(0)  # The loop settles in its next turn what ended last.
            return not busy
        return True

    async def _seal(self) -> None:
        self._sealed = True

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        workers = list(self._workers)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        if self._open is not None:
            opened = (await asyncio.gather(self._open, return_exceptions=True))[0]
            if opened is None:
                await self._sink.close()
