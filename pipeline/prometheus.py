"""Metrics for Prometheus: over HTTP (`--metrics_port`), and as a file for the textfile collector (`--metrics_file`).

Imported when one of these flags is given, and not before: prometheus_client takes longer than a start may.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.flag_values import Listen
from transforms.accounting.board import LATENCY_BOUNDS
from transforms.observing.metrics import Bins, Family

logger = logging.getLogger(__name__)

FILE_MODE = 0o644
"""Of the textfile: the collector is another user. There is nothing in it but numbers, ids and reasons."""

Families = Callable[[], Iterable[Family]]
"""Gives all metrics as they are now. It is called from any thread."""


class _Board(Collector):
    """What is on the board, whenever Prometheus asks. Nothing is kept from one time to the next."""

    def __init__(self, families: Families, name: str | None) -> None:
        self._families = families
        self._name = name

    def collect(self) -> Iterator[Metric]:
        return (_as_prometheus(family, self._name) for family in self._families())

    def describe(self) -> Iterable[Metric]:
        """Nothing: else the registry would ask for all values only to learn the names."""
        return ()


def registry_of(families: Families, name: str | None = None) -> CollectorRegistry:
    """What prometheus_client takes to write the metrics down.

    Args:
        families: the metrics.
        name: the value of a label `name` that all of them get; None: they get none.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Board(families, name))
    return registry


def _as_prometheus(family: Family, name: str | None) -> Metric:
    metric = family.metric
    beside = [] if name is None else [name]
    labels = [*metric.labels, *(["name"] if beside else [])]
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for own, value in family.samples:
            if isinstance(value, Bins):
                histogram.add_metric([*own, *beside], _buckets(value), sum_value=value.sum)
        return histogram
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    plain = kind(metric.name, metric.help, labels=labels)
    for own, value in family.samples:
        if not isinstance(value, Bins):
            plain.add_metric([*own, *beside], value)
    return plain


_ENDS = (*(f"{bound:g}" for bound in LATENCY_BOUNDS), "+Inf")


def _buckets(bins: Bins) -> list[tuple[str, float]]:
    return list(zip(_ENDS, accumulate(bins.counts), strict=True))


class MetricsServer:
    """Answers Prometheus at the first free port of a range, in threads of its own.

    Args:
        listen: where.
        families: what it answers with.

    Raises:
        OSError: no port of the range is free, or the host is none of this machine's.
    """

    def __init__(self, listen: Listen, families: Families) -> None:
        registry = registry_of(families)
        self._server, self._thread = _started(listen, registry)

    @property
    def port(self) -> int:
        """The port it has."""
        return self._server.server_port

    def close(self) -> None:
        """Answer no more, and give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _started(listen: Listen, registry: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
    for port in range(listen.first, listen.last + 1):
        try:
            return start_http_server(port, listen.host, registry)
        except OSError:
            if port == listen.last:
                raise
    raise ValueError(f"{listen} is an empty range")


class MetricsFile:
    """Writes the metrics where node_exporter's textfile collector reads them: whole, or not at all.

    The collector puts the files of all jobs of a machine together, and refuses two values of the same labels. So each
    has a label more, `name`: what its file is called, without `.prom`.

    Args:
        path: ends in `.prom`.
        families: what is written.
    """

    def __init__(self, path: str, families: Families) -> None:
        self._path = Path(path)
        self._registry = registry_of(families, self._path.stem)
        self._told = False

    def check(self) -> None:
        """Raises OSError if the file cannot be written."""
        draft = self._draft()
        try:
            draft.touch()
        finally:
            draft.unlink(missing_ok=True)

    def write(self) -> None:
        """Replace the file. That it cannot be written is logged once, and holds up nothing."""
        draft = self._draft()
        try:
            content = generate_latest(self._registry)
            draft.write_bytes(content)
            # The run makes its files for their owner alone.
            draft.chmod(FILE_MODE)
            draft.replace(self._path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            if not self._told:
                self._told = True
                logger.warning(
                    "--metrics_file %s cannot be written: %s; the run goes on without", self._path, error.strerror
                )

    def _draft(self) -> Path:
        """Not `.prom`, so that the collector does not read what is half written."""
        return self._path.with_name(f".{self._path.name}.{os.getpid()}.draft")
