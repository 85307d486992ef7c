"""The job on Dataflow, as far as it is seen without a cloud: what its runner makes of the graph before it sends it."""

from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options import pipeline_options
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.beam_options import beam_options
from pipeline.options import Job, parse
from pipeline.usage import UsageError
from tests.support.activity import activity
from tests.support.job_graph import SECRETS, build_job, built_graph, pickled_dofns, secretive_documents
from tests.support.workshop import Workshop

pytest.importorskip("google.cloud.dataflow", reason="the extra gcp is not installed")

IMAGE = "europe-west1-docker.pkg.dev/project/images/session-forwarder:1"
FLAGS = {
    "--runner": "DataflowRunner",
    "--project": "some-project",
    "--region": "europe-west1",
    "--temp_location": "gs://bucket/tmp",
    "--sdk_container_image": IMAGE,
}


def _flags(*left_out: str) -> list[str]:
    return [f"{name}={value}" for name, value in FLAGS.items() if name not in left_out]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dataflow")


@pytest.fixture(scope="module")
def job(place: Path) -> Job:
    workshop = Workshop(place)
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(*secretive_documents())
    return parse(workshop.arguments("--input", str(place / "in" / "*"), *_flags()))


@pytest.fixture(scope="module")
def translated(job: Job, place: Path) -> beam_runner_api_pb2.Pipeline:
    """The graph as the runner would send it. Beam's own dry run stops there; it asks no bucket whether it is there."""
    options = beam_options(job)
    options.view_as(pipeline_options.TestOptions).dry_run = True
    pipeline = beam.Pipeline(runner=job.runner, options=options)
    build_job(pipeline, job, place)
    pipeline.run()
    graph: beam_runner_api_pb2.Pipeline = pipeline.runner.proto_pipeline  # type: ignore[attr-defined]
    return graph


def _steps(graph: beam_runner_api_pb2.Pipeline) -> dict[str, str]:
    """What is executed, and as what, by its name. What gives its input on as it is has Python's own urn."""
    steps = (each for each in graph.components.transforms.values() if not each.subtransforms)
    return {each.unique_name: each.spec.urn for each in steps if each.spec.urn != "beam:transform:pickled_python:v1"}


def _side_inputs(graph: beam_runner_api_pb2.Pipeline) -> Iterator[tuple[str, str, str]]:
    for transform in graph.components.transforms.values():
        if transform.spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
            for name, side in payload.side_inputs.items():
                yield transform.unique_name, name, side.access_pattern.urn


def test_every_step_of_the_job_is_there_with_its_side_inputs(
    translated: beam_runner_api_pb2.Pipeline, job: Job, place: Path
) -> None:
    own = built_graph(job, place)
    assert _steps(translated).items() >= _steps(own).items()
    assert set(_side_inputs(translated)) == set(_side_inputs(own))
    # The sessions are folded once the reading is known to be good.
    assert any(name.startswith("Derive/") for name, _, _ in _side_inputs(translated))


def test_all_steps_run_in_the_image_that_was_named(translated: beam_runner_api_pb2.Pipeline) -> None:
    (environment,) = translated.components.environments.values()
    assert environment.urn == "beam:env:docker:v1"
    assert beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image == IMAGE
    staged = [
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(each.role_payload).staged_name
        for each in environment.dependencies
    ]
    # No package of ours or of others: a worker that installs nothing starts sooner.
    assert [name for name in staged if name.endswith((".whl", ".tar.gz", ".zip"))] == []


def test_the_graph_holds_no_secret(translated: beam_runner_api_pb2.Pipeline) -> None:
    contents = b"\0".join([translated.SerializeToString(), *pickled_dofns(translated)])
    # The search finds what is there, though it is packed.
    assert b"transforms.reading.bucket_blobs" in contents
    for secret in SECRETS:
        assert secret.encode() not in contents


def test_a_template_is_refused_since_its_job_would_begin_after_the_launcher_has_gone() -> None:
    with pytest.raises(UsageError, match="--template_location leaves a graph"):
        parse(["--input=gs://b/*", "--forwarders=gs://b/f.json", *_flags(), "--template_location=gs://b/t"])


@pytest.mark.parametrize("flag", ["--project", "--temp_location", "--sdk_container_image"])
def test_a_flag_that_dataflow_needs_is_asked_for_before_anything_is_sent(flag: str) -> None:
    with pytest.raises(UsageError, match=f"DataflowRunner needs {flag}: "):
        parse(["--input=gs://b/*", "--forwarders=gs://b/f.json", "--output=gs://b/out", *_flags(flag)])
