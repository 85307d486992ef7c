"""The time that an attempt may take, of which none is counted in which this process stood still.

A process that is stopped (SIGSTOP, a debugger, a machine that swaps) goes on with its timers all due at once, before it
has looked at any of its sockets. The answers may have come long before. So a timer that comes late is no time-out yet.
"""

import asyncio
from types import TracebackType
from typing import Self

LATE = 0.25
"""Seconds that a timer may come late. More means that the process stood still, or its loop did."""


class Deadline:
    """Ends what a task waits for, with TimeoutError, when the time of an attempt is over.

    Each wait is a `with` block. There may be several, one after the other; `close` ends the deadline.

    Args:
        seconds: of the attempt. If the timer comes late, the attempt is given as many more as it came late, but at most
            this number again: what has arrived meanwhile is read, and a receiver has the time that was taken from it.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._task: asyncio.Task[object] | None = None
        self._cancelled = False
        self.expired = False
        self._due = self._loop.time() + seconds
        self._timer = self._loop.call_at(self._due, self._ring)

    def _ring(self) -> None:
        now = self._loop.time()
        late = now - self._due
        if late > LATE:
            self._due = now + min(late, self._seconds)
            self._timer = self._loop.call_at(self._due, self._ring)
            return
        self.expired = True
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def __enter__(self) -> Self:
        if self.expired:
            raise TimeoutError
        self._task = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        if not self._cancelled or task is None:
            return
        self._cancelled = False
        # A task that somebody else cancels, too, stays cancelled.
        if task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """Count no more time."""
        self._timer.cancel()
