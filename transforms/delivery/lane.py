"""The one core that decides order, for every protocol: a lane per forwarder, a state machine without threads or clock.

A record is sent only after the one before it for the same (forwarder, user) was acknowledged or given up, and that
is durable; different users never wait for each other (issue 4, forwarders.md sections 2 and 3). The caller reads the
clocks, makes the calls, and holds a lock if several threads use one lane:

    lane.submit(items)                                     any time
    settlements = lane.ended(now) or
    items = lane.take(now, epoch_ms) -> outcomes           make the call
    settlements = lane.finish(items, outcomes, now)        make them durable, then
    lane.release(settlements)                              the users' next records may go

At any moment one record of a user, the head, is ready, under way, waiting for its retry, or being settled; the
records behind it wait in the user's queue. What the window does not hold lies in the spool (first in, first out), and
what a user with very many records has beyond their share in the parking, so that they do not fill the window.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Protocol

import msgspec

from transforms.delivery.policy import Backoff, Breaker, BreakerState, DeliverySettings, Outage, Pace, Random
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict

ITEM_OVERHEAD = 1024
"""Bytes that an item costs in memory beside its payload: the structs, the record and its decoded message."""

ENDED_AT_ONCE = 500
"""Most settlements that `ended` gives at a time, so that giving up a long spool stays within the window's memory."""


class Spool(Protocol):
    """Items beyond the window, first in, first out; `take` gives the next chunk of them, [] when there is none."""

    def append(self, items: Sequence[Item]) -> None: ...
    def take(self) -> list[Item]: ...
    def __len__(self) -> int: ...


class Parking(Protocol):
    """Items beyond their user's share of the window, first in, first out; `take` gives the user's next chunk."""

    def put(self, user_id: str, item: Item) -> None: ...
    def take(self, user_id: str) -> list[Item]: ...
    def __contains__(self, user_id: object) -> bool: ...
    def __len__(self) -> int: ...


def payload_size(item: Item) -> int:
    return len(item.payload)


class Lane:
    """Order, attempts, backoff and bounded memory for one forwarder. Every operation is O(1) amortised per record.

    `size` gives the bytes an item takes in a call. The lane changes `attempts`, `ambiguous` and the times of its items.
    """

    def __init__(
        self,
        forwarder_id: str,
        max_retries: int,
        settings: DeliverySettings,
        *,
        spool: Spool,
        parking: Parking,
        size: Callable[[Item], int] = payload_size,
        random: Random = random.random,
    ) -> None:
        self.forwarder_id = forwarder_id
        self._max_attempts = max_retries + 1
        self._settings = settings
        self._size = size
        self._spool = spool
        self._parking = parking
        self._backoff = Backoff(settings.max_backoff, random=random)
        self._pace = Pace(self._backoff)
        self._outage = Outage(settings.outage_budget)
        self.breaker = Breaker(self._backoff)

        # user -> the records behind the head; None for none, as most users have one record at a time.
        self._users: dict[str, deque[Item] | None] = {}
        self._ready: deque[Item] = deque()
        # (due, tie breaker, item) of the heads that wait for their retry.
        self._retries: list[tuple[float, int, Item]] = []
        self._ties = 0
        self._throttled_since: dict[str, float] = {}
        self._blocked: set[str] = set()
        self._blocked_heads: list[Item] = []
        self._held = 0
        self._held_bytes = 0
        self._parked = 0
        self.last_failure: AttemptResult | None = None
        self.abandoned = False

        self.submitted = 0
        self.delivered = 0
        self.dead_lettered = 0
        self.attempts = 0
        self.delivered_bytes = 0

    @property
    def pending(self) -> int:
        """Items that were submitted and are not settled."""
        return self.submitted - self.delivered - self.dead_lettered

    @property
    def held(self) -> int:
        """Items in memory, those in the spool's and the parking's buffers aside."""
        return self._held

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    @property
    def fullness(self) -> float:
        """Of the window: 0 when it is empty, 1 and more when it is full."""
        return max(self._held / self._settings.window_items, self._held_bytes / self._settings.window_bytes)

    @property
    def has_troubles(self) -> bool:
        """Whether there is anything beside records that are ready: retries, an outage, records to give up."""
        return bool(self._retries or self._blocked_heads or self.abandoned or self._outage.ends_at is not None)

    @property
    def spooled(self) -> int:
        return len(self._spool) + len(self._parking)

    def submit(self, items: Sequence[Item]) -> None:
        """Take in items, their users' records in the order they are to be sent. Beyond the window they are spooled."""
        self.submitted += len(items)
        admitted = 0
        if not len(self._spool):
            settings = self._settings
            admitted = self._admit(items, settings.window_items - self._held, settings.window_bytes - self._held_bytes)
        if admitted < len(items):
            self._spool.append(items[admitted:])

    def _admit(self, items: Sequence[Item], room: int, bytes_room: int) -> int:
        """Bring items into the window while there is room; returns how many were taken in."""
        users, parking, blocked = self._users, self._parking, self._blocked
        share = self._settings.user_items
        admitted = held = held_bytes = 0
        for item in items:
            if held >= room or held_bytes >= bytes_room:
                break
            admitted += 1
            user = item.record.user_id
            if user not in users:
                users[user] = None
                if blocked and user in blocked:
                    self._blocked_heads.append(item)
                else:
                    self._ready.append(item)
            else:
                queue = users[user]
                if queue is None:
                    users[user] = deque((item,))
                elif len(queue) < share and not (self._parked and user in parking):
                    queue.append(item)
                else:
                    parking.put(user, item)
                    self._parked += 1
                    continue
            held += 1
            held_bytes += len(item.payload) + ITEM_OVERHEAD
        self._held += held
        self._held_bytes += held_bytes
        return admitted

    def ready(self, now: float) -> int:
        """How many items `take` could give now, the breaker aside."""
        self._bring_due(now)
        return len(self._ready)

    def _bring_due(self, now: float) -> None:
        retries = self._retries
        while retries and retries[0][0] <= now:
            # Before what was never tried: it has waited longest.
            self._ready.appendleft(heappop(retries)[2])

    def retries_due(self, until: float, most: int) -> int:
        """How many items will have waited for their retry by then; it does not count further than `most`."""
        retries, found, left = self._retries, 0, [0]
        while left and found < most:
            at = left.pop()
            if at < len(retries) and retries[at][0] <= until:
                found += 1
                left += (2 * at + 1, 2 * at + 2)  # A heap: what comes after one that is due later is due later too.
        return found

    def wake_at(self) -> float | None:
        """When to look at the lane again though nothing was submitted or finished; None for never."""
        if not self._ready and not self._retries:
            return None
        ready_at = self._retries[0][0] if not self._ready else float("-inf")
        if self.breaker.state is BreakerState.HALF_OPEN:
            ready_at = float("inf")  # Until the probe ends.
        elif self.breaker.probe_at is not None:
            ready_at = max(ready_at, self.breaker.probe_at)
        if self._outage.ends_at is not None and not self.abandoned:
            return min(ready_at, self._outage.ends_at)
        return None if ready_at == float("inf") else ready_at

    def take(self, now: float, epoch_ms: int, max_items: int = 1, max_bytes: int = 1 << 62) -> list[Item]:
        """Items to send in one call now, at most one of a user; [] when there is none or the breaker is open.

        At most `max_items`, whose sizes add up to at most `max_bytes`; an item bigger than that comes alone.
        """
        self._bring_due(now)
        ready = self._ready
        if not ready or not self.breaker.allows(now):
            return []
        if self.breaker.state is not BreakerState.CLOSED:
            max_items = 1  # A probe risks the attempts of one record, not of a whole call's.
        taken = [ready.popleft()]
        if max_items > 1:
            room = max_bytes - self._size(taken[0])
            while ready and len(taken) < max_items and (room := room - self._size(ready[0])) >= 0:
                taken.append(ready.popleft())
        for item in taken:
            if item.first_attempt is None:
                item.first_attempt = epoch_ms
            item.last_attempt = epoch_ms
        self.breaker.sent()
        return taken

    def ended(self, now: float) -> list[Settlement]:
        """Items that end without another attempt, to be settled and released: blocked, or the forwarder unavailable.

        Once there was no progress for the outage budget, all that is left and all that still comes ends here. One item
        goes out as a probe each time the breaker allows it, so that a job that runs for days finds out who is back.
        """
        if self._blocked_heads:
            heads, self._blocked_heads = self._blocked_heads, []
            return self._settle_without_attempt(heads, "blocked_by_earlier")
        if not self.abandoned and self._outage.is_over_budget(now) and (self._ready or self._retries):
            self.abandoned = True
            if self.breaker.state is BreakerState.CLOSED:  # It was throttled, or answered 429, all the time.
                self.breaker.failed(now, at_once=True)
        if not self.abandoned or self.breaker.allows(now):
            return []
        left: list[Item] = []
        while self._retries and len(left) < ENDED_AT_ONCE:
            left.append(heappop(self._retries)[2])
        while self._ready and len(left) < ENDED_AT_ONCE:
            left.append(self._ready.popleft())
        return self._settle_without_attempt(left, "unavailable")

    def _settle_without_attempt(self, items: list[Item], reason: str) -> list[Settlement]:
        return [Settlement(item, self._given_up(reason)) for item in items]

    def _given_up(self, reason: str) -> AttemptResult:
        last = self.last_failure
        if reason != "unavailable" or last is None:
            return AttemptResult(Verdict.GIVE_UP, reason)
        return AttemptResult(Verdict.GIVE_UP, reason, last.status, f"the receiver's last failure: {last.reason}")

    def finish(self, items: Sequence[Item], outcomes: Sequence[AttemptResult], now: float) -> list[Settlement]:
        """Take in what became of one call. Returns what ended with it; the rest waits for its retry.

        Raises ValueError when there are not as many outcomes as items: a sink's bug.
        """
        settlements: list[Settlement] = []
        retries: list[tuple[Item, AttemptResult]] = []
        progress = contact = False
        throttled = 0
        failure: AttemptResult | None = None
        delivered = Verdict.DELIVERED
        self.attempts += len(items)
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.spends_attempt:
                item.attempts += 1
            if outcome.verdict is delivered:
                progress = True
                settlements.append(Settlement(item, outcome))
                continue
            if outcome.ambiguous:
                item.ambiguous = True
            if outcome.failure or outcome.opens_breaker:
                failure = outcome
            if outcome.verdict is Verdict.GIVE_UP:
                # To refuse a record is an answer too; what a sink refuses by itself says nothing of the receiver.
                contact = contact or outcome.status is not None
                progress = progress or (outcome.status is not None and not (outcome.failure or outcome.opens_breaker))
                settlements.append(Settlement(item, outcome))
            elif outcome.spends_attempt and item.attempts >= self._max_attempts:
                contact = True
                settlements.append(Settlement(item, msgspec.structs.replace(outcome, verdict=Verdict.GIVE_UP)))
            else:
                contact = True
                throttled += not outcome.spends_attempt
                retries.append((item, outcome))

        if progress:
            self._progressed()
        elif not contact and failure is None:
            self.breaker.unused(now)
        else:
            self._outage.failed(now)
            self.last_failure = failure or outcomes[-1]
            if failure is not None or self.abandoned:
                at_once = self.abandoned or (failure is not None and failure.opens_breaker)
                self.breaker.failed(now, self.last_failure.retry_after, at_once)
            else:
                self.breaker.answered()
        if throttled or progress:
            self._pace.saw(now, len(items) - len(retries), throttled)

        for item, outcome in retries:
            settlement = self._retry_or_end(item, outcome, now)
            if settlement is not None:
                settlements.append(settlement)
        return settlements

    def _progressed(self) -> None:
        self._outage.progressed()
        self.breaker.succeeded()
        self.abandoned = False

    def _retry_or_end(self, item: Item, outcome: AttemptResult, now: float) -> Settlement | None:
        if self.abandoned or self._outage.is_over_budget(now):
            return Settlement(item, self._given_up("unavailable"))
        if outcome.spends_attempt:
            delay = self._backoff.delay(item.attempts - 1, outcome.retry_after)
        else:
            # Not counted against max_retries: this is what bounds a record refused for ever while others pass.
            since = self._throttled_since.setdefault(item.record.user_id, now)
            if now - since >= self._settings.outage_budget:
                return Settlement(item, msgspec.structs.replace(outcome, verdict=Verdict.GIVE_UP))
            delay = self._pace.delay(outcome.retry_after)
        self._ties += 1
        heappush(self._retries, (now + delay, self._ties, item))
        return None

    def release(self, settlements: Sequence[Settlement]) -> None:
        """The settlements are durable: their users' next records may go."""
        users, ready, throttled_since = self._users, self._ready, self._throttled_since
        low = self._settings.user_items // 2
        delivered = delivered_bytes = released_bytes = 0
        for settlement in settlements:
            item = settlement.item
            user = item.record.user_id
            size = len(item.payload)
            released_bytes += size + ITEM_OVERHEAD
            if settlement.outcome.verdict is Verdict.DELIVERED:
                delivered += 1
                delivered_bytes += size
            elif self._settings.on_failure == "block_user":
                self._blocked.add(user)
            if throttled_since:
                throttled_since.pop(user, None)
            queue = users[user]
            if not queue:
                del users[user]
                continue
            successor = queue.popleft()
            if self._blocked and user in self._blocked:
                self._blocked_heads.append(successor)
            else:
                ready.append(successor)
            if self._parked and len(queue) <= low and user in self._parking:
                self._unpark(user, queue)
        self.delivered += delivered
        self.dead_lettered += len(settlements) - delivered
        self.delivered_bytes += delivered_bytes
        self._held -= len(settlements)
        self._held_bytes -= released_bytes
        if len(self._spool):
            self._refill()
        if not self._users:
            # Nothing waits, so there is no outage to time: a record that comes hours later is owed its own attempts.
            self._outage.progressed()

    def _unpark(self, user: str, queue: deque[Item]) -> None:
        """Whatever the window holds: at most every user in it has a full share, which bounds it all the same."""
        items = self._parking.take(user)
        self._parked -= len(items)
        queue.extend(items)
        self._held += len(items)
        self._held_bytes += sum(len(item.payload) + ITEM_OVERHEAD for item in items)

    def _refill(self) -> None:
        # A chunk at a time once a quarter is free, so that chunks come from disk seldom and fit mostly whole.
        while (
            self._held <= self._settings.window_items * 3 // 4
            and self._held_bytes <= self._settings.window_bytes * 3 // 4
            and (items := self._spool.take())
        ):
            # All of it: a chunk is small beside the window, and there is no way back into the spool.
            self._admit(items, len(items), 1 << 62)
