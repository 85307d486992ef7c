"""What every sink does, whatever protocol it speaks: each against a real server on this machine.

A new sink is held to all of this by an entry in SINKS: a Bench, which says how its server is made to answer badly.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import ClassVar, Literal, Self

import pytest

from tests.support.forwarders import SECRET_KEY, aws_forwarder
from tests.support.http_sink import LOCAL, loaded_forwarder
from tests.support.laboratory.aws_fake import AwsFake, Stream, Word
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, in_thread
from tests.support.records import item, items
from tests.support.waiting import until
from transforms.sinks.base import AttemptResult, Item, Verdict
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http import PostSink
from transforms.sinks.http_client import HttpClient

Meeting = Literal["fails", "throttles", "loses the answer", "answers with garbage"]


class Bench(ABC):
    """A sink and the server it sends to, for as long as the context lasts."""

    secret: ClassVar[str]
    """What the sink signs or authenticates with, and nobody else may see."""

    record_limit: ClassVar[int | None]
    """Bytes of a payload that the sink gives up instead of sending it; None: there is no such limit."""

    throttling_spends_attempt: ClassVar[bool]

    def __init__(self) -> None:
        self.resources = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.resources.close()

    @abstractmethod
    def send(self, due: Sequence[Item]) -> list[AttemptResult]:
        """One attempt at each item. Opens the sink before the first."""

    @abstractmethod
    def close_sink(self) -> None: ...

    @abstractmethod
    def next_request(self, meeting: Meeting) -> None:
        """How the server meets the next request. It takes all others; where the answer is lost, it has stored them."""

    @abstractmethod
    def refuse(self, refused: Item) -> None:
        """The server takes everything but this item, and says so, with the sink's own credentials if it saw them."""

    @abstractmethod
    def stop_server(self) -> None:
        """From now on nobody listens there."""

    @abstractmethod
    def requests(self) -> int:
        """Requests that reached the server."""

    @abstractmethod
    def received(self) -> list[bytes]:
        """The payloads that the server stored, in that order, without what the sink puts round a payload."""

    @property
    @abstractmethod
    def open_connections(self) -> int: ...


class HttpBench(Bench):
    secret = "hunter2-token"
    record_limit = None
    throttling_spends_attempt = True

    ANSWERS: ClassVar[dict[Meeting, Answer]] = {
        "fails": Answer(500),
        "throttles": Answer(429),
        "loses the answer": Answer(fault="close", stored=True),
        "answers with garbage": Answer(fault="garbage", stored=True),
    }

    def __init__(self) -> None:
        super().__init__()
        self._next: list[Answer] = []
        self._refused: str | None = None
        self._listening = self.resources.enter_context(ExitStack())
        self._server = self._listening.enter_context(in_thread(FaultServer(self._answer)))
        self._loop = self.resources.enter_context(asyncio.Runner())
        url = f"127.0.0.1:{self._server.port}/in"
        forwarder = loaded_forwarder({"protocol": "http", "url": url, "authType": "token", "secret": self.secret})
        self.sink = PostSink(forwarder, HttpClient(LOCAL))
        self._loop.run(self.sink.open())

    def _answer(self, arrival: Arrival) -> Answer:
        if arrival.key == self._refused:
            return Answer(400, body=f"no: {arrival.headers}".encode())
        return self._next.pop(0) if self._next else Answer()

    def send(self, due: Sequence[Item]) -> list[AttemptResult]:
        return [self._loop.run(self.sink.send(each)) for each in due]

    def close_sink(self) -> None:
        self._loop.run(self.sink.close())

    def next_request(self, meeting: Meeting) -> None:
        self._next.append(self.ANSWERS[meeting])

    def refuse(self, refused: Item) -> None:
        self._refused = refused.record.id

    def stop_server(self) -> None:
        self._listening.close()

    def requests(self) -> int:
        return len(self._server.log)

    def received(self) -> list[bytes]:
        return [arrival.body for arrival in self._server.log if arrival.stored]

    @property
    def open_connections(self) -> int:
        return self._server.open_connections


class _AwsBench(Bench):
    secret = SECRET_KEY
    throttling_spends_attempt = False

    service: ClassVar[str]
    framing: ClassVar[bytes]
    words: ClassVar[dict[Meeting, Word]]

    def __init__(self) -> None:
        super().__init__()
        self._listening = self.resources.enter_context(ExitStack())
        self._fake = self._listening.enter_context(AwsFake())
        self._stream = self.stream_of(self._fake)
        environment = self.resources.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("AWS_ENDPOINT_URL", self._fake.endpoint)
        self.sink = batch_sinks()(aws_forwarder(service=self.service))
        self.sink.open()

    @abstractmethod
    def stream_of(self, fake: AwsFake) -> Stream: ...

    def send(self, due: Sequence[Item]) -> list[AttemptResult]:
        return self.sink.send(due)

    def close_sink(self) -> None:
        self.sink.close()

    def next_request(self, meeting: Meeting) -> None:
        self._fake.faults.script.append(self.words[meeting])

    def refuse(self, refused: Item) -> None:
        self._fake.invalid.add(refused.payload + self.framing)

    def stop_server(self) -> None:
        self._listening.close()

    def requests(self) -> int:
        return self._fake.calls.total()

    def received(self) -> list[bytes]:
        data = self._stream.data()
        assert all(each.endswith(self.framing) for each in data)
        return [each.removesuffix(self.framing) for each in data]

    @property
    def open_connections(self) -> int:
        return self._fake.open_connections


class KinesisBench(_AwsBench):
    service = "streams"
    framing = b""
    record_limit = 1024 * 1024 - len("ann")  # the partition key counts
    words: ClassVar[dict[Meeting, Word]] = {
        "fails": "call_500_not_stored",
        "throttles": "call_throttled",
        "loses the answer": "answer_lost",
        "answers with garbage": "garbage",
    }

    def stream_of(self, fake: AwsFake) -> Stream:
        # Room for two of the largest records at once.
        return fake.add_stream("stream", bytes_per_second=4e6)


class FirehoseBench(_AwsBench):
    service = "firehose"
    framing = b"\n"
    record_limit = 1000 * 1024 - len(b"\n")
    words: ClassVar[dict[Meeting, Word]] = {**KinesisBench.words, "throttles": "call_503"}

    def stream_of(self, fake: AwsFake) -> Stream:
        return fake.add_delivery_stream("stream", bytes_per_second=4e6)


SINKS: dict[str, type[Bench]] = {"http": HttpBench, "kinesis": KinesisBench, "firehose": FirehoseBench}
"""Every sink, by the word of its protocol."""

LIMITED = [name for name, kind in SINKS.items() if kind.record_limit is not None]


@pytest.fixture(params=SINKS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with SINKS[request.param]() as made:
        yield made


def verdicts(results: Sequence[AttemptResult]) -> list[Verdict]:
    return [result.verdict for result in results]


def test_what_is_delivered_is_told_item_by_item(bench: Bench) -> None:
    due = items(20, 1)
    results = bench.send(due)
    assert verdicts(results) == [Verdict.DELIVERED] * 20
    assert not any(result.ambiguous or result.failure for result in results)
    assert bench.received() == [each.payload for each in due]


@pytest.mark.parametrize(
    "payload",
    [
        b'{"user_id":"ann"}',
        '{"name":"Zoë 学生 \u2028"}'.encode(),
        b'{ "spaced" : 1.0 }\n',
        bytes(range(256)),
        b"x" * 900_000,
    ],
    ids=["plain", "not ASCII", "spaces and a newline", "every byte", "large"],
)
def test_the_bytes_of_a_payload_arrive_as_they_are(bench: Bench, payload: bytes) -> None:
    assert verdicts(bench.send([item("ann", 0, payload=payload)])) == [Verdict.DELIVERED]
    assert bench.received() == [payload]


def test_a_record_that_is_refused_is_given_up_and_no_other(bench: Bench) -> None:
    due = items(7, 1)
    bench.refuse(due[3])
    results = bench.send(due)
    assert verdicts(results) == [Verdict.DELIVERED if each is not due[3] else Verdict.GIVE_UP for each in due]
    assert results[3].reason
    assert not results[3].ambiguous
    assert bench.received() == [each.payload for each in due if each is not due[3]]


def test_a_server_that_fails_is_a_failure_and_may_be_tried_again(bench: Bench) -> None:
    bench.next_request("fails")
    (result,) = bench.send([item("ann", 0)])
    assert (result.verdict, result.failure, result.spends_attempt) == (Verdict.RETRY, True, True)
    assert result.reason
    assert bench.requests() == 1, "an attempt is one request: when there is another is for the lane to say"
    assert bench.received() == []
    assert verdicts(bench.send([item("ann", 0)])) == [Verdict.DELIVERED]


def test_throttling_is_no_failure(bench: Bench) -> None:
    bench.next_request("throttles")
    (result,) = bench.send([item("ann", 0)])
    assert (result.verdict, result.failure, result.ambiguous) == (Verdict.RETRY, False, False)
    assert result.spends_attempt is bench.throttling_spends_attempt
    assert bench.requests() == 1
    assert verdicts(bench.send([item("ann", 0)])) == [Verdict.DELIVERED]


@pytest.mark.parametrize("meeting", ["loses the answer", "answers with garbage"])
def test_who_has_no_answer_cannot_know(bench: Bench, meeting: Meeting) -> None:
    bench.next_request(meeting)
    due = item("ann", 0)
    (result,) = bench.send([due])
    assert (result.verdict, result.ambiguous, result.failure) == (Verdict.RETRY, True, True)
    assert bench.received() == [due.payload], "the server has it, and the sink says that it may"
    assert bench.requests() == 1
    assert verdicts(bench.send([due])) == [Verdict.DELIVERED]


def test_where_nobody_listens_nothing_arrived(bench: Bench) -> None:
    bench.stop_server()
    results = bench.send([item("ann", 0)])
    assert verdicts(results) == [Verdict.RETRY]
    assert results[0].failure
    assert not results[0].ambiguous


@pytest.mark.parametrize("name", LIMITED)
def test_what_is_too_large_is_given_up_and_never_cut(name: str) -> None:
    with SINKS[name]() as bench:
        assert bench.record_limit is not None
        largest, larger = b"x" * bench.record_limit, b"x" * (bench.record_limit + 1)
        due = [item("ann", 0, payload=larger), item("ann", 0, payload=largest), item("bob", 0)]
        results = bench.send(due)
        assert verdicts(results) == [Verdict.GIVE_UP, Verdict.DELIVERED, Verdict.DELIVERED]
        assert results[0].reason == "oversize"
        assert bench.received() == [largest, due[2].payload]


def test_no_result_and_no_log_holds_the_secret(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    refused = item("ann", 0)
    bench.refuse(refused)
    results = bench.send([refused, item("bob", 0)])
    meetings: tuple[Meeting, ...] = ("fails", "throttles", "loses the answer", "answers with garbage")
    for meeting in meetings:
        bench.next_request(meeting)
        results += bench.send([item("cyd", 0)])
    bench.stop_server()
    results += bench.send([item("cyd", 0)])
    assert len(results) == 7
    assert bench.secret not in repr(results)
    assert bench.secret not in caplog.text
    assert not [record for record in caplog.records if bench.secret in str(record.__dict__)]


def test_a_sink_that_is_closed_leaves_no_connection(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.send(items(5, 1))
    assert bench.open_connections > 0
    bench.close_sink()
    until(lambda: bench.open_connections == 0)
    assert "nclosed" not in caplog.text, "a library had to clear up"
