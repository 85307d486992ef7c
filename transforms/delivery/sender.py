"""What one worker delivers with: an engine, a journal and accounts. The core of the step in `deliver.py`."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from schemas import Record
from schemas.buckets import BUCKETS, bucket_of
from schemas.record import decode_record
from schemas.times import now_ms
from transforms.accounting.accounts import Accounts, SharedAccounts
from transforms.accounting.board import Board, Standing
from transforms.accounting.summary import Summary
from transforms.accounting.trouble import TroubleLog
from transforms.delivery.deferral import Deferral
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.failing_letters import FailingLetters
from transforms.delivery.lane_sender import DeliveryStoppedError
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.running_clock import RunningClock
from transforms.durability import Durability
from transforms.forwarders import Forwarder, KinesisTarget
from transforms.matching.document import encode_payload, payload_kind
from transforms.matching.matcher import Match, stored_match
from transforms.matching.statement import StatementBuilder
from transforms.receipts.history import History
from transforms.receipts.index import HistoryIndex
from transforms.receipts.journal import Journal, JournalError, new_worker_name
from transforms.sinks.base import AttemptResult, AwsClient, HttpSinkFactory, Item, Settlement, Verdict
from transforms.sinks.choose import batch_sinks
from transforms.sinks.data_streams import StreamLimits, partition_key
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient
from transforms.sinks.lacks import LackError, Patience, connections_allowed
from transforms.sinks.outages import BLOCKED_BY_EARLIER, KEEPS_FAILING, UNAVAILABLE, is_of_outage
from transforms.statements.attachment_files import AttachmentFiles
from transforms.telemetry.tracing import tracing

HOPS = "forward_hops"
"""The key of a record's metadata under which it says how many forwarders it has been through (X-Forward-Hops)."""

logger = logging.getLogger(__name__)

_STOP_CHECK = 0.2
"""Seconds between two looks whether the run is to stop."""

_BOOKS_CHECK = 1.0
"""Seconds between two looks whether the journal's files are still there."""

_BUCKETS_AT_ONCE = 2
"""Buckets of the history to keep loaded when the input comes bucket by bucket, and the next one begins."""

LETTERS_UNTRIED = 20_000
"""Open dead letters that a forwarder which has taken nothing and fails is given in a run.

That is enough to find out that it is back. The others stay where they are: nobody waits for them, and they need no room
on the disk of TMPDIR.
"""

_NOTHING: frozenset[str] = frozenset()

NOTHING_BEFORE = Summary()
"""Nothing left before; it is never changed."""


@dataclass(frozen=True)
class DeliverOptions:
    """What a worker needs to deliver. Pickles, and holds no secret.

    Attributes:
        output: where the journal writes receipts and dead letters.
        run_id: the run's name, which is part of the names of its files.
        history: what earlier runs delivered. It is counted, and not sent again.
        limits: what each data stream takes, by forwarder id.
        allow_networks: CIDRs that HTTP may reach though they are in a refused range.
        aws_client: what makes the calls to Kinesis and Firehose.
        attachments: directories with the data of statements' attachments, in the order in which they are searched.
        settings: how delivery behaves for every forwarder.
        streaming: whether the input has no end. A bundle then ends without the records that are not worth waiting for
            (`Deferral`). For that a batch of matches must be of one user, and all batches of a user must come to one
            worker, as they do on Flink. A bundle that is stopped in the middle raises, because else the next checkpoint
            would count it as done.
        horizon: seconds before this run's latest receipt in which a worker looks for what the run settled and deferred.
            None for all of it. The runner must not read input again that is older than that.
        durability: what of the journal is synced to a local disk, and when.
        tries_again: whether the runner may try a bundle again. A worker that starts then looks at the receipts of its
            own run, too.
    """

    output: str
    run_id: str
    history: HistoryIndex
    limits: Mapping[str, StreamLimits]
    allow_networks: tuple[str, ...]
    settings: DeliverySettings
    streaming: bool = False
    horizon: float | None = None
    durability: Durability = "group"
    tries_again: bool = True
    attachments: tuple[str, ...] = ()
    aws_client: AwsClient = "auto"


class Sender:
    """One worker's engine, journal and accounts, and a thread that watches whether the run is to stop.

    In streaming, what `finish` deferred is tried until `close`. What is not delivered by then is a dead letter like any
    other.

    Args:
        forwarders: resolved ones.
        statements: builds the statements that are sent.
        options: see there.
        board: of the run. It is told what is settled, and says when to stop.
        on_deferred: called with a forwarder's id and how many of its records a bundle has deferred.
        before: what became of the records that left before those of this worker. If that was stopped, this worker sends
            nothing.
    """

    def __init__(
        self,
        forwarders: tuple[Forwarder, ...],
        statements: StatementBuilder,
        options: DeliverOptions,
        board: Board,
        on_deferred: Callable[[str, int], None],
        before: Summary = NOTHING_BEFORE,
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
        self._streaming = options.streaming
        self._troubles = TroubleLog()
        self._board = board
        # What was settled, by any thread; and what `send` counts before that.
        self._settled = SharedAccounts()
        self._books = Accounts()
        # What was handed on with earlier bundles, and who may look while it is.
        self._handed_on = Accounts()
        self._handing_on = threading.Lock()
        self._clock = RunningClock()
        self._patience = Patience(options.settings.patience, self._clock)
        keep = BUCKETS if options.streaming else _BUCKETS_AT_ONCE
        run_id = options.run_id if options.tries_again else None
        self._history = History(options.history, run_id, keep, options.horizon)
        worker = new_worker_name(self._history.generation)
        self._journal = Journal(options.output, options.run_id, worker, durability=options.durability)
        # Before anything is sent: what is sent has to be booked, and connections may take all other descriptors.
        Patience(options.settings.patience).through(self._journal.open, board.stopping)
        self._deferral = Deferral(self._settle) if options.streaming else None
        # (forwarder, id) of records that an earlier worker of this run had deferred, and that this one sends now.
        self._taken_on: set[tuple[str, str]] = set()
        connections = _connections(forwarders)
        self._tracing = tracing()
        http_sink: HttpSinkFactory = partial(
            post_sink,
            client=HttpClient(options.allow_networks, connections=connections.http),
            attachments=AttachmentFiles(options.attachments),
        )
        batch_sink = batch_sinks(options.limits, connections.calls, options.aws_client)
        if self._tracing is not None:
            http_sink, batch_sink = self._tracing.traced(http_sink, batch_sink)
        self._deliveries = DeliveryEngine(
            forwarders,
            self._deferral.settle if self._deferral else self._settle,
            options.settings,
            http_sink=http_sink,
            batch_sink=batch_sink,
            patience=self._patience,
            clock=self._clock,
            most_requests=connections.http,
            abandoned=before.unavailable,
        )
        self._handed_over: Counter[str] = Counter()
        self._letters_handed_over: Counter[str] = Counter()
        self._letters_settled: Counter[str] = Counter()
        self._counting = threading.Lock()
        # By forwarder: the calls that were counted in earlier bundles.
        self._calls: Counter[str] = Counter()
        # (forwarder, user) of records that were given up here. The engine knows of those that it gave up itself.
        self._blocked = set(before.blocked)
        # The watcher looks now and then. What was asked for before is known at once, so that nothing is begun.
        self._stopped = before.stopped or board.stopping()
        # Under `block_user` a user waits for a record that fails, however long that takes.
        sets_aside = options.settings.catches_up and options.settings.on_failure == "continue"
        self._failing = FailingLetters() if sets_aside else None
        self._books_before = before.books
        self._closing = threading.Event()
        self._leave_board = board.watch(self._standings)
        self._watcher = threading.Thread(target=self._watch, name="stop watcher", daemon=True)
        self._watcher.start()

    def send(self, matches: list[Match]) -> None:
        """Hand a batch of matches to the engine. What an earlier run delivered is only counted.

        Args:
            matches: of one bucket of users, or of one user in streaming, each user's in the order of the records.
        """
        delivered = self._delivered(matches[0].record)
        if self._deferral:
            matches = self._deferred_before(matches)
        items: list[Item] = []
        given_up: list[Settlement] = []
        # Counted together, not one by one: this is done for every record that is due to somebody.
        new = matches
        if self._settings.catches_up:
            new = [match for match in matches if not match.is_letter]
            for match in matches:
                for forwarder_id in match.forwarders if match.is_letter else ():
                    self._books.of_letters(forwarder_id).matched += 1
        for forwarder_id, matched in Counter(chain.from_iterable([match.forwarders for match in new])).items():
            self._books.account(forwarder_id).matched += matched
        is_told = logger.isEnabledFor(logging.DEBUG)
        for match in matches:
            payload = _Payloads(match, self._statements)
            user_id, hops = match.record.user_id, _hops(match.record)
            hashed_key = partition_key(user_id) != user_id
            for forwarder_id in match.forwarders:
                letter = match.is_letter
                if letter and self._is_down(forwarder_id):
                    given_up.append(Settlement(payload.item(self._forwarders[forwarder_id], hops), _UNAVAILABLE))
                    self._blocked.add((forwarder_id, user_id))
                elif delivered and match.record.id in delivered.get(forwarder_id, _NOTHING):
                    account = self._books.of_letters(forwarder_id) if letter else self._books.account(forwarder_id)
                    account.already_delivered += 1
                    if is_told:
                        logger.debug("forwarder %s: it has %s already", forwarder_id, match.record.id)
                elif self._blocked and (forwarder_id, user_id) in self._blocked:
                    given_up.append(Settlement(payload.item(self._forwarders[forwarder_id], hops), _BLOCKED))
                else:
                    items.append(payload.item(self._forwarders[forwarder_id], hops))
                    if hashed_key and forwarder_id in self._streams:
                        self._books.account(forwarder_id).hashed_keys += 1
            for forwarder_id in match.undecided:
                self._books.account(forwarder_id).matched += 1
                given_up.append(Settlement(payload.item(self._forwarders[forwarder_id], hops), _UNDECIDED))
                if self._settings.on_failure == "block_user":
                    self._blocked.add((forwarder_id, user_id))
        for item in (*items, *(settlement.item for settlement in given_up)) if self._settings.catches_up else ():
            self._letters_handed_over[item.forwarder_id] += item.is_letter
        if given_up:
            self._settle(given_up)
        if self._deferral:
            for item in items:
                if item.record.voids is not None:
                    item.behind = self._deferral.user_of(item.forwarder_id, item.record.voids)
        self._handed_over.update([item.forwarder_id for item in items])
        if self._deferral:
            self._deferral.submit(items)
        if self._tracing is not None:
            self._tracing.submitted(items)
        if items and not self._stopped:
            try:
                self._deliveries.submit(items)
            except DeliveryStoppedError:
                self._stopped = True
            except LackError:
                self._deliveries.stop()  # What is in flight ends, and is booked.
                raise

    def _deferred_before(self, matches: list[Match]) -> list[Match]:
        """The matches of one user, after those that an earlier worker of this run had deferred; each record once."""
        letters = self._history.take_deferred(matches[0].record.user_id)
        taken_on = self._taken_on
        taken_on |= {(letter.forwarder_id, letter.id) for letter in letters}
        if taken_on:
            matches = [
                msgspec.structs.replace(
                    match, forwarders=tuple([id_ for id_ in match.forwarders if (id_, match.record.id) not in taken_on])
                )
                for match in matches
            ]
        return [*(stored_match(letter, decode_record(letter.record)) for letter in letters), *matches]

    def finish(self, users: Collection[str] = ()) -> Summary:
        """End a bundle: wait until all of it is settled or deferred, or the run is stopped.

        Args:
            users: those of whom more is to come from another worker.

        Returns:
            What was counted since the last time; and what another worker has to know to go on with these users.

        Raises:
            DeliveryStoppedError: a streaming job is stopped.
            JournalError: what was settled cannot be made durable.
        """
        try:
            if self._deferral:
                self._deliveries.drain(self._deferral.should_wait)
                for forwarder_id, deferred in self._deferral.defer(self._journal.settle).items():
                    self._on_deferred(forwarder_id, deferred)
            else:
                self._deliveries.drain()
        except DeliveryStoppedError:
            self._stopped = True
            self._deliveries.stop()
        except LackError:
            self._deliveries.stop()  # What is in flight ends, and is booked.
            raise
        self._journal.flush()
        if self._stopped and self._deferral:
            raise DeliveryStoppedError("the job is being stopped, and not all of this bundle is delivered")
        with self._handing_on:
            books, self._books = self._books, Accounts()
            books.merge(self._settled.take())
            self._handed_on.merge(books)
        if self._failing is not None and not self._stopped:
            self._set_aside(self._failing, books)
        for forwarder_id, pending in self._pending().items():
            of_letters = self._letters_handed_over[forwarder_id] - self._letters_settled[forwarder_id]
            books.account(forwarder_id).pending = pending - of_letters
            if of_letters:
                books.of_letters(forwarder_id).pending = of_letters
        self._board.publish(at_once=True)
        counts = self._deliveries.counts()
        for forwarder_id, count in counts.items():
            books.account(forwarder_id).calls += count.calls - self._calls[forwarder_id]
            self._calls[forwarder_id] = count.calls
        unavailable = {forwarder_id for forwarder_id, count in counts.items() if count.unavailable}
        blocked = self._deliveries.blocked(users)
        blocked |= {(forwarder_id, user) for forwarder_id, user in self._blocked if user in users}
        return Summary(books=books, blocked=blocked, unavailable=unavailable, stopped=self._stopped)

    def _set_aside(self, failing: FailingLetters, books: Accounts) -> None:
        """Write those open letters anew that have failed though their forwarder takes others; `books` says the same."""
        so_far = Accounts()
        so_far.merge(self._handed_on)
        so_far.merge(self._books_before)
        with self._counting:
            failed = failing.take(so_far)
        if not failed:
            return
        self._patience.through(lambda: self._journal.settle([now for _, now in failed]), self._board.stopping)
        self._journal.flush()
        for before, now in failed:
            if now.outcome.reason == KEEPS_FAILING:
                books.of_letters(now.item.forwarder_id).reword(before.outcome.reason, KEEPS_FAILING)

    def close(self) -> None:
        """Stop at once, and close the journal. What is in flight is not waited for."""
        self._closing.set()
        # First: the watcher may be giving what is in flight its time to end.
        self._deliveries.close()
        self._watcher.join()
        self._leave_board()
        self._journal.close()
        if self._tracing is not None:
            self._tracing.flush()

    def _pending(self) -> dict[str, int]:
        """Records that were handed over and not settled, by forwarder. Only a run that was stopped leaves any.

        The engine did not settle them, or it did not take them any more.
        """
        taken = {forwarder_id: counts.matched for forwarder_id, counts in self._deliveries.counts().items()}
        unsettled = self._deliveries.pending()
        return {
            forwarder_id: unsettled.get(forwarder_id, 0) + handed_over - taken.get(forwarder_id, 0)
            for forwarder_id, handed_over in self._handed_over.items()
        }

    def _delivered(self, record: Record) -> Mapping[str, frozenset[str]]:
        return self._history.bucket(bucket_of(record.user_id))

    def _is_down(self, forwarder_id: str) -> bool:
        """Whether a forwarder has failed for all that it was given, and that is enough to know."""
        enough = self._letters_handed_over[forwarder_id] >= LETTERS_UNTRIED
        return enough and self._deliveries.takes_nothing(forwarder_id)

    def _settle(self, settlements: Sequence[Settlement]) -> None:
        news = settlements
        if self._settings.catches_up:
            news = [each for each in settlements if not _stays(each)]
        if news:
            self._patience.through(lambda: self._journal.settle(news), self._board.stopping)
        self._settled.settle(settlements, now_ms())
        if self._settings.catches_up:
            with self._counting:
                for settlement in settlements:
                    self._letters_settled[settlement.item.forwarder_id] += settlement.item.is_letter
                if self._failing is not None:
                    self._failing.note(settlements)
        if self._tracing is not None:
            self._tracing.settled(settlements)

    def _standings(self, now: float) -> dict[str, Standing]:
        """How each forwarder stands that this worker had something for. `now` is in unix seconds."""
        with self._handing_on:
            standings: dict[str, Standing] = {}
            for forwarder_id, settled in chain(self._handed_on.standings(), self._settled.standings()):
                known = standings.get(forwarder_id)
                if known is None:
                    standings[forwarder_id] = settled
                else:
                    known.add(settled)
            # Last: nothing is settled before it is matched.
            for forwarder_id, account in self._books.all_accounts():
                known = standings.get(forwarder_id)
                if known is None:
                    known = standings[forwarder_id] = Standing()
                known.due += account.matched
                known.already_delivered += account.already_delivered
        self._deliveries.tell(standings, now)
        for forwarder_id, deferred in (self._deferral.backlogs() if self._deferral else {}).items():
            standings.setdefault(forwarder_id, Standing()).deferred = deferred
        for standing in standings.values():
            standing.in_flight = min(standing.in_flight, standing.due - standing.done)
            standing.waiting = standing.due - standing.done - standing.in_flight
        return standings

    def _watch(self) -> None:
        """Keep the clock going, and look whether the run is to stop and whether its books are still there."""
        looked = time.monotonic()
        looking = stopping = True
        while not self._closing.wait(_STOP_CHECK):
            self._clock.tick()
            post = self._board.publish()
            if post is not None and (self._streaming or not self._board.is_shared):
                # Else the launcher logs that, once for all workers.
                self._troubles.look(post.forwarders, post.at)
            if looking and time.monotonic() - looked >= _BOOKS_CHECK:
                looked = time.monotonic()
                try:
                    self._journal.check()
                except JournalError as error:
                    self._deliveries.fail(error)
                    looking = False
            if stopping and self._board.stopping():
                logger.info("taking no more records; what is in flight has %g s to end", self._settings.grace)
                self._deliveries.stop(self._settings.grace)
                looking = stopping = False


class _Connections(NamedTuple):
    """How the connections that this process may have are shared.

    Attributes:
        http: that all HTTP forwarders may have together.
        calls: that each Kinesis forwarder may have in flight.
    """

    http: int
    calls: int


def _connections(forwarders: Collection[Forwarder]) -> _Connections:
    """Share the connections out between both kinds of forwarders, by their number."""
    allowed = connections_allowed()
    streams = sum(isinstance(forwarder.target, KinesisTarget) for forwarder in forwarders)
    for_streams = allowed * streams // max(1, len(forwarders))
    if allowed < len(forwarders):
        logger.warning(
            "there are %d forwarders, and descriptors for %d connections: these take turns. More descriptors make it "
            "quicker (`ulimit -n`)",
            len(forwarders),
            allowed,
        )
    # boto3 looks names up in the thread of the call, which takes as many descriptors again.
    return _Connections(max(1, allowed - for_streams), max(1, for_streams // max(1, 2 * streams)))


_UNDECIDED = AttemptResult(
    Verdict.GIVE_UP, "undecided", response="a regular expression of the forwarder's query hit its match limit"
)
_BLOCKED = AttemptResult(Verdict.GIVE_UP, BLOCKED_BY_EARLIER)
_UNAVAILABLE = AttemptResult(Verdict.GIVE_UP, UNAVAILABLE)


def _stays(settlement: Settlement) -> bool:
    """Whether an item is an open dead letter that an outage keeps from being delivered: it is on the disk already."""
    return settlement.item.is_letter and not settlement.delivered and is_of_outage(settlement.outcome.reason)


class _Payloads:
    """The payloads of one record. Each kind is encoded once, however many forwarders get it."""

    def __init__(self, match: Match, statements: StatementBuilder) -> None:
        self._record = match.record
        self._statement = match.statement
        self._stored = match.stored
        self._is_letter = match.is_letter
        self._failed_runs = match.failed_runs
        self._statements = statements
        self._encoded: dict[str, bytes] = {}

    def item(self, forwarder: Forwarder, hops: int) -> Item:
        """The record as it is due to `forwarder`: with the payload of a dead letter if it is of one."""
        payload: bytes | None
        if self._stored is not None:
            payload, kind = self._stored
        else:
            kind = payload_kind(self._record, forwarder.payload)
            payload = self._encoded.get(kind)
        if payload is None:
            payload = encode_payload(self._record, kind, self._built)
            self._encoded[kind] = payload
        item = Item(forwarder.id, self._record, payload, kind, hops)
        if self._is_letter:
            item.is_letter, item.failed_runs = True, self._failed_runs
        return item

    def _built(self) -> dict[str, Any]:
        if self._statement is None:
            self._statement = self._statements.statement(self._record)
        return self._statement


def _hops(record: Record) -> int:
    hops = record.metadata.get(HOPS)
    return hops if isinstance(hops, int) and hops > 0 else 0
