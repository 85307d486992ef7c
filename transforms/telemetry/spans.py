"""Traces of a record's way: read -> derive -> match -> each attempt -> settled. Importing this imports OpenTelemetry.

A trace is of one activity (or statement) and of all records that come of it. Its id follows from the user and the
activity, so that processes which know nothing of each other give spans to the same trace. The lower half of the id is
the user's: a sampler by ratio takes whole users, and what is not sampled costs one look at the user.

    read                    the block of input in which the activity was
    derive                  the batch in which its record was derived
    match                   the batch in which forwarders were found for it
    deliver                 for each forwarder: from its submission to its settlement
      attempt               for each attempt

A span names the record, its kind, the forwarder and what was answered. It holds no payload, user id or url.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NoReturn, cast

from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from schemas import Record
from transforms.sinks.base import (
    AttemptResult,
    BatchSink,
    BatchSinkFactory,
    HttpSink,
    HttpSinkFactory,
    Item,
    Settlement,
    Verdict,
)
from transforms.sinks.user_agent import installed_version
from transforms.telemetry.exporters import SERVICE, exporters, resource

DEFAULT_RATIO = 0.001
"""The share of users whose records are traced, unless OTEL_TRACES_SAMPLER says otherwise."""

MOST_DELIVERIES = 2_048
"""Deliveries that are traced at a time in one process. Of more no span is begun, so that a forwarder that is down for
hours, with a sampler that takes everybody, costs no memory."""

FLUSH_SECONDS = 5.0
"""Seconds that the end of a worker's step waits for its spans to be taken."""

_KNOWN_USERS = 65_536
"""Users of whom it is remembered whether they are sampled."""

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_BITS = 64
_PREFIX = "session_forwarder."


class _Ids(IdGenerator):
    """Gives the ids that are asked for in this thread, once; else random ones."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._asked = threading.local()

    def ask(self, trace_id: int, span_id: int) -> None:
        """Let the next span of this thread have these ids."""
        self._asked.ids = (trace_id, span_id)

    def generate_trace_id(self) -> int:
        asked: tuple[int, int] | None = getattr(self._asked, "ids", None)
        return self._random.generate_trace_id() if asked is None else asked[0]

    def generate_span_id(self) -> int:
        asked: tuple[int, int] | None = getattr(self._asked, "ids", None)
        self._asked.ids = None
        return self._random.generate_span_id() if asked is None else asked[1]


class Tracing:
    """Gives spans to exporters, of the users that a sampler takes. Any thread may use it.

    Args:
        processors: what takes the spans that have ended.
        sampler: None: that of OTEL_TRACES_SAMPLER.
    """

    def __init__(self, processors: Iterable[SpanProcessor], sampler: Sampler | None = None) -> None:
        self._ids = _Ids()
        self._provider = TracerProvider(sampler, resource(), shutdown_on_exit=False, id_generator=self._ids)
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(SERVICE, installed_version())
        self._deliveries: dict[tuple[str, str], Span] = {}
        self._lock = threading.Lock()
        self.takes: Callable[[str], bool] = lru_cache(_KNOWN_USERS)(self._takes)
        """Whether the records of a user are traced."""

    def _takes(self, user_id: str) -> bool:
        decision = self._provider.sampler.should_sample(None, _number(user_id), "read").decision
        return decision in (Decision.RECORD_AND_SAMPLE, Decision.RECORD_ONLY)

    def read(self, user_id: str, record_id: str, file: str, began: int) -> None:
        """An activity was read, of a user who is sampled. `began`: when its block was, in epoch ns."""
        self._ids.ask(*_trace_of(user_id, record_id))
        attributes = {f"{_PREFIX}record_id": record_id, f"{_PREFIX}file": file}
        self._tracer.start_span("read", Context(), attributes=attributes, start_time=began).end()

    def step(self, name: str, records: Iterable[Record], began: int) -> None:
        """A step is done with a batch; of the records whose users are sampled it gets a span each.

        Args:
            name: of the step.
            records: of the batch.
            began: when the step began with it, in epoch ns.
        """
        for record in records:
            if self.takes(record.user_id):
                self._tracer.start_span(name, _within(record), attributes=_named(record), start_time=began).end()

    def submitted(self, items: Iterable[Item]) -> None:
        """Items are on their way to their forwarders."""
        for item in items:
            record = item.record
            if not self.takes(record.user_id) or len(self._deliveries) >= MOST_DELIVERIES:
                continue
            attributes = {**_named(record), f"{_PREFIX}forwarder": item.forwarder_id}
            span = self._tracer.start_span("deliver", _within(record), SpanKind.PRODUCER, attributes)
            with self._lock:
                self._deliveries[item.forwarder_id, record.id] = span

    def attempted(self, items: Sequence[Item], outcomes: Sequence[AttemptResult], began: int) -> None:
        """An attempt has ended. `began`: in epoch ns."""
        for item, outcome in zip(items, outcomes, strict=True):
            delivery = self._deliveries.get((item.forwarder_id, item.record.id))
            if delivery is None:
                continue
            attributes: dict[str, str | int] = {f"{_PREFIX}records_in_call": len(items)}
            if outcome.status is not None:
                attributes["http.response.status_code"] = outcome.status
            if outcome.reason:
                attributes["error.type"] = outcome.reason
            span = self._tracer.start_span(
                "attempt", set_span_in_context(delivery), SpanKind.CLIENT, attributes, start_time=began
            )
            if outcome.verdict is not Verdict.DELIVERED:
                span.set_status(Status(StatusCode.ERROR, outcome.reason))
            span.end()

    def settled(self, settlements: Iterable[Settlement]) -> None:
        """Items have ended, and that is in the receipts."""
        if not self._deliveries:
            return
        for settlement in settlements:
            item, outcome = settlement.item, settlement.outcome
            with self._lock:
                span = self._deliveries.pop((item.forwarder_id, item.record.id), None)
            if span is None:
                continue
            span.set_attribute(f"{_PREFIX}attempts", item.attempts)
            span.set_attribute(f"{_PREFIX}outcome", "delivered" if settlement.delivered else "dead_lettered")
            if not settlement.delivered:
                span.set_attribute("error.type", outcome.reason)
                span.set_status(Status(StatusCode.ERROR, outcome.reason))
            span.add_event("settled")
            span.end()

    def traced(
        self, http_sink: HttpSinkFactory, batch_sink: BatchSinkFactory
    ) -> tuple[HttpSinkFactory, BatchSinkFactory]:
        """The factories of sinks whose attempts are traced."""
        return (
            lambda forwarder: cast("HttpSink", TracedHttpSink(http_sink(forwarder), self)),
            lambda forwarder: cast("BatchSink", TracedBatchSink(batch_sink(forwarder), self)),
        )

    def flush(self, seconds: float = FLUSH_SECONDS) -> None:
        """Wait until the exporters have taken all spans that have ended, for at most so many seconds."""
        # The SDK's own time-out bounds no export that is under way, and one to nobody is tried again and again.
        flushing = threading.Thread(target=self._provider.force_flush, name="otel flush", daemon=True)
        flushing.start()
        flushing.join(seconds)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Tracing has threads: make it on the worker")


class TracedSink:
    """A sink whose attempts are traced. All that is not an attempt is the sink's own.

    Args:
        sink: an HttpSink, an HttpBatchSink or a BatchSink.
        tracing: is told of each attempt.
    """

    def __init__(self, sink: Any, tracing: Tracing) -> None:
        self._sink = sink
        self._tracing = tracing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    async def send_batch(self, items: Sequence[Item]) -> list[AttemptResult]:
        """As HttpBatchSink."""
        began = time.time_ns()
        outcomes: list[AttemptResult] = await self._sink.send_batch(items)
        self._tracing.attempted(items, outcomes, began)
        return outcomes


class TracedHttpSink(TracedSink):
    """An HttpSink or HttpBatchSink."""

    async def send(self, item: Item) -> AttemptResult:
        """As HttpSink."""
        began = time.time_ns()
        outcome: AttemptResult = await self._sink.send(item)
        self._tracing.attempted((item,), (outcome,), began)
        return outcome


class TracedBatchSink(TracedSink):
    """A BatchSink."""

    def send(self, items: Sequence[Item]) -> list[AttemptResult]:
        """As BatchSink."""
        began = time.time_ns()
        outcomes: list[AttemptResult] = self._sink.send(items)
        self._tracing.attempted(items, outcomes, began)
        return outcomes


def open_tracing() -> Tracing:
    """The tracing that the variables of this process ask for.

    Raises:
        TelemetryError: an exporter cannot be had.
    """
    sampler = (
        None if os.environ.get("OTEL_TRACES_SAMPLER", "").strip() else ParentBased(TraceIdRatioBased(DEFAULT_RATIO))
    )
    return Tracing([BatchSpanProcessor(exporter) for exporter in exporters("traces")], sampler)


def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=_BITS // 8).digest(), "big")


def _trace_of(user_id: str, record_id: str) -> tuple[int, int]:
    """The ids of a trace and of its root."""
    activity = _number(f"{user_id}\0{record_id}")
    # Neither may be zero.
    return (activity << _BITS | _number(user_id)) or 1, activity or 1


def _within(record: Record) -> Context:
    """The root of a record's trace, as the parent of a span."""
    trace_id, root = _trace_of(record.user_id, record.record_id)
    return set_span_in_context(NonRecordingSpan(SpanContext(trace_id, root, is_remote=True, trace_flags=_SAMPLED)))


def _named(record: Record) -> dict[str, str]:
    return {
        f"{_PREFIX}id": record.id,
        f"{_PREFIX}record_id": record.record_id,
        f"{_PREFIX}kind": record.kind,
    }
