"""When to try again, and when to stop trying: pure policy, no clock and no randomness of its own.

Times are seconds on a monotonic clock the caller reads. The rules are forwarders.md section 2 (backoff, breaker, outage
budget) and section 3 (throttling is pacing).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

OnFailure = Literal["continue", "block_user"]

Random = Callable[[], float]
"""Gives floats in [0, 1)."""

BASE_BACKOFF = 0.5
"""Seconds: the bound of the first wait (forwarders.md section 2)."""

OPENS_AFTER = 10
"""Connection failures or 5xx in a row that open a breaker (forwarders.md section 2)."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How delivery behaves for every forwarder of a run. Pickles, and holds no secret.

    `max_backoff`, `outage_budget`, `grace` and `linger` are in seconds. A lane keeps at most about `window_items` items
    and `window_bytes` bytes in memory, and at most `user_items` of one user; what is beyond waits on disk under
    `spool_dir` (None: the system's temporary directory). `linger` is how long a part-filled Kinesis call may wait for
    more records while they are still coming in. `on_failure`: what happens to the rest of a user when one of their
    records is given up: it goes on, or is given up as `blocked_by_earlier`.
    """

    max_backoff: float = 60.0
    outage_budget: float = 300.0
    on_failure: OnFailure = "continue"
    window_items: int = 20_000
    window_bytes: int = 32 * 1024 * 1024
    user_items: int = 64
    linger: float = 0.05
    spool_dir: str | None = None
    grace: float = 10.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: uniform in [0, min(ceiling, base * 2 ** failures))."""

    ceiling: float = 60.0
    base: float = BASE_BACKOFF
    random: Random = random.random

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait after `failures` earlier failures in a row; at least `retry_after`, up to the ceiling."""
        # 2 ** 64 is beyond any ceiling, and a float must not overflow however long an outage lasts.
        jittered = self.random() * min(self.ceiling, self.base * 2.0 ** min(failures, 64))
        return jittered if retry_after is None else max(jittered, min(retry_after, self.ceiling))


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Stops sending to a forwarder that only fails, and probes it: closed -> open -> half-open -> closed or open.

    Opens after `opens_after` failures in a row, or at once. While open nothing is sent until the wait is over; then one
    call is, the probe. A success closes it, whichever call it came from.
    """

    def __init__(self, backoff: Backoff, opens_after: int = OPENS_AFTER) -> None:
        self._backoff = backoff
        self._opens_after = opens_after
        self._streak = 0
        self._openings = 0
        self.state = BreakerState.CLOSED
        self.probe_at: float | None = None

    def allows(self, now: float) -> bool:
        """Whether a call may be made; one that is made while not closed is the probe: say so with `sent`."""
        if self.state is BreakerState.OPEN:
            return self.probe_at is not None and now >= self.probe_at
        return self.state is BreakerState.CLOSED

    def sent(self) -> None:
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN
            self.probe_at = None

    def succeeded(self) -> None:
        self.state = BreakerState.CLOSED
        self.probe_at = None
        self._streak = 0
        self._openings = 0

    def answered(self) -> None:
        """Neither success nor failure (a 429, say): ends a row of failures. To a probe it is a proof of life."""
        self._streak = 0
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.CLOSED

    def unused(self, now: float) -> None:
        """The call did not reach the receiver, by no fault of either: if it was the probe, another may go at once."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN
            self.probe_at = now

    def failed(self, now: float, retry_after: float | None = None, at_once: bool = False) -> None:
        self._streak += 1
        # Calls that were under way when it opened end while it is open: they say nothing new.
        if self.state is BreakerState.OPEN:
            return
        if at_once or self.state is BreakerState.HALF_OPEN or self._streak >= self._opens_after:
            self.state = BreakerState.OPEN
            self.probe_at = now + self._backoff.delay(self._openings, retry_after)
            self._openings += 1


class Outage:
    """How long a forwarder has made no progress: from the first bad outcome after the last good one."""

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self.ends_at: float | None = None

    def failed(self, now: float) -> None:
        if self.ends_at is None:
            self.ends_at = now + self._budget

    def progressed(self) -> None:
        self.ends_at = None

    def is_over_budget(self, now: float) -> bool:
        return self.ends_at is not None and now >= self.ends_at


class Pace:
    """How long throttled records wait: longer while most of what is sent is refused, reset on progress.

    The wait doubles while less than half of what is sent is taken, so that at least about half of the sending is
    of use however many records contend for a shard. It grows at most once per wait: calls that were under way together
    are one piece of news. It halves while more than half is taken, and is back at its base after a whole call was.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._level = 0
        self._news_at = 0.0

    def saw(self, now: float, taken: int, throttled: int) -> None:
        if not throttled:
            self._level = 0
        elif now >= self._news_at:
            step = 1 if taken < throttled else -1
            # Eight doublings of 0.5 s are beyond the 60 s ceiling: a higher level would only take longer to leave.
            self._level = min(max(self._level + step, 0), 8)
            self._news_at = now + min(self._backoff.ceiling, self._backoff.base * 2.0**self._level)

    def delay(self, retry_after: float | None = None) -> float:
        return self._backoff.delay(self._level, retry_after)
