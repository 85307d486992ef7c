"""Look without sending: who would get what (`--dry_run`), and why (`--explain`)."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.utils.windowed_value import WindowedValue

from schemas import Record
from transforms.accounting.summary import Sample, Summary
from transforms.bundles import at_end_of_bundle
from transforms.forwarders import Forwarder
from transforms.forwarders.source import ForwarderSource
from transforms.matching.document import encode_payload, payload_kind
from transforms.matching.explanation import explain, is_meant
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder


@dataclass(eq=False)
class CountMatches(beam.PTransform[PCollection[list[Match]], PCollection[Summary]]):
    """Counts what would be sent: PCollection[list[Match]] -> PCollection[Summary].

    A summary has the number of matches of each forwarder, those of open dead letters apart, and one sample of what it
    would be sent. No reference to a secret is resolved, and no connection is opened.

    Attributes:
        forwarders: where each worker loads the documents from.
        statements: builds the statements that samples hold.
    """

    forwarders: ForwarderSource
    statements: StatementBuilder

    def expand(self, matches: PCollection[list[Match]]) -> PCollection[Summary]:
        counting = beam.ParDo(_CountMatches(self.forwarders, self.statements)).with_output_types(Summary)
        counted: PCollection[Summary] = matches | "Count" >> counting
        return counted


class _CountMatches(beam.DoFn):
    def __init__(self, forwarders: ForwarderSource, statements: StatementBuilder) -> None:
        self._source = forwarders
        self._statements = statements

    def setup(self) -> None:
        self._forwarders = {forwarder.id: forwarder for forwarder in self._source.load()}

    def start_bundle(self) -> None:
        self._summary = Summary()

    def process(self, matches: list[Match]) -> None:
        for match in matches:
            for forwarder_id in match.forwarders:
                if match.is_letter:
                    self._summary.books.of_letters(forwarder_id).matched += 1
                    continue
                self._summary.books.account(forwarder_id).matched += 1
                self._sample(self._forwarders[forwarder_id], match)
            for forwarder_id in match.undecided:
                self._summary.keep(forwarder_id, "undecided")

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield at_end_of_bundle(self._summary)

    def _sample(self, forwarder: Forwarder, match: Match) -> None:
        record = match.record
        sample = self._summary.samples.get(forwarder.id)
        if sample is None or (record.timestamp, record.id) < (sample.timestamp, sample.id):
            if match.stored is not None:
                payload = match.stored.payload
            else:
                kind = payload_kind(record, forwarder.payload)
                payload = encode_payload(record, kind, lambda: self._statements.statement(record))
            self._summary.samples[forwarder.id] = Sample(record.timestamp, record.id, payload)


@dataclass(eq=False)
class ExplainRecord(beam.PTransform[PCollection[list[Record]], PCollection[Summary]]):
    """Explains the records of an id: PCollection[list[Record]] -> PCollection[Summary].

    The summaries hold the lines of `transforms.matching.explanation.explain`. There is none if there is no such record.

    Attributes:
        id: of a record, of a session, or of the activity that caused records.
        forwarders: where each worker loads the documents from.
        statements: builds the statement that queries see.
    """

    id: str
    forwarders: ForwarderSource
    statements: StatementBuilder

    def expand(self, records: PCollection[list[Record]]) -> PCollection[Summary]:
        explaining = beam.ParDo(_ExplainRecord(self.id, self.forwarders, self.statements)).with_output_types(Summary)
        explained: PCollection[Summary] = records | "Explain" >> explaining
        return explained


class _ExplainRecord(beam.DoFn):
    def __init__(self, id_: str, forwarders: ForwarderSource, statements: StatementBuilder) -> None:
        self._id = id_
        self._source = forwarders
        self._statements = statements

    def setup(self) -> None:
        self._forwarders = self._source.load()

    def process(self, records: list[Record]) -> Iterator[Summary]:
        lines = [
            line
            for record in records
            if is_meant(record, self._id)
            for line in explain(record, self._forwarders, self._statements)
        ]
        if lines:
            yield Summary(explanation=lines)
