"""The floor: one hand-tuned process that does the job's work with the job's pure core, and without Beam.

It keeps every admitted line in memory by user; so it is faster than any engine that must be ready for more data than
that, and a bound for one that need not. The same validation, order and receipts; no retries: an error ends it.
"""

import asyncio
import gc
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import uvloop
from botocore.config import Config
from yarl import URL

from benchmarks.encoding import encoded
from benchmarks.workload import Tally
from schemas import Record
from transforms.forwarders import Forwarder, HttpTarget, KinesisTarget
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.query import ForwarderIndex
from transforms.reading.activity import ActivityDecoder, decode_admitted
from transforms.receipts.journal import Journal
from transforms.receipts.runs import new_run_id
from transforms.sessions.derivation import Derivation
from transforms.sinks.aws_boto3 import ANSWER, encode_in_c
from transforms.sinks.aws_operations import PUT_RECORD_BATCH, PUT_RECORDS
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict

CHUNK = 256 * 1024
MAX_RECORDS = 500
CALLS_IN_FLIGHT = 4
WINDOW = 20_000
"""Records that may wait for one forwarder: as many as the job's engine holds."""


def lines_by_user(path: Path) -> dict[str, list[bytes]]:
    """Read and admit: every line is validated."""
    admit = ActivityDecoder().admit
    users: defaultdict[str, list[bytes]] = defaultdict(list)
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                user_id, admitted = admit(line)
                users[user_id].append(admitted)
    if rest:
        user_id, admitted = admit(rest)
        users[user_id].append(admitted)
    return users


def records_by_user(users: dict[str, list[bytes]]) -> Iterator[list[Record]]:
    """Derive; the lines are forgotten as they are used."""
    derive = Derivation().user
    while users:
        _, lines = users.popitem()
        yield derive([decode_admitted(line) for line in lines])


class Encoder:
    """Match and encode: what a record is sent as, to whom."""

    def __init__(self, forwarders: tuple[Forwarder, ...]) -> None:
        self._statements = StatementBuilder()
        self._index = ForwarderIndex(forwarders)
        self._sees_statements = "statement" in self._index.fields
        self.kinds = {forwarder.id: forwarder.payload for forwarder in forwarders}

    def due(self, record: Record) -> Iterator[tuple[str, bytes]]:
        """(forwarder id, payload), each payload encoded once."""
        statement = self._statements.statement(record) if self._sees_statements else None
        matching = self._index.matching(query_document(record, statement))
        return encoded(
            record, statement, [(forwarder.id, forwarder.payload) for forwarder in matching], self._statements
        )


def derive_only(path: Path) -> dict[str, Any]:
    return {"count": sum(len(records) for records in records_by_user(lines_by_user(path)))}


def encode_only(path: Path, forwarders: tuple[Forwarder, ...]) -> dict[str, Any]:
    """Derive, match and encode."""
    encoder, tally = Encoder(forwarders), Tally()
    for records in records_by_user(lines_by_user(path)):
        for record in records:
            for forwarder_id, payload in encoder.due(record):
                tally.add(forwarder_id, payload)
    return tally.as_json()


def deliver(path: Path, forwarders: tuple[Forwarder, ...], output: Path) -> None:
    """All of it, with receipts under `output`."""
    uvloop.run(_Delivery(forwarders, Journal(str(output), new_run_id(1), "floor")).run(path))


class _Delivery:
    def __init__(self, forwarders: tuple[Forwarder, ...], journal: Journal) -> None:
        self._encoder = Encoder(forwarders)
        self._forwarders = forwarders
        self._journal = journal

    async def run(self, path: Path) -> None:
        with ThreadPoolExecutor(8) as threads:
            async with http_session() as session:
                lanes: dict[str, HttpLane | BatchLane] = {}
                for forwarder in self._forwarders:
                    if isinstance(forwarder.target, HttpTarget):
                        lanes[forwarder.id] = HttpLane(session, forwarder.target, self._journal)
                    else:
                        lanes[forwarder.id] = BatchLane(threads, forwarder.target, self._journal)
                await self._feed(path, lanes)
                for lane in lanes.values():
                    await lane.drain()
        self._journal.close()

    async def _feed(self, path: Path, lanes: "dict[str, HttpLane | BatchLane]") -> None:
        encoder = self._encoder
        for records in records_by_user(lines_by_user(path)):
            due: dict[str, deque[Item]] = {}
            for record in records:
                for forwarder_id, payload in encoder.due(record):
                    item = Item(forwarder_id, record, payload, encoder.kinds[forwarder_id])
                    if forwarder_id in due:
                        due[forwarder_id].append(item)
                    else:
                        due[forwarder_id] = deque((item,))
            for forwarder_id, items in due.items():
                lane = lanes[forwarder_id]
                lane.add(items)
                if lane.waiting > WINDOW:
                    await lane.room()
            await asyncio.sleep(0)


def _now() -> int:
    return time.time_ns() // 1_000_000


def http_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=10),
    )


class HttpLane:
    """As many workers as the forwarder's concurrency; one user's records are one worker's, one after the other."""

    def __init__(self, session: aiohttp.ClientSession, target: HttpTarget, journal: Journal) -> None:
        self._session = session
        self._url = URL(target.url.reveal(), encoded=True)
        self._journal = journal
        self._users: asyncio.Queue[deque[Item] | None] = asyncio.Queue()
        self._finished: list[Settlement] = []
        self._room = asyncio.Event()
        self._workers = [asyncio.create_task(self._work()) for _ in range(target.concurrency)]
        self.waiting = 0

    def add(self, items: deque[Item]) -> None:
        self.waiting += len(items)
        self._users.put_nowait(items)

    async def room(self) -> None:
        while self.waiting > WINDOW // 2:
            self._room.clear()
            await self._room.wait()

    async def drain(self) -> None:
        for _ in self._workers:
            self._users.put_nowait(None)
        await asyncio.gather(*self._workers)

    async def _work(self) -> None:
        while (items := await self._users.get()) is not None:
            for item in items:
                await self._send(item)

    async def _send(self, item: Item) -> None:
        item.attempts, item.first_attempt = 1, _now()
        item.last_attempt = item.first_attempt
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": item.record.id,
            "X-Forward-Hops": "1",
        }
        if item.payload_kind == "statement":
            headers["X-Experience-API-Version"] = "1.0.3"
        async with self._session.post(self._url, data=item.payload, headers=headers) as response:
            await response.read()
            response.raise_for_status()
        self._finished.append(Settlement(item, AttemptResult(Verdict.DELIVERED, status=response.status)))
        if len(self._finished) == 1:
            asyncio.get_running_loop().call_soon(self._settle)
        # One turn of the loop: `_settle` was called, with all that ended in this one, before this goes on.
        await asyncio.sleep(0)

    def _settle(self) -> None:
        finished, self._finished = self._finished, []
        self._journal.settle(finished)
        self.waiting -= len(finished)
        if self.waiting <= WINDOW // 2:
            self._room.set()


class BatchLane:
    """PutRecords or PutRecordBatch by threads; a call holds one record of a user, whose next waits for its answer."""

    def __init__(self, threads: ThreadPoolExecutor, target: KinesisTarget, journal: Journal) -> None:
        self._threads = threads
        self._target = target
        self._journal = journal
        config = Config(
            parameter_validation=False,
            max_pool_connections=CALLS_IN_FLIGHT,
            user_agent=f"floor boto3/{boto3.__version__}",
        )
        self._client: Any = boto3.client(
            "kinesis" if target.service == "streams" else "firehose", region_name=target.region, config=config
        )
        if target.service == "streams":
            encode_in_c(self._client, PUT_RECORDS)
        else:
            encode_in_c(self._client, PUT_RECORD_BATCH)
        self._ready: deque[deque[Item]] = deque()
        self._calls: set[asyncio.Future[None]] = set()
        self._draining = False
        self._error: BaseException | None = None
        self.waiting = 0

    def add(self, items: deque[Item]) -> None:
        self.waiting += len(items)
        self._ready.append(items)
        if len(self._ready) >= MAX_RECORDS:
            self._call()

    async def room(self) -> None:
        while self.waiting > WINDOW // 2:
            await self._one_call()

    async def drain(self) -> None:
        self._draining = True
        while self._ready or self._calls:
            await self._one_call()

    async def _one_call(self) -> None:
        """Until some call is back. Raises what a call raised."""
        self._call()
        if self._calls:
            await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        if self._error is not None:
            raise self._error

    def _call(self) -> None:
        """Full calls; and when no more is coming, the rest once nothing is in flight that could fill it."""
        while len(self._calls) < CALLS_IN_FLIGHT and self._ready:
            if len(self._ready) < MAX_RECORDS and self._calls:
                return
            users = [self._ready.popleft() for _ in range(min(MAX_RECORDS, len(self._ready)))]
            call = asyncio.get_running_loop().run_in_executor(self._threads, self._put, users)
            self._calls.add(call)
            call.add_done_callback(partial(self._done, users))

    def _done(self, users: list[deque[Item]], call: "asyncio.Future[None]") -> None:
        self._calls.discard(call)
        self._error = self._error or call.exception()
        if self._error is not None:
            return
        self.waiting -= len(users)
        for items in users:
            items.popleft()
            if items:
                self._ready.append(items)
        if len(self._ready) >= MAX_RECORDS or self._draining:
            self._call()

    def _put(self, users: list[deque[Item]]) -> None:
        items = [queue[0] for queue in users]
        now = _now()
        for item in items:
            item.attempts, item.first_attempt, item.last_attempt = 1, now, now
        if self._target.service == "streams":
            answer = self._client.put_records(
                StreamName=self._target.stream_name,
                Records=[{"Data": item.payload, "PartitionKey": item.record.user_id} for item in items],
            )
            entries = answer[ANSWER].records
            assert not any(entry.error_code for entry in entries)
            outcomes = [
                AttemptResult(Verdict.DELIVERED, shard=entry.shard_id, sequence_number=entry.sequence_number)
                for entry in entries
            ]
        else:
            answer = self._client.put_record_batch(
                DeliveryStreamName=self._target.stream_name,
                Records=[{"Data": item.payload + b"\n"} for item in items],
            )
            assert not any(entry.error_code for entry in answer[ANSWER].request_responses)
            outcomes = [AttemptResult(Verdict.DELIVERED)] * len(items)
        self._journal.settle([Settlement(*pair) for pair in zip(items, outcomes, strict=True)])


def prepare(collect_garbage: bool) -> None:
    gc.freeze()
    if not collect_garbage:
        gc.disable()
