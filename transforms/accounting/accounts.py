"""The books of a run: for every forwarder, what became of what it was due (forwarders.md section 4).

    matched = delivered + already delivered + dead-lettered + pending

Each of these is counted where it happens, by different steps, so that the sum says something. Nothing here knows Beam:
a worker keeps a `SharedAccounts`, hands on what it holds as `Accounts` (plain data, small), and `merge_accounts` adds
them up.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Self

import msgspec

from transforms.sinks.base import Settlement

SEEN_LIMIT = 100
"""How many (organisation, store) pairs are kept: enough to show what was in the input instead of what was asked for."""

_FINE = 5  # bits: 16 buckets to a power of two, so a bucket is at most 1/16 wide


class Latencies(msgspec.Struct):
    """Durations in ms, counted in buckets that grow with the value: exact below 32 ms, within 1/16 above that.

    `counts` maps a bucket's number to how many fell into it; negative durations (a clock set back) count as 0.
    """

    counts: dict[int, int] = {}

    def add(self, milliseconds: int, count: int = 1) -> None:
        bucket = _bucket(milliseconds)
        self.counts[bucket] = self.counts.get(bucket, 0) + count

    def merge(self, other: Self) -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count

    def percentile(self, share: float) -> int | None:
        """The least bucket's upper end, in ms, that at least `share` (0..1) of the durations lie within; None of none.

        So it is never less than the true value, and at most 1/16 more.
        """
        left = share * sum(self.counts.values())
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return _upper_end(bucket)
        return None


def _bucket(milliseconds: int) -> int:
    value = max(milliseconds, 0)
    shift = max(value.bit_length() - _FINE, 0)
    return (shift << (_FINE - 1)) + (value >> shift)


def _upper_end(bucket: int) -> int:
    half = 1 << (_FINE - 1)
    shift = max(bucket // half - 1, 0)
    return ((bucket - shift * half + 1) << shift) - 1


class Account(msgspec.Struct):
    """One forwarder's books. All are counts of records, except `attempts` and `bytes`.

    `attempts` are those that count against `maxRetries`: not one that was throttled, nor the resend of a request that
    met a connection gone stale. `dead_lettered` is by reason. `bytes` are payload bytes of delivered records.
    `ambiguous` counts settled records that may have been stored by an attempt that was not acknowledged. `hashed_keys`
    counts records whose partition key was too long and was replaced (forwarders.md section 3). `latencies` run from
    the first attempt to the settlement.
    """

    matched: int = 0
    delivered: int = 0
    already_delivered: int = 0
    dead_lettered: dict[str, int] = {}
    pending: int = 0
    attempts: int = 0
    bytes: int = 0
    ambiguous: int = 0
    hashed_keys: int = 0
    latencies: Latencies = msgspec.field(default_factory=Latencies)

    @property
    def dead(self) -> int:
        """Dead letters of every reason."""
        return sum(self.dead_lettered.values())

    def balances(self) -> bool:
        return self.matched == self.delivered + self.already_delivered + self.dead + self.pending

    def settle(self, settlement: Settlement, settled_at: int) -> None:
        """One item's end. `settled_at` in epoch ms."""
        item, outcome = settlement.item, settlement.outcome
        if settlement.delivered:
            self.delivered += 1
            self.bytes += len(item.payload)
        else:
            self.dead_lettered[outcome.reason] = self.dead_lettered.get(outcome.reason, 0) + 1
        self.attempts += item.attempts
        if item.ambiguous or outcome.ambiguous:
            self.ambiguous += 1
        if item.first_attempt is not None:
            self.latencies.add(settled_at - item.first_attempt)

    def merge(self, other: Self) -> None:
        self.matched += other.matched
        self.delivered += other.delivered
        self.already_delivered += other.already_delivered
        for reason, count in other.dead_lettered.items():
            self.dead_lettered[reason] = self.dead_lettered.get(reason, 0) + count
        self.pending += other.pending
        self.attempts += other.attempts
        self.bytes += other.bytes
        self.ambiguous += other.ambiguous
        self.hashed_keys += other.hashed_keys
        self.latencies.merge(other.latencies)


Seen = tuple[str | None, str | None]
"""An organisation and a store (`lrs_id`) that records carried."""


class Accounts(msgspec.Struct):
    """Every forwarder's account by its id, and which organisations and stores the records were of.

    `seen` holds the first SEEN_LIMIT in order, `more_seen` says that there were others. Adding is commutative and
    associative, so it does not matter which worker counted what.
    """

    accounts: dict[str, Account] = {}
    seen: set[Seen] = set()
    more_seen: bool = False

    def account(self, forwarder_id: str) -> Account:
        """The forwarder's account, opened if need be: a forwarder that got nothing is in the books as well."""
        account = self.accounts.get(forwarder_id)
        if account is None:
            account = self.accounts[forwarder_id] = Account()
        return account

    def settle(self, settlements: Iterable[Settlement], settled_at: int) -> None:
        """The end of items. `settled_at` in epoch ms."""
        for settlement in settlements:
            self.account(settlement.item.forwarder_id).settle(settlement, settled_at)

    def see(self, organisation: str | None, lrs_id: str | None) -> None:
        """A record of this organisation and store was derived."""
        if (organisation, lrs_id) not in self.seen:
            self.seen.add((organisation, lrs_id))
            self._trim()

    def _trim(self) -> None:
        if len(self.seen) > SEEN_LIMIT:
            self.seen = set(sorted(self.seen, key=_in_order)[:SEEN_LIMIT])
            self.more_seen = True

    def merge(self, other: Self) -> None:
        """Adds `other`, which is left as it was."""
        for forwarder_id, account in other.accounts.items():
            self.account(forwarder_id).merge(account)
        self.seen |= other.seen
        self.more_seen |= other.more_seen
        self._trim()

    def unbalanced(self) -> list[str]:
        """The forwarders whose books do not balance: always none, or the run has failed."""
        return sorted(forwarder_id for forwarder_id, account in self.accounts.items() if not account.balances())

    def balances(self) -> bool:
        return not self.unbalanced()

    def to_json(self) -> bytes:
        """Compact, and the same bytes for equal books."""
        plain = msgspec.to_builtins(self, str_keys=True)
        plain["seen"] = sorted(self.seen, key=_in_order)
        return msgspec.json.encode(plain, order="sorted")

    @staticmethod
    def from_json(data: bytes) -> "Accounts":
        """The books that `to_json` wrote. msgspec.ValidationError: it is something else."""
        return msgspec.json.decode(data, type=Accounts)


def _in_order(seen: Seen) -> tuple[str, str]:
    organisation, lrs_id = seen
    return ("" if organisation is None else "=" + organisation, "" if lrs_id is None else "=" + lrs_id)


def merge_accounts(books: Iterable[Accounts]) -> Accounts:
    """The sum; of none, empty books. Fits `beam.CombineGlobally`."""
    total = Accounts()
    for each in books:
        total.merge(each)
    return total


class SharedAccounts:
    """Accounts that many threads write in; a worker's own. Not pickled: make it in the DoFn's setup."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._books = Accounts()

    def settle(self, settlements: Sequence[Settlement], settled_at: int) -> None:
        """The end of items. `settled_at` in epoch ms."""
        with self._lock:
            self._books.settle(settlements, settled_at)

    def add(self, books: Accounts) -> None:
        """Counts made elsewhere: matched, already delivered, pending, hashed keys, seen."""
        with self._lock:
            self._books.merge(books)

    def take(self) -> Accounts:
        """What was counted since the last time: emit it, so that it is counted once however often a bundle ends."""
        with self._lock:
            taken, self._books = self._books, Accounts()
            return taken
