"""Bytewax: the whole way, with this project's own core in its steps.

As its documentation has it: FileSource, `fold_final` for a bounded input, `collect` for batches, sinks as
DynamicSinks. One worker. A call may hold several records of one user, and there are no receipts.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import bytewax.operators as op
import requests
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from benchmarks.floor import Encoder
from benchmarks.workload import REGION
from transforms.forwarders import Forwarder, HttpTarget
from transforms.reading.activity import ActivityDecoder, decode_admitted
from transforms.sessions.derivation import Derivation

BATCH = 500
Due = tuple[str, tuple[str, str, bytes]]
"""Forwarder id, then user id, record id and payload."""


def run(path: Path, forwarders: tuple[Forwarder, ...]) -> None:
    admit, derivation, encoder = ActivityDecoder().admit, Derivation(), Encoder(forwarders)

    def by_user(line: str) -> tuple[str, bytes]:
        return admit(line.encode())

    def gather(lines: list[bytes], line: bytes) -> list[bytes]:
        lines.append(line)
        return lines

    def due(user: tuple[str, list[bytes]]) -> Iterator[Due]:
        for record in derivation.user([decode_admitted(line) for line in user[1]]):
            for forwarder_id, payload in encoder.due(record):
                yield forwarder_id, (record.user_id, record.id, payload)

    flow = Dataflow("benchmark")
    lines = op.input("lines", flow, FileSource(path))
    users = op.fold_final("users", op.map("admit", lines, by_user), list, gather)
    records = op.flat_map("records", users, due)
    batches = op.collect("batches", records, timeout=timedelta(seconds=1), max_size=BATCH)
    op.output("deliver", batches, _Sink({forwarder.id: forwarder for forwarder in forwarders}))
    cli_main(flow)


class _Sink(DynamicSink[Any]):
    def __init__(self, forwarders: dict[str, Forwarder]) -> None:
        self._forwarders = forwarders

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Partition":
        return _Partition(self._forwarders)


class _Partition(StatelessSinkPartition[Any]):
    def __init__(self, forwarders: dict[str, Forwarder]) -> None:
        self._forwarders = forwarders
        self._kinesis = boto3.client("kinesis", region_name=REGION)
        self._firehose = boto3.client("firehose", region_name=REGION)
        self._session = requests.Session()

    def write_batch(self, items: list[tuple[str, list[tuple[str, str, bytes]]]]) -> None:
        for forwarder_id, records in items:
            target = self._forwarders[forwarder_id].target
            if isinstance(target, HttpTarget):
                for _, record_id, payload in records:
                    headers = {"Content-Type": "application/json", "Idempotency-Key": record_id}
                    self._session.post(target.url.reveal(), payload, headers=headers, timeout=10).raise_for_status()
            elif target.service == "streams":
                self._kinesis.put_records(
                    StreamName=target.stream_name,
                    Records=[{"Data": payload, "PartitionKey": user} for user, _, payload in records],
                )
            else:
                self._firehose.put_record_batch(
                    DeliveryStreamName=target.stream_name,
                    Records=[{"Data": payload + b"\n"} for _, _, payload in records],
                )

    def close(self) -> None:
        self._session.close()
