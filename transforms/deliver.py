"""Deliver: sends records to the forwarders that they are due to, each user's in order, and keeps receipts and accounts.

The core is `transforms.delivery`; this step gives it the bundles.
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
    """PCollection[list[Match]] -> PCollection[Summary]: for each bundle the accounts of what was delivered.

    A user's matches must come in their order, and those of a bounded job in one bundle. A bundle emits its summary, and
    ends, when each of its records is settled on disk. In streaming a record may be deferred instead: it is then a dead
    letter, is still tried, and is counted by the metric `delivery/<forwarder id>.deferred`.

    Args:
        forwarders: where each worker reads the documents and resolves their secrets.
        statements: builds the statements that are sent.
        options: what else a worker needs to deliver.
        progress: tells the launcher what was delivered, and the worker when to stop.
    """

    forwarders: ForwarderSource
    statements: StatementBuilder
    options: DeliverOptions
    progress: Progress

    def expand(self, matches: PCollection[list[Match]]) -> PCollection[Summary]:
        send = beam.ParDo(_Send(self.forwarders, self.statements, self.options, self.progress))
        summaries: PCollection[Summary] = matches | "Send" >> send.with_output_types(Summary)
        return summaries


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
