"""Does a limit of the rate hold, beside a forwarder without one? (`python -m benchmarks.limits`)

    python -m benchmarks.limits [--seconds 20] [--rate 50] [--burst 10]

A receiver in a process of its own writes down when each request came. The engine sends to it, with receipts:

1. a forwarder without limit, alone;
2. the same beside one with `rateLimit`, whose records are all there from the beginning;
3. the one with `rateLimit` alone, after a pause, where one request is answered with 429 and `Retry-After`.
"""

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection
from typing import Any

import uvloop

from schemas import Record
from transforms.delivery.engine import DeliveryEngine
from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.model import RateLimit
from transforms.forwarders.secrets import Secret
from transforms.receipts.journal import Journal
from transforms.receipts.runs import new_run_id
from transforms.sinks.base import Item
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient

RETRY_AFTER = 2
ALONE_SECONDS = 5.0

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_SLOW_DOWN = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n" % RETRY_AFTER
_BODY = b"{}"


class _Receiver(asyncio.Protocol):
    """Takes requests whose body is `_BODY`. Requests to /limited are counted down in `until_429`."""

    times: dict[bytes, list[float]]
    until_429 = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0 and len(self._buffer) >= end + 4 + len(_BODY):
            path = self._buffer.split(b" ", 2)[1]
            self._buffer = self._buffer[end + 4 + len(_BODY) :]
            _Receiver.times.setdefault(path, []).append(time.monotonic())
            answer = _OK
            if path == b"/limited" and _Receiver.until_429:
                _Receiver.until_429 -= 1
                answer = _OK if _Receiver.until_429 else _SLOW_DOWN
            self._transport.write(answer)


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        _Receiver.times = {}
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Receiver, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while True:
            _Receiver.until_429 = await loop.run_in_executor(None, pipe.recv)
            times, _Receiver.times = _Receiver.times, {}
            pipe.send(times)

    uvloop.run(serve())


Arrivals = dict[bytes, list[float]]


@contextmanager
def receiver() -> Iterator[tuple[int, Callable[[int], Arrivals]]]:
    """A receiver: its port, and what gives the times of requests by path, and says which to /limited gets 429."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()

    def arrivals(until_429: int = 0) -> Arrivals:
        ours.send(until_429)
        came: Arrivals = ours.recv()
        return came

    try:
        yield ours.recv(), arrivals
    finally:
        process.kill()
        process.join()


def records(forwarder: str, first: int, count: int) -> list[Item]:
    made = []
    for number in range(first, first + count):
        user = f"user-{number}"
        record = Record(f"{forwarder}/{number}", "event", "o", None, user, 0, "r", 0, {"user_id": user}, _BODY, {})
        made.append(Item(forwarder, record, _BODY, "record"))
    return made


@contextmanager
def engine(port: int, limit: RateLimit) -> Iterator[DeliveryEngine]:
    def forwarder(name: str, rate_limit: RateLimit | None) -> Forwarder:
        target = HttpTarget(Secret(f"http://127.0.0.1:{port}/{name}"), "127.0.0.1", rate_limit=rate_limit)
        return Forwarder(name, None, None, None, "record", 3, target)

    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(directory, new_run_id(1), "limits")
        made = DeliveryEngine(
            [forwarder("free", None), forwarder("limited", limit)],
            journal.settle,
            http_sink=partial(post_sink, client=HttpClient(["127.0.0.0/8"])),
            batch_sink=batch_sinks(),
        )
        try:
            yield made
        finally:
            made.stop(1.0)
            made.close()
            journal.close()


def send_freely(engine: DeliveryEngine, seconds: float) -> None:
    """Send without a limit for so long. `submit` waits while the window is full."""
    number, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        engine.submit(records("free", number, 200))
        number += 200


def largest_burst(times: Sequence[float], rate: float) -> float:
    """The least burst by which the rate allows these requests: how many there are in a span beyond `rate` x its length.

    Times are the receiver's, so that what was held up on its way counts as a burst, too.
    """
    worst, lowest = 0.0, float("inf")
    for number, at in enumerate(times):
        ahead = number - rate * at
        lowest = min(lowest, ahead)
        worst = max(worst, ahead - lowest + 1)
    return worst


def measure(seconds: float, rate: float, burst: float) -> None:
    limit = RateLimit(requests=rate, burst=burst)
    with receiver() as (port, arrivals):
        for name in ("alone", "beside", "alone again"):
            is_beside = name == "beside"
            span = seconds if is_beside else ALONE_SECONDS
            cpu = time.process_time()
            with engine(port, limit) as sending:
                if is_beside:
                    sending.submit(records("limited", 0, int(rate * seconds * 1.2)))
                send_freely(sending, span)
            cpu = time.process_time() - cpu
            came = arrivals(0)
            free = came[b"/free"]
            free = [at for at in free if at <= free[0] + span]
            text = f"without limit, {name}: {len(free) / span:,.0f} requests/s, {len(free) / cpu:,.0f} a second of cpu"
            print(f"  {text}  (load {os.getloadavg()[0]:.1f})", flush=True)
            if is_beside:
                limited = [at for at in came[b"/limited"] if at < came[b"/limited"][0] + seconds]
                print(
                    f"  rateLimit {rate:g} requests/s, burst {burst:g}: {len(limited)} requests in {seconds:g} s: "
                    f"{len(limited) / seconds:.2f}/s ({len(limited) / seconds / rate - 1:+.1%}), "
                    f"largest burst {largest_burst(limited, rate):.1f}",
                    flush=True,
                )
        after_a_pause(port, arrivals, limit)


def after_a_pause(port: int, arrivals: Callable[[int], Arrivals], limit: RateLimit) -> None:
    """A burst after a pause, and a 429 in the middle."""
    rate = limit.requests or 0.0
    with engine(port, limit) as sending:
        sending.submit(records("limited", 0, 1))
        sending.drain()
        threading.Event().wait((limit.burst or rate) / rate + 0.5)
        arrivals(int(rate * 2))
        sending.submit(records("limited", 1, int(rate * 4)))
        sending.drain()
    times = arrivals(0)[b"/limited"]
    at_once = sum(at < times[0] + 0.5 / rate for at in times)
    pause, before = max((later - at, number + 1) for number, (at, later) in enumerate(pairwise(times)))
    print(
        f"  after a pause: {at_once} at once; 429 with Retry-After {RETRY_AFTER} to request {int(rate * 2)}: none for "
        f"{pause:.2f} s after request {before}; largest burst {largest_burst(times, rate):.1f}, "
        f"{len(times)} requests in {times[-1] - times[0]:.2f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--burst", type=float, default=10.0)
    options = parser.parse_args()
    measure(options.seconds, options.rate, options.burst)


if __name__ == "__main__":
    main()
