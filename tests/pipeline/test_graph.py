"""What the built graph holds: no step that loses data on this runner, and no secret."""

import bz2
import codecs
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.graph import Plan, build
from pipeline.options import Job, parse
from pipeline.preflight import choose_forwarders
from tests.pipeline.conftest import Workshop
from tests.transforms.build import activity
from transforms.accounting.progress import Progress
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.sender import DeliverOptions
from transforms.read import match_files
from transforms.receipts.index import HistoryIndex

SECRETS = ("hunter2-password", "hunter2-token", "hunter2-header", "hunter2-query", "hunter2-aws")

# Beam's own steps that declare a real-time timer: bounded input loses what they hold, or the whole job becomes slow.
FORBIDDEN = ("GroupIntoBatches", "Deduplicate", "AsyncWrapper", "BatchElements")


def secretive_forwarders() -> list[dict[str, object]]:
    return [
        {
            "_id": "basic",
            "active": True,
            "configuration": {
                "url": "receiver.invalid/x?key=hunter2-query",
                "authType": "basic auth",
                "basicUsername": "ann",
                "basicPassword": "hunter2-password",
                "headers": json.dumps({"X-Key": "hunter2-header"}),
            },
        },
        {
            "_id": "token",
            "active": True,
            "configuration": {"url": "receiver.invalid/y", "authType": "token", "secret": "hunter2-token"},
        },
        {
            "_id": "stream",
            "active": True,
            "configuration": {"protocol": "Kinesis"},
            "kinesisOptions": {
                "service": "streams",
                "streamName": "s",
                "awsRegion": "us-east-1",
                "awsClientKey": "AKIDEXAMPLE",
                "awsClientSecret": "hunter2-aws",
            },
        },
    ]


def built(job: Job, tmp_path: Path) -> beam_runner_api_pb2.Pipeline:
    """The graph as a runner gets it. The forwarders are taken as a dry run takes them: nothing is looked up."""
    chosen = choose_forwarders(
        Job(runner="DirectRunner", beam_args=(), forwarders=job.forwarders, dry_run=True), on_this_machine=True
    )
    deliver = DeliverOptions(
        output=str(tmp_path / "out"),
        run_id="run",
        history=HistoryIndex(str(tmp_path / "out"), ""),
        limits={},
        allow_networks=(),
        settings=DeliverySettings(),
    )
    pipeline = beam.Pipeline()
    plan = Plan(
        job=job,
        run_id="run",
        files=tuple(match_files(job.inputs)) if job.inputs and not job.streaming else (),
        source=chosen.source,
        deliver=deliver if job.delivers else None,
        progress=Progress(str(tmp_path)),
        summary=str(tmp_path / "summary"),
    )
    build(pipeline, plan)
    return pipeline.to_runner_api()


@pytest.fixture(params=["deliver", "dry run", "explain", "redrive", "write records"])
def graph(request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path) -> beam_runner_api_pb2.Pipeline:
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(*secretive_forwarders())
    source = ["--input", str(tmp_path / "in" / "*")]
    more = {
        "deliver": source,
        "dry run": [*source, "--dry_run"],
        "explain": [*source, "--explain=x"],
        "redrive": ["--redrive"],
        "write records": [*source, "--write_records=parquet"],
    }[request.param]
    return built(parse(workshop.arguments(*more)), tmp_path)


def test_no_step_waits_for_a_clock(graph: beam_runner_api_pb2.Pipeline) -> None:
    steps = 0
    for transform in graph.components.transforms.values():
        assert not any(name in transform.unique_name for name in FORBIDDEN), transform.unique_name
        if transform.spec.urn == "beam:transform:pardo:v1":
            steps += 1
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            for timer in payload.timer_family_specs.values():
                assert timer.time_domain != beam_runner_api_pb2.TimeDomain.PROCESSING_TIME, transform.unique_name
    assert steps > 3


def unpacked(data: bytes) -> Iterator[bytes]:
    """`data`, and what Beam's pickler compressed and encoded in it."""
    yield data
    try:
        packed = codecs.decode(data, "base64")
    except ValueError:
        return
    for decompress in (zlib.decompress, bz2.decompress):
        try:
            yield decompress(packed)
        except (zlib.error, OSError, ValueError):
            continue


def dofns(graph: beam_runner_api_pb2.Pipeline) -> Iterator[bytes]:
    for transform in graph.components.transforms.values():
        yield from unpacked(transform.spec.payload)
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            yield from unpacked(payload.do_fn.payload)


def test_the_graph_holds_no_secret(graph: beam_runner_api_pb2.Pipeline) -> None:
    contents = b"\0".join([graph.SerializeToString(), *dofns(graph)])
    # The search finds what is there: the module of a step, which only shows once its pickle is unpacked.
    assert b"transforms.reading.bucket_blobs" in contents or b"transforms.redrive" in contents
    for secret in SECRETS:
        assert secret.encode() not in contents
