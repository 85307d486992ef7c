"""Redrive: dead letters, matched against the present documents (docs/spec/forwarders.md section 4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from schemas import DeadLetter, Record
from schemas.buckets import BUCKETS
from schemas.record import decode_record
from transforms.accounting.board import Board
from transforms.accounting.summary import Summary
from transforms.bundles import BATCH_SIZE, at_end_of_bundle
from transforms.forwarders.source import ForwarderSource
from transforms.matching.matcher import Match, stored_document, stored_match
from transforms.matching.scope import not_wanted
from transforms.matching.statement import StatementBuilder
from transforms.query import MatchResult, compile_query
from transforms.receipts.history import History
from transforms.receipts.index import HistoryIndex
from transforms.sessions.window import EVERYTHING, Window

_SUMMARY = "summary"


class Redriven(NamedTuple):
    """What a redrive gives.

    Attributes:
        matches: batches, a user's matches in their order. Each match has one forwarder, and the payload as it was
            stored.
        summaries: how many dead letters stay where they are, by forwarder and reason.
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
        restricted_to: ids of the forwarders whose dead letters are looked at. Empty: all, with those whose document is
            gone.
        window: the records that are looked at.
        block_user: after a record that is still undecided, the later ones of its user stay too, as `blocked_by_earlier`
            (`--on_failure`).
    """

    history: HistoryIndex
    forwarders: ForwarderSource
    statements: StatementBuilder
    board: Board
    restricted_to: tuple[str, ...] = ()
    window: Window = EVERYTHING
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
        self._restricted_to = settings.restricted_to
        self._window = settings.window
        self._block_user = settings.block_user

    def setup(self) -> None:
        self._history = History(self._index)
        self._forwarders = {forwarder.id: forwarder for forwarder in self._source.load()}
        self._queries = {id_: compile_query(forwarder.query) for id_, forwarder in self._forwarders.items()}

    def start_bundle(self) -> None:
        self._summary = Summary()

    def process(self, bucket: int) -> Iterator[list[Match]]:
        batch: list[Match] = []
        blocked: set[tuple[str, str]] = set()
        for letter in self._history.dead_letters(bucket):
            if self._board.stopping():
                self._summary.stopped = True
                break
            if self._restricted_to and letter.forwarder_id not in self._restricted_to:
                continue
            record = decode_record(letter.record)
            if not self._window.select([record]):
                continue
            due = (letter.forwarder_id, record.user_id)
            reason = "blocked_by_earlier" if due in blocked else self._why_not(letter, record)
            if reason == "undecided" and self._block_user:
                blocked.add(due)
            if reason is not None:
                self._summary.keep(letter.forwarder_id, reason)
                continue
            batch.append(stored_match(letter, record))
            if len(batch) >= BATCH_SIZE:
                yield batch
                batch = []
        if batch:
            yield batch

    def finish_bundle(self) -> Iterator[Any]:
        yield TaggedOutput(_SUMMARY, at_end_of_bundle(self._summary))

    def _why_not(self, letter: DeadLetter, record: Record) -> str | None:
        """Why the record is no longer due to the forwarder of its letter; None when it is."""
        forwarder = self._forwarders.get(letter.forwarder_id)
        if forwarder is None:
            return "no_active_forwarder"
        if not_wanted(record, forwarder):
            return "out_of_scope"
        result = self._queries[forwarder.id].evaluate(stored_document(letter, record, self._statements))
        if result is MatchResult.MATCH:
            return None
        return "no_longer_matches" if result is MatchResult.NO_MATCH else "undecided"
