import pytest

from transforms.delivery.running_clock import MOST_BETWEEN_TICKS, RunningClock


class Wall:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_time_counts_while_somebody_ticks_and_a_stop_counts_little() -> None:
    wall = Wall()
    clock = RunningClock(wall)
    begun = clock()
    for _ in range(50):
        wall.now += 0.2
        clock.tick()
    assert clock() == pytest.approx(begun + 10)
    wall.now += 3600  # Stopped for an hour; it is asked before and after the next tick.
    before = clock()
    clock.tick()
    assert clock() == before == pytest.approx(begun + 10 + MOST_BETWEEN_TICKS)
    wall.now += 0.5
    assert clock() == pytest.approx(before + 0.5)
