"""The sending side in figures: records a second by protocol, and what the fault laboratory finds.

    python -m benchmarks.delivery [--json PATH] [--records N] [--rounds N]
    python -m benchmarks.delivery --neighbours [--json PATH] [--records N] [--rounds N]
    python -m benchmarks.delivery --scenarios [--json PATH] [--kills N]

The first measures, in one run and with the rounds of all candidates interleaved, the engine with its journal and its
real sinks (`ordered`: every user has many records; `unordered`: every record is a user's only one), and beside it the
bare client that each sink is made of. Receivers run in processes of their own and take everything at once. The second
measures what a forwarder gets of the whole job, alone and beside a dead, a slow and a throttling one. The third runs
the scenarios of `tests.support.laboratory.scenarios` at full size; it takes some five minutes. Nothing but 127.0.0.1
is spoken to.
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import aiohttp
import boto3
from botocore.config import Config
from yarl import URL

from tests.support.forwarder_documents import aws_document
from tests.support.forwarders import aws_forwarder
from tests.support.laboratory import scenarios
from tests.support.laboratory.aws_fake import AwsFake
from tests.support.laboratory.job_experiment import Experiment, Figures, activities
from tests.support.laboratory.scenarios import environment
from tests.support.ports import free_port
from tests.support.records import item
from tests.support.workshop import Workshop
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.secrets import Secret
from transforms.receipts.journal import Journal, new_worker_name
from transforms.receipts.runs import new_run_id
from transforms.sinks.base import Item
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http import PostSink
from transforms.sinks.http_client import HttpClient

CONCURRENCY = 16
USERS = 200
"""Of the ordered candidates. HTTP has 16 requests in flight; a Kinesis call has one record of each user at most."""

Result = TypeVar("Result")

ROOT = Path(__file__).resolve().parents[1]


# --- receivers -------------------------------------------------------------------------------------------------------


class _Receiver(asyncio.Protocol):
    """Answers every request on a connection with 200 as fast as Python can; reads headers no more than it must.

    `delay`: seconds before each answer. After `expected` requests it prints when the first and the last of them came.
    """

    def __init__(self, delay: float, expected: int, times: list[float]) -> None:
        self._data = b""
        self._delay = delay
        self._expected = expected
        self._times = times

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            value = self._data.lower().index(b"content-length:") + 15
            size = end + 4 + int(self._data[value : self._data.index(b"\r\n", value)])
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            if self._expected:
                self._times.append(time.monotonic())
                if len(self._times) == self._expected:
                    print(self._times[0], self._times[-1], flush=True)
            if self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._answer)
            else:
                self._answer()

    def _answer(self) -> None:
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def serve(kind: str, delay: float, expected: int, capacity: float) -> None:
    """A receiver, in a process of its own: says its address, and serves until its input ends."""
    if kind == "http":
        times: list[float] = []

        async def forever() -> None:
            loop = asyncio.get_running_loop()
            server = await loop.create_server(lambda: _Receiver(delay, expected, times), "127.0.0.1", 0)
            print(server.sockets[0].getsockname()[1], flush=True)
            await loop.run_in_executor(None, sys.stdin.read)
            os._exit(0)

        asyncio.run(forever())
    with AwsFake() as fake:
        fake.add_stream("stream", shards=4, records_per_second=capacity, bytes_per_second=1e12)
        fake.add_delivery_stream("stream", records_per_second=1e9, bytes_per_second=1e12)
        print(fake.endpoint, flush=True)
        sys.stdin.read()
        os._exit(0)


class Served(NamedTuple):
    """A receiver's address (a port or a url), and what else it says."""

    address: str
    says: IO[str]


@contextmanager
def receiver(kind: str, delay: float = 0.0, expected: int = 0, capacity: float = 1e9) -> Iterator[Served]:
    """`capacity`: records/s of each of the stream's 4 shards; else as `_Receiver` has it."""
    command = [sys.executable, "-m", "benchmarks.delivery", "--serve", kind]
    command += [f"--delay={delay}", f"--expected={expected}", f"--capacity={capacity}"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stdout is not None
    try:
        yield Served(process.stdout.readline().strip(), process.stdout)
    finally:
        process.kill()
        process.wait()


# --- candidates ------------------------------------------------------------------------------------------------------

_fresh = count()


class Took(NamedTuple):
    """Seconds on the clock, and of this process's CPU (the receivers are other processes)."""

    clock: float
    cpu: float


class _Watch:
    def __init__(self) -> None:
        self._clock, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> Took:
        return Took(time.perf_counter() - self._clock, time.process_time() - self._cpu)


def made(records: int, users: int, forwarder_id: str) -> list[Item]:
    """Records of `users` users in turn, of some 300 bytes, that were never sent before."""
    prefix, body = f"{next(_fresh)}-", b'{"status":"Completed","x":"%b"}' % (b"x" * 270)
    return [item(f"{prefix}user-{number % users}", number, forwarder_id, body) for number in range(records)]


def through_the_engine(forwarder: Forwarder, sent: Sequence[Item]) -> Took:
    """Seconds from the first record handed in to the last one delivered and durable."""
    with tempfile.TemporaryDirectory() as output:
        journal = Journal(output, new_run_id(1), new_worker_name())
        engine = DeliveryEngine(
            [forwarder],
            journal.settle,
            DeliverySettings(),
            http_sink=partial(PostSink, client=HttpClient(["127.0.0.0/8"])),
            batch_sink=batch_sinks(),
        )
        try:
            watch = _Watch()
            for start in range(0, len(sent), 512):
                engine.submit(sent[start : start + 512])
            engine.drain()
            took = watch.stop()
            assert engine.counts()[forwarder.id].delivered == len(sent)
            return took
        finally:
            engine.close()
            journal.close()


def http_forwarder(port: str) -> Forwarder:
    target = HttpTarget(Secret(f"http://127.0.0.1:{port}/in"), "127.0.0.1", concurrency=CONCURRENCY)
    return Forwarder("http", None, None, None, "record", 0, target)


def bare_aiohttp(port: str, sent: Sequence[Item]) -> Took:
    """A loop of aiohttp alone that keeps each user's order at the same concurrency, and does nothing else."""

    async def main() -> Took:
        url = URL(f"http://127.0.0.1:{port}/in")
        waiting: dict[str, deque[Item]] = {}
        for due in sent:
            waiting.setdefault(due.record.user_id, deque()).append(due)
        ready = deque(waiting)

        async def worker() -> None:
            while ready:
                user = ready.popleft()
                due = waiting[user].popleft()
                headers = {"Content-Type": "application/json", "Idempotency-Key": due.record.id}
                async with session.post(url, data=due.payload, headers=headers) as answer:
                    await answer.read()
                    assert answer.status == 200
                if waiting[user]:
                    ready.append(user)

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:
            watch = _Watch()
            await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
            return watch.stop()

    return asyncio.run(main())


def sink_alone(port: str, sent: Sequence[Item]) -> Took:
    """The HTTP sink without the engine: no order, no journal, no retries."""

    async def main() -> Took:
        sink = PostSink(http_forwarder(port), HttpClient(["127.0.0.0/8"]))
        await sink.open()
        left = deque(sent)

        async def worker() -> None:
            while left:
                assert (await sink.send(left.popleft())).status == 200

        watch = _Watch()
        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
        took = watch.stop()
        await sink.close()
        return took

    return asyncio.run(main())


def bare_boto3(service: str, sent: Sequence[Item]) -> Took:
    """boto3 as it comes: batches of 500 from four threads, in no order. Entries that failed would be lost."""
    client: Any = boto3.client(
        service,  # type: ignore[call-overload]
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
        config=Config(max_pool_connections=4),
    )

    def put(batch: Sequence[Item]) -> None:
        if service == "kinesis":
            records = [{"Data": item.payload, "PartitionKey": item.record.user_id} for item in batch]
            failed = client.put_records(StreamName="stream", Records=records)["FailedRecordCount"]
        else:
            records = [{"Data": item.payload + b"\n"} for item in batch]
            failed = client.put_record_batch(DeliveryStreamName="stream", Records=records)["FailedPutCount"]
        assert failed == 0

    with ThreadPoolExecutor(4) as threads:
        put(sent[:1])
        watch = _Watch()
        list(threads.map(put, (sent[start : start + 500] for start in range(0, len(sent), 500))))
        return watch.stop()


Candidate = Callable[[], Took]


def candidates(port: str, records: int) -> dict[str, dict[str, tuple[int, Candidate]]]:
    """By protocol and name: how many records it sends, and the function that does and gives the seconds."""
    # HTTP is some twenty times slower a record.
    few, many = records, records * 10
    http, stream = http_forwarder(port), aws_forwarder("k")
    firehose = aws_forwarder("f", "firehose")
    wide = many // 50  # so many users that calls can be full: at most one record of each is in a call

    def engine(forwarder: Forwarder, number: int, users: int) -> tuple[int, Candidate]:
        return number, lambda: through_the_engine(forwarder, made(number, users, forwarder.id))

    return {
        "HTTP": {
            "ordered": engine(http, few, USERS),
            "unordered": engine(http, few, few),
            "sink alone": (few, lambda: sink_alone(port, made(few, few, "http"))),
            "bare aiohttp, ordered": (few, lambda: bare_aiohttp(port, made(few, USERS, "http"))),
        },
        "Kinesis": {
            "ordered": engine(stream, many, wide),
            "unordered": engine(stream, many, many),
            "bare boto3, unordered": (many, lambda: bare_boto3("kinesis", made(many, many, "k"))),
        },
        "Firehose": {
            "ordered": engine(firehose, many, wide),
            "unordered": engine(firehose, many, many),
            "bare boto3, unordered": (many, lambda: bare_boto3("firehose", made(many, many, "f"))),
        },
    }


def measure_rates(records: int, rounds: int) -> dict[str, Any]:
    """{protocol: {candidate: figures}}: medians of the rounds; `ratio` is of the rate to that of the bare client.

    Ratios are taken within each round, because a busy machine strikes the candidates of a round alike.
    """
    rates: dict[str, dict[str, list[float]]] = {}
    costs: dict[str, dict[str, list[float]]] = {}
    with receiver("http") as http, receiver("aws") as aws, environment(AWS_ENDPOINT_URL=aws.address):
        chosen = candidates(http.address, records)
        for turn in range(rounds + 1):
            for protocol, named in chosen.items():
                for name, (number, candidate) in named.items():
                    took = candidate()
                    if turn:  # the first round warms up
                        rates.setdefault(protocol, {}).setdefault(name, []).append(number / took.clock)
                        costs.setdefault(protocol, {}).setdefault(name, []).append(took.cpu / number * 1e6)
    return {
        protocol: {
            name: {
                "median": statistics.median(values),
                "least": min(values),
                "most": max(values),
                "cpu_us": statistics.median(costs[protocol][name]),
                "ratio": _ratio(values, by_name[list(by_name)[-1]]),
                "ratio_to_unordered": _ratio(values, by_name["unordered"]),
            }
            for name, values in by_name.items()
        }
        for protocol, by_name in rates.items()
    }


def _ratio(values: Sequence[float], others: Sequence[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(values, others, strict=True))


# --- neighbours ------------------------------------------------------------------------------------------------------


def measure_neighbours(records: int, rounds: int) -> dict[str, Any]:
    """A fine forwarder of the whole job, alone and beside a dead, a slow and a throttling one: records/s it gets.

    From the first to the last request its receiver saw. {"at once" | "10 ms": figures} by how fast the fine one
    answers; the ratio is the median of each round's.
    """
    figures: dict[str, Any] = {}
    for name, delay in (("at once", 0.0), ("10 ms", 0.01)):
        pairs = [(_fine_rate(records, delay, False), _fine_rate(records, delay, True)) for _ in range(rounds)]
        figures[name] = {
            "alone": statistics.median(alone for alone, _ in pairs),
            "together": statistics.median(together for _, together in pairs),
            "ratio": statistics.median(together / alone for alone, together in pairs),
            "ratios": [together / alone for alone, together in pairs],
        }
    return figures


def _fine_rate(records: int, delay: float, beside_others: bool) -> float:
    users, of_session = 100, 4
    sessions = records // users // of_session
    expected = users * sessions * of_session
    with (
        tempfile.TemporaryDirectory(prefix="neighbours-") as path,
        receiver("http", delay, expected) as fine,
        receiver("http", 0.2) as slow,
        # The stream takes a tenth of the records a second, the slow one 80 records.
        receiver("aws", capacity=expected / 40) as aws,
        environment(AWS_ENDPOINT_URL=aws.address, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test"),  # noqa: S106
    ):
        workshop = Workshop(Path(path))
        workshop.write_activity(activities(users, sessions))
        documents = [_to_port("fine", fine.address)]
        if beside_others:
            dead = _to_port("dead", str(free_port()), maxRetries=3)
            documents = [dead, _to_port("slow", slow.address), aws_document("stream"), *documents]
        workshop.write_forwarders(*documents)
        experiment = Experiment(workshop, {}, ("--max_backoff=60",))
        with experiment.process():
            first, last = map(float, fine.says.readline().split())
            # The others need much longer: they are not waited for.
    return (expected - 1) / (last - first)


def _to_port(name: str, port: str, **configuration: Any) -> dict[str, Any]:
    return {
        "_id": name,
        "active": True,
        "query": "{}",
        "payload": "record",
        "configuration": {"protocol": "http", "url": f"127.0.0.1:{port}/{name}", "maxRetries": 10, **configuration},
    }


def neighbours_table(neighbours: dict[str, Any]) -> str:
    lines = [f"{'the fine one answers':22}{'alone, records/s':>18}{'beside others':>15}{'ratio':>7}  of each round"]
    lines += [
        f"{name:22}{figures['alone']:>18,.0f}{figures['together']:>15,.0f}{figures['ratio']:>7.2f}  "
        + " ".join(f"{ratio:.2f}" for ratio in figures["ratios"])
        for name, figures in neighbours.items()
    ]
    return "\n".join(lines)


# --- scenarios -------------------------------------------------------------------------------------------------------


def run_scenarios(kills: int, schedules: int, seed: int) -> dict[str, Any]:
    """Every scenario of `tests.support.laboratory.scenarios`: {"figures": the table's lines}."""
    lines: list[Figures] = []

    def show(more: list[Figures]) -> None:
        lines.extend(more)
        for line in more:
            print(_line(line), flush=True)

    print(_HEADER)
    show(_quietly(scenarios.scripted_statuses))
    show(_quietly(partial(scenarios.four_neighbours, sessions=20)))
    show(_quietly(scenarios.beyond_capacity))
    show(_quietly(partial(scenarios.resharded, sessions=20, seed=seed)))
    show(_quietly(partial(scenarios.killed_again_and_again, kills=kills, seed=seed)))
    show(_quietly(partial(scenarios.killed_with_batches, kills=kills, seed=seed)))
    several = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    killed = _quietly(partial(scenarios.killed_again_and_again, kills=kills // 4, seed=seed, arguments=several))
    show([replace(line, scenario=f"{line.scenario}, 2 workers") for line in killed])
    show(_random_schedules(schedules, seed))
    return {"figures": [asdict(line) for line in lines]}


def _random_schedules(schedules: int, seed: int) -> list[Figures]:
    """All schedules added up, by protocol."""
    total: dict[str, Figures] = {}
    for number in range(schedules):
        chance = random.Random(f"{seed}-{number}")  # noqa: S311
        schedule = scenarios.random_schedule(
            chance,
            length=100,
            users=chance.randrange(1, 12),
            each=12,
            max_retries=chance.randrange(5),
            on_failure=chance.choice(["continue", "block_user"]),
        )
        for line in scenarios.by_schedule(schedule):
            before = total.get(line.forwarder)
            total[line.forwarder] = line if before is None else _added(before, line)
    return [replace(line, note=f"{schedules} schedules") for line in total.values()]


def _added(figures: Figures, other: Figures) -> Figures:
    numbers = ("records", "faults", "lost", "inverted", "duplicated", "unexplained", "exempt", "dead")
    return replace(figures, **{name: getattr(figures, name) + getattr(other, name) for name in numbers})


def _quietly(scenario: Callable[[Workshop], Result]) -> Result:
    """What it gives, in a directory of its own; what the job itself prints is left out."""
    with (
        tempfile.TemporaryDirectory(prefix="laboratory-") as path,
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
    ):
        return scenario(Workshop(Path(path)))


# --- report ----------------------------------------------------------------------------------------------------------

_HEADER = (
    f"{'scenario':34}{'forwarder':16}{'records':>9}{'faults':>8}{'lost':>6}{'inverted':>10}{'duplicated':>12}"
    f"{'unexplained':>13}{'exempt':>8}{'dead':>7}  note"
)


def _line(line: Figures) -> str:
    return (
        f"{line.scenario:34}{line.forwarder:16}{line.records:>9,}{line.faults:>8,}{line.lost:>6,}{line.inverted:>10,}"
        f"{line.duplicated:>12,}{line.unexplained:>13,}{line.exempt:>8,}{line.dead:>7,}  {line.note}"
    )


def rates_table(rates: dict[str, Any]) -> str:
    lines = [
        f"{'protocol':10}{'candidate':26}{'records/s':>11}{'least':>11}{'most':>11}{'CPU us':>9}"
        f"{'of unordered':>14}{'of the bare client':>20}"
    ]
    lines += [
        f"{protocol:10}{name:26}{figures['median']:>11,.0f}{figures['least']:>11,.0f}{figures['most']:>11,.0f}"
        f"{figures['cpu_us']:>9.0f}{figures['ratio_to_unordered']:>14.2f}{figures['ratio']:>20.2f}"
        for protocol, named in rates.items()
        for name, figures in named.items()
    ]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.delivery", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--scenarios", action="store_true", help="the fault laboratory instead of the rates")
    parser.add_argument("--neighbours", action="store_true", help="what a forwarder gets beside others")
    parser.add_argument("--records", type=int, default=8000, help="of an HTTP candidate; ten times as many to AWS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--schedules", type=int, default=40, help="random fault schedules")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", choices=("http", "aws"), help=argparse.SUPPRESS)
    parser.add_argument("--delay", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--expected", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--capacity", type=float, default=1e9, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve(options.serve, options.delay, options.expected, options.capacity)
        return
    logging.disable(logging.WARNING)
    results: dict[str, Any] = {"python": platform.python_version(), "cores": os.cpu_count(), "seed": options.seed}
    if options.scenarios:
        results |= run_scenarios(options.kills, options.schedules, options.seed)
    elif options.neighbours:
        results["neighbours"] = measure_neighbours(options.records, options.rounds)
        print(neighbours_table(results["neighbours"]))
    else:
        results["rates"] = measure_rates(options.records, options.rounds)
        print(rates_table(results["rates"]))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
