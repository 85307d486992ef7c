"""What a kinesis:// url says, and what becomes of what is read there. The source itself: tests/pipeline."""

import io
from pathlib import Path

import apache_beam as beam
import fastavro
import msgspec
import orjson
import pytest
from apache_beam.testing import test_pipeline, util

from schemas import Reject, avro_schema
from tests.support.activity import activity
from tests.support.aggregated import aggregated
from transforms.accounting.board import Board
from transforms.read_kinesis import AdmitStreaming
from transforms.reading.activity import decode_admitted, encode
from transforms.reading.input_formats import XAPI
from transforms.reading.leniency import Leniency
from transforms.sources.kinesis_input import KinesisInput, KinesisUrlError


def test_a_url_names_stream_region_endpoint_and_position() -> None:
    assert KinesisInput.parse("kinesis://Activity_1.x?region=eu-west-1") == KinesisInput("Activity_1.x", "eu-west-1")
    assert KinesisInput.parse("kinesis://a?region=eu-west-1").initial_position_in_stream == "TRIM_HORIZON"
    assert KinesisInput.parse(
        "kinesis://a?region=us-east-1&service_endpoint=http://127.0.0.1:4566&initial_position_in_stream=LATEST"
    ) == KinesisInput("a", "us-east-1", "http://127.0.0.1:4566", "LATEST")
    at = KinesisInput.parse("kinesis://a?region=us-east-1&initial_timestamp_in_stream=2026-03-01T09:00:00Z")
    assert at.initial_timestamp_in_stream == 1_772_355_600_000


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://a?region=eu-west-1", "form kinesis://STREAM"),
        ("kinesis://?region=eu-west-1", "form kinesis://STREAM"),
        ("kinesis://a/b?region=eu-west-1", "form kinesis://STREAM"),
        ("kinesis://AKIDEXAMPLE:hunter2@a?region=eu-west-1", "keys do not belong"),
        ("kinesis://a", "needs its region"),
        ("kinesis://a?region=", "needs its region"),
        ("kinesis://a?region=eu-west-1&region=eu-west-2", "given twice"),
        ("kinesis://a?region=eu-west-1&endpoint=x", "endpoint is not known; parameters are region, service_endpoint"),
        ("kinesis://a?region=eu-west-1&initial_position_in_stream=AT_TIMESTAMP", "initial_timestamp_in_stream"),
        ("kinesis://a?region=eu-west-1&initial_timestamp_in_stream=2026-03-01", "2026-03-01T09:00:00Z"),
        ("kinesis://a?region=eu-west-1&service_endpoint=127.0.0.1:4566", "http://host:port"),
        ("kinesis://a?region=eu-west-1&service_endpoint=http://ann:hunter2@h", "http://host:port"),
    ],
)
def test_what_names_no_stream_is_refused_without_repeating_it(url: str, told: str) -> None:
    with pytest.raises(KinesisUrlError, match=told) as refused:
        KinesisInput.parse(url)
    assert "hunter2" not in str(refused.value)


def test_what_is_no_activity_is_a_reject_that_says_where_it_was() -> None:
    start = activity("START", 0)
    with test_pipeline.TestPipeline() as pipeline:
        outputs = (
            pipeline
            | beam.Create([("shardId-000000000000:49", encode(start)), ("shardId-000000000001:50", b"[1]")])
            | AdmitStreaming("a", organisation="school-1")
        )
        util.assert_that(outputs.lines | beam.Map(_user_and_stamp), util.equal_to([(start.user_id, True)]), "lines")
        util.assert_that(outputs.rejects | beam.Map(_where), util.equal_to([_PLACE]), "rejects")


def test_avro_and_json_may_be_mixed_and_each_that_is_refused_says_which_it_was() -> None:
    good, bad = activity("START", 0), activity("START", -60 * 60 * 24 * 366 * 60)
    container = io.BytesIO()
    fastavro.writer(container, avro_schema("session_activity"), map(msgspec.to_builtins, [good, bad]))
    with test_pipeline.TestPipeline() as pipeline:
        outputs = (
            pipeline
            | beam.Create([("shardId-000000000000:1", container.getvalue()), ("shardId-000000000000:2", encode(good))])
            | AdmitStreaming("a")
        )
        util.assert_that(outputs.lines | beam.Values(), util.equal_to([encode(good)] * 2), "lines")
        util.assert_that(
            outputs.rejects | beam.Map(lambda reject: (reject.file, reject.position, reject.reason[:11])),
            util.equal_to([("kinesis://a/shardId-000000000000:1", 1, "occurred_at")]),
            "rejects",
        )


def test_what_is_read_beyond_the_rules_is_read_from_a_stream_too() -> None:
    spelled = {**msgspec.to_builtins(activity("START", 0)), "seq": "7", "user_id": 42}
    container = io.BytesIO()
    schema = {"type": "record", "name": "A", "fields": [
        {"name": name, "type": "long" if name in ("user_id", "occurred_at") else "string"} for name in spelled
    ]}  # fmt: skip
    fastavro.writer(container, schema, [spelled])
    with test_pipeline.TestPipeline() as pipeline:
        outputs = (
            pipeline
            | beam.Create([("shard:1", orjson.dumps(spelled)), ("shard:2", container.getvalue())])
            | AdmitStreaming("a", leniency=Leniency(lenient_numbers=True))
        )
        util.assert_that(
            outputs.lines | beam.Map(lambda line: (line[0], decode_admitted(line[1]).seq)),
            util.equal_to([("42", 7)] * 2),
        )


def test_statements_are_json_only() -> None:
    with test_pipeline.TestPipeline() as pipeline:
        outputs = pipeline | beam.Create([("shardId-000000000000:1", b"Obj\x01")]) | AdmitStreaming("a", XAPI)
        util.assert_that(
            outputs.rejects | beam.Map(lambda reject: reject.reason.partition(":")[0]), util.equal_to(["not JSON"])
        )


def test_an_aggregated_record_is_its_records_and_each_that_is_refused_says_which_it_was(tmp_path: Path) -> None:
    board = Board(str(tmp_path))
    start, submit = encode(activity("START", 0)), encode(activity("SUBMIT", 100))
    lines, array = start + b"\n" + submit + b"\n", b"[" + start + b"," + submit + b"]"
    sound = aggregated(start, b'{"record_id": 1}', lines, array, keys=("u", "v"))
    with test_pipeline.TestPipeline() as pipeline:
        outputs = (
            pipeline
            | beam.Create([("shard:1", sound), ("shard:2", sound[:-1]), ("shard:3", aggregated(b"[1]"))])
            | AdmitStreaming("a", board=board, on_start=_start)
        )
        util.assert_that(outputs.lines | beam.Values(), util.equal_to([start] * 3 + [submit] * 2), "lines")
        util.assert_that(
            outputs.rejects | beam.Map(lambda reject: (reject.file, reject.position, reject.content)),
            util.equal_to(
                [
                    ("kinesis://a/shard:1:1", 0, b'{"record_id": 1}'),
                    ("kinesis://a/shard:2", 0, sound[:-1]),
                    ("kinesis://a/shard:3", 0, b"[1]"),
                ]
            ),
            "rejects",
        )
    job = board.mine().job
    assert (job.read, job.accepted, job.rejects) == (8, 5, 3)
    assert job.size == 2 * len(sound) - 1 + len(aggregated(b"[1]"))
    assert job.rejected["a JSON object is needed, not a number"] == 1
    assert job.lag == 0, "there is a stream, and nothing was derived from it yet"
    assert _started


_started: list[None] = []


def _start() -> None:
    _started.append(None)


_PLACE = ("kinesis://a/shardId-000000000001:50", b"[1]", 3)


def _user_and_stamp(line: tuple[str, bytes]) -> tuple[str, bool]:
    return line[0], b'"school-1"' in line[1]


def _where(reject: Reject) -> tuple[str, bytes, int]:
    return reject.file, reject.content, reject.length
