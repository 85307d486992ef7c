"""What is compared with what, and the runs: programs take turns (A B A B ...), so that a busy machine strikes all."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.measuring import Run, Task, run
from benchmarks.peers.kafka import kafka_broker
from benchmarks.sinks import SinksClient
from benchmarks.workload import Ends, activity_as_large_as, count_lines, sample_file, statement_file, write_forwarders

HANDFUL = 10
LARGE = 1_000_000
HOT_ACTIVITIES = 100_000
FORWARDER_COUNTS = (10, 100, 1_000, 3_000, 10_000)
MATCHED_ACTIVITIES = 50_000


@dataclass(frozen=True)
class Contestant:
    """A program in a comparison. `of_peer`: it runs under the peers' Python.

    `derives`: it delivers records that are derived, where the comparison is about statements as they are. Its sample:
    the same statements, or as many bytes of activity.
    """

    program: str
    workers: int = 1
    of_peer: bool = False
    derives: Literal["statements", "activity"] | None = None

    @property
    def label(self) -> str:
        return self.program if self.workers == 1 else f"{self.program} x{self.workers}"


PASSING = Contestant("job-statements")
JOB, FLOOR, FLOOR_GC = Contestant("job"), Contestant("floor"), Contestant("floor-gc")


@dataclass(frozen=True)
class Target:
    """A promise: `slower` takes at least, or at most, so many times what `faster` takes, of wall clock or processor."""

    text: str
    slower: str
    faster: str
    at_least: float | None = None
    at_most: float | None = None
    of: Literal["wall", "cpu"] = "wall"


@dataclass(frozen=True)
class Comparison:
    """Programs on one stage at some sizes. The first contestant is what the ratios are to."""

    name: str
    title: str
    stage: str
    contestants: tuple[Contestant, ...]
    ends: Ends = "all"
    targets: tuple[Target, ...] = ()
    only: Callable[[int], bool] = field(default=lambda size: True)


COMPARISONS: tuple[Comparison, ...] = (
    Comparison("derive", "derive only", "derive", (FLOOR, JOB, FLOOR_GC), only=lambda size: size < LARGE),
    Comparison(
        "encode",
        "derive + match + encode",
        "encode",
        (FLOOR, JOB, FLOOR_GC),
        targets=(Target("at most 1.4x the floor", "job", "floor", at_most=1.4),),
    ),
    Comparison(
        "kinesis",
        "deliver to Kinesis",
        "deliver",
        (Contestant("bare-boto3"), Contestant("engine"), Contestant("floor-lanes")),
        ends="kinesis",
        targets=(Target("1.0 of a bare boto3 loop", "bare-boto3", "engine", at_least=1.0),),
        only=lambda size: size < LARGE,
    ),
    Comparison(
        "http",
        "deliver over HTTP",
        "deliver",
        (Contestant("bare-aiohttp"), Contestant("engine"), Contestant("floor-lanes")),
        ends="http",
        targets=(Target("0.9 of a bare aiohttp loop", "bare-aiohttp", "engine", at_least=0.9),),
        only=lambda size: size < LARGE,
    ),
    Comparison(
        "end_to_end",
        "end to end, all sinks",
        "deliver",
        (FLOOR, JOB, FLOOR_GC),
        targets=(Target("at most 1.4x the floor", "job", "floor", at_most=1.4),),
    ),
    Comparison(
        "durability",
        "end to end, synced in groups and not",
        "deliver",
        (Contestant("job-none"), JOB),
        targets=(Target("at most 1.03x one that syncs nothing", "job", "job-none", at_most=1.03, of="cpu"),),
        only=lambda size: size < LARGE,
    ),
    Comparison(
        "scripts",
        "end to end, a user's script",
        "deliver",
        (JOB, Contestant("script-batches"), Contestant("script")),
        targets=(
            Target("at least 10x a script that sends one by one", "script", "job", at_least=10),
            Target("at least 4x a script that sends batches", "script-batches", "job", at_least=4),
            Target("at least 3x a script that sends batches", "script-batches", "job", at_least=3, of="cpu"),
        ),
        only=lambda size: size <= 100_000,
    ),
    Comparison(
        "bytewax",
        "end to end, Bytewax",
        "deliver",
        (JOB, Contestant("bytewax", of_peer=True)),
        targets=(Target("at least 3x Bytewax", "bytewax", "job", at_least=3),),
        only=lambda size: size < LARGE,
    ),
    Comparison(
        "quix",
        "whole documents; Quix Streams only filters and delivers",
        "deliver",
        (JOB, FLOOR, Contestant("quix", of_peer=True)),
        ends="documents",
        targets=(Target("at least 3x Quix Streams", "quix", "job", at_least=3),),
        only=lambda size: size < LARGE,
    ),
    Comparison(
        "statements",
        "statements: read + match + encode",
        "encode",
        (
            Contestant("bare-orjson"),
            Contestant("bare-msgspec"),
            PASSING,
            Contestant("job-derived-statements", derives="statements"),
            Contestant("job", derives="activity"),
        ),
        ends="statements",
        targets=(
            Target("at most 1.5x a bare loop with orjson", "job-statements", "bare-orjson", at_most=1.5, of="cpu"),
            Target("at most 1.5x a bare loop with msgspec", "job-statements", "bare-msgspec", at_most=1.5, of="cpu"),
            Target(
                "at least 2x as fast as deriving from them",
                "job-derived-statements",
                "job-statements",
                at_least=2,
                of="cpu",
            ),
            Target("at least 2x as fast as as many bytes of activity", "job", "job-statements", at_least=2, of="cpu"),
        ),
        only=lambda size: size <= LARGE,
    ),
    Comparison(
        "statement_scripts",
        "statements end to end, a user's script",
        "deliver",
        (PASSING, Contestant("script-statements"), Contestant("script-statements-session")),
        ends="statements",
        targets=(
            Target("at least 5x requests.post", "script-statements", "job-statements", at_least=5, of="cpu"),
            Target(
                "at least 5x a session of requests",
                "script-statements-session",
                "job-statements",
                at_least=5,
                of="cpu",
            ),
        ),
        only=lambda size: size <= 100_000,
    ),
    Comparison(
        "workers",
        "derive + match + encode, two workers",
        "encode",
        (JOB, Contestant("job", workers=2)),
        targets=(Target("two workers at least 1.5x one", "job", "job x2", at_least=1.5),),
        only=lambda size: size >= LARGE,
    ),
)


@dataclass
class Row:
    """The runs of one contestant in one comparison at one size."""

    comparison: str
    title: str
    activities: int
    label: str
    runs: list[Run] = field(default_factory=list)

    @property
    def wall(self) -> float:
        return median(run.wall for run in self.runs)

    @property
    def cpu(self) -> float:
        return median(run.cpu for run in self.runs)

    @property
    def peak(self) -> float:
        return median(run.peak for run in self.runs)


class DifferentError(Exception):
    """Programs that should have delivered the same did not."""


@dataclass
class Suite:
    """Where and how often to measure. `log` is told of every run."""

    directory: Path
    sinks: SinksClient
    rounds: int
    rounds_of_large: int
    peers_python: str | None
    kafka: Path | None
    log: Callable[[str], None] = print

    def compare(self, comparison: Comparison, size: int) -> list[Row]:
        """Rows of `comparison` at about `size` activities; of peers that are not installed there are none."""
        contestants = [contestant for contestant in comparison.contestants if self._is_there(contestant)]
        of_statements = comparison.ends == "statements"
        sample = statement_file(self.directory, size) if of_statements else sample_file(self.directory, size)
        activities = count_lines(sample)
        task = Task(sample, write_forwarders(self.directory, self.sinks.port, comparison.ends), comparison.ends)
        rows = [Row(comparison.name, comparison.title, activities, contestant.label) for contestant in contestants]
        with ExitStack() as stack:
            if any(contestant.program == "quix" for contestant in contestants):
                task = self._fed(task, stack.enter_context(kafka_broker(self._kafka())))
            for _ in range(self.rounds if size < LARGE else self.rounds_of_large):
                for contestant, row in zip(contestants, rows, strict=True):
                    row.runs.append(self._run(contestant, comparison.stage, self._task(contestant, task)))
        check_same([row for contestant, row in zip(contestants, rows, strict=True) if contestant.derives is None])
        return rows

    def _task(self, contestant: Contestant, task: Task) -> Task:
        """What the contestant is given, where others are given `task`."""
        if contestant.derives is None:
            return task
        sample = task.input if contestant.derives == "statements" else activity_as_large_as(task.input)
        return Task(sample, write_forwarders(self.directory, self.sinks.port))

    def memory(self, sizes: Iterable[int]) -> list[Row]:
        """The job end to end on a handful of activities, and with a user who has a hundred thousand."""
        rows = []
        for label, size, hot_share in self._memory_samples(sizes):
            sample = sample_file(self.directory, size, hot_share=hot_share)
            task = Task(sample, write_forwarders(self.directory, self.sinks.port))
            row = Row("memory", "memory end to end", count_lines(sample), label)
            row.runs.append(self._run(JOB, "deliver", task))
            rows.append(row)
        return rows

    def _memory_samples(self, sizes: Iterable[int]) -> Iterator[tuple[str, int, float | None]]:
        yield "a handful", HANDFUL, None
        for size in sizes:
            if size >= 2 * HOT_ACTIVITIES:
                yield "hot user of 100 k", size, HOT_ACTIVITIES / size
                return

    def matching(self) -> list[Row]:
        """Matching alone against more and more forwarders."""
        rows = []
        sample = sample_file(self.directory, MATCHED_ACTIVITIES)
        forwarders = write_forwarders(self.directory, self.sinks.port)
        for count in FORWARDER_COUNTS:
            row = Row("match", "match only", count_lines(sample), f"{count} forwarders")
            for _ in range(self.rounds):
                row.runs.append(self._run(Contestant("match"), "encode", Task(sample, forwarders, number=count)))
            rows.append(row)
        return rows

    def _run(self, contestant: Contestant, stage: str, task: Task) -> Run:
        python = (self.peers_python or sys.executable) if contestant.of_peer else sys.executable
        task = Task(task.input, task.forwarders, task.ends, contestant.workers, task.broker, task.number)
        done = run(contestant.program, stage, task, self.sinks, python)
        self.log(
            f"  {contestant.label:15} {stage:8} {done.wall:8.2f} s wall {done.cpu:8.2f} s cpu {done.peak / 1e6:7.0f} MB"
            f"  (sinks {done.sink_cpu:.2f} s cpu, load {done.load:.1f})"
        )
        return done

    def _fed(self, task: Task, broker: str) -> Task:
        """The task with a broker that holds its records, and how many deliveries are to come of them."""
        fed = Task(task.input, task.forwarders, task.ends, broker=broker)
        run("quix-feed", "deliver", fed, self.sinks, self.peers_python or sys.executable)
        expected = run("floor", "encode", fed, self.sinks).delivered["count"]
        return Task(task.input, task.forwarders, task.ends, broker=broker, number=expected)

    def _kafka(self) -> Path:
        assert self.kafka is not None
        return self.kafka

    def _is_there(self, contestant: Contestant) -> bool:
        if contestant.program == "quix" and self.kafka is None:
            return False
        return not contestant.of_peer or self.peers_python is not None


def check_same(rows: list[Row]) -> None:
    """Every run of a comparison has the same count and, where there is one, digest."""
    delivered = {(done.delivered["count"], done.delivered.get("digest") or "0") for row in rows for done in row.runs}
    if rows[0].comparison == "derive":
        delivered = {(count, "") for count, _ in delivered}
    if len(delivered) > 1:
        by_label = {f"{row.label}": [done.delivered for done in row.runs] for row in rows}
        raise DifferentError(f"{rows[0].comparison}: not the same was delivered: {by_label}")
