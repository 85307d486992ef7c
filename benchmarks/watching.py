"""What it costs to watch a run, by the number of its forwarders. (`python -m benchmarks.watching`)

    python -m benchmarks.watching [--forwarders 10 1000 10000] [--activities 100000] [--rounds 5]

In processor time, the median of the rounds, each beside the others. First what a look costs, by the number of
forwarders:

- scrape: the board as metrics, as text for Prometheus, with values for 1,000 forwarders at most, and for all;
- read: the board's file of one worker, read by the launcher;
- rules: a look of the alert rules at what was read.

Then, with --activities, what a record costs in the whole job, delivered to ten forwarders: without a board, with it (as
every run is), with metrics that are scraped once a second, and with the traces of one user in a thousand (the default)
and of every user, to a collector that takes them and does nothing. Each round runs all of them, one after the other.
"""

import argparse
import http.server
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
from prometheus_client import generate_latest

from benchmarks.measuring import Task, run
from benchmarks.sinks import running_sinks
from benchmarks.workload import sample_file, write_forwarders
from pipeline.prometheus import registry_of
from tests.support.ports import free_port
from transforms.accounting.board import LATENCY_BOUNDS, Board, JobCounts, LatencyHistogram, Post, Snapshot, Standing
from transforms.observing.alerts import AlertRules
from transforms.observing.metrics import MOST_FORWARDERS, Family, Forwarders, Told, families


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching")
    parser.add_argument("--forwarders", type=int, nargs="+", default=[10, 1_000, 10_000])
    parser.add_argument("--activities", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    print(f"{'forwarders':>10}  {'scrape':>10}  {'KB':>7}  {'of all':>10}  {'KB':>7}  {'read':>10}  {'rules':>10}")
    for count in given.forwarders:
        snapshot = Snapshot(job=JobCounts(phase="delivering", read=10 * count), forwarders=_standings(count))
        bounded, unbounded = _scrape(snapshot, MOST_FORWARDERS), _scrape(snapshot, count)
        with tempfile.TemporaryDirectory() as place:
            board = _posted(snapshot, Path(place))
            look = partial(AlertRules(60.0, None).saw, snapshot, 1.0)
            costs = [_cost(work, given.rounds) for work in (bounded, unbounded, board.read, look)]
        sizes = [len(scrape()) // 1000 for scrape in (bounded, unbounded)]
        print(
            f"{count:>10,}  {costs[0]:>7.1f} ms  {sizes[0]:>7,}  {costs[1]:>7.1f} ms  {sizes[1]:>7,}  "
            f"{costs[2]:>7.1f} ms  {costs[3]:>7.1f} ms"
        )
    if given.activities:
        _of_a_record(given.activities, given.rounds)


def _of_a_record(activities: int, rounds: int) -> None:
    """Print what a record costs, by how the job is watched."""
    with tempfile.TemporaryDirectory(prefix="watching-") as place, running_sinks() as sinks, _collector() as collector:
        task = Task(sample_file(Path(place), activities), write_forwarders(Path(place), sinks.port))
        traced = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector}/v1/traces",
            "OTEL_METRICS_EXPORTER": "none",
        }
        ways: Mapping[str, tuple[str, Mapping[str, str]]] = {
            "no board": ("job-unwatched", {}),
            "board": ("job", {}),
            "metrics": ("job-metrics", {}),
            "traces of 1 in 1,000": ("job", traced),
            "traces of all": ("job", {**traced, "OTEL_TRACES_SAMPLER": "always_on"}),
        }
        costs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (program, variables) in ways.items():
                port = free_port()
                with _environment(variables), _scraped(port):
                    done = run(program, "deliver", replace(task, number=port), sinks)
                costs[name].append(done.cpu / done.delivered["count"] * 1e6)
    print(f"\n{'watched by':<22}  {'us/record':>9}  {'to no board':>11}")
    for name, each in costs.items():
        ratios = [cost / base for cost, base in zip(each, costs["no board"], strict=True)]
        print(f"{name:<22}  {statistics.median(each):>9.1f}  {statistics.median(ratios):>11.3f}")


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


@contextmanager
def _scraped(port: int) -> Iterator[None]:
    """Asks for metrics once a second for as long as the block lasts, if anybody answers there."""
    done = threading.Event()

    def scrape() -> None:
        while not done.wait(1.0):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _collector() -> Iterator[str]:
    """The address of a collector that takes everything and does nothing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _standings(count: int) -> dict[str, Standing]:
    """Forwarders with everything that makes text: two reasons of dead letters, and all bins of the histogram."""
    latency = LatencyHistogram([7] * (len(LATENCY_BOUNDS) + 1), 1_000)
    return {
        f"59c8d14b0d82b3864a{number:06}": Standing(
            due=number, delivered=number, dead={"http_400": 2, "timeout": 1}, last_success=1.0, latency=latency
        )
        for number in range(count)
    }


def _scrape(snapshot: Snapshot, most: int) -> Callable[[], bytes]:
    labelled, told = Forwarders(most), Told("0", 0.0, "run", 0.05)

    def now() -> list[Family]:
        return list(families(snapshot, time.time(), told, labelled))

    registry = registry_of(now)
    return lambda: generate_latest(registry)


def _posted(snapshot: Snapshot, place: Path) -> Board:
    """A board on which one worker has posted the snapshot."""
    (place / "board").mkdir()
    post = Post("worker", os.getpid(), time.time(), snapshot.job, dict(snapshot.forwarders))
    (place / "board" / "worker.json").write_bytes(msgspec.json.encode(post))
    return Board(str(place))


def _cost(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds of processor time, the median."""
    work()
    costs = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        costs.append(time.process_time() - began)
    return statistics.median(costs) * 1000


if __name__ == "__main__":
    main()
