"""Runs the lanes: calls the sinks, reads the clocks, holds the locks. What is sent when is the lane's decision.

HTTP lanes share one asyncio loop in one thread; a Kinesis or Firehose lane has threads of its own, as many as calls in
flight. Both are started by the first record that needs them. Nothing here imports Beam: a DoFn makes a
`DeliveryEngine` in `setup`, submits in `process`, drains in `finish_bundle` and closes in `teardown`.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from transforms.delivery.batch_sender import BatchSender
from transforms.delivery.http_sender import HttpSender, LoopThread
from transforms.delivery.lane import Lane
from transforms.delivery.lane_sender import EngineState, LaneCounts
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.spool import DiskParking, DiskSpool, SpoolDirectory
from transforms.forwarders import Forwarder, HttpTarget
from transforms.sinks.base import (
    BatchSinkFactory,
    HttpSinkFactory,
    Item,
    Settle,
)

QUICK_SECONDS = 0.1
QUICK_RECORDS = 200
"""A forwarder that takes so many records in so many seconds is worth waiting for."""

OFTEN = 0.02
"""Seconds after which `drain` asks again whether waiting is worth it."""


class DeliveryEngine:
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
        self._runs: dict[str, BatchSender | HttpSender] = {}
        self._loop: LoopThread | None = None
        self._starting = threading.Lock()
        self._ending = threading.Lock()
        self._closed = False
        self.state = EngineState()

    def submit(self, items: Sequence[Item]) -> None:
        """Take in items of any forwarders; records of one (forwarder, user) in the order they are to arrive.

        Never waits for a slow forwarder: what it has not taken is spooled. Only when every forwarder concerned is busy
        does it wait for those that take records quickly, because that costs nobody anything and a spool costs more.
        Raises KeyError for a forwarder that is not one of this object's, DeliveryStoppedError after `stop`, and
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

    def _wait_for_the_quick(self, runs: "list[BatchSender | HttpSender]") -> None:
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

    def drain(self, should_wait: Callable[[], bool] | None = None) -> None:
        """Wait until every submitted item is settled, or only while `should_wait`, which is asked often.

        What is left goes on being delivered. Raises as `submit` does.
        """
        runs = list(self._runs.values())

        def is_over() -> bool:
            return self.state.ended or not any(run.lane.pending for run in runs)

        for run in runs:
            run.flush(True)
        try:
            while not is_over() and (should_wait is None or should_wait()):
                with self.state.changed:
                    if not is_over():
                        self.state.changed.wait(None if should_wait is None else OFTEN)
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

    def _start(self, forwarder_id: str) -> "BatchSender | HttpSender":
        with self._starting:
            self.state.check()
            if forwarder_id in self._runs:
                return self._runs[forwarder_id]
            forwarder = self._forwarders[forwarder_id]
            run: BatchSender | HttpSender
            if isinstance(forwarder.target, HttpTarget):
                if self._loop is None:
                    self._loop = LoopThread()
                sink = self._http_sink(forwarder)
                run = HttpSender(
                    self._lane(forwarder), sink, forwarder.target.concurrency, self._settle, self.state, self._loop
                )
            else:
                batch_sink = self._batch_sink(forwarder)
                lane = self._lane(forwarder, batch_sink.size)
                run = BatchSender(lane, batch_sink, self._settle, self.state, self._settings.linger)
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
