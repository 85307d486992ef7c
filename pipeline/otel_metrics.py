"""Metrics for OpenTelemetry: pushed to the exporters that its variables ask for, at their interval and at the end.

Imported when they ask for metrics, and not before. What is exported is the board, in OpenTelemetry's own data model:
its instruments know no histogram that is read from elsewhere.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from transforms.accounting.board import LATENCY_BOUNDS
from transforms.observing.metrics import Bins, Family
from transforms.sinks.user_agent import installed_version
from transforms.telemetry.environment import TelemetryError
from transforms.telemetry.exporters import SERVICE, exporters, resource

logger = logging.getLogger(__name__)

DEFAULT_INTERVAL = 60.0
"""Seconds from one push to the next, unless OTEL_METRIC_EXPORT_INTERVAL (milliseconds) says otherwise."""

LAST_SECONDS = 5.0
"""Seconds that the end of a run waits for the last push."""

_SUFFIXES = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}


def otel_name(name: str, unit: str) -> str:
    """A metric's name without what its kind and unit say already; a collector that writes for Prometheus adds it."""
    return name.removesuffix("_total").removesuffix(_SUFFIXES.get(unit, ""))


class MetricsPusher:
    """Pushes metrics from a thread of its own.

    Args:
        families: gives the metrics as they are now.
        to: OpenTelemetry's exporters.
        interval: seconds from one push to the next.
    """

    def __init__(self, families: Callable[[], Iterable[Family]], to: Sequence[Any], interval: float) -> None:
        self._families = families
        self._exporters = to
        self._interval = interval
        self._resource = resource()
        self._scope = InstrumentationScope(SERVICE, installed_version())
        self._began = time.time_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="otel metrics", daemon=True)
        self._thread.start()

    @classmethod
    def opened(cls, families: Callable[[], Iterable[Family]]) -> "MetricsPusher | None":
        """With what the variables ask for; None, and a line in the log, if that cannot be had."""
        try:
            return cls(families, exporters("metrics"), _interval())
        except TelemetryError as error:
            logger.warning("%s; the run goes on without metrics", error)
            return None

    def close(self) -> None:
        """Push once more, and wait for that for LAST_SECONDS at most."""
        self._ended.set()
        self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._push(self._interval)
        self._push(LAST_SECONDS)
        for exporter in self._exporters:
            exporter.shutdown()

    def _push(self, within: float) -> None:
        data = self._data()
        for exporter in self._exporters:
            try:
                exporter.export(data, timeout_millis=within * 1000)
            except Exception:
                # A push that fails is not the run's fault, and the next one says all of it again.
                logger.exception("metrics were not pushed to OpenTelemetry")

    def _data(self) -> MetricsData:
        now = time.time_ns()
        metrics = [self._metric(family, now) for family in self._families() if family.samples]
        return MetricsData([ResourceMetrics(self._resource, [ScopeMetrics(self._scope, metrics, "")], "")])

    def _metric(self, family: Family, now: int) -> Metric:
        metric = family.metric
        data: Sum | Gauge | Histogram
        if metric.kind == "histogram":
            points = [
                self._bins(dict(zip(metric.labels, labels, strict=True)), value, now)
                for labels, value in family.samples
                if isinstance(value, Bins)
            ]
            data = Histogram(points, AggregationTemporality.CUMULATIVE)
        else:
            numbers = [
                NumberDataPoint(dict(zip(metric.labels, labels, strict=True)), self._began, now, value)
                for labels, value in family.samples
                if not isinstance(value, Bins)
            ]
            data = (
                Sum(numbers, AggregationTemporality.CUMULATIVE, is_monotonic=True)
                if metric.kind == "counter"
                else Gauge(numbers)
            )
        return Metric(otel_name(metric.name, metric.unit), metric.help, metric.unit, data)

    def _bins(self, attributes: dict[str, str], bins: Bins, now: int) -> HistogramDataPoint:
        # The least and the largest are optional in OTLP, and not known. The SDK's type has no None for them.
        unknown: Any = None
        count = sum(bins.counts)
        return HistogramDataPoint(
            attributes, self._began, now, count, bins.sum, bins.counts, LATENCY_BOUNDS, unknown, unknown
        )


def _interval() -> float:
    text = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip()
    try:
        seconds = float(text) / 1000
    except ValueError:
        return DEFAULT_INTERVAL
    return seconds if seconds > 0 else DEFAULT_INTERVAL
