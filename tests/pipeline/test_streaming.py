"""The streaming job: Kinesis (moto's) to an HTTP receiver through Flink, against one batch fold over all of it.

Skipped without the job server jar, as `test_flink.py` says.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import fastavro
import msgspec
import orjson
import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from pipeline.options import parse
from pipeline.sample import main as sample
from schemas import Activity, Record
from tests.pipeline.test_originals import to_statements
from tests.pipeline.test_voiding import of, voiding
from tests.support.aggregated import aggregated
from tests.support.flink import JAR, needs_flink, values_at
from tests.support.forwarder_documents import http_document
from tests.support.job_graph import SECRETS, built_graph, pickled_dofns, secretive_documents
from tests.support.laboratory.http_fault_server import Answer
from tests.support.npm_servers import kinesis_mock_server, why_npm_cannot_serve
from tests.support.paths import ROOT, SHARED, needs_shared
from tests.support.ports import free_port
from tests.support.receiver import Receiver
from tests.support.statements import text
from tests.support.waiting import until
from tests.support.workshop import Workshop
from transforms.reading.activity import ActivityDecoder, encode
from transforms.reading.xapi import StatementDecoder
from transforms.reading.xapi_session import resolve_session
from transforms.sessions.derivation import Derivation

pytestmark = needs_flink

ACTIVITY = Derivation()
SOON = 600.0
STREAM = "activity"
OFTEN = {"Delay": 1, "MaxAttempts": 30}


@pytest.fixture
def activities(tmp_path: Path) -> list[Activity]:
    file = tmp_path / "sample.jsonl"
    assert not sample(["--sessions=20", "--seed=4", f"--output={file}"])
    decode = ActivityDecoder().decode
    return sorted(map(decode, file.read_bytes().splitlines()), key=lambda each: each.occurred_at)


@pytest.fixture
def kinesis(aws: boto3.Session) -> Iterator[Any]:
    client = aws.client("kinesis")
    client.create_stream(StreamName=STREAM, ShardCount=3)
    yield client
    client.delete_stream(StreamName=STREAM)


def put(kinesis: Any, lines: Sequence[bytes], keys: Sequence[str]) -> None:
    records = [{"Data": line, "PartitionKey": key} for line, key in zip(lines, keys, strict=True)]
    for start in range(0, len(records), 500):
        kinesis.put_records(StreamName=STREAM, Records=records[start : start + 500])


def put_aggregated(kinesis: Any, lines: Sequence[bytes], keys: Sequence[str]) -> None:
    """All lines of a key in one record, as the Kinesis Producer Library writes it."""
    by_key: defaultdict[str, list[bytes]] = defaultdict(list)
    for line, key in zip(lines, keys, strict=True):
        by_key[key].append(line)
    put(kinesis, [aggregated(*theirs) for theirs in by_key.values()], list(by_key))


def streaming(workshop: Workshop, *more: str, source: str = "", cbor: bool = False) -> "subprocess.Popen[str]":
    """The job, started. source: further parameters of the input's url, instead of moto's address. cbor: as Kinesis
    answers Java's client; one that asks moto for it finds no record, and does not say so."""
    source = source or f"service_endpoint={os.environ['AWS_ENDPOINT_URL']}"
    command = [sys.executable, "-m", "pipeline", *workshop.arguments()]
    command[command.index("--runner=DirectRunner")] = "--runner=FlinkRunner"
    command += [
        f"--input=kinesis://{STREAM}?region=us-east-1&{source}",
        "--streaming",
        "--flink_master=[local]",
        "--environment_type=LOOPBACK",
        "--parallelism=2",
        "--checkpointing_interval=2000",
        f"--flink_job_server_jar={JAR}",
        *more,
    ]
    environment = {**os.environ, "CBOR_ENABLED": str(cbor).lower()}
    log = (workshop.path / "job.log").open("w")
    return subprocess.Popen(  # noqa: S603
        command, cwd=ROOT, env=environment, text=True, stdout=log, stderr=log, start_new_session=True
    )


def to(receiver: Receiver, path: str) -> list[tuple[str, str]]:
    """(user, id) of what is kept of what was posted to a path, in the order of arrival."""
    kept = [arrival for arrival in receiver.log if arrival.stored]
    return [(each.user, each.key) for each in kept if f" /{path} " in each.request_line]


def wait_for(
    receiver: Receiver, ids: Iterable[str], workshop: Workshop, job: "subprocess.Popen[str]", path: str = "http"
) -> None:
    """Until each of the ids has arrived at the path. What should not arrive is looked for when the job has ended."""
    due = set(ids)

    def missing() -> set[str]:
        assert job.poll() is None, (workshop.path / "job.log").read_text()
        return due - {key for _, key in to(receiver, path)}

    def trouble() -> str:
        return f"{len(missing())} of {len(due)} have not arrived\n{(workshop.path / 'job.log').read_text()[-4000:]}"

    until(lambda: not missing(), SOON, every=0.2, failing=trouble)


def batch(activities: Iterable[Activity], fold: Derivation = ACTIVITY) -> dict[str, Record]:
    """By id, the records of one fold over all of it, each user's in their order."""
    by_user: defaultdict[str, list[Activity]] = defaultdict(list)
    for each in activities:
        by_user[each.user_id].append(each)
    return {record.id: record for theirs in by_user.values() for record in fold.user(theirs)}


def ever_right(arriving: Iterable[Activity], fold: Derivation = ACTIVITY) -> dict[str, Record]:
    """By id, every record that the batch fold of some first part of a user's activity has."""
    known: defaultdict[str, list[Activity]] = defaultdict(list)
    found: dict[str, Record] = {}
    for each in arriving:
        known[each.user_id].append(each)
        found |= {record.id: record for record in fold.user(known[each.user_id])}
    return found


def collapsed(records: Iterable[Record]) -> set[bytes]:
    """The messages that count in the end: of a session's snapshots the latest, of its session-started the earliest."""
    kept: dict[tuple[str, ...], tuple[int, bytes]] = {}
    for record in records:
        message = orjson.dumps(record.message)
        key = (record.user_id, record.message["session_id"], record.kind)
        if record.kind != "event":
            if key not in kept or record.timestamp >= kept[key][0]:
                kept[key] = (record.timestamp, message)
        elif record.message["event"] == "session-started":
            if key not in kept or record.timestamp < kept[key][0]:
                kept[key] = (record.timestamp, message)
        else:
            kept[*key, record.message["event"], record.record_id] = (record.timestamp, message)
    return {message for _, message in kept.values()}


def stop(job: "subprocess.Popen[str]", number: int, workshop: Workshop) -> str:
    job.send_signal(number)
    status = job.wait(SOON)
    log = (workshop.path / "job.log").read_text()
    assert status == 0, log
    return log


@pytest.mark.parametrize(
    "how",
    [
        "in order",
        "in order, two of the three shards silent",
        "in order, in aggregated records",
        "shuffled and duplicated",
    ],
)
def test_the_streaming_job_gives_the_records_of_batch_and_ends_when_told_to(
    how: str,
    workshop: Workshop,
    receiver: Receiver,
    kinesis: Any,
    activities: list[Activity],
    started: list["subprocess.Popen[str]"],
) -> None:
    arriving = list(activities)
    if how == "shuffled and duplicated":
        chance = random.Random(3)  # noqa: S311
        arriving += chance.sample(arriving, len(arriving) // 5)
        chance.shuffle(arriving)
    workshop.write_forwarders(http_document(receiver))
    half = len(arriving) // 2
    keys = ["one" if "silent" in how else each.user_id for each in arriving]
    lines = [encode(each) for each in arriving]
    send = put_aggregated if "aggregated" in how else put
    send(kinesis, [lines[0], b"{no activity", *lines[1:half]], [keys[0], keys[0], *keys[1:half]])
    job = streaming(workshop)
    started.append(job)
    if "in order" in how:
        wait_for(receiver, batch(arriving[:half]), workshop, job)
    send(kinesis, lines[half:], keys[half:])
    expected = batch(activities)
    wait_for(receiver, expected, workshop, job)
    log = stop(job, signal.SIGTERM, workshop)

    assert "SIGTERM" in log
    arrived = [key for _, key in receiver.stored()]
    assert len(arrived) == len(set(arrived)), "nothing is sent twice"
    right = ever_right(arriving)
    assert set(arrived) <= set(right), "what is not in the batch fold was right when it was sent"
    assert collapsed(right[key] for key in arrived) == collapsed(expected.values())
    if "in order" in how:
        assert set(arrived) == set(right)
        for user in {each.user_id for each in activities}:
            due = [key for key, record in right.items() if record.user_id == user]
            assert [key for theirs, key in receiver.stored() if theirs == user] == due
    (reject,) = workshop.avro("rejects")
    assert reject["file"].startswith(f"kinesis://{STREAM}/shardId-")
    assert reject["file"].endswith(":1") == ("aggregated" in how), "its number in the aggregated record"
    receipts = [row for part in (workshop.output / "receipts").glob("*.avro") for row in rows(part)]
    assert len(receipts) == len(arrived)
    assert not list((workshop.output / "receipts").glob("*.journal")), "every journal is a part at the end"


def test_a_scrape_says_what_was_read_refused_and_derived_and_how_long_that_took(
    workshop: Workshop,
    receiver: Receiver,
    kinesis: Any,
    activities: list[Activity],
    started: list["subprocess.Popen[str]"],
) -> None:
    workshop.write_forwarders(http_document(receiver))
    nameless = orjson.dumps({**msgspec.to_builtins(activities[0]), "user_id": ""})
    lines = [*map(encode, activities), b"{no activity", nameless, nameless.replace(b'"user_id":""', b'"user_id":"x",')]
    put(kinesis, lines, [*(each.user_id for each in activities), "x", "y", "z"])
    first = free_port()
    job = streaming(workshop, f"--metrics_port={first}-{first + 9}")
    started.append(job)
    due = len(ever_right(activities))
    counts = {
        "input_bytes_total": sum(map(len, lines)),
        "input_read_total": len(lines),
        "input_folded_total": len(activities),
        "records_derived_total": due,
        'records_delivered_total{forwarder="http"}': due,
    }
    scrape: dict[str, float] = {}

    def is_counted() -> bool:
        assert job.poll() is None, (workshop.path / "job.log").read_text()
        scrape.clear()
        scrape.update(values_at(first))
        return all(scrape.get(name) == count for name, count in counts.items())

    until(is_counted, SOON, every=0.5, failing=lambda: f"{scrape}, of {counts}")
    assert scrape["stream_lag_seconds"] > 0
    rejected = {name: count for name, count in scrape.items() if name.startswith("input_rejected_total")}
    assert rejected == {
        'input_rejected_total{reason="not JSON: unexpected character, expected a string key at character #"}': 2,
        'input_rejected_total{reason="user_id: Expected str of length >= 1"}': 1,
    }
    stop(job, signal.SIGTERM, workshop)


@needs_shared
def test_xapi_statements_as_they_arrive_give_the_records_of_batch(
    workshop: Workshop, receiver: Receiver, kinesis: Any, started: list["subprocess.Popen[str]"]
) -> None:
    statements = orjson.loads((SHARED / "data" / "tccc_dev.json").read_bytes())
    lines = [orjson.dumps(each) for each in statements]
    arriving = [StatementDecoder().decode(line) for line in lines]
    fold = Derivation("minutes", resolve_session)
    workshop.write_forwarders(http_document(receiver))
    put(kinesis, lines, [each.user_id for each in arriving])
    job = streaming(workshop, "--input_format=xapi", "--kind=event", "--kind=status", "--kind=score")
    started.append(job)
    expected = batch(arriving, fold)
    wait_for(receiver, expected, workshop, job)
    stop(job, signal.SIGTERM, workshop)

    right = ever_right(arriving, fold)
    arrived = [key for _, key in receiver.stored()]
    assert len(arrived) == len(set(arrived))
    assert set(arrived) == set(right)
    assert collapsed(right[key] for key in arrived) == collapsed(expected.values())
    assert not (workshop.output / "rejects").exists()


def test_statements_leave_as_they_are_in_order_and_a_voiding_one_after_its_target(
    workshop: Workshop, receiver: Receiver, kinesis: Any, started: list["subprocess.Popen[str]"]
) -> None:
    users = ("ann", "bob", "cid")
    others = [of(users[number % 3], number) for number in range(1, 61)]
    # By the user of the statement that it names: of another user's this is promised within a worker alone.
    voids = [voiding(users[number % 3], 100 + number, number) for number in range(58, 61)]
    sent = [f'{{"x": 1.00,{text(each)[1:]}' for each in [*others, *voids]]
    workshop.write_forwarders(to_statements(receiver, maxRetries=20))
    receiver.script = lambda arrival: Answer(503 if arrival.attempt == 1 and arrival.key[-1] == "0" else 200)
    keys = [each["actor"]["account"]["name"] for each in [*others, *voids]]
    put(kinesis, [each.encode() for each in sent], keys)
    put(kinesis, [each.encode() for each in sent[:20]], keys[:20])  # Again: they are known.
    job = streaming(workshop, "--input_format=xapi", "--kind=statement")
    started.append(job)
    due = {each["id"]: line for each, line in zip([*others, *voids], sent, strict=True)}
    wait_for(receiver, due, workshop, job)
    stop(job, signal.SIGTERM, workshop)

    stored = [arrival for arrival in receiver.log if arrival.stored]
    assert len(stored) == len(due)
    assert all(arrival.body.decode() == due[arrival.key] for arrival in stored)
    for user in users:
        theirs = [each["id"] for each in [*others, *voids] if each["actor"]["account"]["name"] == user]
        assert [arrival.key for arrival in stored if arrival.key in theirs] == theirs


def test_the_streaming_graph_holds_no_secret_and_no_step_waits_for_a_clock(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2-environment")
    workshop.write_forwarders(*secretive_documents())
    arguments = workshop.arguments(
        "--streaming", f"--flink_job_server_jar={JAR}", "--input=kinesis://a?region=eu-west-1"
    )
    arguments[0] = "--runner=FlinkRunner"
    graph = built_graph(parse(arguments), tmp_path)

    contents = b"\0".join([graph.SerializeToString(), *pickled_dofns(graph)])
    assert b"transforms.read_kinesis" in contents, "the search finds what is there"
    for secret in (*SECRETS, "hunter2-environment"):
        assert secret.encode() not in contents
    steps = [transform.spec for transform in graph.components.transforms.values()]
    assert "beam:transform:read:v1" in [spec.urn for spec in steps], "a read that Flink itself runs"
    for spec in steps:
        if spec.urn == "beam:transform:pardo:v1":
            payload = beam_runner_api_pb2.ParDoPayload.FromString(spec.payload)
            for timer in payload.timer_family_specs.values():
                assert timer.time_domain != beam_runner_api_pb2.TimeDomain.PROCESSING_TIME


def rows(part: Path) -> list[Any]:
    with part.open("rb") as file:
        return list(fastavro.reader(file))


def test_a_destination_that_is_down_stops_no_other_and_gets_all_in_order_when_it_is_back(
    workshop: Workshop,
    receiver: Receiver,
    kinesis: Any,
    activities: list[Activity],
    started: list["subprocess.Popen[str]"],
) -> None:
    down = threading.Event()
    down.set()
    receiver.script = lambda arrival: Answer(503 if down.is_set() and " /late " in arrival.request_line else 200)
    late = http_document(receiver, "late", configuration={"maxRetries": 10})
    workshop.write_forwarders(http_document(receiver), late)
    expected = ever_right(activities)
    job = streaming(workshop, "--outage_budget=600", "--max_backoff=60")
    started.append(job)
    third = len(activities) // 3
    for part in (activities[:third], activities[third : 2 * third], activities[2 * third :]):
        put(kinesis, [encode(each) for each in part], [each.user_id for each in part])
        known = activities[: activities.index(part[-1]) + 1]
        wait_for(receiver, batch(known), workshop, job)
    assert {key for _, key in to(receiver, "http")} == set(expected)
    assert not to(receiver, "late")
    down.clear()
    wait_for(receiver, expected, workshop, job, "late")
    stop(job, signal.SIGINT, workshop)

    for user in {each.user_id for each in activities}:
        due = [key for key, record in expected.items() if record.user_id == user]
        for path in ("http", "late"):
            assert [key for theirs, key in to(receiver, path) if theirs == user] == due
    letters = workshop.avro("dead_letters")
    assert {(letter["forwarder_id"], letter["reason"]) for letter in letters} == {("late", "deferred")}
    assert not workshop.redrive()
    assert len(to(receiver, "late")) == len(expected), "there is nothing to redrive"


def test_a_stream_that_is_split_and_merged_meanwhile_is_read_to_its_end_from_the_time_that_is_given(
    workshop: Workshop,
    receiver: Receiver,
    aws: boto3.Session,
    activities: list[Activity],
    started: list["subprocess.Popen[str]"],
) -> None:
    if (reason := why_npm_cannot_serve()) is not None:
        pytest.skip(reason)
    lines, keys = [encode(each) for each in activities], [each.user_id for each in activities]
    early, half = len(lines) // 10, len(lines) // 2
    with kinesis_mock_server() as endpoint:
        kinesis: Any = aws.client("kinesis", endpoint_url=endpoint)
        active = kinesis.get_waiter("stream_exists")
        kinesis.create_stream(StreamName=STREAM, ShardCount=3)
        active.wait(StreamName=STREAM, WaiterConfig=OFTEN)
        put(kinesis, lines[:early], keys[:early])
        put_at = time.time()
        until(lambda: int(time.time()) > put_at, every=0.05)  # the url's time has no fraction of a second
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        put(kinesis, lines[early:half], keys[early:half])
        workshop.write_forwarders(http_document(receiver))
        source = f"service_endpoint={endpoint}&initial_timestamp_in_stream={moment}"
        job = streaming(workshop, source=source, cbor=True)
        started.append(job)
        wait_for(receiver, batch(activities[early:half]), workshop, job)
        shards = [shard["ShardId"] for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]]
        middle = str(2**128 // 6)
        kinesis.split_shard(StreamName=STREAM, ShardToSplit=shards[0], NewStartingHashKey=middle)
        active.wait(StreamName=STREAM, WaiterConfig=OFTEN)
        kinesis.merge_shards(StreamName=STREAM, ShardToMerge=shards[1], AdjacentShardToMerge=shards[2])
        active.wait(StreamName=STREAM, WaiterConfig=OFTEN)
        put(kinesis, lines[half:], keys[half:])
        wait_for(receiver, batch(activities[early:]), workshop, job)
        stop(job, signal.SIGTERM, workshop)

    right = ever_right(activities[early:])
    arrived = receiver.stored()
    assert len(arrived) == len(right)
    for user in {each.user_id for each in activities}:
        due = [key for key, record in right.items() if record.user_id == user]
        assert [key for theirs, key in arrived if theirs == user] == due
