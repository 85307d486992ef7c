"""What the end of a bundle waits for in a streaming job, and what it defers.

A bundle is committed when each of its records is settled on disk. A bundle that waited for all of them would let a
forwarder that is down stop the others. So a record that is not worth waiting for is *deferred*: it becomes a dead
letter with the reason `deferred`, which outlives the process, while its lane goes on trying to deliver it, in its
user's order. How that ends is a receipt of its own. If that says delivered, it counts, whatever the clocks said
(docs/spec/forwarders.md section 4).
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

from transforms.sinks.base import DEFERRED, AttemptResult, Item, Settle, Settlement, Verdict

HOLD = 1.0
"""Seconds that a bundle waits for a forwarder that settles nothing, or that still settles when another is done."""

BEHIND_USERS = 1_000
"""Above this many users with deferred records, a forwarder counts as slow, not as failing for some users.

Bundles then stop waiting for it until its backlog is empty. Below it, bundles still wait for users without a backlog.
"""

BACKLOG_LIMIT = 50_000
"""From this many deferred records on, bundles wait for a slow forwarder after all, while it settles anything.

It bounds the backlog: else a forwarder that is always too slow would have ever more dead letters.
"""

logger = logging.getLogger(__name__)


class Deferral:
    """The records that are not settled: those of the present bundle, and those that earlier bundles deferred.

    Its methods may be called from several threads. A record's deferral and its settlement reach the journal one after
    the other, whichever comes first.

    Args:
        settle: makes settlements durable.
        clock: monotonic seconds.
        hold: seconds, see HOLD.
    """

    def __init__(self, settle: Settle, clock: Callable[[], float] = time.monotonic, hold: float = HOLD) -> None:
        self._settle = settle
        self._clock = clock
        self._hold = hold
        self._lock = threading.Lock()
        self._forwarders: dict[str, _Forwarder] = {}
        # When the first forwarder had nothing left of this bundle; None until then.
        self._first_done_at: float | None = None

    def submit(self, items: Sequence[Item]) -> None:
        """Take note of items of the bundle. Call it before the engine gets them."""
        now = self._clock()
        with self._lock:
            for item in items:
                forwarder = self._forwarders.get(item.forwarder_id)
                if forwarder is None:
                    forwarder = self._forwarders[item.forwarder_id] = _Forwarder(self._hold)
                if not forwarder.fresh and not forwarder.late:
                    forwarder.moved_at = now
                forwarder.fresh[item.record.id] = item

    def user_of(self, forwarder_id: str, record_id: str) -> str | None:
        """In whose order a record leaves that was submitted and is not settled; None for any other record."""
        with self._lock:
            forwarder = self._forwarders.get(forwarder_id)
            return None if forwarder is None else forwarder.user_of(record_id)

    def settle(self, settlements: Sequence[Settlement]) -> None:
        """Make settlements durable, and take note of them: the engine's `Settle`."""
        now = self._clock()
        with self._lock:
            for settlement in settlements:
                self._forwarders[settlement.item.forwarder_id].settled(settlement.item, now)
            self._settle(settlements)

    def should_wait(self) -> bool:
        """Whether the end of the bundle should wait on. Ask again and again, until `defer` ends the bundle."""
        now = self._clock()
        with self._lock:
            forwarders = self._forwarders.values()
            if self._first_done_at is None and not all(forwarder.fresh for forwarder in forwarders):
                self._first_done_at = now
            first_done_at = self._first_done_at
            others_wait = first_done_at is not None and now - first_done_at >= self._hold
            return any(forwarder.should_wait(now, others_wait) for forwarder in forwarders)

    def defer(self, settle: Settle) -> Counter[str]:
        """End the bundle: what is not settled of it becomes dead letters.

        Args:
            settle: makes these durable. It must not count them, because how they end is counted.

        Returns:
            How many records were deferred, by forwarder.
        """
        deferred: Counter[str] = Counter()
        now = self._clock()
        with self._lock:
            self._first_done_at = None
            for forwarder_id, forwarder in self._forwarders.items():
                if forwarder.fresh:
                    deferred[forwarder_id] = len(forwarder.fresh)
                    settle([Settlement(item, _deferred(item)) for item in forwarder.fresh.values()])
                    forwarder.defer(now)
                elif forwarder.late:
                    continue
                self._log_change(forwarder_id, forwarder)
        return deferred

    def backlogs(self) -> dict[str, int]:
        """How many records each forwarder has that were deferred and are still tried; those alone that have any."""
        with self._lock:
            return {id_: len(forwarder.late) for id_, forwarder in self._forwarders.items() if forwarder.late}

    def _log_change(self, forwarder_id: str, forwarder: "_Forwarder") -> None:
        """Log when bundles begin to end without the forwarder's records, and when it has caught up."""
        late = bool(forwarder.late)
        if late and not forwarder.was_late:
            logger.warning(
                "forwarder %s: is not waited for; its records are dead letters until it has them", forwarder_id
            )
        elif forwarder.was_late and not late:
            logger.warning("forwarder %s: nothing of it is deferred any more", forwarder_id)
        forwarder.was_late = late


def _deferred(item: Item) -> AttemptResult:
    """What a dead letter says of an item that is still tried. If it is in flight, the receiver may have it."""
    return AttemptResult(Verdict.GIVE_UP, DEFERRED, ambiguous=item.first_attempt is not None)


class _Forwarder:
    """The records of one forwarder that are not settled.

    Attributes:
        fresh: those of the present bundle, by id.
        late: those of earlier bundles, each with the user in whose order it leaves: the backlog.
        users: how many records of the backlog each user has; None while the forwarder counts as slow.
        moved_at: when the forwarder last settled a record, or was given one while it had none. Monotonic seconds.
        was_late: whether the log says that bundles end without its records.
    """

    def __init__(self, hold: float) -> None:
        self._hold = hold
        self.fresh: dict[str, Item] = {}
        self.late: dict[str, str] = {}
        self.users: Counter[str] | None = Counter()
        self.moved_at = 0.0
        self.was_late = False

    def user_of(self, record_id: str) -> str | None:
        """As `Deferral.user_of`."""
        item = self.fresh.get(record_id)
        return self.late.get(record_id) if item is None else item.queue

    def settled(self, item: Item, now: float) -> None:
        """The item ended."""
        self.moved_at = now
        if self.fresh.pop(item.record.id, None) is not None or self.late.pop(item.record.id, None) is None:
            return
        if not self.late:
            self.users = Counter()
        elif self.users is not None:
            user = item.queue
            self.users[user] -= 1
            if self.users[user] <= 0:
                del self.users[user]

    def should_wait(self, now: float, others_wait: bool) -> bool:
        """Whether the bundle should wait for this forwarder; `others_wait`: another has been done for HOLD seconds."""
        if not self.fresh or self._is_stuck(now):
            return False
        if len(self.late) >= BACKLOG_LIMIT:
            return True
        return not others_wait and self._has_new_users()

    def _is_stuck(self, now: float) -> bool:
        """Whether the forwarder has settled nothing for HOLD seconds."""
        return now - self.moved_at >= self._hold

    def _has_new_users(self) -> bool:
        """Whether the bundle has records of users without a backlog, unless the forwarder counts as slow."""
        users = self.users
        return users is not None and any(item.queue not in users for item in self.fresh.values())

    def defer(self, now: float) -> None:
        """What is left of the bundle joins the backlog."""
        # It did settle records, but was not done when the others were: it is slow, whoever its records are of.
        too_slow = self._has_new_users() and not self._is_stuck(now)
        self.late.update((id_, item.queue) for id_, item in self.fresh.items())
        if self.users is not None:
            self.users.update(item.queue for item in self.fresh.values())
            if too_slow or len(self.users) > BEHIND_USERS:
                self.users = None
        self.fresh = {}
