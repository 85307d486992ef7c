"""Deliver: sends records to the forwarders that they are due to, each user's in order, and keeps receipts and accounts.

The core is `transforms.delivery`; this step gives it the bundles.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

from schemas.buckets import bucket_of
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary, total
from transforms.bundles import BATCH_SIZE, OnStart, at_end_of_bundle, nothing
from transforms.delivery.sender import NOTHING_BEFORE, DeliverOptions, Sender
from transforms.forwarders.source import ForwarderSource
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder

_VOIDING = "voiding"


@dataclass(eq=False)
class DeliverMatches(beam.PTransform[PCollection[list[Match]], PCollection[Summary]]):
    """PCollection[list[Match]] -> PCollection[Summary]: for each bundle the accounts of what was delivered.

    A user's matches must come in their order, and those of a bounded job in one bundle. A bundle emits its summary, and
    ends, when each of its records is settled on disk. In streaming a record may be deferred instead: it is then a dead
    letter, is still tried, and is counted by the metric `delivery/<forwarder id>.deferred`.

    Attributes:
        forwarders: where each worker reads the documents and resolves their secrets.
        statements: builds the statements that are sent.
        options: what else a worker needs to deliver.
        board: tells the launcher what was delivered, and the worker when to stop.
        voiding_last: voiding statements leave when all other records of the run are settled, whoever they are of
            (docs/spec/statements.md section 4). The summary of all others is the barrier: as a side input it is there
            only when the last bundle of them has ended.
        on_start: called when a worker sets the step up.
    """

    forwarders: ForwarderSource
    statements: StatementBuilder
    options: DeliverOptions
    board: Board
    voiding_last: bool = False
    on_start: OnStart = nothing

    def expand(self, matches: PCollection[list[Match]]) -> PCollection[Summary]:
        summaries: PCollection[Summary]
        if not self.voiding_last:
            summaries = matches | "Send" >> beam.ParDo(_Send(self)).with_output_types(Summary)
            return summaries
        others = matches | "Send" >> beam.ParDo(_Send(self)).with_output_types(
            Summary, voiding=tuple[int, list[Match]]
        ).with_outputs(_VOIDING, main="others")
        settled = others["others"] | "All others settled" >> beam.CombineGlobally(total).with_output_types(Summary)
        voiding = (
            others[_VOIDING]
            | "Voiding by bucket" >> beam.GroupByKey()
            | "Send voiding" >> beam.ParDo(_SendVoiding(self), AsSingleton(settled)).with_output_types(Summary)
        )
        summaries = (settled, voiding) | "Delivery summaries" >> beam.Flatten()
        return summaries


class _Deliver(beam.DoFn):
    def __init__(self, settings: DeliverMatches) -> None:
        self._source = settings.forwarders
        self._statements = settings.statements
        self._options = settings.options
        self._board = settings.board
        self._voiding_last = settings.voiding_last
        self._on_start = settings.on_start

    def _new_sender(self, before: Summary = NOTHING_BEFORE) -> Sender:
        return Sender(self._source.resolve(), self._statements, self._options, self._board, _count_deferred, before)


class _Send(_Deliver):
    """list[Match] -> Summary; and, if they leave last, the voiding statements as (bucket of users, list[Match])."""

    def setup(self) -> None:
        self._on_start()
        self._sender = self._new_sender()

    def start_bundle(self) -> None:
        self._voiding_users: set[str] = set()

    def process(self, matches: list[Match]) -> Iterator[Any]:
        voiding = [match for match in matches if match.record.voids is not None] if self._voiding_last else []
        if voiding:
            self._voiding_users.update(match.record.user_id for match in voiding)
            yield TaggedOutput(_VOIDING, (bucket_of(voiding[0].record.user_id), voiding))
            matches = [match for match in matches if match.record.voids is None]
        if matches:
            self._sender.send(matches)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield at_end_of_bundle(self._sender.finish(self._voiding_users))

    def teardown(self) -> None:
        self._sender.close()


class _SendVoiding(_Deliver):
    """(bucket of users, its lists of voiding statements), and the Summary of all others -> Summary.

    Most runs have no voiding statement. So nothing is opened before the first one.
    """

    def setup(self) -> None:
        self._opened: Sender | None = None

    def process(self, bucket_and_matches: tuple[int, Iterable[list[Match]]], others: Summary) -> None:
        if self._opened is None:
            self._opened = self._new_sender(others)
        matches = sorted([match for batch in bucket_and_matches[1] for match in batch], key=_leaving_order)
        for first in range(0, len(matches), BATCH_SIZE):
            self._opened.send(matches[first : first + BATCH_SIZE])

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._opened is not None:
            yield at_end_of_bundle(self._opened.finish())

    def teardown(self) -> None:
        if self._opened is not None:
            self._opened.close()


def _leaving_order(match: Match) -> tuple[str, int, int]:
    """Sorts voiding statements by user, and each user's as all records."""
    return match.record.user_id, match.record.leaves_at, match.record.place


def _count_deferred(forwarder_id: str, records: int) -> None:
    Metrics.counter("delivery", f"{forwarder_id}.deferred").inc(records)
