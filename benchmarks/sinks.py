"""Sinks that answer at once: Kinesis, Firehose and HTTP on one port of 127.0.0.1, in a process of their own.

    python -m benchmarks.sinks          # prints its port; `POST /-/reset` and `GET /-/report` are for the benchmarks

They check nothing and keep nothing but a `Tally`, so that they are never what is measured: `cpu` in the report says how
busy they were.
"""

import argparse
import asyncio
import gc
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import msgspec

from benchmarks.workload import Tally

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TARGET = re.compile(rb"\r\nx-amz-target: *\w+\.(\w+)", re.IGNORECASE)
_SEQUENCE_NUMBER = "49590338271490256608559692538361571095921575989136588898"


class _Entry(msgspec.Struct, gc=False):
    Data: bytes  # base64 in JSON


class _Call(msgspec.Struct, gc=False):
    """Any call that puts records: PutRecords, PutRecord, PutRecordBatch, Firehose's PutRecord."""

    StreamName: str = ""
    DeliveryStreamName: str = ""
    Records: list[_Entry] = []
    Record: _Entry | None = None
    Data: bytes | None = None


_decode = msgspec.json.Decoder(_Call).decode


class Sinks:
    """What the sinks got since the last reset. `keep`: also every record itself, in the order of arrival."""

    def __init__(self, keep: bool = False) -> None:
        self._keep = keep
        self.reset()

    def reset(self) -> None:
        self.tally = Tally()
        self.kept: list[tuple[str, str]] = []
        self.calls = 0
        self._cpu = time.process_time()

    def report(self) -> dict[str, Any]:
        cpu = time.process_time() - self._cpu
        return {**self.tally.as_json(), "calls": self.calls, "cpu": cpu, "kept": self.kept}

    def answer(self, path: str, head: bytes, body: bytes) -> bytes:
        if path.startswith("/-/"):
            return self._control(path)
        self.calls += 1
        target = _TARGET.search(head)
        if target is None:
            self._got(path[1:], body)
            return _OK
        return self._aws(target[1].decode(), body)

    def _control(self, path: str) -> bytes:
        if path == "/-/reset":
            self.reset()
            return _OK
        return _response(json.dumps(self.report()).encode())

    def _aws(self, operation: str, body: bytes) -> bytes:
        if operation.startswith("Describe"):
            return _described(operation)
        call = _decode(body)
        name = call.StreamName or call.DeliveryStreamName
        if call.Data is not None:
            self._got(name, call.Data)
        elif call.Record is not None:
            self._got(name, call.Record.Data.removesuffix(b"\n"))
        elif call.DeliveryStreamName:
            for entry in call.Records:
                self._got(name, entry.Data.removesuffix(b"\n"))
        else:
            for entry in call.Records:
                self._got(name, entry.Data)
        return _put(operation, len(call.Records))

    def _got(self, forwarder_id: str, payload: bytes) -> None:
        self.tally.add(forwarder_id, payload)
        if self._keep:
            self.kept.append((forwarder_id, payload.decode()))


def _response(body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_OK = _response(b"{}")


@cache
def _described(operation: str) -> bytes:
    if operation == "DescribeStreamSummary":
        summary = {
            "StreamName": "benchmark",
            "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/benchmark",
            "StreamStatus": "ACTIVE",
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": 1704693600.0,
            "EnhancedMonitoring": [],
            "OpenShardCount": 1,
        }
        return _response(json.dumps({"StreamDescriptionSummary": summary}).encode(), _AMZ_JSON)
    description = {
        "DeliveryStreamName": "benchmark",
        "DeliveryStreamARN": "arn:aws:firehose:us-east-1:000000000000:deliverystream/benchmark",
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "Destinations": [],
        "HasMoreDestinations": False,
    }
    return _response(json.dumps({"DeliveryStreamDescription": description}).encode(), _AMZ_JSON)


_AMZ_JSON = "application/x-amz-json-1.1"


@cache
def _put(operation: str, count: int) -> bytes:
    """Every record taken. The same sequence number for each: nobody here looks at it, but a receipt holds it."""
    entry = {"SequenceNumber": _SEQUENCE_NUMBER, "ShardId": "shardId-000000000000"}
    body: dict[str, Any]
    if operation == "PutRecords":
        body = {"FailedRecordCount": 0, "Records": [entry] * count}
    elif operation == "PutRecordBatch":
        body = {"FailedPutCount": 0, "RequestResponses": [{"RecordId": _SEQUENCE_NUMBER}] * count}
    else:
        body = {**entry, "RecordId": _SEQUENCE_NUMBER}
    return _response(json.dumps(body).encode(), _AMZ_JSON)


class _Connection(asyncio.Protocol):
    def __init__(self, sinks: Sinks) -> None:
        self._sinks = sinks
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while (end := received.find(b"\r\n\r\n")) >= 0:
            head = bytes(received[:end])
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if b"100-continue" in head and len(received) == end + 4 < whole:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            if len(received) < whole:
                return
            body = bytes(received[end + 4 : whole])
            del received[:whole]
            path = head.split(b" ", 2)[1].decode()
            self._transport.write(self._sinks.answer(path, head, body))


async def _serve(sinks: Sinks) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(sinks), "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    gc.freeze()
    gc.disable()
    parent = os.getppid()
    while os.getppid() == parent:  # sinks whose benchmark was killed end by themselves
        await asyncio.sleep(1)


class SinksClient:
    """The sinks as the benchmarks see them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def environment(self) -> dict[str, str]:
        """What boto3 needs to find them."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_KINESIS": self.url,  # Quix Streams asks for this one only
            "AWS_ACCESS_KEY_ID": "benchmark",
            "AWS_SECRET_ACCESS_KEY": "benchmark",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def reset(self) -> None:
        self._get("/-/reset")

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self._get("/-/report"))
        return report

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as response:  # noqa: S310 - 127.0.0.1
            content: bytes = response.read()
            return content


@contextmanager
def running_sinks(keep: bool = False) -> Iterator[SinksClient]:
    """Sinks in a process of their own, for as long as the block lasts."""
    command = [sys.executable, "-m", "benchmarks.sinks", *(["--keep"] if keep else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            assert process.stdout is not None
            yield SinksClient(int(process.stdout.readline()))
        finally:
            process.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sinks")
    parser.add_argument("--keep", action="store_true", help="keep every record, for a check of their order")
    asyncio.run(_serve(Sinks(parser.parse_args().keep)))
