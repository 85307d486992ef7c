"""What the board says of one lane, looked at about once a second."""

from collections import deque

from transforms.accounting.board import BreakerName, Failing, Standing
from transforms.delivery.lane import Lane
from transforms.delivery.policy import BreakerState
from transforms.sinks.base import AttemptResult

_MARKS = 512
"""Moments that a watch remembers, at most, to tell how old what waits is. Beyond, it forgets every other one."""

_ANSWER_LENGTH = 60

_BREAKER: dict[BreakerState, BreakerName] = {
    BreakerState.CLOSED: "closed",
    BreakerState.HALF_OPEN: "half_open",
    BreakerState.OPEN: "open",
}


class LaneWatch:
    """Sees what a lane does not count: when things happened, and how old what waits is.

    It costs the lane nothing. Times are as exact as it is looked at often.

    Args:
        lane: what is watched. The caller holds its lock.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        # (unix time, items that were submitted by then).
        self._marks: deque[tuple[float, int]] = deque()
        self._delivered = 0
        self._bad: AttemptResult | None = None
        self._last_success: float | None = None
        self._last_refusal: float | None = None
        # Which try was told of, and of which time without an answer: since when, and records given up by then.
        self._attempt = 0
        self._attempt_of: tuple[float, int] | None = None

    def tell(self, standing: Standing, now: float, unix: float) -> None:
        """Say in a standing what the lane knows of its forwarder, beside what its accounts count.

        Args:
            standing: what the accounts count.
            now: seconds of the lane's clock.
            unix: the same moment in unix seconds.
        """
        lane = self._lane
        if lane.delivered != self._delivered:
            self._delivered, self._last_success = lane.delivered, unix
        if lane.last_bad is not self._bad:
            self._bad, self._last_refusal = lane.last_bad, unix
        lane.losses.look(now)
        standing.in_flight = lane.in_flight
        standing.calls = lane.calls
        standing.oldest_unsent = self._oldest(unix)
        standing.last_success = self._last_success
        standing.last_refusal = self._last_refusal
        standing.last_answer = answer_of(lane.last_bad)
        standing.failing = self._failing(now, unix, standing.last_answer)
        standing.breaker = _BREAKER[lane.breaker.state]
        standing.unavailable = lane.abandoned

    def _failing(self, now: float, unix: float, answer: str) -> Failing | None:
        lane = self._lane
        if not lane.losses.is_failing or lane.losses.since is None:
            return None
        at, attempt = lane.next_try(now)
        # A probe may take a record that was tried less often. The count is of the one that was tried most, until that
        # is given up.
        attempt_of = lane.losses.since, lane.dead_lettered
        self._attempt = attempt if attempt_of != self._attempt_of else max(self._attempt, attempt)
        self._attempt_of = attempt_of
        return Failing(
            since=unix - (now - lane.losses.since),
            answer=answer,
            attempt=self._attempt,
            attempts=lane.max_attempts,
            next_try=None if at is None else unix + (at - now),
        )

    def _oldest(self, unix: float) -> float | None:
        """A time since when one of the items has waited, or longer.

        Of so many items that wait, the oldest is at least as old as the last so many that came. Items that wait for
        their retry do not wait in that order; they know when they were tried first.
        """
        lane, marks = self._lane, self._marks
        if not lane.pending:
            marks.clear()
            return None
        if not marks or marks[-1][1] != lane.submitted:
            marks.append((unix, lane.submitted))
        if len(marks) > _MARKS:
            self._marks = marks = deque(mark for number, mark in enumerate(marks) if number % 2 or mark is marks[-1])
        retrying, first = lane.retrying()
        others = lane.pending - retrying
        while len(marks) > 1 and marks[0][1] <= lane.submitted - others:
            marks.popleft()
        oldest = marks[0][0] if others > 0 else None
        if first is not None:
            oldest = first / 1000 if oldest is None else min(oldest, first / 1000)
        return oldest


def answer_of(outcome: AttemptResult | None) -> str:
    """A bad answer in a word: the status if there was one, else the reason. Nothing else of what a receiver wrote."""
    if outcome is None:
        return ""
    return outcome.reason[:_ANSWER_LENGTH] if outcome.status is None else str(outcome.status)
