"""The one core that decides order, for every protocol: a lane per forwarder, a state machine without threads or clock.

A record is sent only after the one before it for the same (forwarder, user) was acknowledged or given up, and that
is durable; different users never wait for each other (docs/spec/forwarders.md section 3). The caller reads the clocks,
makes the calls, and holds a lock if several threads use one lane:

    lane.submit(items)                                     any time
    settlements = lane.ended(now) or
    items = lane.take(now, epoch_ms) -> outcomes           make the call
    settlements = lane.finish(items, outcomes, now)        make them durable, then
    lane.release(settlements)                              the users' next records may go

At any moment one record of a user, the head, is ready, under way, waiting for its retry, or being settled; the
records behind it wait in the user's queue. Where a call may hold several records of a user (`Runs`), those are under
way together with the head, and stand in the call in their order. A call of which a receiver takes all or nothing, and
that is to be made again, stays together: its records are a batch that waits for its retry.

What the window does not hold lies in the spool (first in, first out), and what a user with very many records has beyond
their share in the parking, so that they do not fill the window.
"""

import random
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import Protocol

import msgspec

from transforms.delivery.policy import Backoff, Breaker, BreakerState, DeliverySettings, Losses, Outage, Pace, Random
from transforms.delivery.rate import RateLimiter
from transforms.sinks.base import AttemptResult, Item, Runs, Settlement, Verdict
from transforms.sinks.outages import BLOCKED_BY_EARLIER, SPOOL_FULL, UNAVAILABLE, is_of_outage

ITEM_OVERHEAD = 1024
"""Bytes that an item takes in memory beside its payload: the structs, the record and its decoded message."""

LEAST_PAUSE = 0.01
"""Seconds that a lane waits at least after an attempt that this machine could not make."""

_TOO_MANY_REQUESTS = 429

ENDED_AT_ONCE = 500
"""Settlements that `ended` gives at a time, at most: a long spool is given up within the window's memory."""


class Spool(Protocol):
    """Items that the window has no room for, first in, first out.

    `append` says how many of the items it took, the first ones: fewer than all when it is full. `take` gives and
    removes the next chunk of them, and [] when there is none.
    """

    def append(self, items: Sequence[Item]) -> int: ...
    def take(self) -> list[Item]: ...
    def __len__(self) -> int: ...


class Parking(Protocol):
    """Items beyond their user's share of the window, first in, first out for each user.

    `put` says whether it took the item: not when it is full. `take` gives and removes the next chunk of a user that is
    `in` the parking.
    """

    def put(self, user_id: str, item: Item) -> bool: ...
    def take(self, user_id: str) -> list[Item]: ...
    def __contains__(self, user_id: object) -> bool: ...
    def __len__(self) -> int: ...


def payload_size(item: Item) -> int:
    """Bytes of an item's payload."""
    return len(item.payload)


class Lane:
    """The items of one forwarder: their order, attempts and waits, in bounded memory.

    No method waits, and each takes O(1) per item, amortised. `now` is always in seconds of one monotonic clock. The
    lane changes `attempts`, `ambiguous` and the times of its items.

    Args:
        forwarder_id: whose lane this is.
        max_retries: attempts at an item beyond its first.
        settings: the window, the bounds of waits, and what becomes of a user's other records when one is given up.
        spool: where items wait that the window has no room for; empty.
        parking: where a user's items wait beyond the user's share of the window; empty.
        size: the bytes that an item takes in a call, which `take` adds up.
        group: items of different groups do not go in one call; None: all are of one.
        is_atomic: whether the receiver takes all records of a call or none.
        limiter: how fast calls may be made; None: as fast as they are taken.
        random: floats in [0, 1), for the jitter of waits.

    Attributes:
        last_failure: the last outcome that counted against the forwarder.
        last_bad: the last outcome of an item that was not taken, whoever is to blame.
        losses: whether the forwarder takes nothing.
        in_flight: items that are being sent.
        abandoned: whether the outage budget is over: items are given up, but for a probe now and then.
        submitted: items that were taken in.
        delivered: items that were released as delivered.
        dead_lettered: items that were released as given up.
        attempts: times that an item was sent, throttled ones too.
        calls: calls that were made: requests over HTTP, and those of AWS' APIs.
        delivered_bytes: payload bytes of the delivered items.
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
        group: Callable[[Item], Hashable] | None = None,
        is_atomic: bool = False,
        limiter: RateLimiter | None = None,
        random: Random = random.random,
    ) -> None:
        self.forwarder_id = forwarder_id
        self._max_attempts = max_retries + 1
        self._settings = settings
        self._size = size
        self._group = group
        self._is_atomic = is_atomic
        self._limiter = limiter
        self._limited_since: float | None = None
        self._limited_until = 0.0
        self._spool = spool
        self._parking = parking
        self._backoff = Backoff(settings.max_backoff, random=random)
        self._pace = Pace(self._backoff)
        self._outage = Outage(settings.outage_budget)
        self.breaker = Breaker(self._backoff)

        # User -> the records behind the head; None instead of an empty queue, as most users have one record at a time.
        self._users: dict[str, deque[Item] | None] = {}
        self._ready: deque[Item] = deque()
        # Batches that are to be sent again as they are, before anything else.
        self._ready_batches: deque[Sequence[Item]] = deque()
        # For a user with several records under way, or in a batch that waits: how many beside one.
        self._beside: dict[str, int] = {}
        # (due, tie breaker, items) of the heads, and of the batches, that wait for their retry.
        self._retries: list[tuple[float, int, Sequence[Item]]] = []
        self._ties = 0
        self._throttled_since: dict[str, float] = {}
        self._blocked: set[str] = set()
        self._blocked_heads: list[Item] = []
        self._held = 0
        self._held_bytes = 0
        self._parked = 0
        # What neither the window nor the spool had room for, with the reason of its dead letter; and, if such a record
        # blocks its user, the users whose later records come too late: from `submit`, or from the spool as well.
        self._overflow: list[tuple[Item, str]] = []
        self._cut_at_submit: set[str] = set()
        self._cut_at_admit: set[str] = set()
        # Until when nothing is taken, since this machine lacks something; 0 when nothing is lacking.
        self._paused_until = 0.0
        self.last_failure: AttemptResult | None = None
        self.last_bad: AttemptResult | None = None
        self.losses = Losses()
        # What turns the epoch seconds of a try into those of the clock.
        self._epoch = 0.0
        self.in_flight = 0
        self.abandoned = False
        self.submitted = 0
        self.delivered = 0
        self.dead_lettered = 0
        self.attempts = 0
        self.calls = 0
        self.delivered_bytes = 0

    @property
    def pending(self) -> int:
        """Items that were submitted and are not released yet."""
        return self.submitted - self.delivered - self.dead_lettered

    def is_blocked(self, user: str) -> bool:
        """Whether a record of the user was given up, and the later ones are given up for that."""
        return user in self._blocked

    @property
    def held(self) -> int:
        """Items in the window. Those that the spool and the parking have in memory are not counted."""
        return self._held

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the items in the window take: their payloads, and ITEM_OVERHEAD for each."""
        return self._held_bytes

    @property
    def fullness(self) -> float:
        """How full the window is: 0 when it is empty, 1 or more when it is full."""
        return max(self._held / self._settings.window_items, self._held_bytes / self._settings.window_bytes)

    @property
    def has_troubles(self) -> bool:
        """Whether `ended` or `wake_at` may have something to say: there are retries, an outage, or items to give up."""
        waiting = self._retries or self._blocked_heads or self._paused_until
        return bool(waiting or self.abandoned or self._outage.ends_at is not None)

    @property
    def spooled(self) -> int:
        """Items outside the window, in the spool and the parking."""
        return len(self._spool) + len(self._parking)

    def submit(self, items: Sequence[Item]) -> None:
        """Take in items, each user's in the order in which they are to be sent.

        What the window has no room for is spooled, and so is all that comes later until the spool is empty. What the
        spool has no room for overflows: see `overflow`.
        """
        self.submitted += len(items)
        if self._cut_at_submit:
            items = self._not_cut(items, self._cut_at_submit)
        admitted = 0
        if not len(self._spool):
            settings = self._settings
            admitted = self._admit(items, settings.window_items - self._held, settings.window_bytes - self._held_bytes)
        if admitted < len(items):
            admitted += self._spool.append(items[admitted:])
            self._let_overflow(items[admitted:], self._cut_at_submit)

    def overflow(self) -> list[Settlement]:
        """Take out what overflowed: to be made durable, and then given to `dropped`. [] when nothing has.

        Ask after each `submit` and `release`. These records end without an attempt, and before earlier ones of their
        users that wait in the window or the spool.
        """
        overflow, self._overflow = self._overflow, []
        return [Settlement(item, AttemptResult(Verdict.GIVE_UP, reason)) for item, reason in overflow]

    def dropped(self, settlements: Sequence[Settlement]) -> None:
        """Take note that what `overflow` gave is durable."""
        self.dead_lettered += len(settlements)

    def _let_overflow(self, items: Sequence[Item], cut: set[str]) -> None:
        """Let items overflow. If a record blocks its user, the user's later ones follow: `cut` knows the user then."""
        for item in items:
            user = item.queue
            self._overflow.append((item, BLOCKED_BY_EARLIER if user in cut else SPOOL_FULL))
            if self._settings.on_failure == "block_user" or self._settings.catches_up:
                cut.add(user)

    def _not_cut(self, items: Sequence[Item], cut: set[str]) -> list[Item]:
        """The items whose users are not cut off. The others overflow."""
        left = []
        for item in items:
            if item.queue in cut:
                self._overflow.append((item, BLOCKED_BY_EARLIER))
            else:
                left.append(item)
        return left

    def _admit(self, items: Sequence[Item], room: int, bytes_room: int) -> int:
        """Bring items into the window while it has room for more items and bytes; returns how many were taken in."""
        users, parking, blocked, cut = self._users, self._parking, self._blocked, self._cut_at_admit
        share = self._settings.user_items
        admitted = held = held_bytes = 0
        for item in items:
            if held >= room or held_bytes >= bytes_room:
                break
            admitted += 1
            user = item.record.user_id if item.behind is None else item.behind  # `item.queue`, at half the cost
            if cut and user in cut:
                self._let_overflow((item,), cut)
                continue
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
                    if parking.put(user, item):
                        self._parked += 1
                    else:
                        self._let_overflow((item,), cut)
                    continue
            held += 1
            held_bytes += len(item.payload) + ITEM_OVERHEAD
        self._held += held
        self._held_bytes += held_bytes
        return admitted

    def ready(self, now: float) -> int:
        """How many items are ready to be sent. The breaker, or the limit of the rate, may not let `take` give them."""
        self._bring_due(now)
        return len(self._ready) + sum(map(len, self._ready_batches))

    def may_fill(self, most: int, most_bytes: int, runs: Runs | None) -> bool:
        """Whether what is ready would fill a call of `most` items or `most_bytes` bytes."""
        if self._ready_batches or len(self._ready) >= most:
            return True
        items = size = 0
        for head in self._ready:
            queue = self._users[head.queue] if runs is not None else None
            for item in (head, *islice(queue, most - items)) if queue else (head,):
                items += 1
                size += self._size(item)
                if items >= most or size >= most_bytes:
                    return True
        return False

    def _bring_due(self, now: float) -> None:
        """Make the retries ready whose wait is over."""
        retries = self._retries
        while retries and retries[0][0] <= now:
            items = heappop(retries)[2]
            if len(items) > 1:
                self._ready_batches.append(items)
            else:
                # Before items that were never tried, because it has waited longest.
                self._ready.appendleft(items[0])

    def _dissolve(self) -> None:
        """Let the records of batches that are ready go by themselves."""
        while self._ready_batches:
            self._ready.extendleft(reversed(self._set_down(self._ready_batches.pop())))

    def _set_down(self, items: Sequence[Item]) -> list[Item]:
        """Take back items that were under way, in their order, and may not be any more.

        Returns:
            Those that are their users' heads again. The others are in front of their users' queues, where the end of
            those that are under way yet lets them go.
        """
        if not self._beside:
            return list(items)
        by_user: dict[str, list[Item]] = {}
        for item in items:
            by_user.setdefault(item.queue, []).append(item)
        heads = []
        for user, own in by_user.items():
            under_way = self._beside.pop(user, 0) + 1 - len(own)
            if not under_way:
                heads.append(own.pop(0))
            elif under_way > 1:
                self._beside[user] = under_way - 1
            if own:
                queue = self._users[user]
                if queue is None:
                    self._users[user] = deque(own)
                else:
                    queue.extendleft(reversed(own))
        return heads

    def retries_due(self, until: float, most: int) -> int:
        """How many retries will be due at the time `until`, counted up to `most`."""
        retries, due, unseen = self._retries, 0, [0]
        while unseen and due < most:
            index = unseen.pop()
            if index < len(retries) and retries[index][0] <= until:
                due += 1
                unseen += (2 * index + 1, 2 * index + 2)  # In a heap no entry is due before its parent.
        return due

    def wake_at(self) -> float | None:
        """When to look at the lane again even if nothing is submitted or finished until then; None for never."""
        is_ready = self._ready or self._ready_batches
        if not is_ready and not self._retries:
            return None
        ready_at = self._retries[0][0] if not is_ready else float("-inf")
        if self.breaker.state is BreakerState.HALF_OPEN:
            ready_at = float("inf")  # Until the probe ends.
        elif self.breaker.probe_at is not None:
            ready_at = max(ready_at, self.breaker.probe_at)
        if self._paused_until:
            ready_at = max(ready_at, self._paused_until)
        if self._limited_since is not None:
            return max(ready_at, self._limited_until)
        if self._outage.ends_at is not None and not self.abandoned:
            return min(ready_at, self._outage.ends_at)
        return None if ready_at == float("inf") else ready_at

    def next_try(self, now: float) -> tuple[float | None, int]:
        """When the next attempt may be made, and which attempt at its record that is, from 1.

        The time is None while the breaker's probe is under way, or where nothing waits.
        """
        heads = [self._retries[0][2][0]] if self._retries else []
        if self._ready_batches:
            heads.append(self._ready_batches[0][0])
        if self._ready:
            heads.append(self._ready[0])
        attempt = min(1 + max((item.attempts for item in heads), default=0), self._max_attempts)
        if not heads or self.breaker.state is BreakerState.HALF_OPEN:
            return None, attempt
        at = now if self._ready or self._ready_batches else self._retries[0][0]
        if self._limited_since is not None:
            at = max(at, self._limited_until)
        return max(at, self.breaker.probe_at or now, self._paused_until, now), attempt

    def retrying(self) -> tuple[int, int | None]:
        """How many items wait for their retry, and when the first of them was tried first, in epoch ms."""
        items = [item for _, _, together in self._retries for item in together]
        first = [item.first_attempt for item in items if item.first_attempt is not None]
        return len(items), min(first, default=None)

    @property
    def max_attempts(self) -> int:
        """Attempts that an item gets."""
        return self._max_attempts

    def take(
        self, now: float, epoch_ms: int, max_items: int = 1, max_bytes: int = 1 << 62, runs: Runs | None = None
    ) -> Sequence[Item]:
        """Items to send now, in one call.

        Args:
            now: seconds of the monotonic clock.
            epoch_ms: the same moment in epoch ms, which becomes the time of the attempt.
            max_items: the most items that the call may hold.
            max_bytes: the most bytes that their sizes may add up to; a larger item comes alone.
            runs: how many items of one user the call may hold; None: one.

        Returns:
            The items, a user's one after the other in their order; [] when none is ready or no call may be made now. A
            batch that is to be sent again as it was comes whole, whatever the limits are by now.
        """
        self._bring_due(now)
        if not (self._ready or self._ready_batches) or now < self._paused_until or not self.breaker.allows(now):
            return []
        if self.breaker.state is not BreakerState.CLOSED:
            max_items = 1  # A probe risks the attempts of one record, not of a whole call's.
        if self._ready_batches and max_items == 1:
            self._dissolve()
        if self._limiter is not None:
            max_items = self._limited(self._limiter, now, max_items, runs)
            if not max_items:
                return []
        self._paused_until = 0.0
        taken = self._ready_batches.popleft() if self._ready_batches else self._load(max_items, max_bytes, runs)
        for item in taken:
            if item.first_attempt is None:
                item.first_attempt = epoch_ms
            item.last_attempt = epoch_ms
        self.in_flight += len(taken)
        self._epoch = epoch_ms / 1000 - now
        self.breaker.sent()
        if self._limiter is not None:
            self._limiter.sent(now, len(taken))
        return taken

    def _load(self, max_items: int, max_bytes: int, runs: Runs | None) -> list[Item]:
        """Take items that are ready off their queues, for one call."""
        ready = self._ready
        taken = [ready.popleft()]
        if max_items == 1:
            return taken
        room = max_bytes - self._size(taken[0])
        group = self._group(taken[0]) if self._group is not None else None
        if runs is None:
            while ready and len(taken) < max_items and (room := room - self._size(ready[0])) >= 0:
                if self._group is not None and self._group(ready[0]) != group:
                    break
                taken.append(ready.popleft())
            return taken
        most = runs.bytes
        if runs.crowded_bytes < most and self._is_crowded(runs.crowded_bytes):
            most = runs.crowded_bytes
        room = self._load_run(taken, max_items, room, most, group)
        for _ in range(1, runs.users):
            if not ready or len(taken) >= max_items or (room := room - self._size(ready[0])) < 0:
                break
            if self._group is not None and self._group(ready[0]) != group:
                break
            taken.append(ready.popleft())
            room = self._load_run(taken, max_items, room, most, group)
        return taken

    def _load_run(self, taken: list[Item], max_items: int, room: int, most: int, group: Hashable) -> int:
        """Let those go with the last item that wait behind it for the same user. Returns the room that is left.

        Args:
            taken: of the call.
            max_items: of the call.
            room: bytes that the call has left.
            most: bytes of all items of the user.
            group: of the call.
        """
        head = taken[-1]
        user = head.queue
        queue = self._users[user]
        if not queue:
            return room
        left = most - self._size(head)
        beside = 0
        while queue and len(taken) < max_items:
            size = self._size(queue[0])
            if size > room or size > left or (self._group is not None and self._group(queue[0]) != group):
                break
            room -= size
            left -= size
            beside += 1
            taken.append(queue.popleft())
            if self._parked and len(queue) <= self._settings.user_items // 2 and user in self._parking:
                self._unpark(user, queue)
        if beside:
            self._beside[user] = beside
        return room

    def _is_crowded(self, most: int) -> bool:
        """Whether heads of more than `most` bytes are ready."""
        size = 0
        for item in self._ready:
            size += self._size(item)
            if size > most:
                return True
        return False

    def _limited(self, limiter: RateLimiter, now: float, max_items: int, runs: Runs | None) -> int:
        """How many items a call may hold that is made now; 0 if the rate allows none now."""
        if self._ready_batches:
            wanted = len(self._ready_batches[0])
        else:
            max_items = min(max_items, limiter.most_records or max_items)
            wanted = 1
            if max_items > 1:
                waiting = (1 + len((self._users[item.queue] or ()) if runs is not None else ()) for item in self._ready)
                for many in waiting:
                    wanted += many
                    if wanted > max_items:
                        break
                wanted = min(wanted - 1, max_items)
        wait = limiter.wait(now, wanted)
        if wait > 0:
            self._limited_until = now + wait
            if self._limited_since is None:
                self._limited_since = now
            return 0
        if self._limited_since is not None:
            # Whoever may not be sent to is not down.
            self._outage.postpone(now - self._limited_since)
            self._limited_since = None
        return max_items

    def put_back(self, items: Sequence[Item]) -> None:
        """Take back items that `take` gave and that are not sent after all.

        Call it before `finish` is given those of the same call that stand before them.
        """
        self.in_flight -= len(items)
        heads = self._set_down(items)
        self._blocked_heads += [head for head in heads if head.queue in self._blocked]
        self._ready.extendleft(head for head in reversed(heads) if head.queue not in self._blocked)

    def part_of(self, items: Sequence[Item]) -> tuple[Sequence[Item], list[Settlement]]:
        """What of a part of a batch is still to be sent, after what was given up of the batch's earlier parts.

        Returns:
            Those items; and settlements of the others, whose users are blocked.
        """
        if not self._blocked:
            return items, []
        left = [item for item in items if item.queue not in self._blocked]
        blocked = [item for item in items if item.queue in self._blocked]
        self.in_flight -= len(blocked)
        return left, self._settle_without_attempt(blocked, BLOCKED_BY_EARLIER)

    def split(self, items: int) -> None:
        """Take note that a call of so many items was refused for what is in it, and is sent in parts.

        That spends no attempt, and to refuse is an answer.
        """
        self.attempts += items
        self.calls += 1
        self._progressed()

    def allow_part(self, now: float, items: int) -> float:
        """Ask the limit of the rate for a part of a batch, of so many items.

        Returns:
            0 if it is to be sent now; else the seconds after which to ask again.
        """
        if self._limiter is None:
            return 0.0
        wait = self._limiter.wait(now, items)
        if not wait:
            self._limiter.sent(now, items)
        return wait

    def ended(self, now: float) -> list[Settlement]:
        """Items that are given up without another attempt, to be settled and released like those of `finish`.

        Such are the records of a blocked user (`on_failure`, `catches_up`). And once the forwarder has made no
        progress for the outage budget, all that is left of it and all that still comes. Each time the breaker allows
        it, `take` still gives one item, as a probe, so that a run of days notices that the forwarder is back.

        Returns:
            Some of those items, ENDED_AT_ONCE or so; [] when there is none at this time.
        """
        if self._blocked_heads:
            heads, self._blocked_heads = self._blocked_heads, []
            return self._settle_without_attempt(heads, BLOCKED_BY_EARLIER)
        is_waiting = self._ready or self._ready_batches or self._retries
        is_limited = self._limited_since is not None
        if not self.abandoned and not is_limited and is_waiting and self._outage.is_over_budget(now):
            self.abandoned = True
            if self.breaker.state is BreakerState.CLOSED:  # The forwarder throttled, or answered 429, all the time.
                self.breaker.failed(now, at_once=True)
        if not self.abandoned or self.breaker.allows(now):
            return []
        left: list[Item] = []
        while self._retries and len(left) < ENDED_AT_ONCE:
            left += heappop(self._retries)[2]
        while self._ready_batches and len(left) < ENDED_AT_ONCE:
            left += self._ready_batches.popleft()
        while self._ready and len(left) < ENDED_AT_ONCE:
            left.append(self._ready.popleft())
        return self._settle_without_attempt(left, UNAVAILABLE)

    def _settle_without_attempt(self, items: list[Item], reason: str) -> list[Settlement]:
        return [Settlement(item, self._given_up(reason)) for item in items]

    def _given_up(self, reason: str) -> AttemptResult:
        """The outcome of an item without an attempt, with the forwarder's last failure if that is why."""
        last = self.last_failure
        if reason != UNAVAILABLE or last is None:
            return AttemptResult(Verdict.GIVE_UP, reason)
        return AttemptResult(Verdict.GIVE_UP, reason, last.status, f"the receiver's last failure: {last.reason}")

    def finish(
        self, items: Sequence[Item], outcomes: Sequence[AttemptResult], now: float, calls: int = 1
    ) -> list[Settlement]:
        """Take in what became of one call; or of several that are news together.

        Args:
            items: what `take` gave.
            outcomes: what became of each, in the same order.
            now: seconds of the monotonic clock.
            calls: how many calls they were in.

        Returns:
            The items that end with this call, to be made durable and then given to `release`. The others wait for their
            retry.

        Raises:
            ValueError: there are not as many outcomes as items, which is a bug of the sink.
        """
        settlements: list[Settlement] = []
        retries: list[tuple[Item, AttemptResult]] = []
        lacking: list[Item] = []
        progress = contact = taken = False
        throttled = 0
        failure: AttemptResult | None = None
        bad: AttemptResult | None = None
        delivered = Verdict.DELIVERED
        self.attempts += len(items)
        self.in_flight -= len(items)
        # What a sink gives up by itself was in no call.
        if any(outcome.spends_attempt or outcome.verdict is Verdict.RETRY for outcome in outcomes):
            self.calls += calls
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.lack:
                item.ambiguous = item.ambiguous or outcome.ambiguous
                lacking.append(item)
                continue
            if outcome.spends_attempt:
                item.attempts += 1
            if outcome.verdict is delivered:
                progress = taken = True
                settlements.append(Settlement(item, outcome))
                continue
            bad = outcome
            if outcome.ambiguous:
                item.ambiguous = True
            if outcome.failure or outcome.opens_breaker:
                failure = outcome
            if outcome.verdict is Verdict.GIVE_UP:
                # To refuse a record is an answer, too. What a sink refuses by itself says nothing of the receiver.
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

        if taken:
            if self.losses.since is not None:
                self.losses.taken()
        elif contact or failure is not None:
            sent = items[0].last_attempt
            self.losses.missed(now, now if sent is None else sent / 1000 - self._epoch)
        if bad is not None:
            self.last_bad = bad
        if progress:
            self._progressed()
        elif not contact and failure is None:
            self.breaker.unused(now)
        else:
            self._made_no_progress(failure, next(each for each in reversed(outcomes) if not each.lack), now)
        if throttled or progress:
            self._pace.saw(now, len(items) - len(retries) - len(lacking), throttled)
        if retries:
            if self._limiter is not None:
                self._slow_down(self._limiter, retries[0][1], now)
            settlements += self._retry(retries, len(items), now)
        if lacking:
            self.calls -= len(lacking) == len(items)
            self._lacked(lacking, now)
        return settlements

    def _slow_down(self, limiter: RateLimiter, outcome: AttemptResult, now: float) -> None:
        """What the receiver of a forwarder with a limited rate asks for holds for all that is sent to it."""
        if outcome.status == _TOO_MANY_REQUESTS and outcome.retry_after is not None:
            limiter.pause(now, min(outcome.retry_after, self._settings.max_backoff))

    def _retry(self, retries: list[tuple[Item, AttemptResult]], sent: int, now: float) -> list[Settlement]:
        """Put items among the retries; returns those that end instead. `sent`: items of the whole call."""
        outcome = retries[0][1]
        if self._is_atomic and len(retries) == sent > 1 and all(other is outcome for _, other in retries):
            # What a receiver has of an attempt that is in doubt it knows again by the same key: that of the batch.
            settlement = self._retry_or_end([item for item, _ in retries], outcome, now)
            if settlement is None:
                return []
            return [Settlement(item, settlement.outcome) for item, _ in retries]
        outcomes = {id(item): outcome for item, outcome in retries}
        heads = self._set_down([item for item, _ in retries])
        ends = [self._retry_or_end((head,), outcomes[id(head)], now) for head in heads]
        return [settlement for settlement in ends if settlement is not None]

    def _lacked(self, items: list[Item], now: float) -> None:
        """Put items back that could not be sent, since this machine lacks something. Nothing is taken for a while."""
        self.attempts -= len(items)
        self._ready.extendleft(reversed(self._set_down(items)))
        self._paused_until = max(self._paused_until, now + max(LEAST_PAUSE, self._backoff.delay(1)))

    def _progressed(self) -> None:
        self._outage.progressed()
        self.breaker.succeeded()
        self.abandoned = False

    def _made_no_progress(self, failure: AttemptResult | None, last: AttemptResult, now: float) -> None:
        """Take note of a call without progress. `failure`: its last outcome that counts against the forwarder."""
        self._outage.failed(now)
        self.last_failure = failure or last
        if failure is not None or self.abandoned:
            at_once = self.abandoned or (failure is not None and failure.opens_breaker)
            self.breaker.failed(now, self.last_failure.retry_after, at_once)
        else:
            self.breaker.answered()

    def _retry_or_end(self, items: Sequence[Item], outcome: AttemptResult, now: float) -> Settlement | None:
        """How items end after an attempt that may be repeated; None if they are put among the retries together.

        Returns:
            The settlement of the first of them; the others end alike.
        """
        item = items[0]
        if self.abandoned or self._outage.is_over_budget(now):
            return Settlement(item, self._given_up(UNAVAILABLE))
        if outcome.spends_attempt:
            delay = self._backoff.delay(item.attempts - 1, outcome.retry_after)
        else:
            # A throttled attempt does not count against max_retries. This bounds a record that is throttled for ever
            # while others are taken.
            since = self._throttled_since.setdefault(item.queue, now)
            if now - since >= self._settings.outage_budget:
                return Settlement(item, msgspec.structs.replace(outcome, verdict=Verdict.GIVE_UP))
            delay = self._pace.delay(outcome.retry_after)
        self._ties += 1
        heappush(self._retries, (now + delay, self._ties, items))
        return None

    def release(self, settlements: Sequence[Settlement]) -> None:
        """Let the next records of these users go, now that the settlements are durable."""
        users, ready, throttled_since, beside = self._users, self._ready, self._throttled_since, self._beside
        low = self._settings.user_items // 2
        delivered = delivered_bytes = released_bytes = 0
        for settlement in settlements:
            item = settlement.item
            user = item.record.user_id if item.behind is None else item.behind  # `item.queue`, at half the cost
            size = len(item.payload)
            released_bytes += size + ITEM_OVERHEAD
            if settlement.outcome.verdict is Verdict.DELIVERED:
                delivered += 1
                delivered_bytes += size
            elif self._holds_back(settlement.outcome.reason):
                self._blocked.add(user)
            if throttled_since:
                throttled_since.pop(user, None)
            if beside and (others := beside.pop(user, 0)):
                if others > 1:
                    beside[user] = others - 1
                continue
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
            # Nothing waits, so no outage is timed: a record that comes hours later must get its own attempts.
            self._outage.progressed()
            self.losses.rest()

    def _holds_back(self, reason: str) -> bool:
        """Whether a record that was given up holds its user's later ones back: else a later run sends it after them."""
        settings = self._settings
        return settings.on_failure == "block_user" or (settings.catches_up and is_of_outage(reason))

    def _unpark(self, user: str, queue: deque[Item]) -> None:
        """Bring the user's next parked items behind the head, even into a window that is full.

        The window is bounded all the same: at worst every user in it has a full share.
        """
        items = self._parking.take(user)
        self._parked -= len(items)
        queue.extend(items)
        self._held += len(items)
        self._held_bytes += sum(len(item.payload) + ITEM_OVERHEAD for item in items)

    def _refill(self) -> None:
        """Bring chunks from the spool into the window once a quarter of it is free, so that they come seldom."""
        while (
            self._held <= self._settings.window_items * 3 // 4
            and self._held_bytes <= self._settings.window_bytes * 3 // 4
            and (items := self._spool.take())
        ):
            # All of the chunk: it is small beside the window, and there is no way back into the spool.
            self._admit(items, len(items), 1 << 62)
