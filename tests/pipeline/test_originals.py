"""Statements that are forwarded as they are, through the whole job."""

import gzip
import json
from collections.abc import Iterable
from typing import Any

import boto3
import fastavro
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.options import parse
from pipeline.usage import UsageError
from tests.support.aws import read_stream
from tests.support.forwarder_documents import aws_document, http_document
from tests.support.laboratory.http_fault_server import Answer, scripted
from tests.support.paths import SHARED, needs_shared
from tests.support.receiver import Receiver
from tests.support.statements import STATEMENT_TEXTS, statement, text
from tests.support.workshop import Workshop
from transforms.reading.exact_json import loads
from transforms.statements.comparison import equal_statements
from transforms.statements.passage import CONFLICT

XAPI = "--input_format=xapi"
ANSWERED = json.dumps({"statement.verb.id": "http://adlnet.gov/expapi/verbs/answered"})
PASSED = {"id": "http://adlnet.gov/expapi/verbs/passed"}


def to_statements(receiver: Receiver, name: str = "http", **given: Any) -> dict[str, Any]:
    document = http_document(receiver, name, **given)
    del document["payload"]
    return document | {name: value for name, value in given.items() if name == "payload"}


def write(workshop: Workshop, statements: Iterable[str | dict[str, Any]], name: str = "s.jsonl") -> None:
    workshop.write_lines([(each if isinstance(each, str) else text(each)).encode() for each in statements], name)


def bodies(receiver: Receiver) -> list[bytes]:
    return [arrival.body for arrival in receiver.log if arrival.stored]


def test_a_forwarder_of_learning_locker_gets_the_statements_that_its_query_matches_as_they_were(
    workshop: Workshop, receiver: Receiver
) -> None:
    sent = [text(statement(number, **({} if number % 2 else {"verb": PASSED}))) for number in range(1, 21)]
    write(workshop, reversed(sent))
    workshop.write_forwarders(to_statements(receiver, query=ANSWERED))
    assert workshop.run(XAPI) == 0
    assert bodies(receiver) == [each.encode() for each in sent[::2]]
    assert {arrival.key for arrival in receiver.log} == {json.loads(each)["id"] for each in sent[::2]}
    assert {arrival.headers["x-experience-api-version"] for arrival in receiver.log} == {"1.0.3"}
    report = workshop.report()
    assert report["records"] == {"statement": 20}
    assert report["sessions"] == 0
    assert {row["kind"] for row in workshop.avro("receipts")} == {"statement"}
    assert workshop.account("http")["delivered"] == 10

    assert workshop.run(XAPI) == 0
    assert workshop.account("http")["already_delivered"] == 10
    assert len(receiver.log) == 10
    assert workshop.run(XAPI, "--replay=all") == 0
    assert len(receiver.log) == 20


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(STATEMENT_TEXTS, min_size=10, max_size=40), st.sampled_from(["lines", "array", "answer"]))
def test_every_number_and_string_arrives_in_its_spelling(
    workshop: Workshop, receiver: Receiver, sent: list[str], form: str
) -> None:
    numbered = {loads(each.encode())["id"]: each for each in sent}
    values = [each.strip() for each in numbered.values()]
    written = {
        "lines": "\n".join(values),
        "array": "[" + ",\n".join(values) + "]",
        "answer": '{"statements":[' + ",".join(values) + '],"more":""}',
    }[form]
    (workshop.path / "in").mkdir(exist_ok=True)
    (workshop.path / "in" / "s.json").write_text(written, newline="")
    workshop.write_forwarders(to_statements(receiver, query="{}"))
    receiver.log.clear()
    assert workshop.run(XAPI, "--replay=all") == 0
    arrived = {arrival.key: arrival.body for arrival in receiver.log}
    assert arrived == {
        id_: value.replace("\r", " ").replace("\n", " ").encode() for id_, value in zip(numbered, values, strict=True)
    }


def test_a_users_statements_leave_by_stored_then_timestamp_then_their_place(
    workshop: Workshop, receiver: Receiver
) -> None:
    late = statement(1, stored="2026-03-05T00:00:00Z")
    first, second, third = (statement(number, timestamp="2026-03-02T00:00:00Z") for number in (30, 20, 10))
    early = statement(40, stored="2026-03-01T00:00:00Z")
    write(workshop, [late, first], "a.jsonl")
    write(workshop, [second, third, early], "b.jsonl")
    workshop.write_forwarders(to_statements(receiver))
    assert workshop.run(XAPI) == 0
    assert bodies(receiver) == [text(each).encode() for each in (early, first, second, third, late)]


def test_an_id_that_comes_twice_is_forwarded_once_and_other_content_is_a_reject(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    one = statement(1, stored="2026-03-02T00:00:00Z", result={"score": {"raw": 1.0}})
    again = statement(1, stored="2026-03-03T00:00:00Z", authority={"mbox": "mailto:lrs@example.org"})
    again["result"] = {"score": {"raw": 1}}
    other = statement(1, stored="2026-03-01T00:00:00Z", result={"score": {"raw": 2}})
    write(workshop, [one, again, text(one), other])
    workshop.write_forwarders(to_statements(receiver))
    file = workshop.path / "job.prom"
    assert workshop.run(XAPI, f"--metrics_file={file}") == 3
    assert bodies(receiver) == [text(other).encode()]
    assert f'input_rejected_total{{name="job",reason="{CONFLICT}"}} 3.0' in file.read_text()
    report = workshop.report()
    assert (report["duplicate_statements"], report["conflicting_statements"]) == (0, 3)
    assert [record.getMessage() for record in caplog.records if "two different statements" in record.getMessage()] == [
        f"the id {one['id']} stands for two different statements; the one of 2026-03-01T00:00:00.000Z is forwarded, "
        "not the one of 2026-03-02T00:00:00.000Z. Further such conflicts are counted, not logged."
    ]
    rejects = sorted(workshop.avro("rejects"), key=lambda row: row["position"])
    assert [row["content"] for row in rejects] == [text(each).encode() for each in (one, again, one)]
    assert {(row["file"], row["reason"]) for row in rejects} == {
        (
            str(workshop.path / "in" / "s.jsonl"),
            f"the id stands for another statement, which is of 2026-03-01T00:00:00.000Z and is forwarded: {one['id']}",
        )
    }
    told = capsys.readouterr().out
    assert "read      4 statements in 1 file, 3 rejected, 0 duplicates" in told
    assert "        3  the id stands for another statement, which is forwarded" in told
    assert f"all of them, with what they hold: {report['input']['reject_files'][0]}" in told

    write(workshop, [one, again, text(one)])
    assert workshop.run(XAPI, "--replay=all") == 0
    assert bodies(receiver)[1:] == [text(one).encode()]
    report = workshop.report()
    assert (report["duplicate_statements"], report["conflicting_statements"]) == (2, 0)


def test_what_is_no_statement_is_a_reject_and_harms_nothing_else(workshop: Workshop, receiver: Receiver) -> None:
    nobody, timeless = statement(2), statement(3)
    del nobody["actor"], timeless["timestamp"]
    write(workshop, [statement(1), "nonsense", nobody, timeless, statement(4, name="x" * (16 << 20)), statement(5)])
    workshop.write_forwarders(to_statements(receiver))
    assert workshop.run(XAPI, "--max_reject_ratio=1") == 3
    assert bodies(receiver) == [text(statement(number)).encode() for number in (1, 5)]
    reasons = {row["position"]: row["reason"] for row in workshop.avro("rejects")}
    assert [reason.partition(";")[0] for _, reason in sorted(reasons.items())] == [
        "not JSON: invalid literal, expected 'null' at character 0",
        "actor: missing or not an object",
        "timestamp: missing, and stored too: no time",
        "longer than 16777216 bytes",
    ]
    assert workshop.run(XAPI, "--max_reject_ratio=1", "--stored_as=now") == 3
    assert len(bodies(receiver)) == 3


def test_dead_letters_of_statements_are_redriven_in_order_as_they_were(workshop: Workshop, receiver: Receiver) -> None:
    sent = [
        statement(3, stored="2026-03-01T00:00:01Z"),
        statement(2, stored="2026-03-01T00:00:02Z", result={"score": {"raw": 5}}),
        statement(1, stored="2026-03-01T00:00:03Z"),
    ]
    write(workshop, sent)
    workshop.write_forwarders(to_statements(receiver))
    receiver.script = lambda _: Answer(400)
    assert workshop.run(XAPI) == 3
    letters = workshop.avro("dead_letters")
    assert {letter["payload"] for letter in letters} == {text(each).encode() for each in sent}
    receiver.script = scripted()
    assert workshop.redrive("--kind=score") == 0
    assert bodies(receiver) == []
    workshop.write_forwarders(to_statements(receiver, query=json.dumps({"statement.result": {"$exists": False}})))
    assert workshop.redrive() == 3
    assert bodies(receiver) == [text(each).encode() for each in (sent[0], sent[2])]
    workshop.write_forwarders(to_statements(receiver, kinds=["score"]))
    assert workshop.redrive() == 3
    assert workshop.account("http")["kept"] == {"out_of_scope": 1}
    workshop.write_forwarders(to_statements(receiver))
    assert workshop.redrive() == 0
    assert bodies(receiver)[2:] == [text(sent[1]).encode()]


SESSION = {"context": {"registration": "r-1"}}


def in_session(number: int, verb: str, **more: Any) -> dict[str, Any]:
    return statement(number, verb={"id": f"http://adlnet.gov/expapi/verbs/{verb}"}, **SESSION, **more)


def test_both_what_was_read_and_what_is_derived_of_it_is_forwarded_to_whom_it_may_concern(
    workshop: Workshop, receiver: Receiver
) -> None:
    read = [in_session(1, "initialized"), statement(2), in_session(3, "completed")]
    write(workshop, read)
    workshop.write_forwarders(
        to_statements(receiver, "both", payload="record"),
        to_statements(receiver, "read", kinds=["statement"]),
        to_statements(receiver, "derived", kinds=["event", "status"], payload="record"),
    )
    kinds = [f"--kind={kind}" for kind in ("event", "status", "statement")]
    assert workshop.run(XAPI, *kinds) == 0

    def got(name: str) -> list[Any]:
        return [json.loads(each.body) for each in receiver.log if each.request_line.split()[1] == f"/{name}"]

    derived = got("derived")
    assert [each.get("event") for each in derived] == ["session-started", "session-completed", None]
    assert got("read") == read
    assert got("both") == [read[0], derived[0], read[1], read[2], derived[1], derived[2]]
    report = workshop.report()
    assert report["records"] == {"event": 2, "status": 1, "statement": 3}
    assert report["input"]["read"] == 3
    assert report["input"]["rejected"] == 0
    assert report["input"]["passed_over"] == {"statements_not_derived": 1}


def test_with_a_state_only_new_files_are_read_and_nothing_is_kept_of_sessions(
    workshop: Workshop, receiver: Receiver
) -> None:
    state = workshop.path / "state"
    write(workshop, [in_session(1, "initialized")], "a.jsonl")
    workshop.write_forwarders(to_statements(receiver))
    assert workshop.run(XAPI, f"--state={state}") == 0
    write(workshop, [in_session(2, "completed")], "b.jsonl")
    assert workshop.run(XAPI, f"--state={state}") == 0
    assert workshop.report()["input"]["files"] == 1
    assert bodies(receiver) == [text(in_session(1, "initialized")).encode(), text(in_session(2, "completed")).encode()]
    assert not list(state.rglob("parts/*"))


def test_with_a_state_both_kinds_go_on_from_it(workshop: Workshop, receiver: Receiver) -> None:
    both = (XAPI, f"--state={workshop.path / 'state'}", "--kind=event", "--kind=statement")
    write(workshop, [in_session(1, "initialized")], "a.jsonl")
    workshop.write_forwarders(to_statements(receiver, payload="record"))
    assert workshop.run(*both) == 0
    write(workshop, [in_session(2, "completed")], "b.jsonl")
    assert workshop.run(*both) == 0
    got = [json.loads(each) for each in bodies(receiver)]
    assert [each.get("event") or each["verb"]["id"].rpartition("/")[2] for each in got] == [
        "initialized",
        "session-started",
        "completed",
        "session-completed",
    ]


def test_only_statements_of_the_window_are_forwarded(workshop: Workshop, receiver: Receiver) -> None:
    write(workshop, [statement(number) for number in range(1, 5)])
    workshop.write_forwarders(to_statements(receiver))
    assert workshop.run(XAPI, "--since=2026-03-01T09:02:00Z", "--until=2026-03-01T09:04:00Z") == 0
    assert bodies(receiver) == [text(statement(number)).encode() for number in (2, 3)]


@pytest.mark.parametrize("record_format", ["jsonl", "avro", "parquet"])
def test_statements_are_written_with_their_text_in_one_column(workshop: Workshop, record_format: str) -> None:
    sent = '{"x": 1.0, ' + text(statement())[1:]
    write(workshop, [sent])
    arguments = ["--input", str(workshop.path / "in" / "*"), XAPI, f"--write_records={record_format}"]
    workshop.write_forwarders()
    from pipeline.command import main

    assert main(["--runner=DirectRunner", *arguments, "--output", str(workshop.output)]) == 0
    row: Any
    (file,) = (workshop.output / "records").glob(f"statement-*.{record_format}")
    if record_format == "jsonl":
        assert file.read_bytes().startswith(b'{"statement":' + sent.encode() + b',"id":"')
        return
    if record_format == "avro":
        with file.open("rb") as stream:
            (row,) = fastavro.reader(stream)
    else:
        (row,) = pq.read_table(file).to_pylist()
    assert row["statement"] == sent
    assert (row["id"], row["user_id"]) == (statement()["id"], "ann")


def test_a_dry_run_and_an_explanation_tell_of_statements(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    write(workshop, ['{"x": 1.0, ' + text(statement(1))[1:], statement(2, verb=PASSED)])
    workshop.write_forwarders(
        to_statements(receiver, "answered", query=ANSWERED), to_statements(receiver, "scores", kinds=["score"])
    )
    assert workshop.run(XAPI, "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "given on  2 statements as they are" in shown
    assert '{"x": 1.0, "id":' in shown
    assert "forwarder scores: its kinds are score, and the run forwards statement (--kind)" in shown
    assert workshop.run(XAPI, "--explain", statement(2)["id"].upper()) == 0
    shown = capsys.readouterr().out
    assert f"{statement(2)['id']}: statement of user ann, verb http://adlnet.gov/expapi/verbs/passed" in shown
    assert "  answered: " in shown
    assert "statement.verb.id $eq" in shown
    assert "scores: not in scope: kind is 'statement', the forwarder's kinds are score" in shown
    assert receiver.log == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--kind=statement"], "--kind statement goes with --input_format xapi or learninglocker"),
        ([XAPI, "--kind=score", "--include_voided"], "--include_voided goes with --kind statement"),
        ([XAPI, "--kind=score", "--stored_as=now"], "--stored_as goes with --kind statement"),
    ],
)
def test_what_does_not_go_together_is_said(arguments: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse(["--input=x", "--forwarders=f", "--output=o", *arguments])


def test_the_kinds_of_a_run_follow_from_its_input() -> None:
    usual = ["--input=x", "--forwarders=f", "--output=o"]
    assert parse(usual).window.kinds == ("event", "status", "score")
    assert parse([*usual, XAPI]).window.kinds == ("statement",)
    assert parse([*usual, "--input_format=learninglocker"]).window.kinds == ("statement",)
    assert parse([*usual, XAPI, "--kind=statement", "--kind=event"]).window.kinds == ("event", "statement")
    assert parse(["--redrive", *usual[1:]]).window.kinds == ("event", "status", "score", "statement")


def document(number: int, **around: Any) -> str:
    """As mongoexport writes Learning Locker's documents."""
    inside = statement(
        number, context={"extensions": {"https://a&46;example/x": {"$numberInt": "7"}, "n": number + 0.5}}
    )
    return text(
        {
            "_id": {"$oid": f"{number:024x}"},
            "organisation": {"$oid": "0a" * 12},
            "lrs_id": {"$oid": "0b" * 12},
            "person": {"_id": {"$oid": "0c" * 12}, "display": "Ann"},
            "metadata": {"https://learninglocker&46;net/x": {"seconds": {"$numberInt": str(number)}}},
            "timestamp": {"$date": inside["timestamp"]},
            "stored": {"$date": {"$numberLong": "1772355660000"}},
            "active": True,
            "voided": False,
            "statement": inside,
            **around,
        }
    )


def plain(number: int) -> dict[str, Any]:
    """What Learning Locker was sent."""
    return statement(number, context={"extensions": {"https://a.example/x": 7, "n": number + 0.5}})


QUERIES: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [1, 2]),
    ({"statement.context.extensions.https://a&46;example/x": 7}, [1, 2]),
    ({"statement.context.extensions.https://a.example/x": {"$gt": 6}}, [1, 2]),
    ({"statement.context.extensions.n": 2.5}, [2]),
    ({"person._id": {"$oid": "0c" * 12}}, [1, 2]),
    ({"person._id": {"$oid": "0d" * 12}}, []),
    ({"organisation": {"$oid": "0a" * 12}, "lrs_id": "0b" * 12}, [1, 2]),
    ({"metadata.https://learninglocker&46;net/x.seconds": {"$gte": 2}}, [2]),
    ({"voided": False, "active": True, "kind": "statement"}, [1, 2]),
    ({"timestamp": {"$gt": {"$dte": "2026-03-01T09:01:30Z"}}}, [2]),
    ({"statement.timestamp": {"$gt": "2026-03-01T09:01:30Z"}, "stored": {"$lt": {"$dte": "2027-01-01"}}}, [2]),
    ({"_id": "00000000-0000-4000-8000-000000000001"}, [1]),
]


def test_queries_see_learning_lockers_document_and_what_is_sent_is_the_statement_with_dots(
    workshop: Workshop, receiver: Receiver
) -> None:
    (workshop.path / "in").mkdir()
    exported = "[" + ",\n".join([document(1), document(2), document(3, voided=True), document(4, active=False)]) + "]"
    (workshop.path / "in" / "statements.json.gz").write_bytes(gzip.compress(exported.encode()))
    documents = [
        to_statements(receiver, f"q{index}", query=json.dumps(query), lrs_id="0b" * 12)
        for index, (query, _) in enumerate(QUERIES)
    ]
    workshop.write_forwarders(*documents)
    assert workshop.run("--input_format=learninglocker") == 0
    for index, (query, numbers) in enumerate(QUERIES):
        got = [json.loads(each.body) for each in receiver.log if each.request_line.split()[1] == f"/q{index}"]
        assert got == [plain(number) for number in numbers], query
    assert workshop.report()["input"]["passed_over"] == {"inactive_documents": 1, "voided_documents": 1}


def test_the_whole_query_document_is_sent_on_request(workshop: Workshop, receiver: Receiver) -> None:
    write(workshop, [document(1, n={"$numberLong": "9007199254740993"})])
    workshop.write_forwarders(to_statements(receiver, fullDocument=True))
    assert workshop.run("--input_format=learninglocker") == 0
    (sent,) = bodies(receiver)
    assert json.loads(sent) == {
        "_id": statement(1)["id"],
        "kind": "statement",
        "organisation": "0a" * 12,
        "lrs_id": "0b" * 12,
        "person": {"_id": "0c" * 12, "display": "Ann"},
        "metadata": {"https://learninglocker.net/x": {"seconds": 1}},
        "timestamp": "2026-03-01T09:01:00.000Z",
        "stored": "2026-03-01T09:01:00.000Z",
        "active": True,
        "voided": False,
        "n": 9007199254740993,
        "statement": plain(1),
    }


def test_in_a_data_stream_the_partition_key_is_the_user_and_the_data_the_statement(
    workshop: Workshop, aws: boto3.Session
) -> None:
    kinesis = aws.client("kinesis")
    kinesis.create_stream(StreamName="statements", ShardCount=1)
    sent = ['{"x": 1.0,\n ' + text(statement(1, actor={"mbox": "mailto:ann@example.org"}))[1:], text(statement(2))]
    (workshop.path / "in").mkdir()
    (workshop.path / "in" / "s.json").write_text("\n".join(sent))
    document = aws_document("statements")
    del document["payload"]
    workshop.write_forwarders(document)
    assert workshop.run(XAPI) == 0
    assert sorted(read_stream(kinesis, "statements")) == [
        ("ann", sent[1]),
        ("mailto:ann@example.org", sent[0].replace("\n", " ")),
    ]


@needs_shared
@pytest.mark.parametrize("name", ["tccc_dev.json", "fun_mooc_statements.jsonl.gz"])
def test_real_statements_arrive_once_each_by_a_forwarder_for_every_verb(
    workshop: Workshop, receiver: Receiver, name: str
) -> None:
    content = (SHARED / "data" / name).read_bytes()
    if name.endswith(".gz"):
        statements = [line.decode() for line in gzip.decompress(content).splitlines()[:3000]]
    else:
        statements = [json.dumps(each) for each in json.loads(content)]
    write(workshop, statements)
    counted: dict[str, int] = {}
    for each in statements:
        verb = json.loads(each)["verb"]["id"]
        counted[verb] = counted.get(verb, 0) + 1
    names = {f"f{number}": verb for number, verb in enumerate(counted)}
    workshop.write_forwarders(
        *(to_statements(receiver, name, query=json.dumps({"statement.verb.id": verb})) for name, verb in names.items())
    )
    assert workshop.run(XAPI) == 0
    duplicates = workshop.report()["duplicate_statements"]
    arrived: dict[str, int] = {}
    for arrival in receiver.log:
        verb = names[arrival.request_line.split()[1].strip("/")]
        arrived[verb] = arrived.get(verb, 0) + 1
    assert sum(arrived.values()) + duplicates == len(statements)
    assert duplicates or arrived == counted
    by_id = {json.loads(each).get("id", "").lower(): each for each in statements}
    for arrival in receiver.log:
        if arrival.key in by_id:
            assert equal_statements(arrival.body, by_id[arrival.key].encode())
