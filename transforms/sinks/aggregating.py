"""Sinks of streams whose records hold several of ours (docs/spec/forwarders.md section 3, *Aggregation*).

They put records together, and leave the calls to the sink of the stream, for which what they have put together is one
item.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from transforms.sinks.aggregation import RECORD_OVERHEAD, aggregated, lines, overhead
from transforms.sinks.base import AttemptResult, Item, Runs
from transforms.sinks.data_streams import KIB, SHORT_KEY, StreamLimits, partition_key
from transforms.sinks.firehose import MAX_RECORD_BYTES, FirehoseSink
from transforms.sinks.kinesis import KinesisSink

SHORT_ENTRY = 25 * KIB
"""Bytes of one user's entry while many others wait. PUT payload units, in which AWS charges, are as large."""

_UNBOUNDED = 1 << 31


class _AggregatingSink(ABC):
    """A BatchSink that gives to another one what it has put together."""

    def __init__(self, sink: KinesisSink | FirehoseSink) -> None:
        self._sink = sink
        self.max_items = _UNBOUNDED

    @property
    def calls_in_flight(self) -> int:
        """As many as the stream's sink makes."""
        return self._sink.calls_in_flight

    @property
    def remarks(self) -> Mapping[str, int]:
        """Those of the stream's sink."""
        return self._sink.remarks

    def open(self) -> None:
        """Open the stream's sink."""
        self._sink.open()

    def close(self) -> None:
        """Close the stream's sink."""
        self._sink.close()

    def send(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Make one attempt at each item. All that are in one record of the stream have one outcome."""
        entries = list(self._entries(items))
        outcomes = self._sink.send([self._entry(entry) if len(entry) > 1 else entry[0] for entry in entries])
        return [outcome for outcome, entry in zip(outcomes, entries, strict=True) for _ in entry]

    @abstractmethod
    def _entries(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        """The items, in their order, by the record of the stream that they go in."""

    @abstractmethod
    def _entry(self, items: Sequence[Item]) -> Item:
        """What stands for several items."""


class AggregatingKinesisSink(_AggregatingSink):
    """A BatchSink for a data stream: all records of a user in a call are one record of the stream.

    Args:
        sink: of the stream.
        limits: what the stream takes; None for the defaults.
    """

    def __init__(self, sink: KinesisSink, limits: StreamLimits | None = None) -> None:
        super().__init__(sink)
        limits = limits or StreamLimits()
        self.max_bytes = limits.request_bytes
        self.runs: Runs | None = Runs(limits.record_bytes, SHORT_ENTRY, sink.max_items)

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a call, at most: as if it stood in an aggregated record alone."""
        user = item.record.user_id
        if len(user) > SHORT_KEY or not user.isascii():
            user = partition_key(user)
        # The key stands in the call, and in the aggregated record.
        return len(item.payload) + RECORD_OVERHEAD + overhead(user) + len(user.encode())

    def _entries(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        return _runs(items)

    def _entry(self, items: Sequence[Item]) -> Item:
        key = partition_key(items[0].record.user_id)
        return msgspec.structs.replace(items[0], payload=aggregated(key, [item.payload for item in items]))


class AggregatingFirehoseSink(_AggregatingSink):
    """A BatchSink for a delivery stream: records, one a line, fill records of the stream. A user's are in one of them.

    Args:
        sink: of the delivery stream.
    """

    def __init__(self, sink: FirehoseSink) -> None:
        super().__init__(sink)
        self._firehose = sink
        self._users = sink.max_items
        entry = _in_base64(MAX_RECORD_BYTES)
        self.runs: Runs | None = Runs(entry, entry, self._users)

    @property
    def max_bytes(self) -> int:
        """Those of a call; where a call holds one record of the stream, those of that."""
        return self._firehose.max_bytes if self._firehose.max_items > 1 else _in_base64(MAX_RECORD_BYTES)

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a call."""
        return self._firehose.size(item)

    def _entries(self, items: Sequence[Item]) -> Iterator[Sequence[Item]]:
        entry: list[Item] = []
        size = 0
        for run in _runs(items):
            run_size = sum(len(item.payload) + 1 for item in run)
            if entry and size + run_size > MAX_RECORD_BYTES:
                yield entry
                entry, size = [], 0
            entry += run
            size += run_size
        if entry:
            yield entry

    def _entry(self, items: Sequence[Item]) -> Item:
        # The last line end is the stream's sink's own.
        return msgspec.structs.replace(items[0], payload=lines([item.payload for item in items])[:-1])


def _runs(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The items by their user: those of one stand one after the other."""
    start = 0
    for index in range(1, len(items) + 1):
        if index == len(items) or items[index].record.user_id != items[start].record.user_id:
            yield items[start:index]
            start = index


def _in_base64(size: int) -> int:
    """Bytes of base64, rounded down: so many bytes fit when they are encoded by themselves, too."""
    return size // 3 * 4
