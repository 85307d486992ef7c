"""Catch up: what an outage left of a bucket of users goes in front of what is new of them (`--catch_up`)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import msgspec
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas import Record
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary
from transforms.bundles import BATCH_SIZE, at_end_of_bundle
from transforms.forwarders.source import ForwarderSource
from transforms.matching.matcher import Match, Matcher, stored_match
from transforms.matching.statement import StatementBuilder
from transforms.receipts.history import History
from transforms.receipts.index import HistoryIndex
from transforms.receipts.letters import PresentDocuments, decide
from transforms.receipts.settlement_filter import EVERYTHING_SETTLED
from transforms.telemetry.tracing import tracing

_SUMMARY = "summary"


class CaughtUp(NamedTuple):
    """What matching gives that begins with open dead letters.

    Attributes:
        matches: batches, a user's matches in their order. Those of open dead letters come first, each with one
            forwarder, the payload as it was stored, and `is_letter`.
        summaries: which dead letters stay because the present documents do not ask for them.
    """

    matches: PCollection[list[Match]]
    summaries: PCollection[Summary]


@dataclass(eq=False)
class MatchBehindLetters(beam.PTransform[PCollection[tuple[int, list[Record]]], CaughtUp]):
    """Matches records, behind the open dead letters of their bucket: PCollection[tuple[int, list[Record]]] -> CaughtUp.

    An element is a bucket of users and some of its records; there may be none. All elements of a bucket follow each
    other in a bundle, as `DeriveRecords` gives them, so the letters of the bucket go out with the first of them. The
    lanes keep the order in which they get a user's records. So nothing waits for the letters to be delivered but what
    is behind them: not other users, and no other forwarder.

    Attributes:
        history: of the output, with the open dead letters that an outage left.
        forwarders: where each worker loads the documents from. They do not travel in the graph.
        statements: builds the statements that queries see.
        board: is asked whether to stop.
        block_user: behind a letter that stays and is still due, the later ones of its user stay too (`--on_failure`).
    """

    history: HistoryIndex
    forwarders: ForwarderSource
    statements: StatementBuilder
    board: Board
    block_user: bool = False

    # Beam takes an output of several PCollections for one type, and warns.
    @no_annotations  # type: ignore[untyped-decorator]
    def expand(self, records: PCollection[tuple[int, list[Record]]]) -> CaughtUp:
        outputs = records | "Letters, then match" >> beam.ParDo(_LettersThenMatch(self)).with_output_types(
            list[Match], summary=Summary
        ).with_outputs(_SUMMARY, main="matches")
        return CaughtUp(outputs["matches"], outputs[_SUMMARY])


class _LettersThenMatch(beam.DoFn):
    def __init__(self, settings: MatchBehindLetters) -> None:
        self._index = settings.history
        self._source = settings.forwarders
        self._statements = settings.statements
        self._board = settings.board
        self._block_user = settings.block_user

    def setup(self) -> None:
        forwarders = self._source.load()
        self._history = History(self._index)
        self._documents = PresentDocuments(forwarders, self._statements)
        self._matcher = Matcher(forwarders, self._statements)
        self._tracing = tracing()

    def start_bundle(self) -> None:
        self._summary = Summary()
        self._begun: set[int] = set()
        # (forwarder, id) of the letters of the present bucket that leave.
        self._leave: set[tuple[str, str]] = set()

    def process(self, bucket_and_records: tuple[int, list[Record]]) -> Iterator[list[Match]]:
        bucket, records = bucket_and_records
        if bucket not in self._begun:
            self._begun.add(bucket)
            self._leave = set()
            yield from self._letters(bucket)
        if self._summary.stopped:
            return  # Not all letters have left, and nothing may pass the others.
        began = time.time_ns() if self._tracing is not None else 0
        matches = [match for record in records if (match := self._matcher.match(record)) is not None]
        if self._tracing is not None:
            self._tracing.step("match", records, began)
        if self._leave:
            matches = [self._without_letters(match) for match in matches]
        if matches:
            yield matches

    def finish_bundle(self) -> Iterator[Any]:
        yield TaggedOutput(_SUMMARY, at_end_of_bundle(self._summary))

    def _without_letters(self, match: Match) -> Match:
        """The match, due to those alone that are not sent it as a letter: it may have been derived again."""
        id_, leave = match.record.id, self._leave
        if not any((forwarder_id, id_) in leave for forwarder_id in match.forwarders):
            return match
        others = tuple([forwarder_id for forwarder_id in match.forwarders if (forwarder_id, id_) not in leave])
        return msgspec.structs.replace(match, forwarders=others)

    def _letters(self, bucket: int) -> Iterator[list[Match]]:
        batch: list[Match] = []
        letters = self._history.dead_letters(bucket)
        for letter, record, kept, _ in decide(
            letters, self._documents, EVERYTHING_SETTLED, block_user=self._block_user
        ):
            if kept is not None:
                self._summary.keep(letter.forwarder_id, kept)
                continue
            self._leave.add((letter.forwarder_id, letter.id))
            batch.append(stored_match(letter, record, is_letter=True))
            if len(batch) >= BATCH_SIZE:
                if self._board.stopping():
                    self._summary.stopped = True
                    return
                yield batch
                batch = []
        if batch:
            yield batch
