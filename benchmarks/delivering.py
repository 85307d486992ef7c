"""Delivery alone: records derived, matched and encoded before the clock starts, then handed to one of three.

- `engine`: the job's own `DeliveryEngine`, with receipts
- `bare`: a loop as one would write it with boto3 or aiohttp, in the same order, without receipts; several of its calls
  or requests in flight where the engine has several
- `floor`: the floor's lanes, with receipts
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import boto3

from benchmarks.floor import BatchLane, Encoder, HttpLane, http_session, lines_by_user, records_by_user
from benchmarks.workload import REGION
from transforms.bundles import keep_live_objects_out_of_the_garbage_collector
from transforms.delivery.engine import DeliveryEngine
from transforms.forwarders import Forwarder, HttpTarget
from transforms.receipts.journal import Journal
from transforms.receipts.runs import new_run_id
from transforms.sinks.base import Item
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient

BLOCK = 512
MAX_RECORDS = 500

Prepared = list[list[Item]]
"""By user."""


def prepared(path: Path, forwarders: tuple[Forwarder, ...]) -> Prepared:
    encoder = Encoder(forwarders)
    users: Prepared = []
    for records in records_by_user(lines_by_user(path)):
        items = [
            Item(forwarder_id, record, payload, encoder.kinds[forwarder_id])
            for record in records
            for forwarder_id, payload in encoder.due(record)
        ]
        if items:
            users.append(items)
    return users


def engine(users: Prepared, forwarders: tuple[Forwarder, ...], output: Path) -> None:
    keep_live_objects_out_of_the_garbage_collector()
    journal = Journal(str(output), new_run_id(1), "engine")
    deliveries = DeliveryEngine(
        forwarders,
        journal.settle,
        http_sink=partial(post_sink, client=HttpClient(["127.0.0.0/8"])),
        batch_sink=batch_sinks(),
    )
    block: list[Item] = []
    for items in users:
        block += items
        if len(block) >= BLOCK:
            deliveries.submit(block)
            block = []
    deliveries.submit(block)
    deliveries.drain()
    deliveries.close()
    journal.close()


def floor(users: Prepared, forwarders: tuple[Forwarder, ...], output: Path) -> None:
    asyncio.run(_floor(users, forwarders, Journal(str(output), new_run_id(1), "floor")))


async def _floor(users: Prepared, forwarders: tuple[Forwarder, ...], journal: Journal) -> None:
    with ThreadPoolExecutor(8) as threads:
        async with http_session() as session:
            lanes: dict[str, HttpLane | BatchLane] = {}
            for forwarder in forwarders:
                if isinstance(forwarder.target, HttpTarget):
                    lanes[forwarder.id] = HttpLane(session, forwarder.target, journal)
                else:
                    lanes[forwarder.id] = BatchLane(threads, forwarder.target, journal)
            for forwarder_id, queues in _by_forwarder(users).items():
                for items in queues:
                    lanes[forwarder_id].add(items)
            await asyncio.gather(*(lane.drain() for lane in lanes.values()))
    journal.close()


def bare_boto3(users: Prepared, forwarders: tuple[Forwarder, ...], output: Path) -> None:
    """Stream by stream: 500 a call at most, a user once in a call."""
    client: Any = boto3.client("kinesis", region_name=REGION)
    for stream, queues in _by_forwarder(users).items():
        ready = deque(queues)
        while ready:
            called = [ready.popleft() for _ in range(min(MAX_RECORDS, len(ready)))]
            answer = client.put_records(
                StreamName=stream,
                Records=[{"Data": items[0].payload, "PartitionKey": items[0].record.user_id} for items in called],
            )
            assert answer["FailedRecordCount"] == 0
            for items in called:
                items.popleft()
                if items:
                    ready.append(items)


def bare_aiohttp(users: Prepared, forwarders: tuple[Forwarder, ...], output: Path) -> None:
    asyncio.run(_bare_aiohttp(users, forwarders))


async def _bare_aiohttp(users: Prepared, forwarders: tuple[Forwarder, ...]) -> None:
    queues = _by_forwarder(users)
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(
            *(
                _post_all(session, forwarder.target, queues.get(forwarder.id, []))
                for forwarder in forwarders
                if isinstance(forwarder.target, HttpTarget)
            )
        )


async def _post_all(session: aiohttp.ClientSession, target: HttpTarget, queues: Sequence[deque[Item]]) -> None:
    rest = iter(queues)
    url = target.url.reveal()

    async def work() -> None:
        for items in rest:
            for item in items:
                headers = {
                    "Content-Type": "application/json",
                    "Idempotency-Key": item.record.id,
                    "X-Forward-Hops": "1",
                }
                async with session.post(url, data=item.payload, headers=headers) as response:
                    await response.read()
                    response.raise_for_status()

    await asyncio.gather(*(work() for _ in range(target.concurrency)))


def _by_forwarder(users: Prepared) -> dict[str, list[deque[Item]]]:
    queues: dict[str, list[deque[Item]]] = {}
    for items in users:
        mine: dict[str, deque[Item]] = {}
        for item in items:
            mine.setdefault(item.forwarder_id, deque()).append(item)
        for forwarder_id, queue in mine.items():
            queues.setdefault(forwarder_id, []).append(queue)
    return queues


WAYS: dict[str, Callable[[Prepared, tuple[Forwarder, ...], Path], None]] = {
    "engine": engine,
    "floor": floor,
    "bare-boto3": bare_boto3,
    "bare-aiohttp": bare_aiohttp,
}
