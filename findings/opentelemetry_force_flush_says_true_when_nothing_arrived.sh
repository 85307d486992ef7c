#!/usr/bin/env bash
# OpenTelemetry's force_flush answers True after an export that failed, and takes the exporter's time, not its own.
#
# Versions:  opentelemetry-sdk 1.45.2, opentelemetry-exporter-otlp-proto-http 1.45.2.
# Behaviour: A collector takes the connection and does not answer. The exporter gives up after its time-out. force_flush
#            of the tracer provider and of the meter provider, told to take half a second, returns when the exporter has
#            given up, and returns True. So its answer does not say that anything arrived, and a program that flushes at
#            its end waits for as long as OTEL_EXPORTER_OTLP_TIMEOUT says (ten seconds), whatever it asked for.
#            The meter provider's shutdown does keep the time that it is given.
# Source:    opentelemetry/sdk/_shared_internal/__init__.py, BatchProcessor.force_flush;
#            https://opentelemetry.io/docs/specs/otel/trace/sdk/#forceflush asks for an answer that tells success from
#            failure and from a time-out.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check \
    opentelemetry-sdk==1.45.2 opentelemetry-exporter-otlp-proto-http==1.45.2
cd "$place"
export NO_PROXY=127.0.0.1
"$place/venv/bin/python" - <<'PYTHON'
import logging
import socket
import time

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.version import __version__

logging.disable(logging.CRITICAL)
ASKED = 500  # milliseconds
GIVES_UP = 4  # seconds, the exporter's

collector = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{collector.getsockname()[1]}"


def timed(call):
    """What a call answers, and how long it takes in seconds."""
    began = time.monotonic()
    answer = call(timeout_millis=ASKED)
    return answer, time.monotonic() - began


traces = TracerProvider()
traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=GIVES_UP)))
with traces.get_tracer("a").start_as_current_span("a"):
    pass
exporter = OTLPMetricExporter(endpoint=f"{url}/v1/metrics", timeout=GIVES_UP)
metrics = MeterProvider(metric_readers=[PeriodicExportingMetricReader(exporter, export_interval_millis=10**7)])
metrics.get_meter("a").create_counter("a").add(1)

print("opentelemetry-sdk", __version__)
for name, provider in (("traces", traces), ("metrics", metrics)):
    answer, seconds = timed(provider.force_flush)
    print(f"force_flush({ASKED} ms) of {name}: {answer} after {seconds:.1f} s; the collector has answered nothing")
    assert answer is True
    assert seconds > GIVES_UP * 0.9
_, seconds = timed(metrics.shutdown)
print(f"shutdown({ASKED} ms) of metrics: after {seconds:.1f} s")
assert seconds < GIVES_UP / 2
PYTHON
