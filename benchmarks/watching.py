"""What it costs to watch a run, by the number of its forwarders. (`python -m benchmarks.watching`)

    python -m benchmarks.watching [--forwarders 10 1000 10000] [--rounds 5]

In processor time, the median of the rounds, each beside the others:

- scrape: the board as metrics, as text for Prometheus, with values for 1,000 forwarders at most, and for all;
- read: the board's file of one worker, read by the launcher;
- rules: a look of the alert rules at what was read.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
from prometheus_client import generate_latest

from pipeline.prometheus import registry_of
from transforms.accounting.board import LATENCY_BOUNDS, Board, JobCounts, LatencyHistogram, Post, Snapshot, Standing
from transforms.observing.alerts import AlertRules
from transforms.observing.metrics import MOST_FORWARDERS, Family, Forwarders, Told, families


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watching")
    parser.add_argument("--forwarders", type=int, nargs="+", default=[10, 1_000, 10_000])
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
