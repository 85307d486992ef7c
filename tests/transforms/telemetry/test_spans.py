"""Traces of a record's way: what is a trace, who is traced, and that it stays bounded."""

import asyncio
import pickle
from collections.abc import Sequence

import pytest

pytest.importorskip("opentelemetry.sdk", reason="OpenTelemetry is absent: the extra [otel]")

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler, TraceIdRatioBased
from opentelemetry.trace import StatusCode

from tests.support.records import item, record
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict
from transforms.telemetry import spans
from transforms.telemetry.spans import TracedBatchSink, TracedHttpSink, Tracing

DELIVERED = AttemptResult(Verdict.DELIVERED, status=200)
REFUSED = AttemptResult(Verdict.GIVE_UP, "http_400", 400)
AGAIN = AttemptResult(Verdict.RETRY, "timeout")


class Watched:
    """A tracing whose spans are kept in memory."""

    def __init__(self, sampler: Sampler = ALWAYS_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = Tracing([SimpleSpanProcessor(self._exporter)], sampler)

    def spans(self) -> Sequence[ReadableSpan]:
        return self._exporter.get_finished_spans()

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans() if span.name == name]


class HttpSink:
    """Answers one item after the other by a list."""

    max_items = 7

    def __init__(self, *outcomes: AttemptResult) -> None:
        self._outcomes = list(outcomes)

    async def send(self, sent: Item) -> AttemptResult:
        return self._outcomes.pop(0)

    async def send_batch(self, sent: Sequence[Item]) -> list[AttemptResult]:
        return [self._outcomes.pop(0) for _ in sent]


class BatchSink(HttpSink):
    def send(self, sent: Sequence[Item]) -> list[AttemptResult]:  # type: ignore[override]
        return [self._outcomes.pop(0) for _ in sent]


def test_a_records_way_is_one_trace_whoever_gives_its_spans() -> None:
    reader, worker = Watched(), Watched()
    sent = item("ann", 1)
    reader.tracing.read("ann", "1", "in/a.jsonl", 5)
    worker.tracing.step("derive", [sent.record], 10)
    worker.tracing.step("match", [sent.record], 20)
    worker.tracing.submitted([sent])
    sink = TracedHttpSink(HttpSink(AGAIN, DELIVERED), worker.tracing)
    asyncio.run(sink.send(sent))
    asyncio.run(sink.send(sent))
    worker.tracing.settled([Settlement(sent, DELIVERED)])
    (root,) = reader.spans()
    assert root.parent is None
    assert root.start_time == 5
    contexts = [span.get_span_context() for span in (root, *worker.spans())]
    assert len({context.trace_id for context in contexts if context is not None}) == 1
    assert root.context is not None
    parents = {span.name: span.parent.span_id for span in worker.spans() if span.parent is not None}
    assert parents["derive"] == parents["match"] == parents["deliver"] == root.context.span_id
    (deliver,) = worker.named("deliver")
    assert deliver.context is not None
    assert parents["attempt"] == deliver.context.span_id
    failed, succeeded = worker.named("attempt")
    assert (failed.status.status_code, failed.attributes) == (
        StatusCode.ERROR,
        {"session_forwarder.records_in_call": 1, "error.type": "timeout"},
    )
    assert succeeded.attributes == {"session_forwarder.records_in_call": 1, "http.response.status_code": 200}
    assert deliver.attributes == {
        "session_forwarder.id": "ann/1",
        "session_forwarder.record_id": "1",
        "session_forwarder.kind": "event",
        "session_forwarder.forwarder": "f",
        "session_forwarder.attempts": 0,
        "session_forwarder.outcome": "delivered",
    }
    assert [event.name for event in deliver.events] == ["settled"]


def test_records_of_two_activities_are_two_traces_and_of_one_activity_one() -> None:
    watched = Watched()
    watched.tracing.step("derive", [record("ann", 1), record("ann", 1), record("ann", 2), record("bob", 1)], 0)
    traces = [span.context.trace_id for span in watched.spans() if span.context is not None]
    assert len(traces) == 4
    assert traces[0] == traces[1]
    assert len(set(traces)) == 3


def test_a_batch_is_an_attempt_of_each_of_its_records() -> None:
    watched = Watched()
    sent = [item("ann", 1), item("bob", 1), item("cid", 1)]
    watched.tracing.submitted(sent[:2])
    sink = TracedBatchSink(BatchSink(DELIVERED, REFUSED, DELIVERED), watched.tracing)
    assert sink.send(sent) == [DELIVERED, REFUSED, DELIVERED]
    assert asyncio.run(TracedHttpSink(HttpSink(DELIVERED), watched.tracing).send_batch(sent[2:])) == [DELIVERED]
    assert [
        span.attributes["session_forwarder.records_in_call"] for span in watched.named("attempt") if span.attributes
    ] == [
        3,
        3,
    ]
    watched.tracing.settled([Settlement(sent[1], REFUSED)])
    (refused,) = watched.named("deliver")
    assert refused.status.description == "http_400"
    assert refused.attributes is not None
    assert refused.attributes["session_forwarder.outcome"] == "dead_lettered"


def test_what_a_sink_says_of_itself_is_said_by_the_traced_one() -> None:
    assert TracedHttpSink(HttpSink(), Watched().tracing).max_items == 7


def test_whole_users_are_sampled_and_every_process_decides_alike() -> None:
    one, other = (Watched(TraceIdRatioBased(0.1)).tracing for _ in range(2))
    users = [f"user-{number}" for number in range(5_000)]
    taken = [user for user in users if one.takes(user)]
    assert 400 < len(taken) < 600
    assert taken == [user for user in users if other.takes(user)]


def test_of_a_user_who_is_not_sampled_nothing_is_kept() -> None:
    watched = Watched(ALWAYS_OFF)
    sent = item("ann", 1)
    watched.tracing.step("match", [sent.record], 0)
    watched.tracing.submitted([sent])
    watched.tracing.attempted([sent], [DELIVERED], 0)
    watched.tracing.settled([Settlement(sent, DELIVERED)])
    assert watched.spans() == ()


def test_deliveries_that_are_traced_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "MOST_DELIVERIES", 3)
    watched = Watched()
    sent = [item("ann", number) for number in range(10)]
    watched.tracing.submitted(sent)
    watched.tracing.settled([Settlement(each, DELIVERED) for each in sent])
    assert len(watched.named("deliver")) == 3
    watched.tracing.submitted(sent[5:6])
    watched.tracing.settled([Settlement(sent[5], DELIVERED)])
    assert len(watched.named("deliver")) == 4


def test_no_span_holds_the_user_or_the_payload() -> None:
    watched = Watched()
    sent = item("ann@example.org", 1, payload=b"SECRET")
    sent = Item(sent.forwarder_id, sent.record, b"SECRET", "record")
    watched.tracing.submitted([sent])
    watched.tracing.settled([Settlement(sent, DELIVERED)])
    text = watched.spans()[0].to_json()
    assert "SECRET" not in text
    # An id of this test's records holds the user; those of real ones are UUIDs.
    assert "ann@example.org" not in text.replace("ann@example.org/1", "")


def test_a_tracing_does_not_pickle() -> None:
    with pytest.raises(TypeError, match="make it on the worker"):
        pickle.dumps(Watched().tracing)
