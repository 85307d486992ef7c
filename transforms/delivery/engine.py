"""Runs the lanes of all forwarders. Each lane decides what is sent when; the engine and its senders do it.

HTTP lanes share one asyncio loop in one thread, and Kinesis and Firehose lanes threads for their calls. Both are
started by the first record that needs them. A DoFn makes a `DeliveryEngine` in `setup`,
submits in `process`, drains in `finish_bundle` and closes in `teardown`.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

from transforms.accounting.board import Standing
from transforms.delivery.batch_sender import BatchSender
from transforms.delivery.call_threads import CallThreads
from transforms.delivery.http_batch_sender import HttpBatchSender
from transforms.delivery.http_sender import HttpSender, LoopThread
from transforms.delivery.lane import Lane
from transforms.delivery.lane_sender import EngineState, LaneCounts, LaneSender
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.rate import RateLimiter
from transforms.delivery.spool import DiskParking, DiskSpool, SpoolDirectory
from transforms.forwarders import Forwarder, HttpTarget
from transforms.sinks.base import BatchSinkFactory, HttpBatchSink, HttpSink, HttpSinkFactory, Item, Runs, Settle
from transforms.sinks.lacks import Patience

QUICK_RECORDS = 200
QUICK_SECONDS = 0.1
"""A forwarder that takes QUICK_RECORDS records within QUICK_SECONDS seconds counts as quick: `submit` waits for it.

At 2,000 records a second its window is empty within 10 s, and to wait costs less than to write records to the spool and
to read them back. A slower one would hold up the other forwarders.
"""

ASK_AGAIN = 0.02
"""Seconds after which `drain` asks `should_wait` again. It is the longest that a bundle's end waits in vain."""

USER_ITEMS_OF_RUNS = 1_000
"""Items of one user that are kept in memory for an aggregated record; those that fit beyond come from the disk."""

_SIGNALS = 0.2
"""Seconds after which `drain` looks for a signal, if it asks nobody."""


class DeliveryEngine:
    """Delivers items to their forwarders, in order per (forwarder, user); safe to use from several threads.

    An exception that is not the outcome of an attempt (a bug of a sink or of `settle`, a full disk) stops all
    deliveries, and is raised by `submit` and `drain`.

    Args:
        forwarders: resolved ones; items may be of these alone.
        settle: makes settlements durable. It is called from the sending threads, and a user's next record is sent after
            it has returned.
        settings: None for the defaults.
        http_sink: makes the sink of an HTTP forwarder; an HttpBatchSink if the forwarder's target has a `batch`.
        batch_sink: makes the sink of a Kinesis forwarder.
        patience: waits out what this machine lacks; None for one of its own.
        most_requests: requests that an HTTP forwarder may have in flight, if its document allows more; None for no
            such bound.
        clock: monotonic seconds, by which waits, outages and lacks are measured.
        abandoned: ids of forwarders whose outage budget is over already. What comes for them is given up unless they
            take a record after all.
    """

    def __init__(
        self,
        forwarders: Iterable[Forwarder],
        settle: Settle,
        settings: DeliverySettings | None = None,
        *,
        http_sink: HttpSinkFactory,
        batch_sink: BatchSinkFactory,
        patience: Patience | None = None,
        most_requests: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        abandoned: Collection[str] = (),
    ) -> None:
        self._forwarders = {forwarder.id: forwarder for forwarder in forwarders}
        self._settle = settle
        self._settings = settings or DeliverySettings()
        self._http_sink = http_sink
        self._batch_sink = batch_sink
        self._most_requests = most_requests
        self._abandoned = abandoned
        self._directory = SpoolDirectory(self._settings.spool_dir)
        self._senders: dict[str, LaneSender] = {}
        self._loop: LoopThread | None = None
        self._threads = CallThreads()
        self._starting = threading.Lock()
        self._ending = threading.Lock()
        self._closing = False
        self._closed = False
        self.state = EngineState(patience or Patience(self._settings.patience, clock), clock)

    def submit(self, items: Sequence[Item]) -> None:
        """Take in items, those of one (forwarder, user) in the order in which they are to arrive.

        It does not wait for a slow forwarder: what that has not taken is spooled. It waits only when the window of one
        of these forwarders is nearly full, none of the others needs more items soon, and the full one takes records
        quickly. Then nobody loses by it, and a spool would cost more.

        Raises:
            KeyError: an item is of a forwarder that the engine does not have.
            DeliveryStoppedError: after `stop`.
            BaseException: whatever stopped the deliveries.
        """
        self.state.check()
        by_forwarder: dict[str, list[Item]] = {}
        for item in items:
            due = by_forwarder.get(item.forwarder_id)
            if due is None:
                due = by_forwarder[item.forwarder_id] = []
            due.append(item)
        senders = []
        for forwarder_id, due in by_forwarder.items():
            sender = self._senders.get(forwarder_id) or self._start(forwarder_id)
            sender.submit(due)
            senders.append(sender)
        if any(sender.is_crowded for sender in senders):
            self._wait_for_the_quick(senders)

    def _wait_for_the_quick(self, senders: list[LaneSender]) -> None:
        """Wait until no sender is crowded, or one is hungry, or those that are crowded turn out to be slow."""

        def is_over() -> bool:
            if self.state.ended or any(sender.is_hungry for sender in senders):
                return True
            return not any(sender.is_crowded for sender in senders)

        while not is_over():
            crowded = [(sender, sender.settled) for sender in senders if sender.is_crowded]
            with self.state.changed:
                self.state.waiting += 1
                self.state.changed.wait_for(is_over, QUICK_SECONDS)
                self.state.waiting -= 1
            if all(sender.settled - before < QUICK_RECORDS for sender, before in crowded):
                return

    def drain(self, should_wait: Callable[[], bool] | None = None) -> None:
        """Wait until every submitted item is settled.

        Args:
            should_wait: asked every ASK_AGAIN seconds; when it says no, `drain` returns, and what is left goes on being
                delivered.

        Raises:
            DeliveryStoppedError: after `stop`.
            BaseException: whatever stopped the deliveries.
        """
        senders = list(self._senders.values())

        def is_over() -> bool:
            return self.state.ended or not any(sender.lane.pending for sender in senders)

        for sender in senders:
            sender.flush(True)
        try:
            while not is_over() and (should_wait is None or should_wait()):
                with self.state.changed:
                    if not is_over():
                        # Never without a time: a signal that comes just before the main thread begins to wait is
                        # handled when it wakes, and nothing else may wake it until a request has timed out.
                        self.state.changed.wait(_SIGNALS if should_wait is None else ASK_AGAIN)
            self.state.check()
        finally:
            for sender in senders:
                sender.flush(False)

    def stop(self, grace: float | None = None) -> dict[str, int]:
        """Take no more items, let what is in flight end for a while, and leave the rest. May be called again.

        Call it from any thread, but not inside a signal handler, which may have interrupted `submit` in the middle.

        Args:
            grace: seconds that what is in flight has to end; None for that of the settings.

        Returns:
            The records that are left, by forwarder: they are pending in the accounts. What ends after the grace is not
            settled. It is pending, too, and the next run sends it again with the same id.
        """
        self.state.stop()
        deadline = time.monotonic() + (self._settings.grace if grace is None else grace)
        with self._starting:
            senders = list(self._senders.values())
        with self._ending:
            if not self._closed:
                for sender in senders:
                    sender.wake()
                for sender in senders:
                    self._await_idle(sender, deadline)
                for sender in senders:
                    sender.seal()
        return self.pending()

    def _await_idle(self, sender: LaneSender, deadline: float) -> None:
        """Wait until nothing is in flight to a forwarder, the deadline has come, or `close` waits for no more."""
        left = deadline - time.monotonic()
        while not sender.await_idle(min(max(0.0, left), _SIGNALS)) and left > 0 and not self._closing:
            left = deadline - time.monotonic()

    def fail(self, error: BaseException) -> None:
        """Send no more, because of `error`: `submit` and `drain` raise it."""
        self.state.fail(error)

    def close(self) -> None:
        """Stop without grace, close the sinks and remove the spool. May be called again, and raises nothing.

        A `stop` that is under way in another thread has no more grace from then on, and is waited for.
        """
        self._closing = True
        self.stop(0.0)
        with self._ending:
            if self._closed:
                return
            self._closed = True
            # A call that outlasts the grace ends by its own time-out, in a daemon thread.
            calls = [sender for sender in self._senders.values() if isinstance(sender, BatchSender)]
            self._threads.close(waits_for_turns=all(sender.await_idle(0.0) for sender in calls))
            for sender in self._senders.values():
                sender.close()
            if self._loop is not None:
                self._loop.close()
                self._loop = None
            self._directory.close()

    def pending(self) -> dict[str, int]:
        """How many records are not settled yet, for each forwarder that has any."""
        return {id_: sender.lane.pending for id_, sender in list(self._senders.items()) if sender.lane.pending}

    def blocked(self, users: Iterable[str]) -> set[tuple[str, str]]:
        """(forwarder, user) for those of the users whose records a forwarder gets no more (`on_failure`)."""
        senders = list(self._senders.items())
        return {(id_, user) for user in users for id_, sender in senders if sender.lane.is_blocked(user)}

    def counts(self) -> dict[str, LaneCounts]:
        """How each forwarder that was given an item stands. Cheap, and delays no delivery."""
        return {id_: sender.counts() for id_, sender in list(self._senders.items())}

    def takes_nothing(self, forwarder_id: str) -> bool:
        """Whether the forwarder has failed, and has taken nothing of what it was given."""
        sender = self._senders.get(forwarder_id)
        return sender is not None and sender.lane.last_failure is not None and not sender.lane.delivered

    def tell(self, standings: dict[str, Standing], unix: float) -> None:
        """Say what the lanes know of their forwarders, beside what the accounts count. It delays no delivery.

        Args:
            standings: by forwarder. What is not there is added.
            unix: the present moment, in unix seconds.
        """
        for forwarder_id, sender in list(self._senders.items()):
            standing = standings.get(forwarder_id)
            if standing is None:
                standing = standings[forwarder_id] = Standing()
            sender.tell(standing, unix)

    def _start(self, forwarder_id: str) -> LaneSender:
        """Make the forwarder's sender, unless another thread has just done so."""
        with self._starting:
            self.state.check()
            if forwarder_id in self._senders:
                return self._senders[forwarder_id]
            forwarder = self._forwarders[forwarder_id]
            sender: LaneSender
            if isinstance(forwarder.target, HttpTarget):
                if self._loop is None:
                    self._loop = LoopThread()
                sink = self._http_sink(forwarder)
                sender = self._http_sender(forwarder, forwarder.target, sink, self._loop)
            else:
                batch_sink = self._batch_sink(forwarder)
                lane = self._lane(forwarder, size=batch_sink.size, user_items=self._user_items(batch_sink.runs))
                sender = BatchSender(lane, batch_sink, self._settle, self.state, self._settings.linger, self._threads)
            self._senders[forwarder_id] = sender
            return sender

    def _http_sender(self, forwarder: Forwarder, target: HttpTarget, sink: HttpSink, loop: LoopThread) -> HttpSender:
        concurrency = min(target.concurrency, self._most_requests or target.concurrency)
        limiter = RateLimiter(target.rate_limit) if target.rate_limit is not None else None
        if target.batch is None:
            lane = self._lane(forwarder, limiter=limiter)
            return HttpSender(lane, sink, concurrency, self._settle, self.state, loop)
        batch_sink = cast("HttpBatchSink", sink)
        lane = self._lane(
            forwarder,
            size=batch_sink.size,
            group=batch_sink.group,
            is_atomic=batch_sink.is_atomic,
            limiter=limiter,
            user_items=max(self._settings.user_items, 2 * target.batch.records if batch_sink.is_atomic else 0),
        )
        wait = self._settings.linger if target.batch.wait is None else target.batch.wait
        return HttpBatchSender(lane, batch_sink, concurrency, self._settle, self.state, loop, wait)

    def _user_items(self, runs: Runs | None) -> int:
        """Items of a user that a lane keeps in memory, whose calls hold runs of this size."""
        return self._settings.user_items if runs is None else max(self._settings.user_items, USER_ITEMS_OF_RUNS)

    def _lane(self, forwarder: Forwarder, *, user_items: int | None = None, **options: Any) -> Lane:
        # Files are named by number: a forwarder's id may hold what a file name must not.
        number = len(self._senders)
        settings = self._settings
        if user_items is not None:
            settings = replace(settings, user_items=user_items)
        spool = DiskSpool(self._directory, f"{number}-spool")
        parking = DiskParking(self._directory, f"{number}-parking", max(1, settings.user_items // 2))
        lane = Lane(forwarder.id, forwarder.max_retries, settings, spool=spool, parking=parking, **options)
        lane.abandoned = forwarder.id in self._abandoned
        return lane
