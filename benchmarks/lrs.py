"""Statements to a real LRS, Ralph: one by one, in arrays, by a script that posts arrays (`python -m benchmarks.lrs`).

    python -m benchmarks.lrs [--statements 2000]

Ralph runs beside it, with files as its back end, in one process; LRS_VENV says where it is installed. Each way sends
statements of its own. Wall clock says how fast the LRS takes them; the processor time is the sender's.
"""

import argparse
import asyncio
import base64
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp

from benchmarks.batches import BATCH, BLOCK, CONCURRENCY, deliver, statement
from schemas import Record
from tests.support.lrs_server import Lrs, running
from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.model import Batch
from transforms.forwarders.secrets import Secret
from transforms.sinks.base import Item


def texts(first: int, count: int) -> list[bytes]:
    """Statements, each of a user of its own: ids that no other call gives if the numbers are others."""
    return [json.dumps(statement(user, 0), separators=(",", ":")).encode() for user in range(first, first + count)]


def by_engine(lrs: Lrs, payloads: list[bytes], batch: Batch | None) -> None:
    target = HttpTarget(
        Secret(lrs.url),
        "127.0.0.1",
        auth_type="basic auth",
        basic_username=lrs.username,
        basic_password=Secret(lrs.password),
        timeout=120.0,
        concurrency=CONCURRENCY,
        batch=batch,
    )
    items = []
    for number, payload in enumerate(payloads):
        name = f"user-{number}"
        record = Record(f"r/{number}", "event", "o", None, name, 0, "r", 0, {"user_id": name}, b"{}", {})
        items.append(Item("f", record, payload, "statement"))
    blocks = [items[start : start + BLOCK] for start in range(0, len(items), BLOCK)]
    deliver(Forwarder("f", None, None, None, "statement", 3, target), blocks, None)


def by_script(lrs: Lrs, payloads: list[bytes]) -> None:
    """As one would write it."""

    async def main() -> None:
        rest = iter([payloads[start : start + BATCH] for start in range(0, len(payloads), BATCH)])
        credentials = base64.b64encode(f"{lrs.username}:{lrs.password}".encode()).decode()
        headers = {"X-Experience-API-Version": "1.0.3", "Authorization": f"Basic {credentials}"}
        patience = aiohttp.ClientTimeout(total=None)

        async def work(session: aiohttp.ClientSession) -> None:
            for batch in rest:
                async with session.post(lrs.url, json=[json.loads(text) for text in batch]) as response:
                    response.raise_for_status()
                    await response.read()

        async with aiohttp.ClientSession(headers=headers, timeout=patience) as session:
            await asyncio.gather(*(work(session) for _ in range(CONCURRENCY)))

    asyncio.run(main())


def measure(count: int) -> None:
    with tempfile.TemporaryDirectory() as directory, running(Path(directory), indexed=True) as lrs:
        ways: dict[str, Callable[[list[bytes]], None]] = {
            "one by one": partial(by_engine, lrs, batch=None),
            "batches": partial(by_engine, lrs, batch=Batch(BATCH)),
            "script": partial(by_script, lrs),
        }
        by_engine(lrs, texts(10_000_000, 100), Batch(BATCH))  # What the first requests cost it is nobody's.
        for number, (way, send) in enumerate(ways.items()):
            payloads = texts(number * count, count)
            cpu, wall = time.process_time(), time.perf_counter()
            send(payloads)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            print(
                f"  {way:10} {count:,} statements in {wall:.2f} s: {count / wall:,.0f} statements/s; sender "
                f"{cpu:.2f} s cpu, {cpu / wall:.0%} of the time  (load {os.getloadavg()[0]:.1f})",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lrs", description=__doc__.split("\n")[0])
    parser.add_argument("--statements", type=int, default=2_000)
    measure(parser.parse_args().statements)


if __name__ == "__main__":
    main()
