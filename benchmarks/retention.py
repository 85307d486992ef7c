"""How long a run on an old output takes to start, before and after a compaction: a year of five-minute runs.

    python -m benchmarks.retention [--runs 105120] [--receipts 6] [--rounds 3]

Receipts are made up: as many a run as is asked for, one in fifty of them a dead letter that the next run delivers.
Beside the year stands an output after a day, 288 runs. Measured is, in a process of its own each time, the processor
time of what a start does with an output (its number, journals that were left, the index of receipts), and of a whole
run of ten activities on it, with their shares to the day's. The least of the rounds counts.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from pipeline.compact import compact_output
from pipeline.sample import sample_activities
from schemas import Record
from schemas.times import event_time, now_ms, utc
from transforms.receipts.journal import Journal
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict

ROOT = Path(__file__).resolve().parents[1]
DAY = 288
_FIVE_MINUTES = 300_000
_DEAD = 50

_START = """
import sys
from transforms.receipts.journal import recover
from transforms.receipts.runs import next_run_number
from transforms.receipts.index import index_history, remove_index
from transforms.receipts.history import History
import resource
began = resource.getrusage(resource.RUSAGE_SELF)
next_run_number(sys.argv[1])
recover(sys.argv[1])
index = index_history(sys.argv[1], "r999999-20300101T000000Z-abcdef")
remove_index(index)
ended = resource.getrusage(resource.RUSAGE_SELF)
print(ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime)
"""


def fill(output: Path, runs: int, receipts: int) -> None:
    """Leave the receipts and dead letters of so many runs, five minutes from one to the next, up to now."""
    now = now_ms()
    for number in range(1, runs + 1):
        at = now - (runs - number) * _FIVE_MINUTES
        run_id = f"r{number:06}-{utc(at):%Y%m%dT%H%M%SZ}-{number:06x}"
        journal = Journal(
            str(output),
            run_id,
            "000001-host-1-aaaaaa",
            durability="none",
            clock=lambda at=at: at,  # type: ignore[misc]
        )
        journal.settle(list(_settlements(number, receipts, at)))
        journal.close()


def _settlements(run: int, receipts: int, at: int) -> Iterator[Settlement]:
    for number in range(run * receipts, (run + 1) * receipts):
        yield _settled(number, at, number % _DEAD != 0)
    if (before := (run - 1) * receipts) and before % _DEAD == 0:
        yield _settled(before, at, True)


def _settled(number: int, at: int, delivered: bool) -> Settlement:
    id_, user = f"{number:08x}-6dab-56d6-9df0-d4588a970cf7", f"learner-{number % 5000:08}"
    message = {
        "event": "session-started",
        "session_id": f"s-{number}",
        "activity_id": "algebra",
        "user_id": user,
        "time": event_time(at),
    }
    record = Record(id_, "event", "org", None, user, at, id_, 0, message, msgspec.json.encode(message), {})
    item = Item("gradebook", record, b'{"payload":1}', "record", 0, 1, at)
    result = AttemptResult(Verdict.DELIVERED, status=200)
    return Settlement(item, result if delivered else AttemptResult(Verdict.GIVE_UP, "http_400", status=400))


def index_seconds(output: Path) -> float:
    """Processor seconds of what a start does with an output."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _START, str(output)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def run_seconds(output: Path, folder: Path) -> float:
    """Processor seconds of a whole run of ten activities, which goes on from what the output knows."""
    activity = folder / "activity.jsonl"
    activity.write_text("".join(f"{json.dumps(each)}\n" for each in islice(sample_activities(2, seed=1), 10)))
    forwarders = folder / "forwarders.json"
    configuration = {"protocol": "http", "url": "127.0.0.1:9/", "maxRetries": 0}
    query = json.dumps({"kind": "nothing"})
    forwarders.write_text(
        json.dumps([{"_id": "gradebook", "active": True, "query": query, "configuration": configuration}])
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603
        [
            *(sys.executable, "-m", "pipeline", f"--input={activity}", f"--forwarders={forwarders}"),
            *(f"--output={output}", "--allow_network=127.0.0.1/32"),
        ],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retention", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=365 * DAY)
    parser.add_argument("--receipts", type=int, default=6, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=int, default=90, help="days")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="retention-") as directory:
        folder = Path(directory)
        day, year = folder / "day", folder / "year"
        fill(day, DAY, options.receipts)
        fill(year, options.runs, options.receipts)
        print(f"{'processor seconds':36}{'of the start':>14}{'':>8}{'whole run':>14}")
        base = _measured("after a day", day, folder, options.rounds, None)
        _measured(f"after {options.runs:,} runs", year, folder, options.rounds, base)
        began, wall = time.process_time(), time.perf_counter()
        removed = compact_output(str(year), options.keep * 86_400)
        print(f"compaction: {time.process_time() - began:.1f} s of processor, {time.perf_counter() - wall:.1f} s")
        print("\n".join(f"  {line}" for line in removed.lines()))
        began = time.process_time()
        compact_output(str(year), options.keep * 86_400)
        print(f"once more, with nothing new: {time.process_time() - began:.1f} s of processor")
        _measured("the same, compacted", year, folder, options.rounds, base)


def _measured(
    name: str, output: Path, folder: Path, rounds: int, base: tuple[float, float] | None
) -> tuple[float, float]:
    start = min(index_seconds(output) for _ in range(rounds))
    whole = min(run_seconds(output, folder) for _ in range(rounds))
    shares = ("", "") if base is None else (f"{start / base[0]:.2f}x", f"{whole / base[1]:.2f}x")
    print(f"{name:36}{start:14.3f}{shares[0]:>8}{whole:14.2f}{shares[1]:>8}", flush=True)
    return start, whole


if __name__ == "__main__":
    main()
