"""What the built graph holds: no step that loses data on this runner, and no secret."""

from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.options import parse
from tests.support.activity import activity
from tests.support.job_graph import SECRETS, built_graph, pickled_dofns, secretive_documents
from tests.support.workshop import Workshop
from transforms.sources.lrs_url import KEY, SECRET
from transforms.sources.mongo_collection import PASSWORD, USERNAME

# Beam's own steps that declare a real-time timer: bounded input loses what they hold, or the whole job becomes slow.
FORBIDDEN = ("GroupIntoBatches", "Deduplicate", "AsyncWrapper", "BatchElements")


@pytest.fixture(params=["deliver", "dry run", "explain", "redrive", "write records", "lrs", "mongodb"])
def graph(
    request: pytest.FixtureRequest, workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> beam_runner_api_pb2.Pipeline:
    for name in ("LOGIN", KEY, SECRET, USERNAME, PASSWORD):
        monkeypatch.setenv(name, f"ann:{SECRETS[0]}")
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(*secretive_documents())
    source = ["--input", str(tmp_path / "in" / "*")]
    more = {
        "deliver": source,
        "dry run": [*source, "--dry_run"],
        "explain": [*source, "--explain=x"],
        "redrive": ["--redrive"],
        "write records": [*source, "--write_records=parquet"],
        "lrs": ["--input=https://lrs.invalid/statements", "--input_auth=env:LOGIN"],
        "mongodb": ["--input=mongodb://host.invalid/db.statements"],
    }[request.param]
    return built_graph(parse(workshop.arguments(*more)), tmp_path)


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


def test_the_graph_holds_no_secret(graph: beam_runner_api_pb2.Pipeline) -> None:
    contents = b"\0".join([graph.SerializeToString(), *pickled_dofns(graph)])
    # The search finds what is there: the module of a step, which only shows once its pickle is unpacked.
    assert b"transforms.reading.bucket_blobs" in contents or b"transforms.redrive" in contents
    for secret in SECRETS:
        assert secret.encode() not in contents
