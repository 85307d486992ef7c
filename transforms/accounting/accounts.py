"""The accounts, or books, of a run: what became of the records that each forwarder was due.

    matched = delivered + already delivered + dead-lettered + pending       (docs/spec/forwarders.md section 4)

Each of these is counted where it happens, in different places, so that the sum proves something. Workers count in
`SharedAccounts`. They hand on what they have counted as `Accounts`, which are small plain data, and `merge_accounts`
adds those up.
"""

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Self

import msgspec

from transforms.accounting.board import LATENCY_BOUNDS, LatencyHistogram, Standing
from transforms.sinks.base import Settlement, Verdict

SEEN_LIMIT = 100
"""Pairs of organisation and store that are kept: enough to show what the input had instead of what was asked for."""

_DELIVERED = Verdict.DELIVERED
_account_of = attrgetter("item.forwarder_id", "item.is_letter")

_BIN_BITS = 5
"""Leading bits of a duration that its bin keeps: 16 bins for each power of two, so a bin is at most 1/16 wide."""


class Latencies(msgspec.Struct):
    """A histogram of durations in ms: exact below 32 ms, above that in bins that are 1/16 of the value wide.

    `counts` has the number of durations in each bin that has any, and `total` is their sum. A negative duration (a
    clock was set back) counts as 0.
    """

    counts: dict[int, int] = {}
    total: int = 0

    def add(self, milliseconds: int, count: int = 1) -> None:
        """Count a duration, `count` times."""
        self.total += max(milliseconds, 0) * count
        bin_number = _bin(milliseconds)
        self.counts[bin_number] = self.counts.get(bin_number, 0) + count

    def merge(self, other: Self) -> None:
        """Add the counts of `other`, which is left as it was."""
        self.total += other.total
        for bin_number, count in other.counts.items():
            self.counts[bin_number] = self.counts.get(bin_number, 0) + count

    def percentile(self, share: float) -> int | None:
        """The duration, in ms, that at least `share` (0 to 1) of the durations do not exceed; None if there are none.

        It is the upper end of a bin: never less than the true value, and at most 1/16 more.
        """
        left = share * sum(self.counts.values())
        for bin_number in sorted(self.counts):
            left -= self.counts[bin_number]
            if left <= 0:
                return _upper_end(bin_number)
        return None


def _bin(milliseconds: int) -> int:
    value = max(milliseconds, 0)
    shift = max(value.bit_length() - _BIN_BITS, 0)
    return (shift << (_BIN_BITS - 1)) + (value >> shift)


def _lower_end(bin_number: int) -> int:
    """The least duration, in ms, that a bin of `Latencies` holds."""
    return _upper_end(bin_number - 1) + 1 if bin_number else 0


def _upper_end(bin_number: int) -> int:
    half = 1 << (_BIN_BITS - 1)
    shift = max(bin_number // half - 1, 0)
    return ((bin_number - shift * half + 1) << shift) - 1


MOMENTS = 32
"""Moments of a timeline, at most: enough for a curve, and a bound to what a forwarder takes."""

_SHORTEST = 64
"""Milliseconds of a moment, at least."""


class Moment(msgspec.Struct, array_like=True):
    """What was settled within one moment of a timeline.

    Attributes:
        delivered: records that were delivered.
        dead: records that were given up.
        tried: of both, records of which an attempt was made. Of a destination that is down, most are given up without.
        waited: from the first attempt to the settlement, in ms, all records added up.
        slowest: the longest of these, in ms.
    """

    delivered: int = 0
    dead: int = 0
    tried: int = 0
    waited: int = 0
    slowest: int = 0

    def merge(self, other: Self) -> None:
        """Add `other`, which is left as it was."""
        self.delivered += other.delivered
        self.dead += other.dead
        self.tried += other.tried
        self.waited += other.waited
        self.slowest = max(self.slowest, other.slowest)


class Timeline(msgspec.Struct):
    """When records were settled, and how long each took, in at most MOMENTS moments of equal width.

    If there would be more, all become twice as wide. So it adds up to the same, whatever was counted first.

    Attributes:
        width: of a moment, in ms; a power of two.
        moments: those in which something was settled, by their number: epoch ms, divided by the width.
    """

    width: int = _SHORTEST
    moments: dict[int, Moment] = {}

    def add(self, at: int, moment: Moment) -> None:
        """Count what was settled at one time (epoch ms). `moment` belongs to the timeline from now on."""
        number = at // self.width
        known = self.moments.get(number)
        if known is None:
            self.moments[number] = moment
            while len(self.moments) > MOMENTS:
                self.widen(self.width * 2)
        else:
            known.merge(moment)

    def merge(self, other: Self) -> None:
        """Add what `other` has, which is left as it was."""
        self.widen(max(self.width, other.width))
        for number, moment in other.moments.items():
            self.add(number * other.width, Moment(*msgspec.structs.astuple(moment)))

    def widen(self, width: int) -> None:
        """Make moments as wide as `width`, a power of two that is not less than the present one."""
        if width == self.width:
            return
        narrow, self.moments = self.moments, {}
        factor, self.width = width // self.width, width
        for number, moment in narrow.items():
            known = self.moments.setdefault(number // factor, moment)
            if known is not moment:
                known.merge(moment)


class Account(msgspec.Struct):
    """What was counted for one forwarder. All are counts of records, unless something else is said.

    Attributes:
        matched: records that it was due.
        delivered: records that it got in this run.
        already_delivered: records that it had got in an earlier run, and was not sent again.
        dead_lettered: records that were given up, by reason.
        pending: records that were neither delivered nor given up when the run was stopped.
        attempts: attempts that count against `maxRetries`: not one that was throttled, nor a resend on a connection
            gone stale.
        calls: requests over HTTP, and calls of AWS' APIs, in which records were sent. One may hold many of them.
        bytes: payload bytes of the delivered records.
        ambiguous: settled records of which an attempt that was not acknowledged may have been stored.
        hashed_keys: records whose partition key was too long, and was replaced by its hash
            (docs/spec/forwarders.md section 3).
        remarks: records by what their receipts remark, such as `already_there`.
        latencies: from the first attempt at a record to its settlement.
        timeline: when records were settled.
    """

    matched: int = 0
    delivered: int = 0
    already_delivered: int = 0
    dead_lettered: dict[str, int] = {}
    pending: int = 0
    attempts: int = 0
    calls: int = 0
    bytes: int = 0
    ambiguous: int = 0
    hashed_keys: int = 0
    remarks: dict[str, int] = {}
    latencies: Latencies = msgspec.field(default_factory=Latencies)
    timeline: Timeline = msgspec.field(default_factory=Timeline)

    @property
    def dead(self) -> int:
        """Dead letters of every reason."""
        return sum(self.dead_lettered.values())

    def balances(self) -> bool:
        """Whether every record that was matched is accounted for."""
        return self.matched == self.delivered + self.already_delivered + self.dead + self.pending

    def settle(self, settlements: Iterable[Settlement], settled_at: int) -> None:
        """Count how items ended. `settled_at` is in epoch ms."""
        # Added up in locals first: it is done for every record, and half of it would else be attributes.
        delivered = dead = size = attempts = tried = waited = slowest = 0
        first_attempts: dict[int | None, int] = {}
        for settlement in settlements:
            item, outcome = settlement.item, settlement.outcome
            if outcome.verdict is _DELIVERED:
                delivered += 1
                size += len(item.payload)
            else:
                dead += 1
                self.dead_lettered[outcome.reason] = self.dead_lettered.get(outcome.reason, 0) + 1
            for remark in outcome.remarks:
                self.remarks[remark] = self.remarks.get(remark, 0) + 1
            attempts += item.attempts
            if item.ambiguous or outcome.ambiguous:
                self.ambiguous += 1
            # Those of one call have the same.
            first = item.first_attempt
            first_attempts[first] = first_attempts.get(first, 0) + 1
        self.delivered += delivered
        self.bytes += size
        self.attempts += attempts
        for first, count in first_attempts.items():
            if first is not None:
                took = max(settled_at - first, 0)
                self.latencies.add(took, count)
                tried += count
                waited += took * count
                slowest = max(slowest, took)
        self.timeline.add(settled_at, Moment(delivered, dead, tried, waited, slowest))

    def reword(self, reason: str, now: str) -> None:
        """Count one of the records that were given up for `reason` under another one, if there is any here."""
        counted = self.dead_lettered.pop(reason, 0)
        if counted > 1:
            self.dead_lettered[reason] = counted - 1
        if counted:
            self.dead_lettered[now] = self.dead_lettered.get(now, 0) + 1

    def merge(self, other: Self) -> None:
        """Add the counts of `other`, which is left as it was."""
        self.matched += other.matched
        self.delivered += other.delivered
        self.already_delivered += other.already_delivered
        for reason, count in other.dead_lettered.items():
            self.dead_lettered[reason] = self.dead_lettered.get(reason, 0) + count
        self.pending += other.pending
        self.attempts += other.attempts
        self.calls += other.calls
        self.bytes += other.bytes
        self.ambiguous += other.ambiguous
        self.hashed_keys += other.hashed_keys
        for remark, count in other.remarks.items():
            self.remarks[remark] = self.remarks.get(remark, 0) + count
        self.latencies.merge(other.latencies)
        self.timeline.merge(other.timeline)


def standing_of(account: Account) -> Standing:
    """The counts of an account, as the board says them. Waiting records are not among them."""
    counts = [0] * (len(LATENCY_BOUNDS) + 1) if account.latencies.counts else []
    for bin_number, count in account.latencies.counts.items():
        counts[_bound(bin_number)] += count
    return Standing(
        due=account.matched,
        delivered=account.delivered,
        already_delivered=account.already_delivered,
        dead=dict(account.dead_lettered),
        bytes=account.bytes,
        latency=LatencyHistogram(counts, account.latencies.total),
    )


@cache
def _bound(bin_number: int) -> int:
    """The bin of the board that a bin of an account falls into. Those of an account are at most 1/16 wide."""
    return bisect_left(LATENCY_BOUNDS, _lower_end(bin_number) / 1000)


Seen = tuple[str | None, str | None]
"""An organisation and a store (`lrs_id`) that records were of."""


class Accounts(msgspec.Struct):
    """The accounts of all forwarders, and the organisations and stores that records were of.

    They add up to the same whatever was counted by which worker, and in which order.

    Attributes:
        accounts: by the forwarder's id.
        letters: by the forwarder's id, those of the open dead letters that are tried again (`--catch_up`). They count
            here and not in `accounts`; calls alone count there.
        seen: the organisations and stores that records were of: the first SEEN_LIMIT of them in order.
        more_seen: whether there were more than that.
    """

    accounts: dict[str, Account] = {}
    letters: dict[str, Account] = {}
    seen: set[Seen] = set()
    more_seen: bool = False

    def account(self, forwarder_id: str) -> Account:
        """The forwarder's account. It is opened if need be, so that a forwarder which was due nothing has one, too."""
        account = self.accounts.get(forwarder_id)
        if account is None:
            account = self.accounts[forwarder_id] = Account()
        return account

    def of_letters(self, forwarder_id: str) -> Account:
        """The account of the forwarder's dead letters that are tried again. It is opened if need be."""
        account = self.letters.get(forwarder_id)
        if account is None:
            account = self.letters[forwarder_id] = Account()
        return account

    def settle(self, settlements: Iterable[Settlement], settled_at: int) -> None:
        """Count how items ended. `settled_at` is in epoch ms."""
        for (forwarder_id, is_letter), settled in groupby(settlements, _account_of):
            account = self.of_letters(forwarder_id) if is_letter else self.account(forwarder_id)
            account.settle(settled, settled_at)

    def see(self, organisation: str | None, lrs_id: str | None) -> None:
        """Take note that a record of this organisation and store was derived."""
        if (organisation, lrs_id) not in self.seen:
            self.seen.add((organisation, lrs_id))
            self._trim()

    def _trim(self) -> None:
        if len(self.seen) > SEEN_LIMIT:
            self.seen = set(sorted(self.seen, key=_in_order)[:SEEN_LIMIT])
            self.more_seen = True

    def merge(self, other: Self) -> None:
        """Add the counts of `other`, which is left as it was."""
        for forwarder_id, account in other.accounts.items():
            self.account(forwarder_id).merge(account)
        for forwarder_id, account in other.letters.items():
            self.of_letters(forwarder_id).merge(account)
        self.seen |= other.seen
        self.more_seen |= other.more_seen
        self._trim()

    def all_accounts(self) -> list[tuple[str, Account]]:
        """The accounts with the forwarders' ids, those of letters too. An id may be in it twice."""
        return [*self.accounts.items(), *self.letters.items()]

    def standings(self) -> list[tuple[str, Standing]]:
        """What the board says of each account. The id of a forwarder may be in it twice."""
        return [(forwarder_id, standing_of(account)) for forwarder_id, account in self.all_accounts()]

    def unbalanced(self) -> list[str]:
        """The ids of the forwarders whose accounts do not balance. If there is any, the run has failed."""
        return sorted({forwarder_id for forwarder_id, account in self.all_accounts() if not account.balances()})

    def balances(self) -> bool:
        """Whether the accounts of all forwarders balance."""
        return not self.unbalanced()

    def to_json(self) -> bytes:
        """As compact JSON, the same bytes for equal accounts."""
        plain = msgspec.to_builtins(self, str_keys=True)
        plain["seen"] = sorted(self.seen, key=_in_order)
        return msgspec.json.encode(plain, order="sorted")

    @staticmethod
    def from_json(data: bytes) -> "Accounts":
        """The accounts that `to_json` wrote. Raises msgspec.ValidationError if it is something else."""
        return msgspec.json.decode(data, type=Accounts)


def _in_order(seen: Seen) -> tuple[str, str]:
    organisation, lrs_id = seen
    return ("" if organisation is None else "=" + organisation, "" if lrs_id is None else "=" + lrs_id)


def merge_accounts(books: Iterable[Accounts]) -> Accounts:
    """The sum of accounts; empty accounts if there are none. It fits `beam.CombineGlobally`."""
    total = Accounts()
    for accounts in books:
        total.merge(accounts)
    return total


class SharedAccounts:
    """The accounts of one worker, in which many threads count. It does not pickle: make it in the DoFn's setup."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._books = Accounts()

    def settle(self, settlements: Sequence[Settlement], settled_at: int) -> None:
        """Count how items ended. `settled_at` is in epoch ms."""
        with self._lock:
            self._books.settle(settlements, settled_at)

    def add(self, books: Accounts) -> None:
        """Add what was counted elsewhere."""
        with self._lock:
            self._books.merge(books)

    def standings(self) -> list[tuple[str, Standing]]:
        """What was counted since it was last taken, as the board says it: (forwarder, standing). It stays in here.

        A forwarder whose dead letters are tried again is there twice.
        """
        with self._lock:
            return self._books.standings()

    def take(self) -> Accounts:
        """What was counted since the last time. Whoever takes it must emit it: it is not in here any more."""
        with self._lock:
            taken, self._books = self._books, Accounts()
            return taken
