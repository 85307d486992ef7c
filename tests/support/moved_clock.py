"""The clock of the machine, moved for what runs in this process."""

import time

import pytest

from schemas import times

DAY = 86_400.0


class MovedClock:
    """A clock that is so many seconds ahead of the right one."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time_ns(self) -> int:
        return time.time_ns() + round(self.ahead * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    """What the job in this process takes for the time. Files have the right times, as a store gives them."""
    moved = MovedClock()
    monkeypatch.setattr(times, "time_ns", moved.time_ns)
    return moved
