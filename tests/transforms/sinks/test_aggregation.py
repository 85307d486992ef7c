"""Aggregated records of a data stream, read back by other people's de-aggregators."""

import base64
import json
import subprocess

import pytest
from aws_kinesis_agg.deaggregator import deaggregate_records
from hypothesis import given
from hypothesis import strategies as st

from tests.support.npm_servers import deaggregator, why_npm_cannot_serve
from transforms.sinks.aggregation import RECORD_OVERHEAD, aggregated, lines, overhead

KEYS = st.text(min_size=1, max_size=300)
PAYLOADS = st.lists(st.binary(max_size=400), min_size=1, max_size=30)


def as_lambda_gets_it(key: str, data: bytes) -> dict[str, object]:
    kinesis = {
        "partitionKey": key,
        "data": base64.b64encode(data).decode(),
        "sequenceNumber": "49",
        "kinesisSchemaVersion": "1.0",
        "approximateArrivalTimestamp": 1.0,
    }
    return {"eventVersion": "1.0", "kinesis": kinesis}


@given(KEYS, PAYLOADS)
def test_deaggregation_gives_back_every_record_key_and_byte(key: str, payloads: list[bytes]) -> None:
    data = aggregated(key, payloads)
    found = [record["kinesis"] for record in deaggregate_records(as_lambda_gets_it(key, data))]
    assert [base64.b64decode(record["data"]) for record in found] == payloads
    assert {record["partitionKey"] for record in found} == {key}
    assert [record["aggregated"] for record in found] == [True] * len(payloads)
    assert len(data) <= overhead(key) + sum(len(payload) + RECORD_OVERHEAD for payload in payloads)


def test_a_large_record_is_given_back_as_well() -> None:
    payloads = [bytes([number]) * size for number, size in enumerate((127, 128, 16_383, 16_384, 900_000))]
    data = aggregated("ann", payloads)
    found = deaggregate_records(as_lambda_gets_it("ann", data))
    assert [base64.b64decode(record["kinesis"]["data"]) for record in found] == payloads


_READ = """
const { deaggregateSync } = require("aws-kinesis-agg");
const [key, data] = JSON.parse(require("fs").readFileSync(0));
deaggregateSync({ partitionKey: key, data, sequenceNumber: "49" }, true, (error, records) => {
  if (error) throw error;
  console.log(JSON.stringify(records.map((record) => [record.partitionKey, record.data])));
});
"""


@pytest.mark.skipif(bool(why_npm_cannot_serve()), reason=why_npm_cannot_serve() or "")
def test_the_deaggregator_of_npm_gives_back_the_same() -> None:
    payloads = [b'{"number":%d,"text":"%b"}' % (number, "ä".encode() * number) for number in range(200)]
    given = json.dumps(["änn", base64.b64encode(aggregated("änn", payloads)).decode()])
    told = subprocess.run(  # noqa: S603
        ["node", "-e", _READ],  # noqa: S607
        input=given.encode(),
        cwd=deaggregator(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    found = json.loads(told.stdout)
    assert [base64.b64decode(data) for _, data in found] == payloads
    assert {key for key, _ in found} == {"änn"}


def test_a_record_of_a_delivery_stream_has_a_line_for_each_payload() -> None:
    assert lines([b'{"a":1}', b'{\n "b": 2\r\n}', b"{}"]) == b'{"a":1}\n{  "b": 2  }\n{}\n'
