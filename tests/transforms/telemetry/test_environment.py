"""What the variables of OpenTelemetry ask for."""

import pytest

from transforms.telemetry.environment import TelemetryError, asks_for, exporter_names

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environment", "metrics", "traces"),
    [
        ({}, False, False),
        ({"OTEL_SERVICE_NAME": "job", "OTEL_RESOURCE_ATTRIBUTES": "a=b"}, False, False),
        ({ENDPOINT: "http://c:4318"}, True, True),
        ({ENDPOINT: " "}, False, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/v1/traces"}, False, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c:4318/v1/metrics"}, True, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, False, True),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True, False),
        ({ENDPOINT: "http://c:4318", "OTEL_TRACES_EXPORTER": "none"}, True, False),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "True"}, False, False),
        ({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "false"}, True, True),
    ],
)
def test_a_signal_is_exported_where_an_exporter_or_an_endpoint_is_named(
    environment: dict[str, str], metrics: bool, traces: bool
) -> None:
    assert (asks_for("metrics", environment), asks_for("traces", environment)) == (metrics, traces)


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({}, ["otlp_proto_http"]),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ["otlp_proto_grpc"]),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            ["otlp_proto_http"],
        ),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ["console", "otlp_proto_http"]),
        ({"OTEL_TRACES_EXPORTER": "none"}, []),
    ],
)
def test_the_exporters_are_those_of_opentelemetrys_entry_points(environment: dict[str, str], names: list[str]) -> None:
    assert exporter_names("traces", environment) == names


def test_a_protocol_that_is_not_spoken_is_refused_with_those_that_are() -> None:
    with pytest.raises(TelemetryError, match="OTEL_EXPORTER_OTLP_PROTOCOL http/json: use http/protobuf or grpc"):
        exporter_names("metrics", {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"})
