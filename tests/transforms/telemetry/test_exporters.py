"""OpenTelemetry's own exporters, as the variables choose them."""

import pytest

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is absent: the extra [otel]")

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans

from transforms.telemetry.environment import Signal, TelemetryError
from transforms.telemetry.exporters import exporters, resource


def test_otlp_is_what_is_used_unless_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [type(exporter) for exporter in exporters("metrics")] == [HttpMetrics]
    assert [type(exporter) for exporter in exporters("traces")] == [HttpSpans]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    assert [type(exporter) for exporter in exporters("traces")] == [GrpcSpans]


@pytest.mark.parametrize("signal", ["metrics", "traces"])
def test_an_exporter_that_is_not_there_is_told_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, signal: Signal
) -> None:
    monkeypatch.setenv(f"OTEL_{signal.upper()}_EXPORTER", "pigeon")
    with pytest.raises(TelemetryError, match="there is no exporter pigeon here: use otlp or console"):
        exporters(signal)


def test_the_service_is_named_unless_a_variable_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resource().attributes["service.name"] == "session-forwarder"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=by-attributes,deployment.environment=test")
    assert resource().attributes["service.name"] == "by-attributes"
    assert resource().attributes["deployment.environment"] == "test"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "by-name")
    assert resource().attributes["service.name"] == "by-name"
