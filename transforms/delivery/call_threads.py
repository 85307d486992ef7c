"""The threads that make the calls of all Kinesis and Firehose lanes of an engine.

A call holds a thread until it is answered. So there are as many threads as calls that really wait, and not as many as
lanes might make: a few serve any number of lanes whose calls are quick, and where calls hang, more are started, so that
no lane waits for another's.
"""

import contextlib
import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

FEW = 6
"""Threads that are started as soon as there is work for them. More of them share one interpreter."""

LATE = 0.02
"""Seconds in which no thread has come back from its turn, after which one more is started for a lane that waits."""

LONG = 0.2
"""Seconds after which one more is started though others come back: they serve a queue that is too long."""

SPARE = 5.0
"""Seconds after which a thread that had nothing to do ends."""


class Worker(Protocol):
    """What has work for threads, such as a lane."""

    def turn(self) -> None:
        """Do what is to be done now, and return: a call, or nothing. It raises nothing."""
        ...


class CallThreads:
    """Gives turns to workers, in the order in which they asked. Several threads may use it.

    One of the threads that have nothing to do is on watch: it waits for what is due at a time, and takes work that no
    other has taken in time. When it does, another thread goes on watch, or is started for it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._watch = threading.Condition(self._lock)
        self._spare = threading.Condition(self._lock)
        self._ready: deque[tuple[float, Worker]] = deque()
        self._queued: set[Worker] = set()
        self._timers: list[tuple[float, int, Worker]] = []
        self._timer_of: dict[Worker, float] = {}
        self._numbers = itertools.count(1)
        self._threads: dict[threading.Thread, bool] = {}
        # When a thread came back last, or one more was started for a lane that had waited; and when only the latter.
        self._moved_at = self._grown_at = clock()
        self._busy = 0
        self._spares = 0
        # Threads that were started, and have not looked for work yet.
        self._starting = 0
        self._is_watched = False
        self._closed = False

    @property
    def count(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    def look(self, worker: Worker) -> None:
        """Give a worker a turn soon. Called in one of its turns, it gets another.

        Raises:
            RuntimeError: no thread can be started, and there is none.
        """
        with self._lock:
            self._enqueue(worker)
            self._alert()

    def look_in(self, worker: Worker, seconds: float) -> None:
        """Give a worker a turn after so many seconds, or sooner."""
        with self._lock:
            at = self._clock() + seconds
            known = self._timer_of.get(worker)
            if known is not None and known <= at:
                return
            self._timer_of[worker] = at
            heapq.heappush(self._timers, (at, next(self._numbers), worker))
            if self._timers[0][2] is worker:
                self._alert()

    def close(self, waits_for_turns: bool = True) -> None:
        """End the threads. One that is in a turn ends with it.

        Args:
            waits_for_turns: whether to wait for that.
        """
        with self._lock:
            self._closed = True
            self._watch.notify_all()
            self._spare.notify_all()
            awaited = [thread for thread, is_busy in self._threads.items() if waits_for_turns or not is_busy]
        for thread in awaited:
            thread.join()

    # From here on the caller holds the lock.

    def _enqueue(self, worker: Worker) -> None:
        if worker not in self._queued:
            self._queued.add(worker)
            self._ready.append((self._clock(), worker))

    def _alert(self) -> None:
        """See that a thread knows the news. Without one on watch, the next that ends its turn sees them."""
        if self._is_watched:
            self._watch.notify()
        elif not self._threads:
            self._start()

    def _start(self) -> None:
        if self._closed:
            return
        thread = threading.Thread(target=self._run, name=f"deliver-calls-{next(self._numbers)}", daemon=True)
        self._threads[thread] = False
        self._starting += 1
        try:
            thread.start()
        except RuntimeError:
            del self._threads[thread]
            self._starting -= 1
            raise

    def _run(self) -> None:
        me = threading.current_thread()
        worker = self._next(me, returns=False)
        while worker is not None:
            worker.turn()
            worker = self._next(me, returns=True)

    def _next(self, me: threading.Thread, returns: bool) -> Worker | None:
        """Wait for a worker to give a turn to; None if the thread is to end. It takes the lock itself."""
        with self._lock:
            if returns:
                self._busy -= 1
                self._threads[me] = False
                self._moved_at = self._clock()
            else:
                self._starting -= 1
            while not self._closed:
                now = self._clock()
                self._bring_due(now)
                patience = self._patience(now, returns)
                if patience == 0.0:
                    if not returns and self._busy >= FEW:
                        self._moved_at = self._grown_at = now
                    return self._take(me)
                returns = False
                if not self._is_watched:
                    self._is_watched = True
                    self._watch.wait(patience)
                    self._is_watched = False
                elif not self._rest():
                    break
            del self._threads[me]
            return None

    def _patience(self, now: float, returns: bool) -> float | None:
        """Seconds to wait before the first in the queue is taken; None for as long as nothing happens."""
        if self._ready:
            if returns or self._busy < FEW:
                return 0.0
            since = self._ready[0][0]
            stuck_at, late_at = max(since, self._moved_at) + LATE, max(since, self._grown_at) + LONG
            return max(0.0, min(stuck_at, late_at) - now)
        return max(0.001, self._timers[0][0] - now) if self._timers else None

    def _bring_due(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            at, _, worker = heapq.heappop(self._timers)
            if self._timer_of.get(worker) == at:
                del self._timer_of[worker]
                self._enqueue(worker)

    def _take(self, me: threading.Thread) -> Worker:
        _, worker = self._ready.popleft()
        self._queued.discard(worker)
        self._busy += 1
        self._threads[me] = True
        if not self._is_watched:
            if self._spares:
                self._spare.notify()
            elif not self._starting:  # Else that thread goes on watch. It may take a while on a busy machine.
                # Without one more thread this one goes on watch when it comes back.
                with contextlib.suppress(RuntimeError):
                    self._start()
        elif self._ready:
            self._watch.notify()
        return worker

    def _rest(self) -> bool:
        """Wait, while another thread is on watch. Returns False when it has taken too long."""
        self._spares += 1
        try:
            return self._spare.wait(SPARE) or not self._is_watched
        finally:
            self._spares -= 1
