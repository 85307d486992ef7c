"""What the console's health costs: `python -m benchmarks.health`, for each record that ended in a week, and in memory.

Receipts and dead letters of many forwarders are written as runs do, and are then followed by one `Health`, as the
service does it, but without its pauses. Processor time is measured, beside that of a control: a read of the same
receipts by `read_receipts` alone.
"""

import argparse
import gc
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from registry.health import WEEK, Health
from schemas.times import now_ms
from tests.support.settlements import delivered, given_up
from transforms.receipts.journal import RECEIPTS, Journal
from transforms.receipts.parts import open_part, read_receipts
from transforms.sinks.base import Settlement
from transforms.storage import LocalStorage

BATCH = 100
RUNS = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receipts", type=int, default=200_000)
    parser.add_argument("--letters", type=int, default=20_000)
    parser.add_argument("--forwarders", type=int, default=1_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory)
        write(output, arguments.receipts, arguments.letters, arguments.forwarders)
        control = timed(lambda: read_alone(output)) / arguments.receipts
        gc.collect()
        before = memory()
        health = Health(str(output), pauses=False)
        first = timed(health.look)
        again = timed(health.look)
        after = memory()
        asked = timed(lambda: [health.of(f"f-{number}") for number in range(100)]) / 100
    rows = arguments.receipts + arguments.letters
    print(f"{rows:,} ends of {arguments.forwarders:,} forwarders over a week")
    print(
        f"the first look   {first * 1e6 / rows:8.2f} us an end, {first / rows / control:.1f} times read_receipts alone"
    )
    print(f"a look after it  {again * 1e3:8.2f} ms")
    print(f"memory           {(after - before) / 1e6:8.1f} MB more")
    print(f"a request        {asked * 1e3:8.2f} ms")
    return 0


def write(output: Path, receipts: int, letters: int, forwarders: int) -> None:
    """Runs of a week, each of a hundredth of it."""
    every = max(1, (receipts + letters) // max(1, letters))
    start, count = now_ms() - WEEK, (receipts + letters) // RUNS
    for run in range(RUNS):
        ticks = ticking(start + run * WEEK // RUNS, WEEK // RUNS // max(1, count))
        run_id = f"r{run + 1:06}-20270115T080000Z-{run:06x}"
        journal = Journal(str(output), run_id, "000001-w", durability="none", clock=ticks.__next__)
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            journal.settle([end(run, number, forwarders, number % every == 0) for number in numbers])
        journal.close()


def end(run: int, number: int, forwarders: int, is_letter: bool) -> Settlement:
    name, forwarder = f"{run}.{number}", f"f-{number % forwarders}"
    return given_up(name, forwarder) if is_letter else delivered(name, forwarder)


def ticking(start: int, step: int) -> Iterator[int]:
    while True:
        yield start
        start += step


def read_alone(output: Path) -> None:
    storage = LocalStorage(output)
    for name in storage.list(RECEIPTS):
        for _, blocks in open_part(storage, f"{RECEIPTS}/{name}"):
            for block in blocks:
                read_receipts(block.data, block.count, lambda *row: None)


def timed(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def memory() -> int:
    """Bytes of this process that are in memory."""
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
