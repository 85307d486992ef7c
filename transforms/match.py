"""Match: every record against the query of every forwarder in whose scope it is (records.md section 4)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas import DeadLetter, Record
from transforms.forwarders import Forwarder, Payload
from transforms.forwarders.source import ForwarderSource
from transforms.matching.statement import StatementBuilder, query_document
from transforms.query import ForwarderIndex


class Stored(NamedTuple):
    """A payload as it was sent before."""

    payload: bytes
    kind: Payload


class Match(NamedTuple):
    """A record and the ids of the forwarders it is due to; `undecided`: a query gave up (mongo-query.md section 7).

    Ids, because Beam encodes elements, if only to measure them, and a forwarder holds secrets.
    `statement` is there when matching had to build it; `stored` when what is sent is a dead letter's payload.
    """

    record: Record
    statement: dict[str, Any] | None
    forwarders: tuple[str, ...]
    undecided: tuple[str, ...]
    stored: Stored | None = None


def stored_match(letter: DeadLetter, record: Record) -> Match:
    """A dead letter's record, due to its forwarder, with the payload that was sent."""
    stored = None if letter.payload is None else Stored(letter.payload, letter.payload_kind)
    return Match(record, None, (letter.forwarder_id,), (), stored)


@dataclass(eq=False)
class MatchForwarders(beam.PTransform[PCollection[list[Record]], PCollection[list[Match]]]):
    """PCollection[list[Record]] -> PCollection[list[Match]]: only records that are due to someone, in their order.

    forwarders: where each worker loads the documents from; they do not travel in the graph.
    """

    forwarders: ForwarderSource
    statements: StatementBuilder

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, records: PCollection[list[Record]]) -> PCollection[list[Match]]:
        matching = beam.ParDo(_MatchBlock(self.forwarders, self.statements)).with_output_types(list[Match])
        matches: PCollection[list[Match]] = records | "Match queries" >> matching
        return matches


class Matcher:
    """Matches records against forwarders; the pure part of `MatchForwarders`."""

    def __init__(self, forwarders: Iterable[Forwarder], statements: StatementBuilder) -> None:
        self._index: ForwarderIndex[Forwarder] = ForwarderIndex(forwarders)
        self._statement = statements.statement if "statement" in self._index.fields else None

    def match(self, record: Record) -> Match | None:
        """Who the record is due to; None if no one."""
        statement = self._statement(record) if self._statement is not None else None
        found = self._index.matching(query_document(record, statement))
        if not found.matched and not found.undecided:
            return None
        return Match(record, statement, _ids(found.matched), _ids(found.undecided))


def _ids(forwarders: tuple[Forwarder, ...]) -> tuple[str, ...]:
    return tuple([forwarder.id for forwarder in forwarders])


class _MatchBlock(beam.DoFn):
    def __init__(self, forwarders: ForwarderSource, statements: StatementBuilder) -> None:
        self._forwarders = forwarders
        self._statements = statements

    def setup(self) -> None:
        self._matcher = Matcher(self._forwarders.load(), self._statements)

    def process(self, block: list[Record]) -> Iterator[list[Match]]:
        matches = [match for record in block if (match := self._matcher.match(record)) is not None]
        if matches:
            yield matches
