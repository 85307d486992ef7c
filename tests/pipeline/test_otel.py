"""OpenTelemetry of whole jobs: what reaches a receiver of OTLP, and a real collector."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.proto", reason="OpenTelemetry is absent: the extra [otel]")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pipeline.otel_metrics import otel_name
from tests.support.activity import activity
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, in_thread
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.watching import collector, needs_collector
from tests.support.workshop import Workshop
from transforms.observing.metrics import METRICS

WITHOUT_PACKAGES = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from pipeline.__main__ import console
console()
"""


def job(workshop: Workshop, *more: str, start: tuple[str, ...] = ("-m", "pipeline"), **variables: str) -> Any:
    """The job in a process of its own, with these variables."""
    usual = ("--input", str(workshop.path / "in" / "*"), *workshop.arguments(*more))
    return subprocess.run(  # noqa: S603
        [sys.executable, *start, *usual],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def prepare(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity([activity("START", user_id=f"u{number}", session_id=f"s{number}") for number in range(9)])
    workshop.write_forwarders(http_document(receiver))


def test_metrics_and_traces_reach_a_receiver_of_otlp(workshop: Workshop, receiver: Receiver) -> None:
    prepare(workshop, receiver)
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u3" else 200)
    with in_thread(Receiver()) as otlp:
        assert isinstance(otlp, Receiver)
        done = job(
            workshop,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://{otlp.url('').rstrip('/')}",
            OTEL_TRACES_SAMPLER="always_on",
            OTEL_SERVICE_NAME="nightly",
        )
        assert done.returncode == 3, done.stderr
        bodies = [(arrival.request_line.split()[1], arrival.body) for arrival in otlp.log]
    spans: Counter[str] = Counter()
    for path, body in bodies:
        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {each.key: each.value.string_value for each in resource.resource.attributes}
                assert names["service.name"] == "nightly"
                spans.update(span.name for scope in resource.scope_spans for span in scope.spans)
    assert spans == {"read": 9, "derive": 9, "match": 9, "deliver": 9, "attempt": 9}
    last = [ExportMetricsServiceRequest.FromString(body) for path, body in bodies if path == "/v1/metrics"][-1]
    metrics = {metric.name: metric for metric in last.resource_metrics[0].scope_metrics[0].metrics}
    assert metrics.keys() <= {otel_name(metric.name, metric.unit) for metric in METRICS}
    prefix = "session_forwarder_"
    assert metrics[f"{prefix}run_exit_status"].gauge.data_points[0].as_int == 3
    delivered = metrics[f"{prefix}records_delivered"].sum
    assert delivered.is_monotonic
    assert [point.as_int for point in delivered.data_points] == [8]
    duration = metrics[f"{prefix}delivery_duration"]
    assert duration.unit == "s"
    assert [(point.count, sum(point.bucket_counts)) for point in duration.histogram.data_points] == [(9, 9)]


def test_without_the_packages_one_sentence_says_so_and_the_run_goes_on(workshop: Workshop, receiver: Receiver) -> None:
    prepare(workshop, receiver)
    done = job(workshop, start=("-c", WITHOUT_PACKAGES), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "OTEL" in line]
    assert len(said) == 1
    assert "its packages are not installed: the run goes on without; pip install 'session-forwarder[otel]'" in said[0]


@pytest.mark.long
def test_a_collector_that_is_not_there_changes_nothing(workshop: Workshop, receiver: Receiver) -> None:
    prepare(workshop, receiver)
    endpoint = f"http://127.0.0.1:{free_port()}"
    done = job(workshop, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_TRACES_SAMPLER="always_on")
    assert done.returncode == 0, done.stderr
    assert workshop.account("http")["delivered"] == 9


@pytest.mark.long
@needs_collector
@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a_real_collector_takes_metrics_and_traces(
    workshop: Workshop, receiver: Receiver, tmp_path: Path, protocol: str
) -> None:
    prepare(workshop, receiver)
    with collector(tmp_path) as real:
        done = job(
            workshop,
            OTEL_EXPORTER_OTLP_ENDPOINT=real.grpc if protocol == "grpc" else real.http,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_TRACES_SAMPLER="always_on",
        )
        assert done.returncode == 0, done.stderr
    said = real.said()
    assert Counter(re.findall(r"Name +: (\w+)", said)) == dict.fromkeys(
        ("read", "derive", "match", "deliver", "attempt"), 9
    )
    exported = {otel_name(metric.name, metric.unit) for metric in METRICS}
    named = set(re.findall(r"Name: (session_forwarder_\w+)", said))
    assert named <= exported
    assert exported - named <= {
        "session_forwarder_input_rejected",
        "session_forwarder_stream_lag",
        "session_forwarder_dead_letters",
    }
