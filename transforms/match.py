"""Match: records go in, and those that are due to a forwarder come out (docs/spec/records.md section 4)."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection

from schemas import Record
from transforms.forwarders.source import ForwarderSource
from transforms.matching.matcher import Match, Matcher
from transforms.matching.statement import StatementBuilder
from transforms.telemetry.tracing import tracing


@dataclass(eq=False)
class MatchForwarders(beam.PTransform[PCollection[list[Record]], PCollection[list[Match]]]):
    """Matches records with forwarders: PCollection[list[Record]] -> PCollection[list[Match]].

    A record that is due to nobody is left out. The others keep their order, and their batches.

    Attributes:
        forwarders: where each worker loads the documents from. They do not travel in the graph.
        statements: builds the statements that queries see.
    """

    forwarders: ForwarderSource
    statements: StatementBuilder

    def expand(self, records: PCollection[list[Record]]) -> PCollection[list[Match]]:
        matching = beam.ParDo(_MatchBatch(self.forwarders, self.statements)).with_output_types(list[Match])
        matches: PCollection[list[Match]] = records | "Match queries" >> matching
        return matches


class _MatchBatch(beam.DoFn):
    def __init__(self, forwarders: ForwarderSource, statements: StatementBuilder) -> None:
        self._forwarders = forwarders
        self._statements = statements

    def setup(self) -> None:
        self._matcher = Matcher(self._forwarders.load(), self._statements)
        self._tracing = tracing()

    def process(self, batch: list[Record]) -> Iterator[list[Match]]:
        began = time.time_ns() if self._tracing is not None else 0
        matches = [match for record in batch if (match := self._matcher.match(record)) is not None]
        if self._tracing is not None:
            self._tracing.step("match", batch, began)
        if matches:
            yield matches
