"""What a sink says of an attempt when this machine lacks something. The lack is the kernel's own."""

import asyncio
import errno
import os

import pytest

from tests.support.forwarders import aws_forwarder
from tests.support.http_sink import http_item, loaded_forwarder, opened, with_fault_server
from tests.support.laboratory.aws_fake import AwsFake
from tests.support.laboratory.http_fault_server import FaultServer
from tests.support.limits import no_descriptors
from tests.support.records import item
from transforms.forwarders import KinesisTarget
from transforms.sinks.aws_errors import call_outcome
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.http import PostSink
from transforms.sinks.http_errors import no_answer, not_connected, not_found
from transforms.sinks.kinesis import KinesisSink
from transforms.sinks.lacks import LackError, Patience
from transforms.storage import StorageError


def is_a_lack(outcome: AttemptResult) -> bool:
    """Whether an outcome is that of a lack, which counts against nobody."""
    assert outcome.lack == (outcome.reason == "lack")
    if outcome.lack:
        assert (outcome.verdict, outcome.spends_attempt, outcome.failure) == (Verdict.RETRY, False, False)
        assert "Too many open files: allow this process more open files (`ulimit -n`)" in (outcome.response or "")
    return outcome.lack


def test_without_descriptors_http_blames_nobody_and_a_connection_that_is_open_serves() -> None:
    found = []

    async def talk(sink: PostSink, server: FaultServer) -> None:
        with no_descriptors():
            found.append(await sink.send(http_item()))
        found.append(await sink.send(http_item()))
        with no_descriptors():
            found.append(await sink.send(http_item()))

    with_fault_server(talk)
    assert [is_a_lack(outcome) for outcome in found] == [True, False, False]
    assert [outcome.verdict for outcome in found[1:]] == [Verdict.DELIVERED] * 2


def test_a_name_that_cannot_be_looked_up_without_descriptors_is_no_failure_of_dns() -> None:
    async def talk() -> AttemptResult:
        forwarder = loaded_forwarder({"protocol": "http", "url": "receiver.invalid/in"})
        async with opened(forwarder) as sink:
            with no_descriptors():
                return await sink.send(http_item())

    assert is_a_lack(asyncio.run(talk()))


def test_without_descriptors_kinesis_blames_nobody(fake: AwsFake) -> None:
    fake.add_stream("stream")
    target = aws_forwarder().target
    assert isinstance(target, KinesisTarget)
    sink = KinesisSink(target)
    sink.open()
    with no_descriptors():
        (refused,) = sink.send([item("user", 1)])
    (taken,) = sink.send([item("user", 1)])
    sink.close()
    assert is_a_lack(refused)
    assert taken.verdict is Verdict.DELIVERED


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread")])
def test_memory_and_threads_are_lacks_too(error: Exception) -> None:
    for outcome in (not_found(error).outcome, not_connected(error).outcome, call_outcome(error, str)):
        assert (outcome.reason, outcome.lack, outcome.spends_attempt) == ("lack", True, False)


def test_an_error_of_the_receiver_is_no_lack() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    assert not any(meaning(refused).outcome.lack for meaning in (not_connected, no_answer))
    with pytest.raises(RuntimeError, match="a mistake"):
        call_outcome(RuntimeError("a mistake"), str)


class Clock:
    """Time that goes on when it is slept."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def full(number: int = errno.ENOSPC) -> None:
    try:
        raise OSError(number, os.strerror(number))
    except OSError as error:
        raise StorageError("out/receipts is full") from error


def test_books_wait_for_room_and_go_on_when_there_is_some(caplog: pytest.LogCaptureFixture) -> None:
    clock, tries = Clock(), 0

    def book() -> None:
        nonlocal tries
        tries += 1
        if tries < 20:
            full()

    Patience(30, clock, clock.sleep).through(book)
    assert tries == 20
    assert 5 < clock.now < 30
    assert [record.getMessage() for record in caplog.records] == [
        "this machine lacks something, which is waited for: out/receipts is full"
    ]


def test_books_that_find_no_room_for_long_say_so_themselves() -> None:
    clock = Clock()
    with pytest.raises(StorageError, match="out/receipts is full"):
        Patience(30, clock, clock.sleep).through(full)
    assert 30 <= clock.now < 32
    clock = Clock()
    with pytest.raises(StorageError):
        Patience(30, clock, clock.sleep).through(full, lambda: clock.now > 3)
    assert clock.now < 6, "a run that is stopped does not wait on"
    clock = Clock()
    with pytest.raises(StorageError):
        Patience(30, clock, clock.sleep).through(lambda: full(errno.EIO))
    assert clock.now == 0, "a disk that fails is no lack"


def test_a_lack_that_lasts_is_an_error_unless_something_goes_through() -> None:
    clock = Clock()
    patience = Patience(30, clock, clock.sleep)
    for _ in range(3):
        for _ in range(25):
            clock.now += 1
            patience.lacked("Too many open files: allow more")
        patience.had()
    patience.lacked("Too many open files: allow more")
    clock.now += 30
    with pytest.raises(LackError, match="lacked something for 30 s: Too many open files: allow more, then run again"):
        patience.lacked("Too many open files: allow more")
