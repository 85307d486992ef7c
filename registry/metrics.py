"""What the service tells Prometheus at `/metrics`: its requests, its jobs, and how its store does."""

import time
from collections import Counter as Counts
from collections.abc import Callable, Iterable
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from registry.jobs import State
from registry.proxies import TrustedProxies
from registry.stores.base import Store, StoreError

CONTENT_TYPE = CONTENT_TYPE_LATEST

ELSEWHERE = "other"
"""The route of requests for addresses that the service does not have, and the method of those that nobody knows."""

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one application. Safe to use from several threads. No label holds what a client has sent.

    Args:
        networks: CIDRs from which they may be read, beside this machine.
        clock: gives seconds; monotonic.
    """

    def __init__(self, networks: tuple[str, ...] = (), clock: Callable[[], float] = time.perf_counter) -> None:
        self.readers = TrustedProxies(networks)
        self._clock = clock
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "registry_requests", "Requests that were answered.", ("method", "route", "status"), registry=self._registry
        )
        self._durations = Histogram(
            "registry_request_duration_seconds",
            "From a request's headers to the end of its answer.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._under_way = Gauge("registry_requests_under_way", "Requests that wait.", registry=self._registry)
        self._store_errors = Counter(
            "registry_store_errors",
            "Requests that the store did not answer, or had no room for.",
            registry=self._registry,
        )
        self._store_up = Gauge("registry_store_up", "1 if the store answers and has room.", registry=self._registry)
        self._store_seconds = Gauge(
            "registry_store_answer_seconds", "That the store took to answer just now.", registry=self._registry
        )

        self._jobs = Gauge(
            "registry_jobs", "Redrives and replays that are remembered.", ("state",), registry=self._registry
        )

    def begin(self) -> None:
        """Count a request that has come."""
        self._under_way.inc()

    def end(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that is answered.

        Args:
            route: the address as the service has it, such as `/api/v2/statementforwarding/{id}`, or `ELSEWHERE`.
            seconds: since it began.
        """
        self._under_way.dec()
        # A method is whatever the client writes, and each would be a series.
        method = method if method in _METHODS else ELSEWHERE
        self._requests.labels(method, route, str(status)).inc()
        self._durations.labels(method, route).observe(seconds)

    def store_failed(self) -> None:
        """Count a request that the store failed."""
        self._store_errors.inc()

    def text(self, store: Store, jobs: Iterable[State]) -> bytes:
        """All of it as Prometheus reads it. The store is asked for an answer.

        Args:
            jobs: the states of those that are remembered.
        """
        states = Counts(jobs)
        for state in get_args(State):
            self._jobs.labels(state).set(states[state])
        started = self._clock()
        try:
            store.check()
            self._store_up.set(1)
        except StoreError:
            self._store_up.set(0)
        self._store_seconds.set(self._clock() - started)
        return generate_latest(self._registry)
