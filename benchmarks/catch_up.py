"""Catching up after an outage: whether order and books hold with kills, and what an outage of many runs costs.

    python -m benchmarks.catch_up [--rounds N] [--seed N]
    python -m benchmarks.catch_up --histories [--rounds N] [--seed N]
    python -m benchmarks.catch_up --cost [--runs N] [--users N]
    python -m benchmarks.catch_up --start [--runs N] [--letters N]

The first runs outages over several runs, with `kill -9` at random moments: without and with retries, with two workers,
and with `--on_failure block_user`. The second is whatever may happen to an output, at random: outages of every kind,
kills, stops, redrives, `compact`. The third is one outage over many runs, each with as many new records: what a run
costs as the letters become more, and how many there are.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import boto3
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from local.endpoint import moto_server
from schemas import Record
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.catch_up_history import any_history
from tests.support.laboratory.http_fault_server import in_thread
from tests.support.laboratory.outage import DOWN, FailingFirst, file_of_a_run, outage_over_runs
from tests.support.paths import ROOT
from tests.support.receiver import Receiver
from tests.support.records import record
from tests.support.workshop import Workshop
from transforms.beam_import import import_beam_file_systems
from transforms.receipts.history import History
from transforms.receipts.index import index_history, remove_index
from transforms.receipts.journal import Journal
from transforms.receipts.outage_letters import OutageLetters
from transforms.sinks.base import AttemptResult, Item, Settlement, Verdict

VARIANTS: dict[str, dict[str, Any]] = {
    "one by one": {},
    "retries": {"configuration": {"maxRetries": 2}},
    "two workers": {"arguments": ("--direct_running_mode=multi_processing", "--direct_num_workers=2")},
    "block_user": {"arguments": ("--on_failure=block_user",)},
}
PATTERNS: list[list[float]] = [
    [DOWN, DOWN, 0],
    [DOWN, 60, 0],
    [60, DOWN, 60],
    [DOWN, 12, 0],
    [3, 5, 3, 5],
    [0.05, 0.05, 0.05],
    [0.5, 0.3, DOWN, 0.1],
]
"""For each run how many requests fail, or which share of them."""


def kills(rounds: int, seed: int) -> None:
    """Outages with kills. Raises AssertionError where something is wrong."""
    counts = ("runs", "kills", "due", "letters", "twice", "in_flight")
    print(f"{'variant':<12} pattern " + " ".join(f"{name:>9}" for name in counts), flush=True)
    for number in range(rounds):
        for name, settings in VARIANTS.items():
            pattern = PATTERNS[(seed + number) % len(PATTERNS)]
            with tempfile.TemporaryDirectory() as directory, redirect_stdout(sys.stderr):
                workshop = Workshop(Path(directory))
                found = outage_over_runs(workshop, pattern, kills=len(pattern), seed=seed + number, **settings)
            figures = " ".join(f"{getattr(found, count):>9}" for count in counts)
            print(f"{name:<12} {PATTERNS.index(pattern):>7} {figures}", flush=True)


def histories(rounds: int, seed: int) -> None:
    """Histories at random. Raises AssertionError where something is wrong."""
    for number in range(seed, seed + rounds):
        with tempfile.TemporaryDirectory() as directory, redirect_stdout(sys.stderr):
            found = any_history(Workshop(Path(directory)), number)
        counts = {name: value for name, value in vars(found).items() if name != "steps"}
        print(number, " ".join(f"{name} {value}" for name, value in counts.items()), flush=True)


def cost(runs: int, users: int) -> None:
    """One outage over many runs, then one run that catches up."""
    print(f"{'run':>4} {'open letters':>12} {'CPU s':>7} {'wall s':>7} {'dead_letters MB':>15}")
    with tempfile.TemporaryDirectory() as directory:
        workshop, receiver = Workshop(Path(directory)), Receiver()
        script = FailingFirst(random.Random(0), DOWN)  # noqa: S311
        receiver.script = script
        with in_thread(receiver):
            workshop.write_forwarders(http_document(receiver, "late", {"maxRetries": 0}))
            for number in range(runs + 2):
                script.left = DOWN if number < runs else 0
                if number <= runs:
                    workshop.write_activity(file_of_a_run(number, users, 1), f"{number}.jsonl")
                before, began = _children(), time.monotonic()
                _job(workshop)
                spent, took = _children() - before, time.monotonic() - began
                size = sum(part.stat().st_size for part in (workshop.output / "dead_letters").glob("*.avro"))
                if number % max(1, runs // 10) == 0 or number >= runs:
                    tried = workshop.account("late")["caught_up"]["tried"]
                    print(f"{number:>4} {tried:>12} {spent:>7.2f} {took:>7.2f} {size / 1e6:>15.1f}", flush=True)
        letters = workshop.avro("dead_letters")
        print(f"{len(letters):,} letters of {len({letter['id'] for letter in letters}):,} records after {runs} runs")


def start(runs: int, letters: int) -> None:
    """What the index costs that a run begins with, on this machine's disk and on S3: the processor's and all time."""
    with tempfile.TemporaryDirectory() as directory, moto_server() as address:
        os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
        boto3.client("s3").create_bucket(Bucket="bench")
        import_beam_file_systems()
        FileSystems.set_options(PipelineOptions([]))
        print(f"{'output':<6} {'runs':>5} {'open letters':>12} {'CPU ms':>8} {'wall ms':>8} {'CPU us a letter':>16}")
        for place, output in (("disk", directory), ("s3", "s3://bench")):
            for number in range(2):
                _outage(f"{output}/one", number, number * letters, 1 if number else letters)
                _print_start(place, f"{output}/one", number, letters + number)
            for number in range(runs):
                _outage(f"{output}/many", 2 * number, number * 50, 50)
                _print_start(place, f"{output}/many", 2 * number, (number + 1) * 50, number % max(1, runs // 5) == 0)


def _outage(output: str, run: int, first: int, letters: int) -> None:
    """A run that gives records up."""
    journal = Journal(output, _run_id(run), "w", durability="none")
    unavailable = AttemptResult(Verdict.GIVE_UP, "unavailable")
    for chunk in range(first, first + letters, 500):
        numbers = range(chunk, min(chunk + 500, first + letters))
        records = [_record(number) for number in numbers]
        journal.settle([Settlement(Item("f", each, each.body, "record"), unavailable) for each in records])
    journal.close()


def _record(number: int) -> Record:
    user, place = f"user-{number % 5_000}", number
    return record(user, place, b'{"user_id":"%b","number":%d,"filler":"%b"}' % (user.encode(), place, b"x" * 300))


def _print_start(place: str, output: str, run: int, letters: int, shown: bool = True) -> None:
    processor, wall = time.process_time(), time.perf_counter()
    index = index_history(output, _run_id(run + 1), catch_up=OutageLetters(run + 1, block_user=False))
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    found = sum(1 for _ in History(index).undelivered_dead_letters()) if shown else letters
    if found != letters:
        raise SystemExit(f"{found} letters are open instead of {letters}")
    remove_index(index)
    if shown:
        took = f"{processor * 1e3:>8.0f} {wall * 1e3:>8.0f} {processor / letters * 1e6:>16.1f}"
        print(f"{place:<6} {run // 2 + 1:>5} {letters:>12} {took}", flush=True)


def _run_id(number: int) -> str:
    return f"r{number + 1:06}-20260101T000000Z-abcdef"


def _children() -> float:
    used = getrusage(RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _job(workshop: Workshop) -> None:
    arguments = workshop.arguments(
        "--input", str(workshop.path / "in" / "*"), "--state", str(workshop.path / "state"), "--outage_budget=1"
    )
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "pipeline", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ended.returncode not in (0, 3):
        raise SystemExit(ended.stderr)


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--histories", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument("--start", action="store_true")
    parser.add_argument("--letters", type=int, default=100_000)
    arguments = parser.parse_args()
    if arguments.cost:
        cost(arguments.runs, arguments.users)
    elif arguments.start:
        start(arguments.runs, arguments.letters)
    elif arguments.histories:
        histories(arguments.rounds, arguments.seed)
    else:
        kills(arguments.rounds, arguments.seed)


if __name__ == "__main__":
    main()
