"""Time that passes only while this process runs: a process that was stopped for an hour saw no outage of an hour."""

import time
from collections.abc import Callable

MOST_BETWEEN_TICKS = 2.0
"""Seconds that count between two ticks, at most. Whoever ticks does so several times in that time."""


class RunningClock:
    """Monotonic seconds, without those in which the process stood still. Any thread may ask it; one thread ticks.

    Between two ticks time counts up to MOST_BETWEEN_TICKS. So a clock that nobody ticks stands still.

    Args:
        clock: monotonic seconds, which go on while the process stands still.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        now = clock()
        # What counts as passed at the last tick, and when that was. One object, so that both are of one tick.
        self._last = (now, now)

    def __call__(self) -> float:
        passed, ticked = self._last
        return passed + min(self._clock() - ticked, MOST_BETWEEN_TICKS)

    def tick(self) -> None:
        """Say that the process runs."""
        now = self._clock()
        passed, ticked = self._last
        self._last = (passed + min(now - ticked, MOST_BETWEEN_TICKS), now)
