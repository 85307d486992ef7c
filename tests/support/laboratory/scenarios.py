"""Scenarios of a bad day, small in the tests and at full size in `python -m benchmarks.delivery --scenarios`.

Each takes a place to work in and the sizes, runs the whole job against receivers that misbehave, and gives the figures
of each forwarder. What is wrong shows in the figures, or raises AssertionError where books do not agree.
"""

import itertools
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from tests.support.forked import Forked
from tests.support.forwarder_documents import aws_document, http_document
from tests.support.forwarders import aws_forwarder
from tests.support.laboratory.aws_fake import AwsFake, Faults, Stream, Word
from tests.support.laboratory.batch_receiver import BatchReceiver, sometimes
from tests.support.laboratory.checker import check
from tests.support.laboratory.http_fault_server import Answer, Arrival, Fault, in_thread
from tests.support.laboratory.job_experiment import (
    BatchLog,
    Experiment,
    Figures,
    HttpLog,
    Log,
    StreamLog,
    activities,
    due,
)
from tests.support.ports import free_port
from tests.support.receiver import Receiver, by_user
from tests.support.records import items
from tests.support.workshop import Workshop
from transforms.delivery.deferral import Deferral
from transforms.delivery.engine import DeliveryEngine
from transforms.delivery.lane_sender import LaneCounts
from transforms.delivery.policy import DeliverySettings
from transforms.forwarders import Forwarder, HttpTarget
from transforms.forwarders.secrets import Secret
from transforms.sinks.base import DEFERRED, Item, Settlement
from transforms.sinks.choose import batch_sinks
from transforms.sinks.http_batches import post_sink
from transforms.sinks.http_client import HttpClient

BAD_DAY: dict[Word, float] = {
    "throttle_some": 0.1,
    "internal_stored": 0.04,
    "internal_not_stored": 0.04,
    "answer_lost": 0.03,
    "cut_before_storing": 0.03,
    "call_throttled": 0.03,
    "call_500_stored": 0.02,
    "garbage": 0.02,
    "lying_count": 0.05,
    "slow": 0.3,
}
"""Rates of the AWS fake's faults, per call."""


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for the job, also for the processes it is started in."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def laboratory(seed: int = 0) -> Iterator[tuple[Receiver, AwsFake, AwsFake]]:
    """An HTTP receiver, and a Kinesis and a Firehose that the job finds through its environment."""
    with ExitStack() as stack:
        receiver = Receiver()
        stack.enter_context(in_thread(receiver))
        kinesis = stack.enter_context(AwsFake(Faults(seed=seed)))
        firehose = stack.enter_context(AwsFake(Faults(seed=seed + 1)))
        stack.enter_context(
            environment(
                AWS_ENDPOINT_URL_KINESIS=kinesis.endpoint,
                AWS_ENDPOINT_URL_FIREHOSE=firehose.endpoint,
                AWS_ACCESS_KEY_ID="test",
                AWS_SECRET_ACCESS_KEY="test",
                AWS_EC2_METADATA_DISABLED="true",
            )
        )
        yield receiver, kinesis, firehose


def unwilling(chance: random.Random, share: float = 0.12) -> Any:
    """A script of the HTTP server: a share of all requests fails, in many ways."""
    failures: list[tuple[int, Fault]] = [
        *((status, "none") for status in (500, 503, 429, 408, 502)),
        *((200, fault) for fault in ("reset", "close", "cut_headers", "reset_headers", "cut_body", "close_after")),
        *((200, fault) for fault in ("close_on_next", "informational")),
    ]

    def script(arrival: Arrival) -> Answer:
        if chance.random() >= share:
            return Answer()
        status, fault = chance.choice(failures)
        stored = chance.random() < 0.5 if fault in ("reset", "close", "cut_headers", "reset_headers") else None
        headers = (("Retry-After", "1"),) if status == 429 else ()
        return Answer(status, headers=headers, fault=fault, stored=stored)

    return script


def _figures(scenario: str, experiment: Experiment, records: list[tuple[str, str]], note: str = "") -> list[Figures]:
    return [
        Figures.of(
            scenario,
            name,
            len(records),
            log.faults(),
            experiment.judge(name, records),
            experiment.workshop.account(name)["dead_lettered"],
            note,
        )
        for name, log in experiment.logs.items()
    ]


# --- kills -----------------------------------------------------------------------------------------------------------


def killed_again_and_again(
    workshop: Workshop,
    *,
    users: int = 50,
    sessions: int = 10,
    kills: int = 20,
    seed: int = 0,
    arguments: tuple[str, ...] = (),
) -> list[Figures]:
    """SIGKILL at random moments, each time resumed with the same command, to an HTTP forwarder, a stream, a Firehose.

    A quarter of the moments are drawn from the first seconds of the process (starting, recovering, reading), the rest
    from what is left to be delivered.
    """
    chance = random.Random(seed)  # noqa: S311
    workshop.write_activity(activities(users, sessions))
    with laboratory(seed) as (receiver, kinesis, firehose):
        receiver.script = unwilling(chance)
        stream = kinesis.add_stream("stream", shards=2)
        logs: dict[str, Log] = {
            "http": HttpLog(receiver, "http"),
            "stream": StreamLog(stream),
            "firehose": StreamLog(firehose.add_delivery_stream("firehose")),
        }
        for fake in (kinesis, firehose):
            fake.faults.rates = dict(BAD_DAY)
        kinesis.before_put = resharding(stream, chance, every=40)
        workshop.write_forwarders(
            http_document(receiver, "http", {"maxRetries": 10}),
            aws_document("stream"),
            aws_document("firehose", "firehose"),
        )
        records = due(workshop)
        experiment = Experiment(workshop, logs, ("--max_backoff=0.05", *arguments), (receiver, kinesis, firehose))
        done = 0
        while done < kills:
            with experiment.process() as job:
                _until_a_random_moment(job, experiment, chance, 3 * len(records), kills - done)
            if not experiment.starts[-1].killed:
                break  # It was through before its moment came.
            done += 1
        status = experiment.run()
        assert status == 0, experiment.told
        killed = [each for name in logs for each in experiment.killed_under_way(name)]
        in_flight = max((len(each.in_flight) for each in killed), default=0)
        note = f"{done} kills, at most {in_flight} in flight at one"
        return _figures("SIGKILL and resume", experiment, records, note)


def killed_with_batches(
    workshop: Workshop, *, users: int = 50, sessions: int = 10, kills: int = 20, seed: int = 0, share: float = 0.05
) -> list[Figures]:
    """SIGKILL at random moments while batches of 100 leave, to a receiver that refuses a share of the records.

    What becomes a dead letter are exactly those.
    """
    chance = random.Random(seed)  # noqa: S311
    workshop.write_activity(activities(users, sessions))
    with laboratory(seed) as (receiver, _, _):
        batches = {"batch": {"records": 100}, "maxRetries": 10, "concurrency": 4}
        workshop.write_forwarders(http_document(receiver, "http", batches, payload="statement"))
        records = due(workshop)
        guilty = {id_ for _, id_ in records if chance.random() < share}
        judge = BatchReceiver(guilty, 422, fault=sometimes(seed, 0.1))
        receiver.script = judge
        experiment = Experiment(workshop, {"http": BatchLog(judge)}, ("--max_backoff=0.05",), (receiver,))
        done = 0
        while done < kills:
            with experiment.process() as job:
                began = time.monotonic()
                # Half of the moments are before the first request, or while few have been made.
                stored = len(judge.stored) + chance.randrange(max(1, 2 * (len(records) - len(judge.stored)) // kills))
                calls = len(judge.calls) + chance.randrange(1, 60)
                until = began + chance.uniform(0.0, 1.5) if chance.random() < 0.25 else float("inf")
                while job.poll() is None and time.monotonic() < until:
                    if len(judge.stored) > stored or len(judge.calls) > calls:
                        break
                    time.sleep(0.002)
            if not experiment.starts[-1].killed:
                break  # It was through before its moment came.
            done += 1
        status = experiment.run()
        assert status == 3, experiment.told
        dead = {row["id"] for row in workshop.avro("receipts") if row["outcome"] == "dead_lettered"}
        delivered = {row["id"] for row in workshop.avro("receipts") if row["outcome"] == "delivered"}
        assert dead == guilty, "dead letters are exactly the guilty"
        assert delivered == {id_ for _, id_ in records} - guilty
        killed = experiment.killed_under_way("http")
        in_flight = max((len(each.in_flight) for each in killed), default=0)
        note = f"{done} kills, {len(guilty)} guilty, at most {in_flight} in flight at one"
        return _figures("SIGKILL with batches", experiment, records, note)


def _until_a_random_moment(
    job: Forked, experiment: Experiment, chance: random.Random, records: int, kills_left: int
) -> None:
    began, arrived = time.monotonic(), experiment.arrived()
    until = began + chance.uniform(0.0, 2.0) if chance.random() < 0.25 else float("inf")
    left = max(records - arrived, 0)
    # Also when the clock decides: what is left must do for the kills that are to come.
    enough = arrived + 1 + chance.randrange(2 * left // (kills_left + 1) + 1)
    while job.poll() is None and experiment.arrived() < enough and time.monotonic() < until:
        time.sleep(0.005)


# --- scripted statuses -----------------------------------------------------------------------------------------------

SCRIPTS: dict[str, list[int | Answer]] = {
    "recovers": [500, 500, 200],
    "asks-for-time": [Answer(429, headers=(("Retry-After", "1"),)), 200],
    "refuses": [400],
}


def scripted_statuses(workshop: Workshop, *, users: int = 50, sessions: int = 10) -> list[Figures]:
    """Every record meets the same list of answers: two failures and a success, a throttle and a success, a refusal."""
    workshop.write_activity(activities(users, sessions))
    with laboratory() as (receiver, _, _):

        def script(arrival: Arrival) -> Answer:
            answers = SCRIPTS[arrival.request_line.split()[1].removeprefix("/")]
            answer = answers[attempts[arrival.request_line, arrival.key]]
            attempts[arrival.request_line, arrival.key] += 1
            return Answer(answer) if isinstance(answer, int) else answer

        receiver.script = script
        logs: dict[str, Log] = {name: HttpLog(receiver, name) for name in SCRIPTS}
        workshop.write_forwarders(*(http_document(receiver, name) for name in SCRIPTS))
        records = due(workshop)
        attempts = dict.fromkeys(((f"POST /{name} HTTP/1.1", id_) for name in SCRIPTS for _, id_ in records), 0)
        experiment = Experiment(workshop, logs)
        assert workshop.run() == 3
        for name, answers in SCRIPTS.items():
            account = workshop.account(name)
            assert account["attempts"] == len(answers) * len(records) == len(logs[name])
            assert account["dead_lettered"] == (len(records) if name == "refuses" else 0)
        return _figures("scripted statuses", experiment, records)


# --- neighbours ------------------------------------------------------------------------------------------------------


def four_neighbours(
    workshop: Workshop, *, users: int = 50, sessions: int = 10, outage_budget: float = 2.0
) -> list[Figures]:
    """One forwarder dead, one slow (until the fine one has everything), one throttling, one fine; and that one alone.

    `benchmarks.delivery --neighbours` measures its rates.
    """
    alone, together = Workshop(workshop.path / "alone"), Workshop(workshop.path / "together")
    for place in (alone, together):
        place.path.mkdir()
        place.write_activity(activities(users, sessions))
    with laboratory() as (receiver, kinesis, _):
        arrived: Counter[str] = Counter()

        def script(arrival: Arrival) -> Answer:
            path = arrival.request_line.split()[1]
            arrived[path] += 1
            is_slow = path == "/slow" and arrived["/fine"] < 4 * users * sessions
            return Answer(fault="late", interval=0.2) if is_slow else Answer()

        receiver.script = script
        stream = kinesis.add_stream("throttling", records_per_second=users * sessions)
        fine = http_document(receiver, "fine")
        dead = http_document(receiver, "dead", {"url": f"127.0.0.1:{free_port()}"})
        alone.write_forwarders(fine)
        together.write_forwarders(dead, http_document(receiver, "slow"), aws_document("throttling"), fine)
        records = due(alone)

        # In a process of its own, so that the receivers do not take its time.
        assert Experiment(alone, {}).run() == 0
        by_itself = HttpLog(receiver, "fine").arrivals()
        receiver.log.clear()
        arrived.clear()
        logs: dict[str, Log] = {name: HttpLog(receiver, name) for name in ("dead", "slow", "fine")}
        logs["throttling"] = StreamLog(stream)
        experiment = Experiment(together, logs, ("--max_backoff=0.5", f"--outage_budget={outage_budget}"))
        assert experiment.run() == 3

        figures = _figures("dead, slow, throttling, fine", experiment, records)
        beside_others = HttpLog(receiver, "fine").arrivals()
        assert _keys_by_user(by_itself) == _keys_by_user(beside_others), "the fine one did not end as if alone"
        reasons = together.account("dead")["dead_letter_reasons"]
        assert set(reasons) <= {"unavailable", "connection_refused"}
        assert sum(reasons.values()) == len(records)
        return figures


def _keys_by_user(arrivals: list[Arrival]) -> dict[str, list[str]]:
    return by_user((arrival.user, arrival.key) for arrival in arrivals)


# --- streams ---------------------------------------------------------------------------------------------------------


def beyond_capacity(
    workshop: Workshop, *, users: int = 250, sessions: int = 3, capacity: float = 1000.0
) -> list[Figures]:
    """Users x sessions x 4 records at once to one shard, which takes `capacity` a second; no retry is granted."""
    workshop.write_activity(activities(users, sessions))
    with laboratory() as (_, kinesis, _):
        stream = kinesis.add_stream("one-shard", shards=1, records_per_second=capacity)
        workshop.write_forwarders(aws_document("one-shard", configuration={"maxRetries": 0}))
        records = due(workshop)
        experiment = Experiment(workshop, {"one-shard": StreamLog(stream)})
        assert workshop.run("--max_backoff=1") == 0, "throttling spends no attempt"
        return _figures("three times a shard's capacity", experiment, records)


def resharding(stream: Stream, chance: random.Random, every: int = 8) -> Callable[[], None]:
    """For `AwsFake.before_put`: splits a shard, or merges two, before every so many-th call."""
    calls = itertools.count(1)

    def reshard() -> None:
        if next(calls) % every:
            return
        shards = sorted(stream.open_shards(), key=lambda shard: shard.first_hash)
        if len(shards) > 1 and chance.random() < 0.5:
            at = chance.randrange(len(shards) - 1)
            stream.merge(shards[at].id, shards[at + 1].id)
        else:
            stream.split(chance.choice(shards).id)

    return reshard


def resharded(workshop: Workshop, *, users: int = 50, sessions: int = 10, seed: int = 0) -> list[Figures]:
    """A stream whose shards are split and merged all the time, on a bad day."""
    chance = random.Random(seed)  # noqa: S311
    workshop.write_activity(activities(users, sessions))
    with laboratory(seed) as (_, kinesis, _):
        stream = kinesis.add_stream("stream", shards=2)
        kinesis.faults.rates = dict(BAD_DAY)
        kinesis.before_put = resharding(stream, chance)
        workshop.write_forwarders(aws_document("stream"))
        records = due(workshop)
        experiment = Experiment(workshop, {"stream": StreamLog(stream)})
        assert workshop.run("--max_backoff=0.05") == 0
        moved = Counter(key for key, _ in {(stored.partition_key, stored.shard) for stored in stream.stored})
        note = f"{len(stream.shards)} shards in the end, {sum(many > 1 for many in moved.values())} users moved"
        return _figures("split and merge", experiment, records, note)


# --- random faults ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Schedule:
    """What happens: to the n-th request of an HTTP record, to the n-th call of each AWS fake, and how many records.

    hurried: records come in bundles that wait for next to nothing, as if the input had no end.
    """

    http: Sequence[Answer]
    kinesis: Sequence[Word]
    firehose: Sequence[Word]
    users: int = 6
    each: int = 6
    max_retries: int = 3
    on_failure: Literal["continue", "block_user"] = "continue"
    hurried: bool = False


def random_schedule(chance: random.Random, length: int = 40, **given: Any) -> Schedule:
    script = unwilling(chance, 0.5)
    nobody = Arrival("", "", 1, 0, 0.0, "", {}, b"")
    words: list[Word] = ["ok", *(word for word in BAD_DAY if word != "slow"), "call_503", "call_500_not_stored"]
    return Schedule(
        [script(nobody) for _ in range(length)],
        [chance.choice(words) for _ in range(length)],
        [chance.choice(words) for _ in range(length)],
        **given,
    )


def by_schedule(schedule: Schedule) -> list[Figures]:
    """The engine with its real sinks, of every protocol at once, through a schedule of faults; no Beam."""
    with laboratory() as (receiver, kinesis, firehose):
        answers = iter(schedule.http)
        receiver.script = lambda arrival: next(answers, Answer())
        kinesis.faults.script += schedule.kinesis
        firehose.faults.script += schedule.firehose
        stream = kinesis.add_stream("k", shards=2)
        kinesis.before_put = resharding(stream, random.Random(0), every=5)  # noqa: S311
        streams = {"k": stream, "f": firehose.add_delivery_stream("f")}
        target = HttpTarget(Secret(f"http://127.0.0.1:{receiver.port}/h"), "127.0.0.1", concurrency=4)
        forwarders = [
            Forwarder("h", None, None, None, "record", schedule.max_retries, target),
            aws_forwarder("k", "streams", "k", max_retries=schedule.max_retries),
            aws_forwarder("f", "firehose", "f", max_retries=schedule.max_retries),
        ]
        sent = {each.id: items(schedule.users, schedule.each, each.id) for each in forwarders}
        written: list[Settlement] = []
        outstanding = Deferral(written.extend, hold=0.003)
        engine = DeliveryEngine(
            forwarders,
            outstanding.settle if schedule.hurried else written.extend,
            DeliverySettings(max_backoff=0.01, outage_budget=30.0, linger=0.001, on_failure=schedule.on_failure),
            http_sink=partial(post_sink, client=HttpClient(["127.0.0.0/8"])),
            batch_sink=batch_sinks(),
        )
        try:
            for three in zip(*sent.values(), strict=True):
                if schedule.hurried:
                    outstanding.submit(three)
                engine.submit(three)
                if schedule.hurried:
                    engine.drain(outstanding.should_wait)
                    outstanding.defer(written.extend)
            engine.drain()
            counts = engine.counts()
        finally:
            engine.close()
        last = {(each.item.forwarder_id, each.item.record.id): each.outcome.reason for each in written}
        assert DEFERRED not in last.values(), "what is written last is what became of it"
        settled = [each for each in written if each.outcome.reason != DEFERRED]
        logs: dict[str, Log] = {
            "h": HttpLog(receiver, "h"),
            "k": StreamLog(streams["k"], number_id),
            "f": StreamLog(streams["f"], number_id),
        }
        return [
            _judged_engine(name, log, sent[name], [each for each in settled if each.item.forwarder_id == name], counts)
            for name, log in logs.items()
        ]


def number_id(data: bytes) -> str:
    """The id of a made-up record of the engine's tests, by its payload."""
    made = json.loads(data)
    return f"{made['user_id']}/{made['number']}"


def _judged_engine(
    name: str, log: Log, sent: list[Item], settled: list[Settlement], counts: Mapping[str, LaneCounts]
) -> Figures:
    findings = check(
        [(each.record.user_id, each.record.id) for each in sent],
        log.stored(),
        settled,
        dict.fromkeys(log.doubtful(), True),
    )
    dead = sum(not each.delivered for each in settled)
    assert (counts[name].delivered, counts[name].dead_lettered) == (len(settled) - dead, dead)
    delivered = {each.item.record.id for each in settled if each.delivered}
    assert delivered <= set(log.stored()) <= delivered | log.doubtful()
    return Figures.of("random faults", name, len(sent), log.faults(), findings, dead)
