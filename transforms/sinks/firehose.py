"""PutRecordBatch to an Amazon Data Firehose delivery stream (docs/spec/forwarders.md section 3; limits: its quotas)."""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from botocore.client import BaseClient

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
from transforms.sinks.aws_operations import (
    PUT_RECORD,
    PUT_RECORD_BATCH,
    PutRecordBatchAnswer,
    PutRecordBatchEntry,
)
from transforms.sinks.base import AttemptResult, Item, Runs, Verdict
from transforms.sinks.data_streams import KIB, MIB

MAX_RECORDS = 500
"""Records that a PutRecordBatch call may hold."""

MAX_REQUEST_BYTES = 4 * MIB
"""Bytes of a call, counted in base64 as they are sent: the service does not say whether it counts before or after."""

MAX_RECORD_BYTES = 1000 * KIB
"""Bytes of a record before base64, with its newline."""

CALLS_IN_FLIGHT = 4
"""Calls of PutRecordBatch to one delivery stream at a time."""

PUT_RECORD_CALLS_IN_FLIGHT = 16
"""Calls of PutRecord at a time. Each holds one record, so more of them are needed for a useful rate."""

FALLBACK = "put_record_fallback"
"""The remark, and the reason of the attempt, when a sink goes over to PutRecord."""


@dataclass(frozen=True, slots=True)
class _Opened:
    """What an open sink calls."""

    client: BaseClient
    put_record_batch: OperationCall[PutRecordBatchAnswer]
    put_record: OperationCall[PutRecordBatchEntry]


class FirehoseSink:
    """A BatchSink for one delivery stream. `open` raises botocore's errors if the client cannot be made at all.

    The policy that Learning Locker documents allows `firehose:PutRecord` alone. When PutRecordBatch is denied, the sink
    goes on with PutRecord: from then on `max_items` is 1, and `remarks` says so.

    Args:
        target: the stream and the credentials.
        most_calls: calls that may be in flight, if the sink would have more; None for no such bound.
        callers: of the worker; None for some of its own.
    """

    def __init__(self, target: KinesisTarget, most_calls: int | None = None, callers: Callers | None = None) -> None:
        self._target = target
        self._callers = callers or Callers()
        self._scrub = scrub_for(target)
        self._open: _Opened | None = None
        self._remarks: Counter[str] = Counter()
        self._remarking = threading.Lock()
        self._singly = False
        self.max_items = MAX_RECORDS
        self.runs: Runs | None = None
        self.max_bytes = MAX_REQUEST_BYTES
        self._most_calls = most_calls or PUT_RECORD_CALLS_IN_FLIGHT
        self.calls_in_flight = min(CALLS_IN_FLIGHT, self._most_calls)

    @property
    def remarks(self) -> Mapping[str, int]:
        return self._remarks

    def open(self) -> None:
        config = sending_config(min(PUT_RECORD_CALLS_IN_FLIGHT, self._most_calls))
        reached = access("firehose", self._target, config, self._callers.sessions)
        self._open = _Opened(
            reached.client,
            OperationCall(PUT_RECORD_BATCH, reached, self._callers),
            OperationCall(PUT_RECORD, reached, self._callers),
        )

    def close(self) -> None:
        if self._open is not None:
            opened, self._open = self._open, None
            opened.put_record_batch.close()
            opened.put_record.close()
            opened.client.close()

    def size(self, item: Item) -> int:
        """Bytes that the item takes in a call: payload and newline in base64."""
        return (len(item.payload) + 1 + 2) // 3 * 4

    def send(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Make a PutRecordBatch call, or PutRecord calls. An item that is too large is given up, and never cut."""
        limit = MAX_RECORD_BYTES - 1
        if any(len(item.payload) > limit for item in items):
            fitting = iter(self._put([item for item in items if len(item.payload) <= limit]))
            return [next(fitting) if len(item.payload) <= limit else oversize(limit) for item in items]
        return self._put(items)

    def _put(self, items: Sequence[Item]) -> list[AttemptResult]:
        if not items:
            return []
        return [self._put_record(item) for item in items] if self._singly else self._put_record_batch(items)

    def _put_record_batch(self, items: Sequence[Item]) -> list[AttemptResult]:
        # The service joins records as they are. The newline keeps them apart in the object that it writes.
        content = {
            "DeliveryStreamName": self._target.stream_name,
            "Records": [{"Data": item.payload + b"\n"} for item in items],
        }
        try:
            answer, is_in_doubt = self._opened().put_record_batch(content)
        except Exception as error:
            outcome = _throttled_if_unavailable(call_outcome(error, self._scrub))
            if outcome.reason == "access_denied":
                fallen_back = self._fall_back(items)
                return doubted(fallen_back) if outcome.ambiguous else fallen_back
            if is_about_one(outcome, items):
                halves = each_half(self._put, items)
                return doubted(halves) if outcome.ambiguous else halves
            return [outcome] * len(items)
        entries = answer.request_responses
        if len(entries) != len(items):
            return [unreadable_answer()] * len(items)
        outcomes = [_outcome(entry, self._scrub) for entry in entries]
        return doubted(outcomes) if is_in_doubt else outcomes

    def _fall_back(self, items: Sequence[Item]) -> list[AttemptResult]:
        """Use PutRecord from now on. Nothing of the refused call was stored, so these items spend no attempt."""
        with self._remarking:
            self._singly = True
            self._remarks[FALLBACK] = 1
            self.max_items = 1
            self.calls_in_flight = min(PUT_RECORD_CALLS_IN_FLIGHT, self._most_calls)
        # They are handed back, and not sent here one after the other, so that many calls can be in flight.
        return [AttemptResult(Verdict.RETRY, FALLBACK, spends_attempt=False)] * len(items)

    def _put_record(self, item: Item) -> AttemptResult:
        try:
            answer, is_in_doubt = self._opened().put_record(
                {"DeliveryStreamName": self._target.stream_name, "Record": {"Data": item.payload + b"\n"}}
            )
        except Exception as error:
            return _throttled_if_unavailable(call_outcome(error, self._scrub))
        outcome = _outcome(answer, self._scrub)
        return doubted([outcome])[0] if is_in_doubt else outcome

    def _opened(self) -> _Opened:
        if self._open is None:
            raise RuntimeError("the sink is not open")
        return self._open


def _throttled_if_unavailable(outcome: AttemptResult) -> AttemptResult:
    """Firehose's ServiceUnavailableException means that the delivery stream's throughput limits are exceeded."""
    if outcome.reason == "aws_service_unavailable":
        return AttemptResult(Verdict.RETRY, "throttled", outcome.status, outcome.response, spends_attempt=False)
    return outcome


def _outcome(entry: PutRecordBatchEntry, scrub: Scrub) -> AttemptResult:
    if entry.error_code:
        return entry_outcome(entry.error_code, entry.error_message, scrub)
    if not entry.record_id:
        return unreadable_answer()
    return AttemptResult(Verdict.DELIVERED)
