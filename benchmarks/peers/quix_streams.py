"""Quix Streams: filter and deliver, records from a Kafka topic.

As its documentation has it: a StreamingDataFrame, a filter for each forwarder, and BatchingSinks of one's own. (Its
KinesisSink, as of 3.28, keeps the records it has flushed and sends them again at the next checkpoint; with it not the
same is delivered.) The records are derived before, and a call may hold several of one user.
"""

import json
import logging
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import requests
from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from benchmarks.floor import lines_by_user, records_by_user
from benchmarks.workload import REGION, Wish
from transforms.matching.document import encode_payload
from transforms.matching.statement import StatementBuilder

TOPIC = "documents"


def dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def feed(broker: str, path: Path) -> dict[str, Any]:
    """Put every record that is derived from the activity at `path` into the topic, as a document, by user."""
    application = Application(broker_address=broker, loglevel="WARNING")
    topic = application.topic(TOPIC, key_serializer="str", value_serializer="bytes")
    statements, count = StatementBuilder(), 0
    with application.get_producer() as producer:
        for records in records_by_user(lines_by_user(path)):
            for record in records:
                value = encode_payload(record, "document", partial(statements.statement, record))
                producer.produce(topic.name, value, key=record.user_id.encode())
                count += 1
    return {"count": count}


def run(broker: str, count: int, wishes: tuple[Wish, ...], url: str) -> None:
    """Until `count` deliveries were made of the documents in the topic."""
    logging.getLogger("quixstreams").setLevel(logging.WARNING)
    application = Application(
        broker_address=broker, consumer_group=str(uuid.uuid4()), auto_offset_reset="earliest", loglevel="WARNING"
    )
    documents = application.dataframe(application.topic(TOPIC, value_deserializer="json", key_deserializer="str"))
    for wish in wishes:
        documents.filter(wish.wants).sink(_sink(wish, url))
    application.run(count=count, collect=False)


def _sink(wish: Wish, url: str) -> BatchingSink:
    if wish.service == "streams":
        return _KinesisSink(wish.id)
    return _FirehoseSink(wish.id) if wish.service == "firehose" else _HttpSink(f"{url}/{wish.id}")


class _KinesisSink(BatchingSink):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._client = boto3.client("kinesis", region_name=REGION)

    def write(self, batch: SinkBatch) -> None:
        for chunk in batch.iter_chunks(500):
            self._client.put_records(
                StreamName=self._name,
                Records=[{"Data": dumps(item.value).encode(), "PartitionKey": item.key} for item in chunk],
            )


class _FirehoseSink(BatchingSink):
    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._client = boto3.client("firehose", region_name=REGION)

    def write(self, batch: SinkBatch) -> None:
        for chunk in batch.iter_chunks(500):
            self._client.put_record_batch(
                DeliveryStreamName=self._name,
                Records=[{"Data": dumps(item.value).encode() + b"\n"} for item in chunk],
            )


class _HttpSink(BatchingSink):
    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._session = requests.Session()

    def write(self, batch: SinkBatch) -> None:
        for item in batch:
            headers = {"Content-Type": "application/json", "Idempotency-Key": item.value["_id"]}
            self._session.post(self._url, dumps(item.value).encode(), headers=headers, timeout=10).raise_for_status()
