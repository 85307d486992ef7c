"""The three calls that put records: what is asked, what is answered, and who may make them.

Answers are read by msgspec, as far as anybody looks at them: boto3 would need a third of a call for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec


class PutRecordsEntry(msgspec.Struct, rename="pascal", gc=False):
    """What the answer to PutRecords says of one record."""

    sequence_number: str | None = None
    shard_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class PutRecordsAnswer(msgspec.Struct, rename="pascal", gc=False):
    """The answer to PutRecords."""

    records: list[PutRecordsEntry]


class PutRecordBatchEntry(msgspec.Struct, rename="pascal", gc=False):
    """What the answer to PutRecordBatch says of one record; and the whole answer to Firehose's PutRecord."""

    record_id: str | None = None
    error_code: str | None = None
    error_message: str | None = None


class PutRecordBatchAnswer(msgspec.Struct, rename="pascal", gc=False):
    """The answer to PutRecordBatch."""

    request_responses: list[PutRecordBatchEntry]


AnswerT_co = TypeVar("AnswerT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Operation(Generic[AnswerT_co]):
    """A call that a service offers.

    Attributes:
        name: as AWS names it, such as `PutRecords`.
        method: of boto3's client.
        answer: what a successful answer is read as.
        empty: parameters of a call with nothing in it, which is never sent.
        holder: the one of them that holds the data.
    """

    name: str
    method: str
    answer: type[AnswerT_co]
    empty: Mapping[str, Any]
    holder: str = "Records"


PUT_RECORDS = Operation("PutRecords", "put_records", PutRecordsAnswer, {"StreamName": "none", "Records": []})
PUT_RECORD_BATCH = Operation(
    "PutRecordBatch", "put_record_batch", PutRecordBatchAnswer, {"DeliveryStreamName": "none", "Records": []}
)
PUT_RECORD = Operation(
    "PutRecord", "put_record", PutRecordBatchEntry, {"DeliveryStreamName": "none", "Record": {"Data": b""}}, "Record"
)


class Called(NamedTuple, Generic[AnswerT_co]):
    """The answer to a call; and whether the service may have taken it twice, because it was sent twice."""

    answer: AnswerT_co
    is_in_doubt: bool = False


class Call(Protocol[AnswerT_co]):
    """Makes calls of one operation. Several threads may use it."""

    def __call__(self, content: Mapping[str, Any]) -> Called[AnswerT_co]:
        """Make one call.

        Args:
            content: the parameters. Data is bytes, and is sent in base64.

        Raises:
            botocore's errors, whoever makes the call; ResentError around one, if the call may have been taken before.
        """
        ...
