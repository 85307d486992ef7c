"""The whole job on live sources: an LRS, and a collection of Learning Locker's statements."""

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from pymongo import MongoClient

from pipeline.options import parse
from pipeline.usage import UsageError
from tests.support.forked import start_job
from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer
from tests.support.lrs_feed import Feed, statement
from tests.support.receiver import Receiver, by_user
from tests.support.workshop import Workshop
from tests.transforms.sources.test_mongo import document
from transforms.sources.locations import implied_format
from transforms.sources.lrs_url import KEY, SECRET

DERIVED = ("--kind=event", "--kind=status", "--kind=score")


class Source:
    """A live source.

    Attributes:
        location: as `--input` has it.
        add: puts statements of these numbers into it.
        line: a statement as a file of such statements has it.
    """

    def __init__(self, location: str, add: Callable[[range], object], line: Callable[[int], bytes]) -> None:
        self.location = location
        self.add = add
        self.line = line


@pytest.fixture
def lrs_source(feed: Feed) -> Source:
    return Source(feed.resource, lambda numbers: feed.statements.extend(map(statement, numbers)), statement)


@pytest.fixture
def mongo_source(mongo_server: str) -> Iterator[Source]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with MongoClient[dict[str, Any]](mongo_server) as client:
        statements = client[name]["statements"]
        yield Source(
            f"{mongo_server}/{name}.statements",
            lambda numbers: statements.insert_many([document(number) for number in numbers]),
            lambda number: json_util.dumps(document(number), json_options=json_util.RELAXED_JSON_OPTIONS).encode(),
        )
        client.drop_database(name)


@pytest.fixture(params=["lrs_source", "mongo_source"])
def source(request: pytest.FixtureRequest) -> Source:
    """Each of the two; a test that is parametrised itself names one."""
    made: Source = request.getfixturevalue(request.param)
    return made


def by_id(statement: dict[str, Any]) -> tuple[str, str]:
    return statement["id"], json.dumps(statement, sort_keys=True)


def run(workshop: Workshop, source: Source, *more: str) -> int:
    return workshop._run("--input", source.location, *DERIVED, *more)


def of_a_file(
    workshop: Workshop, receiver: Receiver, source: Source, count: int, kinds: tuple[str, ...] = DERIVED
) -> dict[str, list[str]]:
    """What a receiver gets of the first `count` statements when they are read from a file."""
    before = list(receiver.log)
    receiver.log.clear()
    workshop.write_lines(map(source.line, range(count)), "statements.jsonl")
    output = str(workshop.path / "of a file")
    assert workshop.run("--input_format", implied_format(source.location), *kinds, "--output", output) == 0
    found = by_user(receiver.stored())
    receiver.log[:] = before
    return found


def test_a_source_gives_what_a_file_of_its_statements_gives(
    workshop: Workshop, receiver: Receiver, source: Source
) -> None:
    workshop.write_forwarders(http_document(receiver))
    source.add(range(60))
    assert run(workshop, source) == 0
    assert by_user(receiver.stored()) == of_a_file(workshop, receiver, source, 60)
    assert workshop.report()["input"]["read"] == 60
    assert workshop.report()["input"]["bytes"] > 10_000


def test_statements_leave_as_they_are(workshop: Workshop, receiver: Receiver, source: Source) -> None:
    """Of an LRS to the byte. Of a database, which has no spelling, to the value."""
    workshop.write_forwarders(http_document(receiver))
    source.add(range(30))
    assert workshop._run("--input", source.location) == 0
    sent = sorted(arrival.body for arrival in receiver.log)
    if source.location.startswith("http"):
        assert sent == sorted(map(statement, range(30)))
    assert sorted(map(by_id, map(json.loads, sent))) == sorted(map(by_id, map(json.loads, map(statement, range(30)))))
    assert workshop.report()["records"] == {"statement": 30}


def test_voided_and_inactive_documents_stay_unless_they_are_asked_for(
    workshop: Workshop, receiver: Receiver, mongo_source: Source, mongo_server: str
) -> None:
    workshop.write_forwarders(http_document(receiver))
    mongo_source.add(range(4))
    database, _, collection = mongo_source.location.removeprefix(f"{mongo_server}/").partition(".")
    with MongoClient[dict[str, Any]](mongo_server) as client:
        client[database][collection].insert_many([document(4, voided=True), document(5, active=False)])
    assert workshop._run("--input", mongo_source.location) == 0
    assert len(receiver.stored()) == 4
    assert workshop.report()["input"]["passed_over"] == {"inactive_documents": 1, "voided_documents": 1}
    assert workshop._run("--input", mongo_source.location, "--include_voided") == 0
    assert len(receiver.stored()) == 6


def test_scheduled_runs_read_what_is_new_and_send_what_one_run_sends(
    workshop: Workshop, receiver: Receiver, source: Source
) -> None:
    workshop.write_forwarders(http_document(receiver))
    scheduled = ("--state", str(workshop.path / "state"))
    source.add(range(70))
    assert run(workshop, source, *scheduled) == 0
    assert workshop.report()["input"]["read"] == 70
    source.add(range(70, 100))
    assert run(workshop, source, *scheduled, "--dry_run") == 0
    assert run(workshop, source, *scheduled) == 0
    assert 30 <= workshop.report()["input"]["read"] <= 30 + 11, "what is new, and an overlap of ten minutes"
    assert run(workshop, source, *scheduled) == 0
    assert workshop.report()["input"]["read"] <= 11
    assert workshop.report()["forwarders"][0]["delivered"] == 0
    pairs = receiver.stored()
    assert len(pairs) == len(set(pairs))
    assert by_user(pairs) == of_a_file(workshop, receiver, source, 100)


def test_a_run_that_could_not_read_to_the_end_sends_nothing_and_leaves_the_state(
    workshop: Workshop,
    receiver: Receiver,
    feed: Feed,
    lrs_source: Source,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workshop.write_forwarders(http_document(receiver))
    scheduled = ("--state", str(workshop.path / "state"))
    lrs_source.add(range(20))
    assert run(workshop, lrs_source, *scheduled) == 0
    before = (workshop.path / "state" / "current.json").read_bytes()
    sent = len(receiver.log)
    lrs_source.add(range(20, 60))
    page = feed.page_of({"since": "2026-01-01T00:09:00.000Z", "begin": "0"})
    feed.faults = [page] + [Answer(503)] * 10_000
    assert run(workshop, lrs_source, *scheduled, "--outage_budget=0.05") == 1
    (failure,) = workshop.report()["input"]["failures"]
    assert "nothing could be read for 0.05 s" in failure
    assert failure in capsys.readouterr().out
    assert "Traceback" not in caplog.text
    assert (workshop.path / "state" / "current.json").read_bytes() == before
    assert len(receiver.log) == sent
    feed.faults.clear()
    assert run(workshop, lrs_source, *scheduled) == 0
    assert by_user(receiver.stored()) == of_a_file(workshop, receiver, lrs_source, 60)


def test_rejects_of_a_source_name_it_and_are_counted(
    workshop: Workshop, receiver: Receiver, feed: Feed, lrs_source: Source
) -> None:
    workshop.write_forwarders(http_document(receiver))
    lrs_source.add(range(4))
    damaged = json.loads(statement(4))
    del damaged["actor"]
    feed.statements.append(json.dumps(damaged).encode())
    lrs_source.location += "?agent=secretive"
    assert run(workshop, lrs_source) == 3
    (reject,) = workshop.avro("rejects")
    assert (reject["file"], reject["position"]) == (feed.resource, 4)
    assert reject["content"] == feed.statements[4]
    assert "actor" in reject["reason"]


def test_no_login_shows_anywhere(
    workshop: Workshop,
    receiver: Receiver,
    feed: Feed,
    lrs_source: Source,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(KEY, "the-key")
    monkeypatch.setenv(SECRET, "hunter2")
    workshop.write_forwarders(http_document(receiver))
    lrs_source.add(range(8))
    lrs_source.location += "?agent=secretive&limit=3"
    assert run(workshop, lrs_source, "--state", str(workshop.path / "state")) == 0
    assert {arrival.headers["authorization"] for arrival in feed.log} == {"Basic dGhlLWtleTpodW50ZXIy"}
    feed.faults = [Answer(401)]
    assert run(workshop, lrs_source, "--state", str(workshop.path / "state")) == 1
    written = "".join(path.read_bytes().decode("latin-1") for path in workshop.path.rglob("*") if path.is_file())
    for text in (caplog.text, "".join(capsys.readouterr()), written):
        for secret in ("hunter2", "dGhlLWtleTpodW50ZXIy", "secretive"):
            assert secret not in text


@pytest.mark.parametrize(
    ("source", "kinds"), [("lrs_source", ("--kind=statement",)), ("mongo_source", DERIVED)], indirect=["source"]
)
def test_killed_at_any_moment_and_resumed_nothing_is_lost(
    workshop: Workshop, receiver: Receiver, source: Source, kinds: tuple[str, ...]
) -> None:
    """Statements come in between, so that each run has something new. Some moments are before the first is sent."""
    chance, kills = random.Random(11), 2  # noqa: S311
    workshop.write_forwarders(http_document(receiver))
    count, step = 40, 40
    source.add(range(count))
    more = ("--input", source.location, *kinds, "--state", str(workshop.path / "state"))
    for _ in range(kills):
        enough = len(receiver.log) + chance.randrange(step)
        until = time.monotonic() + chance.uniform(0.2, 1.5) if chance.random() < 0.34 else float("inf")
        job = start_job(workshop.arguments(*more), Path(os.devnull))
        while job.poll() is None and len(receiver.log) <= enough and time.monotonic() < until:
            time.sleep(0.005)
        job.kill()
        job.wait()
        source.add(range(count, count + step))
        count += step
    assert workshop._run(*more) == 0
    found = {user: list(dict.fromkeys(ids)) for user, ids in by_user(receiver.stored()).items()}
    assert found == of_a_file(workshop, receiver, source, count, kinds)


# Flags


def arguments(*more: str) -> list[str]:
    return ["--forwarders=f.json", "--output=out", *more]


def test_a_source_implies_its_format() -> None:
    job = parse(arguments("--input=https://lrs.example/statements"))
    assert (job.input_format, job.reads_sources, job.window.kinds) == ("xapi", True, ("statement",))
    assert parse(arguments("--input=mongodb://host/db.statements")).input_format == "learninglocker"
    assert parse(arguments("--input=in.jsonl")).input_format == "activity"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--input=https://lrs.example/statements", "--input_format=activity"], "--input_format activity is not what"),
        (["--input=https://lrs.example/statements", "--input=mongodb://host/db.statements"], "in two formats"),
        (["--input=https://lrs.example/statements", "--input=in.jsonl"], "read in two runs"),
        (["--input=https://key:hunter2@lrs.example/statements"], "--input https://... holds a user"),
        (["--input=mongodb://key:hunter2@host/db.statements"], "--input mongodb://... holds a user"),
        (["--input=HTTPS://key:hunter2@lrs.example/statements"], "--input holds a user and a password"),
        (["--input= https://key:hunter2@lrs.example/statements"], "--input holds a user and a password"),
        (["--input=in.jsonl", "--input=https:/key:hunter2@lrs.example/statements"], "--input holds a user and a pass"),
        (["--input=mongo://key:hunt/hunter2@host/db.statements"], "--input holds a user and a password"),
        (["--input=in.jsonl", "--output=ftp://key:hunter2@host/out"], "--output holds a user and a password"),
        (["--input=in.jsonl", "--state=ftp://key:hunter2@host/state"], "--state holds a user and a password"),
        (["--input=in.jsonl", "--attachments=ftp://key:hunter2@host/a"], "--attachments holds a user and a password"),
        (["--input=in.jsonl", "--forwarders= https://key:hunter2@host/a"], "--forwarders holds a user and a password"),
        (["--input=https://lrs.example/statements", "--input_auth=key:hunter2"], "--input_auth is no reference"),
        (["--input=in.jsonl", "--input_auth=env:NAME"], "--input names none"),
        (["--input=https://lrs.example/statements", "--file_format=json"], "--file_format is of files"),
        (
            ["--input=https://lrs.example/statements", "--streaming", "--runner=FlinkRunner"],
            "--streaming reads exactly",
        ),
    ],
)
def test_what_does_not_go_together_is_told(more: list[str], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments(*more))
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "place", ["s3://bucket/a@b", "hdfs://host:9000/a@b", "in/10:00@b.jsonl", "gs://bucket/t=1:2@x"]
)
def test_a_place_with_an_at_sign_is_no_place_with_a_password(place: str) -> None:
    assert parse(arguments(f"--input={place}")).inputs == (place,)
