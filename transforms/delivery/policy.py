"""When to try again, and when to stop trying. It has no clock and no randomness of its own.

Times are in seconds of a monotonic clock that the caller reads. The rules are those of docs/spec/forwarders.md
section 2 (backoff, breaker, outage budget) and docs/spec/forwarders.md section 3 (throttling paces).
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

OnFailure = Literal["continue", "block_user"]
"""What becomes of a user's later records when one was given up, see `DeliverySettings.on_failure`."""

Random = Callable[[], float]
"""Gives floats in [0, 1)."""

BASE_BACKOFF = 0.5
"""Seconds that the first wait may last; the bound doubles from wait to wait (docs/spec/forwarders.md section 2)."""

OPENS_AFTER = 10
"""Connection failures or answers of 5xx in a row that open a breaker (docs/spec/forwarders.md section 2)."""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How delivery behaves for every forwarder of a run. Pickles, and holds no secret.

    The defaults of `max_backoff`, `outage_budget` and `on_failure` are those of the job's flags of these names.

    Attributes:
        max_backoff: seconds that a wait may grow to, before a retry or a probe of the breaker.
        outage_budget: seconds without progress after which what is left of a forwarder is given up.
        on_failure: whether a user's later records are sent after one was given up (`continue`), or are given up, too,
            as `blocked_by_earlier` (`block_user`).
        catches_up: whether a later run begins with what an outage leaves. Then a user's later records are given up,
            too, after one that was given up for such a reason (`is_of_outage`), so that they follow it in that run.
        window_items: items that a lane keeps in memory, more or less. What is beyond waits on disk.
        window_bytes: bytes of memory that these items may take, more or less.
        user_items: items of one user that a lane keeps in memory behind the one that is being sent.
        linger: seconds that a call to Kinesis or Firehose which is not full may wait for more records to come in.
        spool_dir: where items wait on disk, in a directory of their own; None for the system's temporary directory.
        grace: seconds that what is in flight has to end when a run is stopped.
        patience: seconds that this machine may lack something, while nothing goes through, before that ends the run.
    """

    max_backoff: float = 60.0
    outage_budget: float = 300.0
    on_failure: OnFailure = "continue"
    catches_up: bool = False
    window_items: int = 20_000
    window_bytes: int = 32 * 1024 * 1024
    user_items: int = 64
    linger: float = 0.05
    spool_dir: str | None = None
    grace: float = 10.0
    patience: float = 30.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: uniform in [0, min(ceiling, base * 2 ** failures)), in seconds."""

    ceiling: float
    base: float = BASE_BACKOFF
    random: Random = random.random

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait before the next attempt.

        Args:
            failures: earlier failures in a row, this one not counted.
            retry_after: seconds that the receiver asks for; the wait is at least that long, up to the ceiling.
        """
        # 2 ** 64 is beyond any ceiling. Without a bound the float would overflow in a long outage.
        jittered = self.random() * min(self.ceiling, self.base * 2.0 ** min(failures, 64))
        return jittered if retry_after is None else max(jittered, min(retry_after, self.ceiling))


class BreakerState(Enum):
    """Whether calls are made: as usual, not at all, or not until the probe ends."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Stops sending to a forwarder that only fails, and probes it: closed -> open -> half-open -> closed or open.

    It opens after `opens_after` failures in a row, or at once. While it is open nothing is sent until its wait is over.
    Then one call is made, the probe, and until that ends the breaker is half-open. A success closes it, whichever call
    it is of.
    """

    def __init__(self, backoff: Backoff, opens_after: int = OPENS_AFTER) -> None:
        self._backoff = backoff
        self._opens_after = opens_after
        self._streak = 0
        self._openings = 0
        self.state = BreakerState.CLOSED
        self.probe_at: float | None = None

    def allows(self, now: float) -> bool:
        """Whether a call may be made now. If it is made, say so with `sent`."""
        if self.state is BreakerState.OPEN:
            return self.probe_at is not None and now >= self.probe_at
        return self.state is BreakerState.CLOSED

    def sent(self) -> None:
        """A call is made: the probe, if the breaker is open."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.HALF_OPEN
            self.probe_at = None

    def succeeded(self) -> None:
        """A call succeeded."""
        self.state = BreakerState.CLOSED
        self.probe_at = None
        self._streak = 0
        self._openings = 0

    def answered(self) -> None:
        """A call was answered with neither success nor failure, such as a 429: a probe that is closes the breaker."""
        self._streak = 0
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.CLOSED

    def unused(self, now: float) -> None:
        """A call did not reach the receiver, and nobody is to blame. If it was the probe, another may go at once."""
        if self.state is BreakerState.HALF_OPEN:
            self.state = BreakerState.OPEN
            self.probe_at = now

    def failed(self, now: float, retry_after: float | None = None, at_once: bool = False) -> None:
        """A call failed.

        Args:
            now: seconds.
            retry_after: seconds until the probe that the receiver asks for.
            at_once: open whatever the number of failures in a row.
        """
        self._streak += 1
        # Calls that were in flight when it opened end while it is open. They say nothing new.
        if self.state is BreakerState.OPEN:
            return
        if at_once or self.state is BreakerState.HALF_OPEN or self._streak >= self._opens_after:
            self.state = BreakerState.OPEN
            self.probe_at = now + self._backoff.delay(self._openings, retry_after)
            self._openings += 1


class Outage:
    """How long a forwarder has made no progress: since the first bad outcome after the last good one.

    `ends_at` is when the budget is over, None while there is progress.
    """

    def __init__(self, budget: float) -> None:
        self._budget = budget
        self.ends_at: float | None = None

    def failed(self, now: float) -> None:
        """There was a bad outcome."""
        if self.ends_at is None:
            self.ends_at = now + self._budget

    def progressed(self) -> None:
        """There was a good outcome, or nothing waits."""
        self.ends_at = None

    def postpone(self, seconds: float) -> None:
        """So many seconds do not count: nothing was to be sent in them."""
        if self.ends_at is not None:
            self.ends_at += seconds

    def is_over_budget(self, now: float) -> bool:
        """Whether there has been no progress for the whole budget."""
        return self.ends_at is not None and now >= self.ends_at


FAILING_TRIES = 3
FAILING_AT_LEAST = 1.0
FAILING_AFTER = 5.0
"""A forwarder begins to fail with FAILING_TRIES bad answers one after the other that are FAILING_AT_LEAST seconds
apart, or FAILING_AFTER seconds after the first, while something waits. A retry that succeeds is no trouble."""


class Losses:
    """Whether a forwarder takes nothing: what came of its tries since it last took a record.

    Tries that were under way together are one try: what was sent before the last bad answer came says nothing new.

    Attributes:
        since: when the first bad answer came; None while the last one was good.
        is_failing: whether the forwarder has begun to fail, and has taken nothing since.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.is_failing = False
        self._tries = 0
        self._last = 0.0
        # Since when something waits that was answered badly; None where nothing has waited since.
        self._waits_since: float | None = None

    def taken(self) -> None:
        """A record was taken."""
        self.since = self._waits_since = None
        self.is_failing = False
        self._tries = 0

    def missed(self, now: float, sent: float) -> None:
        """A call brought no record through. `sent` is when it was made."""
        if self.since is None:
            self.since = now
        if not self._tries or sent >= self._last:
            self._tries += 1
            self._last = now
        if self._waits_since is None:
            self._waits_since = now
        if self._tries >= FAILING_TRIES and now - self.since >= FAILING_AT_LEAST:
            self.is_failing = True
        self.look(now)

    def look(self, now: float) -> None:
        """Time has passed."""
        if self._waits_since is not None and now - self._waits_since >= FAILING_AFTER:
            self.is_failing = True

    def rest(self) -> None:
        """Nothing waits any more, so no time counts until the next bad answer."""
        self._waits_since = None


class Pace:
    """How long throttled records wait: longer while most of what is sent is refused.

    The bound of the wait doubles while less than half of what is sent is taken, so that about half of the sending is of
    use however many records contend for a shard. It halves while more is taken. It changes at most once per wait,
    because calls that were in flight together are one piece of news. After a call that was taken whole it is back at
    its base.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._level = 0
        self._news_at = 0.0

    def saw(self, now: float, taken: int, throttled: int) -> None:
        """Take in how many records of one call were taken, and how many throttled."""
        if not throttled:
            self._level = 0
        elif now >= self._news_at:
            step = 1 if taken < throttled else -1
            # Eight doublings of 0.5 s are beyond a ceiling of 60 s. A higher level would only take longer to leave.
            self._level = min(max(self._level + step, 0), 8)
            self._news_at = now + min(self._backoff.ceiling, self._backoff.base * 2.0**self._level)

    def delay(self, retry_after: float | None = None) -> float:
        """Seconds that a throttled record waits; at least `retry_after`, up to the ceiling."""
        return self._backoff.delay(self._level, retry_after)
