"""One worker's engine, journal and accounts, without Beam."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from schemas import Record
from schemas.buckets import BUCKETS, bucket_of
from schemas.record import decode_record
from schemas.times import now_ms
from transforms.accounting.accounts import Accounts, SharedAccounts
from transforms.accounting.progress import Progress
from transforms.accounting.summary import Summary
from transforms.delivery.deferral import Deferral
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.lane_sender import DeliveryStoppedError
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.matching.document import encode_payload
from transforms.matching.matcher import Match, stored_match
from transforms.matching.statement import StatementBuilder
from transforms.receipts.history import History
from transforms.receipts.index import HistoryIndex
from transforms.receipts.journal import Journal, new_worker_name
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http import AiohttpSink
from transforms.sinks.kinesis import StreamLimits, partition_key

HOPS = "forward_hops"
"""The metadata key under which a record says how many forwarders it has been through (X-Forward-Hops)."""


logger = logging.getLogger(__name__)


_WATCH = 0.2


_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class DeliverOptions:
    """What a worker needs to deliver; holds no secret.

    output, run_id: of the journal. history: what earlier runs delivered, which is not sent again.
    limits: of the data streams, by forwarder id. allow_networks: CIDRs that HTTP may reach though they are private.
    horizon: None of bounded input. Input without end is read again, if at all, from less than so many seconds before
    the latest receipt on. Its bundles do not wait for a forwarder that is down (see `Deferral`); for that a block is
    of one user, and all of a user's come to one DoFn instance, as they do on Flink. And a bundle that is stopped in the
    middle raises, or the next checkpoint would take it as done.
    """

    output: str
    run_id: str
    history: HistoryIndex
    limits: Mapping[str, StreamLimits]
    allow_networks: tuple[str, ...]
    settings: DeliverySettings
    horizon: float | None = None


class Sender:
    """One worker's engine, journal and books, and the thread that watches for the run to be stopped.

    What `finish` deferred, of unbounded input, is tried until `close`; after that it is a dead letter like any other.
    `on_deferred` is told of it: the forwarder's id, and how many records.
    """

    def __init__(
        self,
        forwarders: tuple[Forwarder, ...],
        statements: StatementBuilder,
        options: DeliverOptions,
        progress: Progress,
        on_deferred: Callable[[str, int], None],
    ) -> None:
        self._on_deferred = on_deferred
        self._statements = statements
        self._forwarders = {forwarder.id: forwarder for forwarder in forwarders}
        self._streams = {
            forwarder.id
            for forwarder in forwarders
            if isinstance(forwarder.target, KinesisTarget) and forwarder.target.service == "streams"
        }
        self._settings = options.settings
        self._progress = progress
        self._ledger = SharedAccounts()
        self._books = Accounts()
        self._journal = Journal(options.output, options.run_id, new_worker_name())
        unbounded = options.horizon is not None
        keep = BUCKETS if unbounded else 2
        self._history = History(options.history, options.run_id, keep, options.horizon)
        self._outstanding = Deferral(self._settle) if unbounded else None
        # (forwarder, id) of what an earlier worker of this run had deferred, and this one has taken on.
        self._taken_on: set[tuple[str, str]] = set()
        self._deliveries = DeliveryEngine(
            forwarders,
            self._outstanding.settle if self._outstanding else self._settle,
            options.settings,
            http_sink=partial(AiohttpSink, allow_networks=options.allow_networks),
            batch_sink=batch_sinks(options.limits),
        )
        self._handed_over: Counter[str] = Counter()
        # (forwarder, user) of records that were given up here. Of those it gave up itself, the engine knows.
        self._blocked: set[tuple[str, str]] = set()
        self._stopped = False
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="stop watcher", daemon=True)
        self._watcher.start()

    def send(self, matches: list[Match]) -> None:
        """Hand a block of one bucket's matches to the engine; what an earlier run delivered is only counted."""
        delivered = self._delivered(matches[0].record)
        if self._outstanding:
            matches = self._deferred_before(matches)
        items: list[Item] = []
        given_up: list[Settlement] = []
        for match in matches:
            payload = _Payloads(match, self._statements)
            hops = _hops(match.record)
            hashed_key = partition_key(match.record.user_id) != match.record.user_id
            for forwarder_id in match.forwarders:
                account = self._books.account(forwarder_id)
                account.matched += 1
                if match.record.id in delivered.get(forwarder_id, _NOTHING):
                    account.already_delivered += 1
                elif (forwarder_id, match.record.user_id) in self._blocked:
                    given_up.append(Settlement(payload.item(self._forwarders[forwarder_id], hops), _BLOCKED))
                else:
                    items.append(payload.item(self._forwarders[forwarder_id], hops))
                    account.hashed_keys += hashed_key and forwarder_id in self._streams
            for forwarder_id in match.undecided:
                self._books.account(forwarder_id).matched += 1
                given_up.append(Settlement(payload.item(self._forwarders[forwarder_id], hops), _UNDECIDED))
                if self._settings.on_failure == "block_user":
                    self._blocked.add((forwarder_id, match.record.user_id))
        if given_up:
            self._settle(given_up)
        for item in items:
            self._handed_over[item.forwarder_id] += 1
        if self._outstanding:
            self._outstanding.submit(items)
        if items and not self._stopped:
            try:
                self._deliveries.submit(items)
            except DeliveryStoppedError:
                self._stopped = True

    def _deferred_before(self, matches: list[Match]) -> list[Match]:
        """The matches of one user, behind what an earlier worker had deferred of theirs; each record once."""
        letters = self._history.take_deferred(matches[0].record.user_id)
        taken = self._taken_on
        taken |= {(letter.forwarder_id, letter.id) for letter in letters}
        if taken:
            matches = [
                match._replace(
                    forwarders=tuple([id_ for id_ in match.forwarders if (id_, match.record.id) not in taken])
                )
                for match in matches
            ]
        return [*(stored_match(letter, decode_record(letter.record)) for letter in letters), *matches]

    def finish(self) -> Summary:
        """Wait until all is settled or deferred, or the run is stopped; what was counted since the last time.

        Raises DeliveryStoppedError if unbounded input is stopped.
        """
        try:
            if self._outstanding:
                self._deliveries.drain(self._outstanding.should_wait)
                for forwarder_id, deferred in self._outstanding.defer(self._journal.settle).items():
                    self._on_deferred(forwarder_id, deferred)
            else:
                self._deliveries.drain()
        except DeliveryStoppedError:
            self._stopped = True
            self._deliveries.stop()
        self._journal.flush()
        if self._stopped and self._outstanding:
            raise DeliveryStoppedError("the job is being stopped, and not all of this bundle is delivered")
        books, self._books = self._books, Accounts()
        books.merge(self._ledger.take())
        for forwarder_id, pending in self._pending().items():
            books.account(forwarder_id).pending = pending
        self._progress.flush()
        return Summary(books=books, stopped=self._stopped)

    def close(self) -> None:
        self._closing.set()
        self._watcher.join()
        self._deliveries.close()
        self._journal.close()

    def _pending(self) -> dict[str, int]:
        """What the engine did not settle and what it no longer took: only a run that was stopped leaves any."""
        taken = {forwarder_id: counts.matched for forwarder_id, counts in self._deliveries.counts().items()}
        unsettled = self._deliveries.pending()
        return {
            forwarder_id: unsettled.get(forwarder_id, 0) + handed_over - taken.get(forwarder_id, 0)
            for forwarder_id, handed_over in self._handed_over.items()
        }

    def _delivered(self, record: Record) -> Mapping[str, frozenset[str]]:
        return self._history.bucket(bucket_of(record.user_id))

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        self._journal.settle(settlements)
        self._ledger.settle(settlements, now_ms())
        self._progress.advance(delivered=len(settlements))

    def _watch(self) -> None:
        while not self._closing.wait(_WATCH):
            if self._progress.stopping():
                logger.info("taking no more records; what is in flight has %g s to end", self._settings.grace)
                self._deliveries.stop(self._settings.grace)
                return


_UNDECIDED = AttemptResult(
    Verdict.GIVE_UP, "undecided", response="a regular expression of the forwarder's query hit its match limit"
)


_BLOCKED = AttemptResult(Verdict.GIVE_UP, "blocked_by_earlier")


class _Payloads:
    """A record's payloads, each encoded once however many forwarders get it."""

    def __init__(self, match: Match, statements: StatementBuilder) -> None:
        self._record = match.record
        self._statement = match.statement
        self._stored = match.stored
        self._statements = statements
        self._encoded: dict[str, bytes] = {}

    def item(self, forwarder: Forwarder, hops: int) -> Item:
        if self._stored is not None:
            return Item(forwarder.id, self._record, self._stored.payload, self._stored.kind, hops)
        payload = self._encoded.get(forwarder.payload)
        if payload is None:
            payload = encode_payload(self._record, forwarder.payload, self._built)
            self._encoded[forwarder.payload] = payload
        return Item(forwarder.id, self._record, payload, forwarder.payload, hops)

    def _built(self) -> dict[str, Any]:
        if self._statement is None:
            self._statement = self._statements.statement(self._record)
        return self._statement


def _hops(record: Record) -> int:
    hops = record.metadata.get(HOPS)
    return hops if isinstance(hops, int) and hops > 0 else 0
