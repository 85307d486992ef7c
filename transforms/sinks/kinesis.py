"""PutRecords to a Kinesis data stream (docs/spec/forwarders.md section 3; limits: AWS' documentation of PutRecords)."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from transforms.forwarders import KinesisTarget
from transforms.sinks.aws_clients import kinesis_client, sending_config
from transforms.sinks.aws_errors import (
    Scrub,
    call_outcome,
    each_half,
    entry_outcome,
    is_about_one,
    oversize,
    scrub_for,
    unreadable_answer,
)
from transforms.sinks.aws_wire import PutRecordsAnswer, PutRecordsEntry, encode_in_c
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.data_streams import SHORT_KEY, UTF8_BYTES, StreamLimits, partition_key

if TYPE_CHECKING:
    from mypy_boto3_kinesis.client import KinesisClient
    from mypy_boto3_kinesis.type_defs import PutRecordsRequestEntryTypeDef

logger = logging.getLogger(__name__)

MAX_RECORDS = 500
"""Records that a PutRecords call may hold."""

CALLS_IN_FLIGHT = 4
"""Calls to one stream at a time. Each holds up to 500 records."""

HASHED_KEYS = "hashed_partition_keys"
"""The remark that counts delivered records whose partition key was replaced by its hash."""

WATCHED_KEYS = 4096
"""Partition keys whose shards are remembered: more or less those that were used last."""

AUTO = AttemptResult(Verdict.RETRY, "auto_distribution", spends_attempt=False, failure=True, opens_breaker=True)
"""The outcome while the stream ignores partition keys. No record is to blame, so it spends no attempt and waits."""


class ShardWatch:
    """Notices that a stream no longer goes by partition keys (`RecordDistributionStrategy=AUTO`), from its answers.

    While it does, a key that was moved by a split or merge never comes back to a shard that it has left: that shard is
    closed, and its id is not used again. The watch looks once into a table for each record. It makes no call, and so
    needs no permission.
    """

    def __init__(self) -> None:
        # For each slot a key, the shard that took its latest record, and the shards that it has left.
        self._table: dict[int, tuple[str, str, tuple[str, ...]]] = {}

    def is_back(self, key: str, shard: str) -> bool:
        """Whether the shard that has just taken a record with this key is one that the key had left before.

        Call it for each record of a key in turn. Records of different keys may come from several threads.
        """
        slot = hash(key) % WATCHED_KEYS
        known, latest, left = self._table.get(slot, ("", "", ()))
        if known != key:
            self._table[slot] = (key, shard, ())
        elif latest != shard:
            self._table[slot] = (key, shard, (*left, latest))
            return shard in left
        return False

    def forget(self) -> None:
        """Begin anew, as with a stream that nothing is known of."""
        self._table.clear()


class KinesisSink:
    """A BatchSink for one data stream. `open` raises botocore's errors if the client cannot be made at all.

    Args:
        target: the stream and the credentials.
        limits: what the stream takes; None for the defaults.
        most_calls: calls that may be in flight, if CALLS_IN_FLIGHT is more; None for no such bound.
    """

    def __init__(
        self, target: KinesisTarget, limits: StreamLimits | None = None, most_calls: int | None = None
    ) -> None:
        self._target = target
        self._scrub = scrub_for(target)
        self._limits = limits or StreamLimits()
        self._client: KinesisClient | None = None
        self._remarks: Counter[str] = Counter()
        self._remarking = threading.Lock()
        self._watch = ShardWatch()
        self._ignores_keys = False
        self.max_items = MAX_RECORDS
        self.max_bytes = self._limits.request_bytes
        self.calls_in_flight = min(CALLS_IN_FLIGHT, most_calls or CALLS_IN_FLIGHT)

    @property
    def remarks(self) -> Mapping[str, int]:
        return self._remarks

    def open(self) -> None:
        self._client = kinesis_client(self._target, sending_config(self.calls_in_flight))
        encode_in_c(self._client, "PutRecords", PutRecordsAnswer)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a call, at most: data and partition key. To count the key exactly costs more."""
        return len(item.payload) + UTF8_BYTES * len(item.record.user_id)

    def send(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Make one PutRecords call, or more if it is refused. An item that is too large is given up, and never cut."""
        limit = self._limits.record_bytes
        if max(map(self.size, items)) > limit:
            fits = [len(item.payload) + len(partition_key(item.record.user_id).encode()) <= limit for item in items]
            sent = iter(self._put([item for item, fit in zip(items, fits, strict=True) if fit]))
            return [next(sent) if fit else oversize(limit) for fit in fits]
        return self._put(items)

    def _put(self, items: Sequence[Item]) -> list[AttemptResult]:
        if not items:
            return []
        if self._client is None:
            raise RuntimeError("the sink is not open")
        if self._ignores_keys and not self._is_back_to_keys(self._client):
            return [AUTO] * len(items)
        records: list[PutRecordsRequestEntryTypeDef] = [
            {"Data": item.payload, "PartitionKey": user if len(user) <= SHORT_KEY else partition_key(user)}
            for item in items
            for user in (item.record.user_id,)
        ]
        try:
            answer = self._client.put_records(StreamName=self._target.stream_name, Records=records)
        except Exception as error:
            outcome = call_outcome(error, self._scrub)
            if is_about_one(outcome, items):
                return each_half(self._put, items)
            return [outcome] * len(items)
        entries = cast("list[PutRecordsEntry]", answer.get("Records", []))
        if len(entries) != len(items):
            return [unreadable_answer()] * len(items)
        # Each record's own ErrorCode decides. FailedRecordCount is a summary, and if it were wrong, records were lost.
        outcomes = [_outcome(entry, self._scrub) for entry in entries]
        self._count_hashed_keys(items, outcomes)
        self._watch_shards(items, outcomes)
        return outcomes

    def _watch_shards(self, items: Sequence[Item], outcomes: Sequence[AttemptResult]) -> None:
        """Notice when the stream has begun to ignore partition keys."""
        is_back = self._watch.is_back
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.shard and is_back(item.record.user_id, outcome.shard) and not self._ignores_keys:
                self._ignores_keys = True
                logger.error(
                    "data stream %s: partition keys come back to shards they had left, so it ignores them: nothing "
                    "more is sent until its RecordDistributionStrategy is USER_PARTITION_KEY",
                    self._target.stream_name,
                )

    def _is_back_to_keys(self, client: "KinesisClient") -> bool:
        """Whether the stream goes by partition keys again; asked before each probe.

        Without the permission to describe the stream nobody knows, and the stream stays refused for the run.
        """
        try:
            summary = client.describe_stream_summary(StreamName=self._target.stream_name)["StreamDescriptionSummary"]
        except (BotoCoreError, ClientError):
            return False
        if cast("Mapping[str, object]", summary).get("RecordDistributionStrategy") == "AUTO":
            return False
        self._watch.forget()
        self._ignores_keys = False
        return True

    def _count_hashed_keys(self, items: Sequence[Item], outcomes: Sequence[AttemptResult]) -> None:
        if not any(len(item.record.user_id) > SHORT_KEY for item in items):
            return
        hashed = sum(
            outcome.verdict is Verdict.DELIVERED and partition_key(item.record.user_id) != item.record.user_id
            for item, outcome in zip(items, outcomes, strict=True)
        )
        if hashed:
            with self._remarking:
                self._remarks[HASHED_KEYS] += hashed


def _outcome(entry: PutRecordsEntry, scrub: Scrub) -> AttemptResult:
    code = entry.get("ErrorCode")
    if code:
        return entry_outcome(code, entry.get("ErrorMessage"), scrub)
    number = entry.get("SequenceNumber")
    if not number:
        return unreadable_answer()
    return AttemptResult(Verdict.DELIVERED, shard=entry.get("ShardId"), sequence_number=number)
