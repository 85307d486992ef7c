"""Runs the lanes: calls the sinks, reads the clocks, holds the locks. What is sent when is the lane's decision.

HTTP lanes share one asyncio loop in one thread; a Kinesis or Firehose lane has threads of its own, as many as calls in
flight. Both are started by the first record that needs them. Nothing here imports Beam: a DoFn makes a `Deliveries` in
`setup`, submits in `process`, drains in `finish_bundle` and closes in `teardown`.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import uvloop

from transforms.delivery.lane import Lane
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.spool import DiskParking, DiskSpool, SpoolDirectory
from transforms.forwarders import Forwarder, HttpTarget
from transforms.sinks.base import (
    BatchSink,
    BatchSinkFactory,
    HttpSink,
    HttpSinkFactory,
    Item,
    Outcome,
    Settle,
    Settlement,
    Verdict,
)

_log = logging.getLogger(__name__)


QUICK_SECONDS = 0.1
QUICK_RECORDS = 200
"""A forwarder that takes so many records in so many seconds is worth waiting for."""

OFTEN = 0.02
"""Seconds after which `drain` asks again whether waiting is worth it."""

RETRIES_TOGETHER = 0.1
"""Seconds that a call of retries may wait for other retries; much less than the backoff's first wait."""


class DeliveriesStoppedError(RuntimeError):
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


class Deliveries:
    """Delivers items to their forwarders, in order per (forwarder, user); safe to use from several threads.

    `settle` is called, from the delivering threads, before a user's next record is sent. An exception that is not an
    outcome (a sink's or `settle`'s bug, a full disk) stops everything and is raised by `submit` and `drain`.
    """

    def __init__(
        self,
        forwarders: Iterable[Forwarder],
        settle: Settle,
        settings: DeliverySettings | None = None,
        *,
        http_sink: HttpSinkFactory,
        batch_sink: BatchSinkFactory,
    ) -> None:
        self._forwarders = {forwarder.id: forwarder for forwarder in forwarders}
        self._settle = settle
        self._settings = settings or DeliverySettings()
        self._http_sink = http_sink
        self._batch_sink = batch_sink
        self._directory = SpoolDirectory(self._settings.spool_dir)
        self._runs: dict[str, _BatchRun | _HttpRun] = {}
        self._loop: _LoopThread | None = None
        self._starting = threading.Lock()
        self._ending = threading.Lock()
        self._closed = False
        self.state = _State()

    def submit(self, items: Sequence[Item]) -> None:
        """Take in items of any forwarders; records of one (forwarder, user) in the order they are to arrive.

        Never waits for a slow forwarder: what it has not taken is spooled. Only when every forwarder concerned is busy
        does it wait for those that take records quickly, because that costs nobody anything and a spool costs more.
        Raises KeyError for a forwarder that is not one of this object's, DeliveriesStoppedError after `stop`, and
        whatever stopped the deliveries.
        """
        self.state.check()
        by_forwarder: dict[str, list[Item]] = {}
        for item in items:
            due = by_forwarder.get(item.forwarder_id)
            if due is None:
                due = by_forwarder[item.forwarder_id] = []
            due.append(item)
        runs = []
        for forwarder_id, due in by_forwarder.items():
            run = self._runs.get(forwarder_id) or self._start(forwarder_id)
            run.submit(due)
            runs.append(run)
        if any(run.is_crowded for run in runs):
            self._wait_for_the_quick(runs)

    def _wait_for_the_quick(self, runs: "list[_BatchRun | _HttpRun]") -> None:
        """Until none of the runs is crowded; at once if one of them has little to do, or the crowded ones are slow."""

        def is_over() -> bool:
            return self.state.ended or any(run.is_hungry for run in runs) or not any(run.is_crowded for run in runs)

        while not is_over():
            crowded = [(run, run.settled) for run in runs if run.is_crowded]
            with self.state.changed:
                self.state.waiting += 1
                self.state.changed.wait_for(is_over, QUICK_SECONDS)
                self.state.waiting -= 1
            if all(run.settled - before < QUICK_RECORDS for run, before in crowded):
                return

    def drain(self, is_worth_waiting: Callable[[], bool] | None = None) -> None:
        """Wait until every submitted item is settled, or only while `is_worth_waiting`, which is asked often.

        What is left goes on being delivered. Raises as `submit` does.
        """
        runs = list(self._runs.values())

        def is_over() -> bool:
            return self.state.ended or not any(run.lane.pending for run in runs)

        for run in runs:
            run.flush(True)
        try:
            while not is_over() and (is_worth_waiting is None or is_worth_waiting()):
                with self.state.changed:
                    if not is_over():
                        self.state.changed.wait(None if is_worth_waiting is None else OFTEN)
            self.state.check()
        finally:
            for run in runs:
                run.flush(False)

    def stop(self, grace: float | None = None) -> dict[str, int]:
        """Take nothing more, let what is in flight end for up to `grace` seconds, leave the rest. May be called again.

        From any thread, but not from inside a signal handler, which may have interrupted `submit` in the middle: let
        that start a thread.

        Returns the records left per forwarder (pending in the books). What ends after the grace is not settled: it is
        pending too, and is sent again by the next run with the same ids.
        """
        self.state.stop()
        deadline = time.monotonic() + (self._settings.grace if grace is None else grace)
        with self._starting:
            runs = list(self._runs.values())
        with self._ending:
            if not self._closed:
                for run in runs:
                    run.wake()
                for run in runs:
                    run.await_idle(max(0.0, deadline - time.monotonic()))
                for run in runs:
                    run.seal()
        return self.pending()

    def close(self) -> None:
        """Stop without grace, close the sinks and remove the spool. May be called again; raises nothing.

        A `stop` that is under way in another thread ends first.
        """
        self.stop(0.0)
        with self._ending:
            if self._closed:
                return
            self._closed = True
            for run in self._runs.values():
                run.close()
            if self._loop is not None:
                self._loop.close()
                self._loop = None
            self._directory.close()

    def pending(self) -> dict[str, int]:
        """Records not settled yet, per forwarder that has any."""
        return {id_: run.lane.pending for id_, run in list(self._runs.items()) if run.lane.pending}

    def counts(self) -> dict[str, LaneCounts]:
        """How each forwarder that was due anything stands; cheap, and read without stopping anything."""
        return {id_: run.counts() for id_, run in list(self._runs.items())}

    def _start(self, forwarder_id: str) -> "_BatchRun | _HttpRun":
        with self._starting:
            self.state.check()
            if forwarder_id in self._runs:
                return self._runs[forwarder_id]
            forwarder = self._forwarders[forwarder_id]
            run: _BatchRun | _HttpRun
            if isinstance(forwarder.target, HttpTarget):
                if self._loop is None:
                    self._loop = _LoopThread()
                sink = self._http_sink(forwarder)
                run = _HttpRun(
                    self._lane(forwarder), sink, forwarder.target.concurrency, self._settle, self.state, self._loop
                )
            else:
                batch_sink = self._batch_sink(forwarder)
                lane = self._lane(forwarder, batch_sink.size)
                run = _BatchRun(lane, batch_sink, self._settle, self.state, self._settings.linger)
            self._runs[forwarder_id] = run
            return run

    def _lane(self, forwarder: Forwarder, size: Callable[[Item], int] | None = None) -> Lane:
        # Not the forwarder's id: that may hold what a file name must not.
        number = len(self._runs)
        spool = DiskSpool(self._directory, f"{number}-spool")
        parking = DiskParking(self._directory, f"{number}-parking", max(1, self._settings.user_items // 2))
        if size is None:
            return Lane(forwarder.id, forwarder.max_retries, self._settings, spool=spool, parking=parking)
        return Lane(forwarder.id, forwarder.max_retries, self._settings, spool=spool, parking=parking, size=size)


class _State:
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
            raise DeliveriesStoppedError("deliveries were stopped")

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


def _epoch_ms() -> int:
    return time.time_ns() // 1_000_000


class _Run:
    """A lane, its sink's results, and what both kinds of runs do alike."""

    def __init__(self, lane: Lane, settle: Settle, state: _State) -> None:
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
            _log.warning(
                "forwarder %s: no progress for the outage budget (last: %s); its records are given up as unavailable",
                self.lane.forwarder_id,
                self.lane.last_failure.reason if self.lane.last_failure else "",
            )
        else:
            _log.warning("forwarder %s: takes records again", self.lane.forwarder_id)


class _BatchRun(_Run):
    """A lane of PutRecords or PutRecordBatch calls, each made by a thread that is started when there is need of it."""

    def __init__(self, lane: Lane, sink: BatchSink, settle: Settle, state: _State, linger: float) -> None:
        super().__init__(lane, settle, state)
        self._sink = sink
        self._linger = linger
        self._wake = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._waiting = 0
        self._in_flight = 0
        self._flush = False
        self._submitted_at = 0.0
        self._called_at = 0.0
        self._settling = 0
        self._opening = threading.Lock()
        self._opened = False

    def _remarks(self) -> Mapping[str, int]:
        return self._sink.remarks

    def submit(self, items: Sequence[Item]) -> None:
        with self._lock:
            self.lane.submit(items)
            self._submitted_at = time.monotonic()
            self._ensure_a_thread_looks()

    def flush(self, on: bool) -> None:
        with self._lock:
            self._flush = on
            if on and self.lane.pending:
                self._ensure_a_thread_looks()

    def wake(self) -> None:
        with self._lock:
            self._wake.notify_all()

    def await_idle(self, seconds: float) -> bool:
        with self._wake:
            return self._wake.wait_for(lambda: not self._in_flight, seconds)

    def seal(self) -> None:
        """What comes back from now on is ignored; what came back before is settled when this returns."""
        with self._wake:
            self._sealed = True
            self._wake.wait_for(lambda: not self._settling)

    def close(self) -> None:
        with self._lock:
            self._wake.notify_all()
            busy = self._in_flight > 0
        # A call still in flight ends by its own time-out, in a daemon thread; its result is ignored.
        if not busy:
            for thread in self._threads:
                thread.join()
        with self._opening:
            opened, self._opened = self._opened, False
        if opened:
            self._sink.close()

    def _ensure_a_thread_looks(self) -> None:
        """The lock is held."""
        if self._waiting:
            self._wake.notify()
        elif len(self._threads) < max(1, self._sink.calls_in_flight) and not self._state.ended:
            name = f"deliver-{self.lane.forwarder_id}-{len(self._threads) + 1}"
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        try:
            with self._opening:
                if not self._opened:
                    self._sink.open()
                    self._opened = True
            while self._step():
                pass
        except BaseException as error:
            self._state.fail(error)

    def _step(self) -> bool:
        """One call, or one batch of records that end without a call; False when there is nothing more to do, ever."""
        with self._lock:
            ended, batch = self._await_work()
            if not ended and not batch:
                return False
            self._in_flight += 1
            self._settling += bool(ended)
        try:
            if batch:
                called = self._call(batch)
                if called is None:
                    return False
                ended = called
            self._settle_and_release(ended)
        finally:
            with self._lock:
                self._in_flight -= 1
                self._wake.notify_all()
        return True

    def _call(self, batch: list[Item]) -> list[Settlement] | None:
        """What ended with the call, to be settled; None if it came back too late."""
        outcomes = self._sink.send(batch)
        now = time.monotonic()
        with self._lock:
            if self._sealed:
                return None
            ended = self.lane.finish(batch, outcomes, now)
            self._settling += 1
            return ended

    def _settle_and_release(self, ended: list[Settlement]) -> None:
        """Outside the lock: while the journal is written, others may be submitted and sent."""
        try:
            if ended:
                self._settle(ended)
            self._release(ended)
        finally:
            with self._lock:
                self._settling -= 1

    def _await_work(self) -> tuple[list[Settlement], list[Item]]:
        """What to do next; two empty lists when deliveries ended. The lock is held, and given up while waiting."""
        while not self._state.ended:
            now = time.monotonic()
            ended = self.lane.ended(now)
            batch = [] if ended else self._take(now)
            if ended or batch:
                if self.lane.ready(now):
                    self._ensure_a_thread_looks()
                return ended, batch
            self._waiting += 1
            self._wake.wait(self._nap(now))
            self._waiting -= 1
        return [], []

    def _take(self, now: float) -> list[Item]:
        if self._in_flight >= self._sink.calls_in_flight or self._patience(now) > 0:
            return []
        batch = self.lane.take(now, _epoch_ms(), self._sink.max_items, self._sink.max_bytes)
        if batch:
            self._called_at = now
        return batch

    def _patience(self, now: float) -> float:
        """Seconds to wait for a fuller call than what is ready makes: a call costs as much as 100 records."""
        ready = self.lane.ready(now)
        if ready >= self._sink.max_items:
            return 0.0
        if not self._flush and now - self._submitted_at < self._linger:
            return max(0.0, self._called_at + self._linger - now)
        # No more is coming in; but what is in flight brings its users' next records when it is back.
        if ready >= self._sink.max_items // 2:
            return 0.0
        if self._in_flight:
            return self._linger
        # A throttled stream's records come back one by one. Those that do soon go together, if they are the most.
        soon = self._called_at + RETRIES_TOGETHER - now
        return soon if soon > 0 and self.lane.retries_due(now + soon, ready + 1) > ready else 0.0

    def _nap(self, now: float) -> float | None:
        """Seconds after which to look again; None: until woken."""
        wake_at = self.lane.wake_at()
        if wake_at is None or wake_at > now:
            return None if wake_at is None else wake_at - now
        return self._patience(now) or self._linger  # Something is ready, and waits for a fuller call or for its turn.


class _LoopThread:
    """One asyncio loop in one thread, for all HTTP lanes."""

    def __init__(self) -> None:
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="deliver-http", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


class _HttpRun(_Run):
    """A lane of HTTP requests: at most `concurrency` workers on the loop, each started when there is need of it."""

    def __init__(
        self, lane: Lane, sink: HttpSink, concurrency: int, settle: Settle, state: _State, loop: _LoopThread
    ) -> None:
        super().__init__(lane, settle, state)
        self._sink = sink
        self._concurrency = concurrency
        self._loop = loop.loop
        self._workers: set[asyncio.Task[None]] = set()
        self._idle: deque[asyncio.Future[None]] = deque()
        self._open: asyncio.Task[None] | None = None
        self._finished: list[tuple[Item, Outcome]] = []
        self._poked = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    # From any thread.

    def submit(self, items: Sequence[Item]) -> None:
        with self._lock:
            self.lane.submit(items)
            poked, self._poked = self._poked, True
        if not poked:
            self._loop.call_soon_threadsafe(self._poke)

    def flush(self, on: bool) -> None:
        """Requests hold one record: there is nothing to wait for."""

    def wake(self) -> None:
        self._loop.call_soon_threadsafe(self._poke)

    def await_idle(self, seconds: float) -> bool:
        done: Future[bool] = asyncio.run_coroutine_threadsafe(self._await_workers(seconds), self._loop)
        return done.result()

    def seal(self) -> None:
        """What comes back from now on is ignored; what came back before is settled when this returns."""
        asyncio.run_coroutine_threadsafe(self._seal(), self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()

    # On the loop.

    def _poke(self) -> None:
        self._poked = False
        self._look()

    def _look(self) -> None:
        """Settle what ends by itself, and set as many workers to work as there are records ready."""
        try:
            now = time.monotonic()
            if self._state.ended:
                while self._idle:
                    self._wake_one()
                return
            with self._lock:
                ended = self.lane.ended(now)
            if ended:
                self._end(ended)
                self._loop.call_soon(self._look)  # There may be many more: the other lanes' turn first.
                return
            with self._lock:
                ready = self.lane.ready(now) if self.lane.breaker.allows(now) else 0
                wake_at = self.lane.wake_at()
            for _ in range(min(ready, self._concurrency)):
                if not self._wake_one():
                    break
            self._set_timer(now, wake_at)
        except BaseException as error:
            self._fail(error)

    def _wake_one(self) -> bool:
        """Whether there was a worker to wake or to start."""
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
        if self._timer is not None:
            if wake_at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        # What is ready now is the workers' business.
        if wake_at is not None and wake_at > now:
            self._timer_at = wake_at
            self._timer = self._loop.call_later(wake_at - now, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._look()

    async def _work(self) -> None:
        try:
            if self._open is None:
                self._open = self._loop.create_task(self._sink.open())
            await asyncio.shield(self._open)
            while not self._state.ended:
                with self._lock:
                    taken = self.lane.take(time.monotonic(), _epoch_ms())
                if not taken:
                    waiter = self._loop.create_future()
                    self._idle.append(waiter)
                    await waiter
                    continue
                (item,) = taken
                outcome = await self._sink.send(item)
                # Requests that end in the same turn of the loop are settled together.
                self._finished.append((item, outcome))
                if len(self._finished) == 1:
                    self._loop.call_soon(self._settle_finished)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._fail(error)

    def _settle_finished(self) -> None:
        try:
            finished, self._finished = self._finished, []
            if self._sealed:
                return
            now = time.monotonic()
            settlements: list[Settlement] = []
            with self._lock:
                if all(outcome.verdict is Verdict.DELIVERED for _, outcome in finished):
                    items, outcomes = [item for item, _ in finished], [outcome for _, outcome in finished]
                    settlements = self.lane.finish(items, outcomes, now)
                else:
                    # Each a call of its own: failures are counted.
                    for item, outcome in finished:
                        settlements += self.lane.finish((item,), (outcome,), now)
            if settlements:
                self._end(settlements)
            # Else there is nothing to see: the workers take what is ready by themselves.
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
            await asyncio.sleep(0)  # What ended last is settled in the next turn.
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
