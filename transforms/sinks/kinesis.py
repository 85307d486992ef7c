"""PutRecords to a Kinesis data stream (docs/spec/forwarders.md section 3; limits: AWS' documentation of PutRecords)."""

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from botocore.exceptions import BotoCoreError, ClientError

from transforms.forwarders import KinesisTarget
from transforms.sinks.aws_calls import Callers, OperationCall
from transforms.sinks.aws_clients import access, sending_config
from transforms.sinks.aws_errors import (
    Scrub,
    call_outcome,
    doubted,
    each_half,
    entry_outcome,
    is_about_one,
    oversize,
    scrub_for,
    unreadable_answer,
)
from transforms.sinks.aws_operations import PUT_RECORDS, PutRecordsAnswer, PutRecordsEntry
from transforms.sinks.base import AttemptResult, Item, Runs, Verdict
from transforms.sinks.data_streams import SHORT_KEY, UTF8_BYTES, StreamLimits, partition_key

if TYPE_CHECKING:
    from mypy_boto3_kinesis.client import KinesisClient

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
        """Whether the shard that has just taken a record with this key is one that the key had left before."""
        return self.any_is_back((key,), (shard,))

    def any_is_back(self, keys: Iterable[str], shards: Iterable[str | None]) -> bool:
        """The same of any of several records: their keys, and the shard of each, None if it was not taken.

        Call it for each record of a key in turn. Records of different keys may come from several threads.
        """
        table, is_back = self._table, False
        for key, shard in zip(keys, shards, strict=True):
            if not shard:
                continue
            slot = hash(key) % WATCHED_KEYS
            known = table.get(slot)
            if known is None or known[0] != key:
                table[slot] = (key, shard, ())
            elif known[1] != shard:
                _, latest, left = known
                table[slot] = (key, shard, (*left, latest))
                is_back = is_back or shard in left
        return is_back

    def forget(self) -> None:
        """Begin anew, as with a stream that nothing is known of."""
        self._table.clear()


class KinesisSink:
    """A BatchSink for one data stream. `open` raises botocore's errors if the client cannot be made at all.

    Args:
        target: the stream and the credentials.
        limits: what the stream takes; None for the defaults.
        most_calls: calls that may be in flight, if CALLS_IN_FLIGHT is more; None for no such bound.
        callers: of the worker; None for some of its own.
    """

    def __init__(
        self,
        target: KinesisTarget,
        limits: StreamLimits | None = None,
        most_calls: int | None = None,
        callers: Callers | None = None,
    ) -> None:
        self._target = target
        self._callers = callers or Callers()
        self._scrub = scrub_for(target)
        self._limits = limits or StreamLimits()
        self._client: KinesisClient | None = None
        self._put_records: OperationCall[PutRecordsAnswer] | None = None
        self._remarks: Counter[str] = Counter()
        self._remarking = threading.Lock()
        self._watch = ShardWatch()
        self._ignores_keys = False
        self.max_items = MAX_RECORDS
        self.runs: Runs | None = None
        self.max_bytes = self._limits.request_bytes
        self.calls_in_flight = min(CALLS_IN_FLIGHT, most_calls or CALLS_IN_FLIGHT)

    @property
    def remarks(self) -> Mapping[str, int]:
        return self._remarks

    def open(self) -> None:
        reached = access("kinesis", self._target, sending_config(self.calls_in_flight), self._callers.sessions)
        self._client = cast("KinesisClient", reached.client)
        self._put_records = OperationCall(PUT_RECORDS, reached, self._callers)

    def close(self) -> None:
        if self._put_records is not None:
            self._put_records.close()
            self._put_records = None
        if self._client is not None:
            self._client.close()
            self._client = None

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a call, at most: data and partition key. To count the key exactly costs more."""
        return len(item.payload) + UTF8_BYTES * len(item.record.user_id)

    def send(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Make one PutRecords call, or more if it is refused. An item that is too large is given up, and never cut."""
        limit = self._limits.record_bytes
        # At most: the longest data and the longest key need not be of one record.
        longest_key = max([len(item.record.user_id) for item in items])
        if max([len(item.payload) for item in items]) + UTF8_BYTES * longest_key > limit:
            fits = [len(item.payload) + len(partition_key(item.record.user_id).encode()) <= limit for item in items]
            sent = iter(self._put([item for item, fit in zip(items, fits, strict=True) if fit]))
            return [next(sent) if fit else oversize(limit) for fit in fits]
        return self._put(items)

    def _put(self, items: Sequence[Item]) -> list[AttemptResult]:
        if not items:
            return []
        if self._client is None or self._put_records is None:
            raise RuntimeError("the sink is not open")
        if self._ignores_keys and not self._is_back_to_keys(self._client):
            return [AUTO] * len(items)
        users = [item.record.user_id for item in items]
        keys = users if max(map(len, users)) <= SHORT_KEY else [partition_key(user) for user in users]
        records = [{"Data": item.payload, "PartitionKey": key} for item, key in zip(items, keys, strict=True)]
        try:
            answer, is_in_doubt = self._put_records({"StreamName": self._target.stream_name, "Records": records})
        except Exception as error:
            outcome = call_outcome(error, self._scrub)
            if is_about_one(outcome, items):
                halves = each_half(self._put, items)
                return doubted(halves) if outcome.ambiguous else halves
            return [outcome] * len(items)
        entries = answer.records
        if len(entries) != len(items):
            return [unreadable_answer()] * len(items)
        # Each record's own ErrorCode decides. FailedRecordCount is a summary, and if it were wrong, records were lost.
        outcomes = [
            AttemptResult(Verdict.DELIVERED, shard=entry.shard_id, sequence_number=entry.sequence_number)
            if entry.sequence_number and not entry.error_code
            else _failed(entry, self._scrub)
            for entry in entries
        ]
        if is_in_doubt:
            outcomes = doubted(outcomes)
        if keys is not users:
            self._count_hashed_keys(users, keys, outcomes)
        if self._watch.any_is_back(users, [outcome.shard for outcome in outcomes]) and not self._ignores_keys:
            self._ignores_keys = True
            logger.error(
                "data stream %s: partition keys come back to shards they had left, so it ignores them: nothing "
                "more is sent until its RecordDistributionStrategy is USER_PARTITION_KEY",
                self._target.stream_name,
            )
        return outcomes

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

    def _count_hashed_keys(self, users: Sequence[str], keys: Sequence[str], outcomes: Sequence[AttemptResult]) -> None:
        hashed = sum(
            outcome.verdict is Verdict.DELIVERED and key != user
            for user, key, outcome in zip(users, keys, outcomes, strict=True)
        )
        if hashed:
            with self._remarking:
                self._remarks[HASHED_KEYS] += hashed


def _failed(entry: PutRecordsEntry, scrub: Scrub) -> AttemptResult:
    if entry.error_code:
        return entry_outcome(entry.error_code, entry.error_message, scrub)
    return unreadable_answer()
