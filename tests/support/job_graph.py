"""The graph that the job builds, as a runner gets it, and what its pickles hold."""

import bz2
import codecs
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.graph import Plan, build
from pipeline.options import Job
from pipeline.preflight import choose_forwarders
from transforms.accounting.board import Board
from transforms.delivery.policy import DeliverySettings
from transforms.delivery.sender import DeliverOptions
from transforms.read import match_files
from transforms.receipts.index import HistoryIndex
from transforms.sources.base import Access
from transforms.sources.locations import is_source, source_at

SECRETS = (
    *("hunter2-password", "hunter2-token", "hunter2-header", "hunter2-query", "hunter2-aws"),
    *("hunter2-client", "hunter2-endpoint"),
)


def secretive_documents() -> list[dict[str, object]]:
    """Forwarder documents that hold the secrets."""
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
            "_id": "oauth2",
            "active": True,
            "configuration": {
                "url": "receiver.invalid/z",
                "authType": "oauth2",
                "tokenUrl": "https://login.invalid/token?key=hunter2-endpoint",
                "clientId": "client",
                "clientSecret": "hunter2-client",
            },
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


def built_graph(job: Job, tmp_path: Path) -> beam_runner_api_pb2.Pipeline:
    """The graph as a runner gets it, before it makes anything of it."""
    pipeline = beam.Pipeline()
    build_job(pipeline, job, tmp_path)
    return pipeline.to_runner_api()


def build_job(pipeline: beam.Pipeline, job: Job, tmp_path: Path) -> None:
    """Adds the job to a pipeline. The forwarders are taken as a dry run takes them: nothing is looked up."""
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
    plan = Plan(
        job=job,
        run_id="run",
        files=() if job.streaming or job.reads_sources else tuple(match_files(job.inputs)),
        source=chosen.source,
        deliver=deliver if job.delivers else None,
        history=deliver.history,
        board=Board(str(tmp_path)),
        summary=str(tmp_path / "summary"),
        sources=tuple(source_at(each, Access(job.input_auth)) for each in job.inputs if is_source(each)),
    )
    build(pipeline, plan)


def _unpacked(data: bytes) -> Iterator[bytes]:
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


def pickled_dofns(graph: beam_runner_api_pb2.Pipeline) -> Iterator[bytes]:
    """What every step of the graph carries, packed and unpacked."""
    for transform in graph.components.transforms.values():
        yield from _unpacked(transform.spec.payload)
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            yield from _unpacked(payload.do_fn.payload)
