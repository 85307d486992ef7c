"""Batches side by side, in one run (`python -m benchmarks batches`): processor time of the sender alone.

    python -m benchmarks.batches [--statements 200000] [--rounds 3] [--records 100000]

Over HTTP, statements that are ready go to one receiver in a process of its own:

- `one by one`: the engine with receipts, a request for each statement
- `batches`, `batches gzip`: the same in arrays of 100
- `script`, `script gzip`: aiohttp posts arrays of 100 with `json=`, in no order, without receipts or retries
- `script bytes`: the same from texts that are encoded already, joined

To Kinesis, all records are one user's: without and with `aggregate`, to a fake that answers at once or after 15 ms.
Without it a user's record waits for the one before, so a sample of them is sent, and the figure is for each record.
"""

import argparse
import asyncio
import gzip
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

import aiohttp
import uvloop

from schemas import Record
from tests.support.forwarders import aws_forwarder
from tests.support.laboratory.aws_fake import AwsFake, Faults
from tests.support.laboratory.scenarios import environment
from transforms.bundles import keep_live_objects_out_of_the_garbage_collector
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, HttpTarget, KinesisTarget
from transforms.forwarders.model import Batch
from transforms.forwarders.secrets import Secret
from transforms.receipts.journal import Journal
from transforms.receipts.runs import new_run_id
from transforms.sinks.base import Item
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient

STATEMENTS = 200_000
RECORDS = 100_000
BATCH = 100
USERS = 5_000
BLOCK = 512
CONCURRENCY = 16

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n[]"


class _Receiver(asyncio.Protocol):
    """Takes every request, and counts the statements in it."""

    requests = 0
    statements = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._buffer = bytearray()
        self._needed = 0

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= max(self._needed, 1):
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self._buffer, 0, end)
            self._needed = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < self._needed:
                return
            body = bytes(self._buffer[end + 4 : self._needed])
            _Receiver.requests += 1
            _Receiver.statements += (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).count(b'"verb"')
            del self._buffer[: self._needed]
            self._needed = 0
            self._transport.write(_OK)


def _serve(pipe: Connection) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Receiver, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send((_Receiver.requests, _Receiver.statements))
            _Receiver.requests = _Receiver.statements = 0

    uvloop.run(serve())


@contextmanager
def receiver() -> Iterator[tuple[int, Callable[[], tuple[int, int]]]]:
    """A receiver in a process of its own: its port, and what gives (requests, statements) since the last time."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()

    def counts() -> tuple[int, int]:
        ours.send(True)
        requests, statements = ours.recv()
        return requests, statements

    try:
        yield ours.recv(), counts
    finally:
        process.kill()
        process.join()


def statement(user: int, number: int) -> dict[str, Any]:
    account = {"homePage": "https://learners.example.org", "name": f"user-{user}"}
    return {
        "id": f"{user:08x}-0000-4000-8000-{number:012x}",
        "actor": {"objectType": "Agent", "account": account},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/progressed", "display": {"en": "progressed"}},
        "object": {
            "objectType": "Activity",
            "id": f"https://learners.example.org/activities/{user % 97}",
            "definition": {"type": "http://adlnet.gov/expapi/activities/assessment"},
        },
        "context": {"registration": f"{number:08x}-0000-5000-8000-{user:012x}"},
        "timestamp": "2026-03-02T10:05:00.000Z",
        "result": {"score": {"raw": number % 100, "min": 0, "max": 100}, "completion": False, "duration": "PT42S"},
    }


def statements(count: int) -> list[list[Item]]:
    """By block of those that come together: each user's in order, users in turns."""
    users = min(USERS, count)
    made = []
    for index in range(count):
        user, number = index % users, index // users
        payload = json.dumps(statement(user, number), separators=(",", ":")).encode()
        name = f"user-{user}"
        record = Record(f"{user}/{number}", "event", "o", None, name, number, "r", 0, {"user_id": name}, b"{}", {})
        made.append(Item("f", record, payload, "statement"))
    return [made[start : start + BLOCK] for start in range(0, count, BLOCK)]


def by_engine(port: int, blocks: list[list[Item]], batch: Batch | None, compression: Any) -> None:
    target = HttpTarget(
        Secret(f"http://127.0.0.1:{port}/xAPI/statements"),
        "127.0.0.1",
        concurrency=CONCURRENCY,
        batch=batch,
        compression=compression,
    )
    deliver(Forwarder("f", None, None, None, "statement", 3, target), blocks, None)


def deliver(forwarder: Forwarder, blocks: list[list[Item]], settings: DeliverySettings | None) -> int:
    """By the job's engine, with receipts; how many calls it took."""
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(directory, new_run_id(1), "engine")
        engine = DeliveryEngine(
            [forwarder],
            journal.settle,
            settings,
            http_sink=partial(post_sink, client=HttpClient(["127.0.0.0/8"])),
            batch_sink=batch_sinks(),
        )
        try:
            for block in blocks:
                engine.submit(block)
            engine.drain()
            counts = engine.counts()[forwarder.id]
            assert counts.delivered == sum(map(len, blocks)), counts
            return counts.calls
        finally:
            engine.close()
            journal.close()


def by_script(port: int, batches: list[Any], compression: str, is_text: bool) -> None:
    """As one would write it."""

    async def main() -> None:
        rest = iter(batches)

        async def work(session: aiohttp.ClientSession) -> None:
            for batch in rest:
                if compression == "gzip" or is_text:
                    body = b"[" + b",".join(batch) + b"]" if is_text else json.dumps(batch).encode()
                    headers = {"Content-Type": "application/json"}
                    if compression == "gzip":
                        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
                    call = session.post(url, data=body, headers=headers)
                else:
                    call = session.post(url, json=batch)
                async with call as response:
                    response.raise_for_status()
                    await response.read()

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(work(session) for _ in range(CONCURRENCY)))

    url = f"http://127.0.0.1:{port}/xAPI/statements"
    asyncio.run(main())


WAYS = ("one by one", "batches", "batches gzip", "script", "script gzip", "script bytes")


def one_way(way: str, port: int, count: int) -> tuple[float, float]:
    """(processor time, wall clock) in seconds, of this process alone, without what is made ready."""
    blocks = statements(count)
    flat = [item.payload for block in blocks for item in block]
    compression = "gzip" if way.endswith("gzip") else "none"
    run: Callable[[], None]
    if way.startswith("script"):
        is_text = way.endswith("bytes")
        read = flat if is_text else [json.loads(text) for text in flat]
        batches = [read[start : start + BATCH] for start in range(0, count, BATCH)]
        run = partial(by_script, port, batches, compression, is_text)
    else:
        batch = None if way == "one by one" else Batch(BATCH)
        run = partial(by_engine, port, blocks, batch, compression)
    keep_live_objects_out_of_the_garbage_collector()
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def over_http(count: int, rounds: int) -> dict[str, float]:
    """Median processor time of each way, in seconds; the ways take turns."""
    took: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    with receiver() as (port, counts):
        for _ in range(rounds):
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.batches", "--way", way, "--port", str(port)]
                told = subprocess.run(  # noqa: S603
                    [*command, "--statements", str(count)], check=True, capture_output=True, text=True
                )
                cpu, wall = json.loads(told.stdout.splitlines()[-1])
                requests, arrived = counts()
                if arrived != count:
                    raise RuntimeError(f"{way}: {arrived} of {count} statements arrived")
                took[way].append((cpu, wall))
                print(
                    f"  {way:14} {cpu:7.2f} s cpu {wall:7.2f} s wall {requests:8,} requests"
                    f" {count / cpu:9,.0f} statements/s of cpu  (load {os.getloadavg()[0]:.1f})",
                    flush=True,
                )
    return {way: median(cpu for cpu, _ in runs) for way, runs in took.items()}


def to_kinesis(records: int) -> None:
    """One user's records, without and with `aggregate`, to a service that answers at once or in 15 ms."""
    for delay in (0.0, 0.015):
        for aggregate in (False, True):
            # One by one it is a call for each record, so that a sample says what all of them take.
            count = records if aggregate else min(records, 2_000)
            forwarder = aws_forwarder()
            target = forwarder.target
            assert isinstance(target, KinesisTarget)
            target = KinesisTarget(
                target.service, "stream", target.region, target.access_key_id, target.secret_access_key, aggregate
            )
            forwarder = Forwarder(forwarder.id, None, None, None, "record", 10, target)
            items = [item for block in statements(count) for item in block]
            for number, item in enumerate(items):
                item.record = Record(f"u/{number}", "event", "o", None, "u", number, "r", 0, {}, b"{}", {})
            blocks = [items[start : start + BLOCK] for start in range(0, count, BLOCK)]
            slow = Faults(rates={"slow": 1.0} if delay else {}, delay=delay)
            with AwsFake(slow) as fake, environment(AWS_ENDPOINT_URL_KINESIS=fake.endpoint):
                fake.add_stream("stream", records_per_second=1e9, bytes_per_second=1e12)
                wall = time.perf_counter()
                calls = deliver(forwarder, blocks, None)
                wall = time.perf_counter() - wall
            print(
                f"  one user, {'with' if aggregate else 'without'} aggregate, {delay * 1000:2.0f} ms a call: "
                f"{count:,} records in {calls:,} calls and {wall:.2f} s: {count / wall:,.0f} records/s, "
                f"{records:,} take {wall * records / count:,.1f} s",
                flush=True,
            )


def promises(cpu: dict[str, float]) -> list[tuple[str, float, bool]]:
    """What the batches are held to: in words, the ratio, and whether it is kept."""
    kept = []
    for way in ("batches", "batches gzip"):
        ratio = cpu["one by one"] / cpu[way]
        kept.append((f"one by one takes at least 6x of {way}", ratio, ratio >= 6))
    for way, script in (("batches", "script"), ("batches gzip", "script gzip")):
        ratio = cpu[way] / cpu[script]
        kept.append((f"{way} take at most 1.3x of {script}", ratio, ratio <= 1.3))
    ratio = cpu["batches"] / cpu["script bytes"]
    kept.append(("batches beside a script that only joins texts (no promise)", ratio, True))
    return kept


def measure(count: int, rounds: int, records: int) -> None:
    print(f"over HTTP, {count:,} statements, processor time of the sender alone")
    for text, ratio, is_kept in promises(over_http(count, rounds)):
        print(f"{text}: {ratio:.2f}x: {'kept' if is_kept else 'NOT kept'}")
    print(f"to Kinesis, {records:,} records of one user")
    to_kinesis(records)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=__doc__.split("\n")[0])
    parser.add_argument("--statements", type=int, default=STATEMENTS)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", choices=WAYS, help="only this one, to the receiver at --port; prints its seconds")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(one_way(options.way, options.port, options.statements)))
        return 0
    measure(options.statements, options.rounds, options.records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
