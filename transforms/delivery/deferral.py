"""What the end of a bundle waits for, and what it defers, where the input has no end (issue 6).

A bundle is committed when each of its records is on disk as settled, so one that waited for all of them would let a
forwarder that is down stop the others. What is not worth waiting for is *deferred*: it becomes a dead letter with the
reason `deferred`, which outlives the process, while the lane goes on trying to deliver it, in its user's order. Its
end then is a receipt of its own, and the latest receipt of (forwarder, id) decides (forwarders.md section 4).
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from transforms.sinks.base import DEFERRED, AttemptResult, Item, Settle, Settlement, Verdict

HOLD = 1.0
"""Seconds that a bundle waits for a forwarder that takes nothing, or that still takes when another has all its own."""

MANY = 1_000
"""A forwarder that defers records of more users than this is behind, like one that takes records but too slowly:
nothing new is waited for until it has them all. Else it has some users whose records fail, and the others' are waited
for."""

LIMIT = 50_000
"""A forwarder that takes records, but too slowly, defers so many: with more, bundles wait for it after all."""

logger = logging.getLogger(__name__)


class Deferral:
    """The records of one bundle, and those deferred by earlier ones, that are not settled. For several threads.

    `settle` makes settlements durable; a record's deferral and its settlement reach it one after the other, whichever
    comes first. `clock` gives seconds, monotonic; `hold`: see HOLD.
    """

    def __init__(self, settle: Settle, clock: Callable[[], float] = time.monotonic, hold: float = HOLD) -> None:
        self._settle = settle
        self._clock = clock
        self._hold = hold
        self._lock = threading.Lock()
        self._forwarders: dict[str, _Forwarder] = {}
        self._one_is_done_at: float | None = None

    def submit(self, items: Sequence[Item]) -> None:
        """Items of the bundle, before the engine gets them."""
        now = self._clock()
        with self._lock:
            for item in items:
                forwarder = self._forwarders.get(item.forwarder_id)
                if forwarder is None:
                    forwarder = self._forwarders[item.forwarder_id] = _Forwarder(self._hold)
                if not forwarder.fresh and not forwarder.deferred:
                    forwarder.moved_at = now
                forwarder.fresh[item.record.id] = item

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """The engine's `Settle`."""
        now = self._clock()
        with self._lock:
            for settlement in settlements:
                self._forwarders[settlement.item.forwarder_id].settled(settlement.item, now)
            self._settle(settlements)

    def should_wait(self) -> bool:
        """Whether the bundle's end should wait on. Call it again and again from the bundle's end to `defer`."""
        now = self._clock()
        with self._lock:
            forwarders = self._forwarders.values()
            if self._one_is_done_at is None and not all(forwarder.fresh for forwarder in forwarders):
                self._one_is_done_at = now
            since = self._one_is_done_at
            others_wait = since is not None and now - since >= self._hold
            return any(forwarder.should_wait(now, others_wait) for forwarder in forwarders)

    def defer(self, settle: Settle) -> Counter[str]:
        """Ends the bundle: what is left of it becomes dead letters, through `settle`. How many, by forwarder."""
        deferred: Counter[str] = Counter()
        now = self._clock()
        with self._lock:
            self._one_is_done_at = None
            for forwarder_id, forwarder in self._forwarders.items():
                if forwarder.fresh:
                    deferred[forwarder_id] = len(forwarder.fresh)
                    settle([Settlement(item, _deferred(item)) for item in forwarder.fresh.values()])
                    forwarder.defer(now)
                elif forwarder.deferred:
                    continue
                self._tell(forwarder_id, forwarder)
        return deferred

    def _tell(self, forwarder_id: str, forwarder: "_Forwarder") -> None:
        """One log line when the others go on without it, one when it has caught up."""
        late = forwarder.deferred > 0
        if late and not forwarder.was_late:
            logger.warning(
                "forwarder %s: is not waited for; its records are dead letters until it has them", forwarder_id
            )
        elif forwarder.was_late and not late:
            logger.warning("forwarder %s: nothing of it is deferred any more", forwarder_id)
        forwarder.was_late = late


def _deferred(item: Item) -> AttemptResult:
    """Of an item that may be under way at this moment, so that nobody knows whether the receiver has it."""
    return AttemptResult(Verdict.GIVE_UP, DEFERRED, ambiguous=item.first_attempt is not None)


class _Forwarder:
    """`fresh`: what is left of the bundle, by record id. `deferred`: how many of earlier bundles are; `users`: whose,
    None if it is behind. `moved_at`: when it last settled something, or was given something to do. `was_late`: whether
    the log says that it defers."""

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self.fresh: dict[str, Item] = {}
        self.deferred = 0
        self.users: Counter[str] | None = Counter()
        self.moved_at = 0.0
        self.was_late = False

    def settled(self, item: Item, now: float) -> None:
        self.moved_at = now
        if self.fresh.pop(item.record.id, None) is not None or not self.deferred:
            return
        self.deferred -= 1
        if not self.deferred:
            self.users = Counter()
        elif self.users is not None:
            user = item.record.user_id
            self.users[user] -= 1
            if self.users[user] <= 0:
                del self.users[user]

    def should_wait(self, now: float, others_wait: bool) -> bool:
        if not self.fresh or self._is_stuck(now):
            return False
        if self.deferred >= LIMIT:
            return True
        return not others_wait and self._has_new_users()

    def _is_stuck(self, now: float) -> bool:
        return now - self.moved_at >= self._hold

    def _has_new_users(self) -> bool:
        users = self.users
        return users is not None and any(item.record.user_id not in users for item in self.fresh.values())

    def defer(self, now: float) -> None:
        too_slow = self._has_new_users() and not self._is_stuck(now)
        self.deferred += len(self.fresh)
        if self.users is not None:
            self.users.update(item.record.user_id for item in self.fresh.values())
            if too_slow or len(self.users) > MANY:
                self.users = None
        self.fresh = {}
