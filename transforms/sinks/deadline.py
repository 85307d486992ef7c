"""The time that attempts may take, of which none is counted in which this process stood still.

A process that is stopped (SIGSTOP, a debugger, a machine that swaps) goes on with its timers all due at once, before it
has looked at any of its sockets. The answers may have come long before. So a timer that comes late is no time-out yet.
"""

import asyncio
from collections.abc import Callable
from itertools import count

LATE = 0.25
"""Seconds that a timer may come late. More means that the process stood still, or its loop did."""


class Deadlines:
    """Ends attempts that take too long. All of them may take as long, so one timer looks after the oldest.

    Args:
        loop: whose clock is read.
        seconds: of an attempt. If the timer comes late, what is overdue is given as many more as it came late, but at
            most this number again: what has arrived meanwhile is read, and a receiver has the time that was taken from
            it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._numbers = count()
        # By number: when it is due, and what ends it. The oldest come first.
        self._attempts: dict[int, tuple[float, Callable[[], object]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def begin(self, expire: Callable[[], object]) -> int:
        """Begin an attempt, which `expire` ends when its time is over. Gives its number."""
        number = next(self._numbers)
        due = self._loop.time() + self._seconds
        self._attempts[number] = (due, expire)
        if self._timer is None:
            self._ring_at(due)
        return number

    def go_on(self, number: int, expire: Callable[[], object]) -> bool:
        """Let something else end an attempt that has got further. False: its time is over already."""
        if number not in self._attempts:
            return False
        self._attempts[number] = (self._attempts[number][0], expire)
        return True

    def end(self, number: int) -> None:
        """Count no more time for an attempt. May be called again."""
        self._attempts.pop(number, None)

    def close(self) -> None:
        """Count no more time for any."""
        self._attempts.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring_at(self, when: float) -> None:
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = self._loop.time()
        late = now - self._timer_at
        if late > LATE and self._attempts:
            self._ring_at(now + min(late, self._seconds))
            return
        for number, (due, expire) in list(self._attempts.items()):
            if due > now:
                self._ring_at(due)
                return
            del self._attempts[number]
            expire()
