"""The AWS side of a run: data streams, and delivery streams into a bucket; made, read back and cleared away."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from local.endpoint import Endpoint, EndpointError

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

SHARDS = 4
_ROLE = "arn:aws:iam::000000000000:role/session-forwarder-local"
_READY_WITHIN = 30.0
_POLL = 0.2


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One record of a data stream as a consumer gets it."""

    shard: str
    partition_key: str
    data: bytes


class Stack:
    """What a run has made at `endpoint`. Use `stack()`, which also clears it away."""

    def __init__(self, endpoint: Endpoint, bucket: str) -> None:
        self._kinesis: KinesisClient = endpoint.client("kinesis")
        self._firehose: FirehoseClient = endpoint.client("firehose")
        self._s3: S3Client = endpoint.client("s3")
        self._bucket = bucket
        self._data_streams: list[str] = []
        self._delivery_streams: list[str] = []
        self._has_bucket = False

    def create_data_streams(self, names: Sequence[str]) -> None:
        """Data streams of SHARDS shards each, ready for use."""
        for name in names:
            self._kinesis.create_stream(StreamName=name, ShardCount=SHARDS)
            self._data_streams.append(name)
        for name in names:
            _wait_until(partial(self._stream_is_active, name), f"data stream {name} to become ACTIVE")

    def create_delivery_streams(self, names: Sequence[str]) -> None:
        """Delivery streams that write to the run's bucket, each under its own name; ready for use."""
        if not self._has_bucket:
            self._s3.create_bucket(Bucket=self._bucket)
            self._has_bucket = True
        for name in names:
            self._firehose.create_delivery_stream(
                DeliveryStreamName=name,
                DeliveryStreamType="DirectPut",
                ExtendedS3DestinationConfiguration={
                    "RoleARN": _ROLE,
                    "BucketARN": f"arn:aws:s3:::{self._bucket}",
                    "Prefix": f"{name}/",
                },
            )
            self._delivery_streams.append(name)
        for name in names:
            _wait_until(partial(self._delivery_is_active, name), f"delivery stream {name} to become ACTIVE")

    def read_data_stream(self, name: str) -> list[StreamRecord]:
        """All records of all shards, those of one shard in their order."""
        shards = [
            shard["ShardId"]
            for page in self._kinesis.get_paginator("list_shards").paginate(StreamName=name)
            for shard in page["Shards"]
        ]
        return [record for shard in shards for record in self._read_shard(name, shard)]

    def read_delivery_stream(self, name: str) -> list[bytes]:
        """All lines of all objects that the delivery stream has written."""
        lines: list[bytes] = []
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{name}/"):
            for entry in page.get("Contents", []):
                body = self._s3.get_object(Bucket=self._bucket, Key=entry["Key"])["Body"].read()
                lines += body.removesuffix(b"\n").split(b"\n")
        return lines

    def clear(self) -> None:
        """Deletes what was made; what cannot be deleted is named and left."""
        for name in self._delivery_streams:
            _try(name, partial(self._firehose.delete_delivery_stream, DeliveryStreamName=name))
        for name in self._data_streams:
            _try(name, partial(self._kinesis.delete_stream, StreamName=name, EnforceConsumerDeletion=True))
        if self._has_bucket:
            _try(self._bucket, self._delete_bucket)

    def close(self) -> None:
        for client in (self._kinesis, self._firehose, self._s3):
            client.close()

    def _read_shard(self, name: str, shard: str) -> Iterator[StreamRecord]:
        iterator: str | None = self._kinesis.get_shard_iterator(
            StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = self._kinesis.get_records(ShardIterator=iterator, Limit=10_000)
            for record in answer["Records"]:
                yield StreamRecord(shard, record["PartitionKey"], record["Data"])
            # An empty answer alone does not mean the end: Kinesis gives some on the way to the records.
            at_end = not answer["Records"] and answer.get("MillisBehindLatest", 0) == 0
            iterator = None if at_end else answer.get("NextShardIterator")

    def _stream_is_active(self, name: str) -> bool:
        summary = self._kinesis.describe_stream_summary(StreamName=name)
        return summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"

    def _delivery_is_active(self, name: str) -> bool:
        answer = self._firehose.describe_delivery_stream(DeliveryStreamName=name)
        return answer["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE"

    def _delete_bucket(self) -> None:
        for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket):
            keys = [entry["Key"] for entry in page.get("Contents", [])]
            if keys:
                self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": [{"Key": key} for key in keys]})
        self._s3.delete_bucket(Bucket=self._bucket)


@contextmanager
def stack(endpoint: Endpoint, bucket: str) -> Iterator[Stack]:
    """A Stack that leaves nothing at an endpoint that lives on after the run."""
    made = Stack(endpoint, bucket)
    try:
        yield made
    finally:
        if not endpoint.ends_with_run:
            made.clear()
        made.close()


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    """Asks until `condition` holds. Raises EndpointError when it does not in time."""
    deadline = monotonic() + _READY_WITHIN
    while not condition():
        if monotonic() > deadline:
            raise EndpointError(f"waited {_READY_WITHIN:.0f} s in vain for {what}: look at the endpoint's own log")
        sleep(_POLL)


def _try(name: str, delete: Callable[[], object]) -> None:
    try:
        delete()
    except (BotoCoreError, ClientError) as error:
        print(f"{name} could not be deleted and is left behind: {error}")
