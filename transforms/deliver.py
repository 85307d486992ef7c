"""Deliver: records to the forwarders they are due to, in order per user, each end of one in the books and the journal.

The machinery is `transforms.delivery`; here it meets Beam.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.metrics.metric import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.utils.windowed_value import WindowedValue

from transforms.accounting.progress import Progress
from transforms.accounting.summary import Summary
from transforms.bundles import at_end_of_bundle
from transforms.delivery.sender import DeliverOptions, Sender
from transforms.forwarders.source import ForwarderSource
from transforms.matching.matcher import Match
from transforms.matching.statement import StatementBuilder


@dataclass(eq=False)
class DeliverMatches(beam.PTransform[PCollection[list[Match]], PCollection[Summary]]):
    """PCollection[list[Match]] -> PCollection[Summary]: the books of what was delivered.

    A user's matches come in their order, in one bundle. Nothing is emitted before everything in the bundle is settled
    or, of unbounded input, deferred: a dead letter that is still tried (metric `delivery/<forwarder>.deferred`).
    """

    forwarders: ForwarderSource
    statements: StatementBuilder
    options: DeliverOptions
    progress: Progress

    def expand(self, matches: PCollection[list[Match]]) -> PCollection[Summary]:
        send = beam.ParDo(_Send(self.forwarders, self.statements, self.options, self.progress))
        books: PCollection[Summary] = matches | "Send" >> send.with_output_types(Summary)
        return books


class _Send(beam.DoFn):
    def __init__(
        self, forwarders: ForwarderSource, statements: StatementBuilder, options: DeliverOptions, progress: Progress
    ) -> None:
        self._source = forwarders
        self._statements = statements
        self._options = options
        self._progress = progress

    def setup(self) -> None:
        self._sender = Sender(self._source.resolve(), self._statements, self._options, self._progress, _count_deferred)

    def process(self, matches: list[Match]) -> None:
        self._sender.send(matches)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield at_end_of_bundle(self._sender.finish())

    def teardown(self) -> None:
        self._sender.close()


def _count_deferred(forwarder_id: str, records: int) -> None:
    Metrics.counter("delivery", f"{forwarder_id}.deferred").inc(records)
