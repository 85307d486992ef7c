"""Redrive: dead letters, matched against the present documents (docs/spec/forwarders.md section 4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas.buckets import BUCKETS
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary
from transforms.bundles import BATCH_SIZE, at_end_of_bundle
from transforms.forwarders.source import ForwarderSource
from transforms.matching.matcher import Match, stored_match
from transforms.matching.statement import StatementBuilder
from transforms.receipts.history import History
from transforms.receipts.index import HistoryIndex
from transforms.receipts.letters import NOT_SELECTED, PresentDocuments, decide
from transforms.receipts.settlement_filter import EVERYTHING_SETTLED, SettlementFilter

_SUMMARY = "summary"


class Redriven(NamedTuple):
    """What a redrive gives.

    Attributes:
        matches: batches, a user's matches in their order. Each match has one forwarder, and the payload as it was
            stored.
        summaries: the plan: how many dead letters are open, which of them are sent, and which stay, by forwarder and
            reason.
    """

    matches: PCollection[list[Match]]
    summaries: PCollection[Summary]


@dataclass(eq=False)
class ReadDeadLetters(beam.PTransform[beam.Pipeline, Redriven]):
    """Reads what was given up and not delivered since: Pipeline -> Redriven.

    Attributes:
        history: of the output, with its dead letters.
        forwarders: where each worker loads the documents from.
        statements: builds the statements that queries see.
        board: is asked whether to stop.
        chosen: the dead letters that are sent.
        block_user: behind a letter that stays and is still due, the later ones of its user stay too, as
            `blocked_by_earlier` (`--on_failure`).
    """

    history: HistoryIndex
    forwarders: ForwarderSource
    statements: StatementBuilder
    board: Board
    chosen: SettlementFilter = EVERYTHING_SETTLED
    block_user: bool = False

    # Beam takes an output of several PCollections for one type, and warns.
    @no_annotations  # type: ignore[untyped-decorator]
    def expand(self, begin: beam.Pipeline) -> Redriven:
        outputs = (
            begin
            | "Buckets of users" >> beam.Create(range(BUCKETS))
            | "To all workers" >> beam.Reshuffle()
            | "Match again" >> beam.ParDo(_MatchAgain(self)).with_outputs(_SUMMARY, main="matches")
        )
        return Redriven(outputs["matches"], outputs[_SUMMARY])


class _MatchAgain(beam.DoFn):
    def __init__(self, settings: ReadDeadLetters) -> None:
        self._index = settings.history
        self._source = settings.forwarders
        self._statements = settings.statements
        self._board = settings.board
        self._chosen = settings.chosen
        self._block_user = settings.block_user

    def setup(self) -> None:
        self._history = History(self._index)
        self._documents = PresentDocuments(self._source.load(), self._statements)

    def start_bundle(self) -> None:
        self._summary = Summary()

    def process(self, bucket: int) -> Iterator[list[Match]]:
        batch: list[Match] = []
        letters = self._history.dead_letters(bucket)
        for letter, record, kept, ahead in decide(letters, self._documents, self._chosen, block_user=self._block_user):
            if self._board.stopping():
                self._summary.stopped = True
                break
            plan = self._summary.plan(letter.forwarder_id, letter.reason)
            plan.open += 1
            plan.not_selected += kept == NOT_SELECTED
            plan.sent += kept is None
            plan.ahead += ahead
            if kept is not None:
                if kept != NOT_SELECTED:
                    self._summary.keep(letter.forwarder_id, kept)
                continue
            batch.append(stored_match(letter, record))
            if len(batch) >= BATCH_SIZE:
                yield batch
                batch = []
        if batch:
            yield batch

    def finish_bundle(self) -> Iterator[Any]:
        yield TaggedOutput(_SUMMARY, at_end_of_bundle(self._summary))
