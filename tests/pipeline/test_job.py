"""The whole job: activity in files, requests and bytes at the receivers, files in the output."""

import gzip
import io
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import boto3
import fastavro
import pytest

from pipeline.command import main
from pipeline.lock import OutputLock
from schemas import DERIVED_KINDS
from tests.support.activity import DOCUMENTED_EVENT, activity, of_user, sessions
from tests.support.aws import read_stream
from tests.support.forked import Forked, start_job
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, Arrival, scripted
from tests.support.paths import ROOT, SHARED, needs_shared
from tests.support.receiver import Receiver, by_user
from tests.support.token_server import CLIENT, SECRET, TokenServer
from tests.support.waiting import until
from tests.support.workshop import Workshop
from transforms.reading.activity import encode
from transforms.sinks.base import AttemptResult, Item
from transforms.sinks.http import PostSink

DERIVED = [f"--kind={kind}" for kind in DERIVED_KINDS]
COMPLETED = json.dumps({"statement.verb.id": "http://adlnet.gov/expapi/verbs/completed"})


def test_every_forwarder_gets_what_it_asked_for_in_order(
    workshop: Workshop, receiver: Receiver, aws: boto3.Session
) -> None:
    kinesis, firehose, s3 = aws.client("kinesis"), aws.client("firehose"), aws.client("s3")
    kinesis.create_stream(StreamName="records", ShardCount=3)
    s3.create_bucket(Bucket="lake")
    firehose.create_delivery_stream(
        DeliveryStreamName="statements",
        S3DestinationConfiguration={"RoleARN": "arn:aws:iam::000000000000:role/r", "BucketARN": "arn:aws:s3:::lake"},
    )
    workshop.write_activity(sessions(20))
    workshop.write_forwarders(
        http_document(
            receiver,
            query=COMPLETED,
            payload="statement",
            configuration={"authType": "basic auth", "basicUsername": "ann", "basicPassword": "secret"},
        ),
        {
            "_id": "stream",
            "active": True,
            "query": "{}",
            "configuration": {"protocol": "Kinesis"},
            "kinesisOptions": {"service": "streams", "streamName": "records", "awsRegion": "us-east-1"},
        },
        {
            "_id": "firehose",
            "active": True,
            "query": '{"kind": "score"}',
            "configuration": {"protocol": "Kinesis"},
            "kinesisOptions": {"streamName": "statements", "awsRegion": "us-east-1"},
        },
    )

    assert workshop.run("--write_records=jsonl") == 0

    derived = [record for kind in ("event", "status", "score") for record in workshop.records(kind)]
    assert len(derived) == 80
    completed = {record["id"] for record in derived if record.get("event") == "session-completed"}
    assert {arrival.key for arrival in receiver.log} == completed
    for arrival in receiver.log:
        assert arrival.headers["authorization"] == "Basic YW5uOnNlY3JldA=="
        assert json.loads(arrival.body)["id"] == arrival.key

    in_stream = read_stream(kinesis, "records")
    assert {key for key, _ in in_stream} == {f"u{number}" for number in range(20)}
    for user, bodies in by_user(in_stream).items():
        names = [json.loads(body).get("event") or list(json.loads(body)) for body in bodies]
        assert names[0] == "session-started", user
        assert names[1] == "session-completed", user
        assert "dt_started" in names[2], user
        assert "subscores" in names[3], user
        assert all(json.loads(body)["user_id"] == user for body in bodies)

    objects = [entry["Key"] for entry in s3.list_objects_v2(Bucket="lake")["Contents"]]
    lines = b"".join(s3.get_object(Bucket="lake", Key=key)["Body"].read() for key in objects).splitlines()
    assert {json.loads(line)["id"] for line in lines} == {record["id"] for record in workshop.records("score")}

    report = workshop.report()
    assert report["balanced"] is True
    assert {entry["id"]: entry["delivered"] for entry in report["forwarders"]} == {
        "http": 20,
        "stream": 80,
        "firehose": 20,
    }
    receipts = workshop.avro("receipts")
    assert len(receipts) == 120
    assert all(receipt["outcome"] == "delivered" for receipt in receipts)
    assert all(receipt["sequence_number"] for receipt in receipts if receipt["forwarder_id"] == "stream")


def test_a_documented_event_arrives_byte_for_byte(workshop: Workshop, receiver: Receiver) -> None:
    documented = json.loads(DOCUMENTED_EVENT)
    workshop.write_activity(
        [
            activity(
                "START",
                15 * 3600 + 3 * 60 + 23,
                user_id=documented["user_id"],
                session_id=documented["session_id"],
                activity_id=documented["activity_id"],
            )
        ]
    )
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 0
    assert [arrival.body for arrival in receiver.log] == [DOCUMENTED_EVENT]


def test_a_rerun_sends_only_what_is_not_delivered_yet(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(5))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 0
    workshop.write_activity(sessions(7))
    assert workshop.run() == 0
    account = workshop.account("http")
    assert (account["matched"], account["already_delivered"], account["delivered"]) == (28, 20, 8)
    assert len(receiver.log) == len({arrival.key for arrival in receiver.log}) == 28


def test_replay_all_sends_everything_again_with_the_same_ids(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(3))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 0
    assert workshop.run("--replay=all") == 0
    keys = [arrival.key for arrival in receiver.log]
    assert sorted(keys[:12]) == sorted(keys[12:])


def test_input_and_output_may_lie_in_s3(workshop: Workshop, receiver: Receiver, aws: boto3.Session) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="sessions")
    s3.put_object(Bucket="sessions", Key="in/a.jsonl", Body=b"\n".join(encode(step) for step in sessions(3)))
    receiver.script = lambda arrival: Answer(400 if arrival.user == "u1" else 200)
    workshop.write_forwarders(http_document(receiver))
    elsewhere = ["--input=s3://sessions/in/*.jsonl", "--output=s3://sessions/out", "--write_records=jsonl"]
    assert main([*workshop.arguments(), *elsewhere]) == 3
    receiver.script = scripted()
    assert main([*workshop.arguments(), *elsewhere]) == 0
    report = json.loads(s3.get_object(Bucket="sessions", Key="out/report.json")["Body"].read())
    (account,) = report["forwarders"]
    assert (account["already_delivered"], account["delivered"]) == (8, 4)
    left = [entry["Key"] for entry in s3.list_objects_v2(Bucket="sessions", Prefix="out/")["Contents"]]
    reports = {"report.html", "report.json", "runs"}
    assert {key.split("/")[1] for key in left} == {"dead_letters", "receipts", "records", "rejects", *reports}


def test_verbs_look_at_an_output_in_s3(workshop: Workshop, receiver: Receiver, aws: boto3.Session) -> None:
    aws.client("s3").create_bucket(Bucket="sessions")
    workshop.write_activity(sessions(1))
    workshop.write_forwarders(http_document(receiver, "http"))
    output = "--output=s3://sessions/out"
    assert workshop.run(output) == 0
    verbs = {
        "show receipts": 0,
        "show letters": 0,
        "show rejects": 0,
        "show runs": 0,
        "show forwarders": 0,
        "top": 1,
        "compact": 0,
    }
    # In a process of its own, which knows no file system before the first verb.
    asked = f"from commands.command import main\nprint([main([*verb.split(), {output!r}]) for verb in {list(verbs)}])"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", asked], cwd=ROOT, env={**os.environ}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    *told, statuses = done.stdout.splitlines()
    assert statuses == str(list(verbs.values()))
    assert sum(" delivered " in line for line in told) == len(receiver.stored()) + 2  # Beside them, two titles.
    assert "no job runs on s3://sessions/out" in told
    assert "receipts and dead letters: 1 file before, 1 now" in told
    assert "Finished listing" not in done.stderr


def test_a_killed_run_on_s3_is_gone_on_with_when_its_lease_is_over(
    workshop: Workshop,
    receiver: Receiver,
    aws: boto3.Session,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="sessions")
    taken = 20
    receiver.script = lambda arrival: Answer() if len(receiver.log) < taken else Answer(fault="hold")
    workshop.write_activity(sessions(15))
    workshop.write_forwarders(http_document(receiver))
    in_s3 = "--output=s3://sessions/out"

    def receipts() -> list[str]:
        parts = s3.list_objects_v2(Bucket="sessions", Prefix="out/receipts/").get("Contents", [])
        bodies = [s3.get_object(Bucket="sessions", Key=part["Key"])["Body"].read() for part in parts]
        rows: list[Any] = [row for body in bodies for row in fastavro.reader(io.BytesIO(body))]
        return [row["id"] for row in rows]

    job = start(workshop, in_s3)
    try:
        receiver.wait_for(taken + 1)
        until(lambda: len(receipts()) >= taken, every=0.2)
        known = set(receipts())
        assert len(known) == taken, "of what was acknowledged; within about a second, while nothing else goes on"
        assert workshop.run(in_s3) == 1
        assert f"in use by another run (process {job.pid} " in caplog.text
    finally:
        job.kill()
        job.wait()
    receiver.release()
    receiver.script = scripted()
    before = [arrival.key for arrival in receiver.log]
    assert workshop.run(in_s3) == 1
    assert "If it was killed, this one is free in" in caplog.text
    # As it is after the usual lease. The store says when the killed run wrote its own.
    monkeypatch.setattr("pipeline.run.OutputLock", partial(OutputLock, lease=5.0))
    until(lambda: workshop.run(in_s3) == 0, every=0.2)
    again = [arrival.key for arrival in receiver.log[len(before) :]]
    assert not known & set(again)
    assert set(again) & set(before) == set(before) - known, "only what was in flight is sent again"
    assert len({key for _, key in receiver.stored()}) == 60


def test_retries_keep_the_order_of_each_user(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = scripted(
        by_user={"u0": [500, 503, 200, 429], "u1": [Answer(fault="cut_headers", stored=False), 200]}
    )
    workshop.write_activity(sessions(4))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run("--write_records=jsonl") == 0
    due = [record for kind in ("event", "status", "score") for record in workshop.records(kind)]
    due.sort(key=lambda record: record["timestamp"])
    assert by_user(receiver.stored()) == by_user((record["user_id"], record["id"]) for record in due)
    assert workshop.account("http")["attempts"] == 16 + 3 + 1


def test_given_up_records_wait_in_the_dead_letters_until_they_are_redriven(
    workshop: Workshop, receiver: Receiver
) -> None:
    receiver.script = lambda arrival: Answer(400, body=b"not today") if arrival.user == "u1" else Answer()
    workshop.write_activity(sessions(3))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 3
    letters = workshop.avro("dead_letters")
    assert [(letter["user_id"], letter["reason"], letter["status"]) for letter in letters] == [
        ("u1", "http_400", 400)
    ] * 4
    assert {letter["response"] for letter in letters} == {"not today"}
    sent = {arrival.key: arrival.body for arrival in receiver.log}
    assert all(letter["payload"] == sent[letter["id"]] for letter in letters)

    receiver.script = scripted()
    before = len(receiver.log)
    assert workshop.redrive() == 0
    again = receiver.log[before:]
    assert [(arrival.key, arrival.body) for arrival in again] == [
        (letter["id"], letter["payload"]) for letter in letters
    ]
    assert workshop.account("http")["delivered"] == 4

    assert workshop.redrive() == 0
    assert workshop.account("http")["matched"] == 0
    assert len(receiver.log) == before + 4


def test_a_redrive_leaves_what_the_present_documents_no_longer_ask_for(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = scripted(default=[400] * 8)
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 3
    workshop.write_forwarders(http_document(receiver, query='{"kind": "event"}'), http_document(receiver, "other"))
    assert workshop.redrive("--forwarder=http") == 3
    account = workshop.account("http")
    assert account["delivered"] == 4
    assert account["kept"] == {"no_longer_matches": 4}
    workshop.write_forwarders(http_document(receiver, "other"))
    assert workshop.redrive() == 3
    assert len(receiver.log) == 12


def test_rejects_go_to_their_own_files_and_the_run_goes_on(workshop: Workshop, receiver: Receiver) -> None:
    lines = [encode(step) for step in sessions(20)]
    broken = b'{"record_id": "r", "user_id": ""}'
    workshop.write_lines([lines[0], broken, *lines[1:]])
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 3
    assert len(receiver.log) == 80
    (reject,) = workshop.avro("rejects")
    assert reject["file"] == str(workshop.path / "in" / "activity.jsonl")
    assert reject["position"] == len(lines[0]) + 1
    assert reject["content"] == broken
    assert "user_id" in reject["reason"]
    assert workshop.report()["input"]["rejected"] == 1


def test_a_dry_run_sends_nothing_and_resolves_nothing(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_activity(sessions(3))
    workshop.write_forwarders(
        http_document(receiver, query=COMPLETED, configuration={"authType": "token", "secret": "env:FORWARDER_NOT_SET"})
    )
    assert workshop.run("--dry_run", "--write_records=jsonl") == 0
    assert receiver.log == []
    assert not (workshop.output / "receipts").exists()
    assert len(workshop.records("event")) == 6
    entry = workshop.account("http")
    assert entry["matched"] == 3
    assert entry["sample"]["event"] == "session-completed"
    assert "session-completed" in capsys.readouterr().out


def test_explain_says_which_clause_decided(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(
        http_document(receiver, "yes", query=COMPLETED),
        http_document(receiver, "no", query='{"kind": "score"}'),
        http_document(receiver, "elsewhere", organisation="another"),
    )
    assert workshop.run("--dry_run", "--write_records=jsonl") == 0
    completed = next(record for record in workshop.records("event") if record["event"] == "session-completed")
    capsys.readouterr()
    assert workshop.run(f"--explain={completed['id']}") == 0
    told = {line.split(":")[0].strip(): line for line in capsys.readouterr().out.splitlines() if ":" in line}
    assert "match" in told["yes"]
    assert "kind" in told["no"]
    assert '"event"' in told["no"]
    assert "organisation" in told["elsewhere"]
    assert receiver.log == []


def test_only_the_window_is_forwarded_and_what_is_before_it_is_history(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(1))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run("--since=2020-02-17T00:01:30Z", "--until=2020-02-17T00:02:00Z") == 0
    assert receiver.log == []
    assert workshop.run("--since=2020-02-17T00:02:00Z", "--until=2020-02-18") == 0
    bodies = [json.loads(arrival.body) for arrival in receiver.log]
    assert bodies[0]["event"] == "session-completed"
    assert bodies[1]["dt_started"] == "2020-02-17T00:00:00Z"
    assert bodies[2]["score"] == 1


def test_kinds_and_forwarders_restrict_the_run(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver, "one"), http_document(receiver, "two"))
    assert workshop.run("--kind=status", "--forwarder=two") == 0
    assert {arrival.request_line.split()[1] for arrival in receiver.log} == {"/two"}
    assert all("dt_started" in json.loads(arrival.body) for arrival in receiver.log)
    assert len(receiver.log) == 2


def test_stamped_organisations_decide_who_is_in_scope(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_activity([*sessions(1), of_user(9, "START", 0, organisation="b")])
    workshop.write_forwarders(
        http_document(receiver, "a", organisation="a"),
        http_document(receiver, "b", organisation="b"),
        http_document(receiver, "c", organisation="c"),
    )
    assert workshop.run("--organisation=a") == 0
    assert workshop.account("a")["delivered"] == 4
    assert workshop.account("b")["delivered"] == 1
    (hint,) = workshop.report()["hints"]
    assert "forwarder c: no record is in its scope" in hint
    assert "a/-, b/-" in hint
    assert hint in capsys.readouterr().out


def test_a_forwarder_fault_stops_the_run_before_it_begins(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity(sessions(1))
    bad = http_document(receiver, "bad", query='{"a": {"$foo": 1}}', configuration={"maxRetries": 11})
    workshop.write_forwarders(http_document(receiver, "good"), bad)
    assert workshop.run() == 2
    assert "$foo" in caplog.text
    assert "maxRetries" in caplog.text
    assert receiver.log == []
    assert workshop.run("--skip_invalid_forwarders") == 0
    assert any("left out" in warning and "$foo" in warning for warning in workshop.report()["warnings"])
    assert workshop.account("good")["delivered"] == 4


def test_the_report_counts_what_is_odd_in_the_input(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    same = {"session_id": "shared"}
    workshop.write_activity(
        [
            activity("START", 0, user_id="ann", record_id="1", **same),
            activity("START", 5, user_id="ann", record_id="2", **same),
            activity("DISCARD", 6, user_id="ann", record_id="3", **same),
            activity("SUBMIT", 7, user_id="ann", record_id="4", session_duration=-3, **same),
            activity("START", 0, user_id="bob", record_id="1", **same),
            activity("SUBMIT", 9, user_id="bob", record_id="5", activity_id="another", **same),
            activity("SUBMIT", 9, user_id="bob", record_id="5", activity_id="another", **same),
            activity("SUBMIT", 8, user_id="bob", record_id="5", activity_id="another", **same),
        ]
    )
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 0
    report = workshop.report()
    counted = {
        "sessions": 2,
        "duplicates": 2,
        "conflicting_duplicates": 1,
        "repeated_starts": 1,
        "submits_after_discard": 1,
        "activity_id_disagreements": 1,
        "negative_durations": 1,
        "sessions_of_several_users": 1,
    }
    assert {name: report[name] for name in counted} == counted
    assert "record_id 5 of session shared stands for two different activities" in caplog.text


def test_statements_without_a_home_page_of_one_s_own_are_warned_about_once(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver, payload="statement"), http_document(receiver, "b"))
    assert workshop.run() == 0
    assert caplog.text.count("--actor_home_page") == 1
    caplog.clear()
    assert workshop.run("--actor_home_page=https://school.example", "--replay=all") == 0
    assert "--actor_home_page" not in caplog.text
    actors = [json.loads(arrival.body)["actor"] for arrival in receiver.log if b"actor" in arrival.body]
    pages = [actor["account"]["homePage"] for actor in actors]
    assert pages == ["https://learner.invalid"] * 8 + ["https://school.example"] * 8


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--inptu=x"], "--input"),
        (["--kind=scores"], "score"),
        (["--since=2026-01-02", "--until=2026-01-01"], "--since"),
        (["--direct_running_mode=multi_threading"], "loses data"),
        (["--forwarder=htpp"], "the nearest id is http"),
        (["--runner=NoSuchRunner"], "NoSuchRunner"),
        ([__file__], "quote the pattern: --input 'in/*.jsonl'"),
        (["--input=-", "--state=state"], "--input - is a pipe, which --state cannot know again"),
        (["--input=-", "--runner=FlinkRunner"], "--input - is a pipe on this machine: use --runner=DirectRunner"),
        (["--input=-", "--direct_running_mode=multi_processing"], "--input - is open in this process only"),
        (["--input=-", "--file_format=parquet"], "Parquet is read from its end, which a pipe does not allow"),
    ],
)
def test_bad_arguments_are_refused_with_a_hint(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture, arguments: list[str], expected: str
) -> None:
    workshop.write_activity(sessions(1))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(*arguments) == 2
    assert expected in caplog.text
    assert receiver.log == []


def test_an_input_that_matches_nothing_is_a_usage_error(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 2
    assert "matches no file" in caplog.text


def test_two_runs_do_not_share_an_output(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity(sessions(1))
    workshop.write_forwarders(http_document(receiver))
    with OutputLock(str(workshop.output)):
        assert workshop.run() == 1
    assert "in use by another run" in caplog.text
    assert workshop.run() == 0


def test_an_output_that_is_no_directory_is_a_usage_error(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity(sessions(1))
    workshop.write_forwarders(http_document(receiver))
    workshop.output.write_text("in the way")
    assert workshop.run() == 2
    assert f"--output {workshop.output} cannot be written" in caplog.text
    assert receiver.log == []


def test_a_bug_kills_the_run_and_what_was_delivered_is_known_to_the_next(
    workshop: Workshop, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity(sessions(30))
    workshop.write_forwarders(http_document(receiver))
    send = PostSink.send

    async def fails_in_the_end(sink: PostSink, item: Item) -> AttemptResult:
        if len(receiver.log) >= 50:
            raise ZeroDivisionError("a bug")
        return await send(sink, item)

    with monkeypatch.context() as broken:
        broken.setattr(PostSink, "send", fails_in_the_end)
        assert workshop.run() == 1
    assert workshop.report()["state"] == "failed"
    assert "ZeroDivisionError" in caplog.text
    known = len(workshop.avro("receipts"))
    assert known >= 50
    assert workshop.run() == 0
    assert workshop.account("http")["already_delivered"] == known
    assert {key for _, key in receiver.stored()} == {receipt["id"] for receipt in workshop.avro("receipts")}


def derived_lines(workshop: Workshop, *arguments: str) -> list[str]:
    """Every record that the run derives, sorted."""
    assert workshop.run("--dry_run", "--write_records=jsonl", *arguments) == 0
    return sorted(json.dumps(record) for kind in ("event", "status", "score") for record in workshop.records(kind))


def test_shuffled_duplicated_and_recut_input_gives_the_same_records(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_forwarders(http_document(receiver))
    steps = sessions(60)
    workshop.write_activity(steps)
    expected = derived_lines(workshop)
    (workshop.path / "in" / "activity.jsonl").unlink()
    chance = random.Random(1)  # noqa: S311
    again = [encode(step) for step in [*steps, *chance.sample(steps, 50)]]
    chance.shuffle(again)
    cut = sorted(chance.sample(range(len(again)), 2))
    workshop.write_lines(again[: cut[0]], "a.jsonl")
    (workshop.path / "in" / "b.json").write_bytes(b"[" + b",\n".join(again[cut[0] : cut[1]]) + b"]")
    (workshop.path / "in" / "c.jsonl.gz").write_bytes(gzip.compress(b"\r\n".join(again[cut[1] :])))
    assert derived_lines(workshop) == expected
    assert workshop.report()["duplicates"] == 50


def test_worker_processes_give_the_same_as_one(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(30))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run("--direct_running_mode=multi_processing", "--direct_num_workers=2") == 0
    account = workshop.account("http")
    assert (account["matched"], account["delivered"]) == (120, 120)
    several = by_user(receiver.stored())
    receiver.log.clear()
    assert workshop.run("--replay=all") == 0
    assert by_user(receiver.stored()) == several


def test_standard_input_is_read(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_forwarders(http_document(receiver))
    activity = gzip.compress(b"".join(encode(each) for each in sessions(12)))
    command = [sys.executable, "-m", "pipeline", *workshop.arguments("--input", "-")]
    ended = subprocess.run(command, cwd=ROOT, input=activity, capture_output=True, check=False)  # noqa: S603
    assert ended.returncode == 0, ended.stderr
    assert workshop.report()["input"]["files"] == 1
    assert workshop.account("http")["delivered"] == 48


@pytest.mark.parametrize("stdout", ["closed pipe", "/dev/full"])
def test_a_run_has_ended_well_though_its_report_cannot_be_printed(
    workshop: Workshop, receiver: Receiver, stdout: str
) -> None:
    workshop.write_forwarders(http_document(receiver))
    workshop.write_activity(sessions(2))
    command = [sys.executable, "-m", "commands", "run"]
    command += workshop.arguments(
        "--input", str(workshop.path / "in" / "*"), "--alert_url=http://" + receiver.url("alerts")
    )
    output = str(workshop.output)
    with unwilling(stdout) as descriptor:
        ended = subprocess.run(command, cwd=ROOT, stdout=descriptor, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
        assert ended.returncode == 0, ended.stderr
        assert workshop.report()["state"] == "done"
        assert not [arrival for arrival in receiver.log if "/alerts" in arrival.request_line], "nothing has failed"
        command = [sys.executable, "-m", "commands", "show", "receipts", "--output", output]
        shown = subprocess.run(command, cwd=ROOT, stdout=descriptor, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    # Who reads no more of a pipe has seen enough (docs/operations.md); a device that is full is a failure.
    assert shown.returncode == (1 if stdout == "/dev/full" else 0)
    assert "Traceback" not in shown.stderr
    assert ("standard output cannot be written: No space left" in shown.stderr) == (stdout == "/dev/full")


@contextmanager
def unwilling(what: str) -> Iterator[int]:
    """A descriptor to which nothing can be written: a pipe that nobody reads, or a device that is full."""
    if what == "closed pipe":
        reading, descriptor = os.pipe()
        os.close(reading)
    else:
        descriptor = os.open(what, os.O_WRONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0"])
def test_standard_input_is_read_by_its_other_names(workshop: Workshop, receiver: Receiver, name: str) -> None:
    workshop.write_forwarders(http_document(receiver))
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:  # noqa: PTH123 - a descriptor
        pipe.write(b"".join(encode(each) for each in sessions(2)))
    of_pytest = os.dup(0)
    os.dup2(reading, 0)
    try:
        assert main(workshop.arguments("--input", name)) == 0
    finally:
        os.dup2(of_pytest, 0)
        os.close(of_pytest)
        os.close(reading)
    assert workshop.account("http")["delivered"] == 8


def start(workshop: Workshop, *more: str) -> Forked:
    """The job in a process of its own."""
    return start_job(
        workshop.arguments("--input", str(workshop.path / "in" / "*"), *more), printed_to=workshop.path / "told"
    )


TAKEN = 40


def start_held(workshop: Workshop, receiver: Receiver) -> Forked:
    """A job of 120 records, under way; the receiver answers the first TAKEN, and holds the others."""
    receiver.script = lambda arrival: Answer() if len(receiver.log) < TAKEN else Answer(fault="hold")
    workshop.write_activity(sessions(30))
    workshop.write_forwarders(http_document(receiver))
    return start(workshop)


def test_a_stopped_run_finishes_what_is_in_flight_and_can_be_gone_on_with(
    workshop: Workshop, receiver: Receiver
) -> None:
    job = start_held(workshop, receiver)
    receiver.wait_for(TAKEN + 1)
    job.send_signal(signal.SIGTERM)
    job.wait_for_text("taking no more records")
    receiver.release()
    assert job.wait(60) == 1, job.printed()
    account = workshop.account("http")
    assert workshop.report()["state"] == "stopped"
    assert workshop.report()["balanced"] is True
    assert account["pending"] > 0
    assert account["delivered"] == len(receiver.stored())

    receiver.script = scripted()
    assert workshop.run() == 0
    keys = [key for _, key in receiver.stored()]
    assert len(keys) == len(set(keys)) == 120


def test_a_second_ctrl_c_ends_a_run_at_once_and_the_next_goes_on(workshop: Workshop, receiver: Receiver) -> None:
    job = start_held(workshop, receiver)
    receiver.wait_for(TAKEN + 1)
    job.send_signal(signal.SIGINT)
    job.wait_for_text("taking no more records")
    job.send_signal(signal.SIGINT)
    assert job.wait(120) == 1, job.printed()
    assert "interrupted" in job.printed()
    assert not list((workshop.output / "receipts").glob("*.journal")), "every journal is a part at the end"

    receiver.release()
    receiver.script = scripted()
    assert workshop.run() == 0
    assert len({key for _, key in receiver.stored()}) == 120


def test_a_killed_run_loses_nothing_and_repeats_only_what_was_in_flight(workshop: Workshop, receiver: Receiver) -> None:
    job = start_held(workshop, receiver)
    receiver.wait_for(TAKEN + 16)
    job.kill()
    job.wait(60)
    acknowledged = {arrival.key for arrival in receiver.log if arrival.answer.fault == "none"}
    in_flight = {arrival.key for arrival in receiver.log if arrival.answer.fault == "hold"}
    before = len(receiver.log)

    receiver.script = scripted()
    assert workshop.run() == 0
    again = {arrival.key for arrival in receiver.log[before:]}
    assert len(acknowledged | in_flight | again) == 120
    # Answers that were on their way when the process died were not known to it: at most one for each request in flight.
    assert len(again & acknowledged) <= 16
    assert workshop.account("http")["already_delivered"] >= len(acknowledged) - 16


@needs_shared
@pytest.mark.parametrize(
    ("name", "statements", "expected"),
    [
        ("tccc_dev.json", 2_814, {"sessions": 85, "started": 85, "resumed": 74, "completed": 86, "status": 86}),
        (
            "fun_mooc_statements.jsonl.gz",
            22_000,
            {"sessions": 3_656, "started": 1_228, "resumed": 120, "completed": 636, "status": 636},
        ),
    ],
)
def test_real_activity_gives_the_records_that_were_counted_independently(
    workshop: Workshop, receiver: Receiver, name: str, statements: int, expected: dict[str, int]
) -> None:
    workshop.write_forwarders(http_document(receiver))
    (workshop.path / "in").mkdir()
    (workshop.path / "in" / name).symlink_to(SHARED / "data" / name)
    assert workshop.run("--input_format=xapi", *DERIVED, "--dry_run", "--write_records=jsonl") == 0
    report = workshop.report()
    assert report["input"]["accepted_bytes"] > 500 * statements
    assert report["input"] | {"bytes": 0, "accepted_bytes": 0} == {
        "files": 1,
        "bytes": 0,
        "read": statements,
        "rejected": 0,
        "blank_lines": 0,
        "passed_over": {},
        "accepted_bytes": 0,
        "rejected_bytes": 0,
        "reject_reasons": [],
        "reject_files": [],
        "sources": [],
        "failures": [],
    }
    events = [record["event"] for record in workshop.records("event")]
    found = {event: events.count(f"session-{event}") for event in ("started", "resumed", "completed")}
    assert {**found, "sessions": report["sessions"], "status": report["records"]["status"]} == expected


def test_no_secret_reaches_anything_the_run_leaves_behind(
    workshop: Workshop,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secrets = {
        "password": "hunter2-password",
        "token": "hunter2-token",
        "header": "hunter2-header",
        "query": "hunter2-query",
        "client": SECRET,
    }
    tokens = TokenServer()
    monkeypatch.setenv("FORWARDER_TOKEN", secrets["token"])
    everything_else = " ".join(secrets[name] for name in ("password", "header", "query"))

    def quote(arrival: Arrival) -> Answer:
        """Each receiver repeats what it was sent: what it knows is what must not be kept of its answer."""
        known = {"/token": secrets["token"], "/oauth2": f"{arrival.headers.get('authorization')} of {SECRET}"}
        return Answer(400, body=f"you sent {known.get(arrival.request_line.split()[1], everything_else)}".encode())

    receiver.script = quote
    basic = {"authType": "basic auth", "basicUsername": "ann", "basicPassword": secrets["password"]}
    with tokens.running() as token_url:
        workshop.write_activity(sessions(2))
        workshop.write_forwarders(
            http_document(
                receiver,
                "basic",
                configuration={
                    **basic,
                    "url": receiver.url(f"x?key={secrets['query']}"),
                    "headers": json.dumps({"X-Key": secrets["header"]}),
                },
            ),
            http_document(receiver, "token", configuration={"authType": "token", "secret": "env:FORWARDER_TOKEN"}),
            http_document(
                receiver,
                "oauth2",
                configuration={"authType": "oauth2", "tokenUrl": token_url, "clientId": CLIENT, "clientSecret": SECRET},
            ),
            http_document(receiver, "broken", configuration={**basic, "maxRetries": 99}),
        )
        assert workshop.run() == 2
        assert workshop.run("--skip_invalid_forwarders", "--dry_run") == 0
        assert workshop.run("--skip_invalid_forwarders") == 3
    assert any(secrets["query"] in arrival.request_line for arrival in receiver.log)
    assert {arrival.headers.get("x-key") for arrival in receiver.log} == {secrets["header"], None}

    left = [path.read_bytes() for path in workshop.output.rglob("*") if path.is_file()]
    assert any(b"http_400" in content and b"you sent" in content for content in left)
    printed = capsys.readouterr()
    told = b"\0".join([*left, caplog.text.encode(), printed.out.encode(), printed.err.encode()])
    assert tokens.granted
    shown = json.dumps(SECRET)[1:-1]
    basic_of_client = tokens.asked[0]["authorization"].removeprefix("Basic ")
    for secret in (*secrets.values(), *tokens.granted, shown, basic_of_client):
        assert secret.encode() not in told
