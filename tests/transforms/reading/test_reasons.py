"""Reasons of rejects: counted by kind, added up in any order, with a guess where something has a known look."""

import gzip
import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.reading.activity import ActivityDecoder, ActivityError
from transforms.reading.blocks import Block, Broken
from transforms.reading.bucket_blobs import BucketBlobs, ReadCounts, sort_in
from transforms.reading.reasons import (
    MOST_KINDS,
    Place,
    Reason,
    Reasons,
    field_and_rule,
    guess,
    guess_of_statement,
)

ACTIVITY: dict[str, Any] = {
    "record_id": "r1",
    "user_id": "u1",
    "session_id": "s1",
    "activity_id": "a1",
    "action": "START",
    "occurred_at": 1581951803000,
}
STATEMENT = {
    "actor": {"mbox": "mailto:a@b.example"},
    "verb": {"id": "http://v.example/did"},
    "object": {"id": "http://o"},
}


def place(file: str = "f", position: int = 0, field: str | None = "seq", reason: str = "seq: wrong") -> Place:
    return Place(file, 0, position, position + 1, "line", field, reason)


def reasons_of(*lines: bytes) -> list[Reason]:
    counts, _ = sort_in(Block(0, lines, "lines", line=1), "f", ActivityDecoder(), BucketBlobs())
    return counts.reasons.commonest()


def line(**fields: Any) -> bytes:
    return json.dumps(ACTIVITY | fields).encode()


def test_a_kind_is_a_field_and_a_rule_and_not_a_value() -> None:
    response = {"response_id": "q", "item_reference": "i"}
    found = reasons_of(
        line(seq="1"),
        line(),
        line(seq="22"),
        line(responses=[response | {"score": "3"}]),
        line(responses=[response, response | {"score": "4"}]),
        line(responses=[response | {"max_score": "5"}]),
        line(action="STOP"),
        line(action="HALT"),
        line(occurred_at="2026-03-01T09:00:00"),
        line(occurred_at="2026-03-01T10:00:00.5"),
        line(occurred_at="2026-03-01T24:00:00Z"),
        line(occurred_at=1581951803),
        line(occurred_at=1581951804),
    )
    assert [(reason.field, reason.count, reason.first.line) for reason in found] == [
        ("seq", 2, 1),
        ("responses[].score", 2, 4),
        ("action", 2, 7),
        ("occurred_at", 2, 9),
        ("occurred_at", 2, 12),
        ("responses[].max_score", 1, 6),
        ("occurred_at", 1, 11),
    ]
    assert found[1].first.reason == 'responses[0].score: "3" is a number in quotes; write 3, or give --lenient_numbers'


def test_lines_that_are_no_json_are_of_few_kinds() -> None:
    found = reasons_of(*(b'{"a' + b"x" * length for length in range(20)), b"START x", b"END y")
    assert [reason.count for reason in found] == [20, 2]


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("actor.account.name: missing or not a string", "actor.account.name", "missing or not a string"),
        ("context.extensions[http://x/a: b]: missing", "context.extensions[http://x/a: b]", "missing"),
        ("timestamp: '2026' is wrong", "timestamp", "... is wrong"),
        ("not JSON: unexpected character at character 12", None, "not JSON: unexpected character at character #"),
        ("longer than 16777216 bytes", None, "longer than # bytes"),
    ],
)
def test_field_and_rule_of_a_text(text: str, field: str | None, rule: str) -> None:
    assert field_and_rule(text) == (field, rule)


PARTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.sampled_from(["x", "y", "z"])), max_size=12
).map(lambda refusals: _reasons([(place(file, position), rule) for file, position, rule in refusals]))


def _reasons(refusals: list[tuple[Place, str]]) -> Reasons:
    reasons = Reasons()
    for where, rule in refusals:
        reasons.add(where, rule, None)
    return reasons


@given(PARTS, PARTS, PARTS)
def test_they_add_up_in_any_order_and_the_first_place_is_the_least(one: Reasons, two: Reasons, three: Reasons) -> None:
    sums = [sum(parts, Reasons()).commonest() for parts in permutations((one, two, three))]
    sums.append((one + (two + three)).commonest())
    assert all(each == sums[0] for each in sums)
    total = sum(reason.count for part in (one, two, three) for reason in part.kinds.values())
    assert sum(reason.count for reason in sums[0]) == total


def test_adding_up_leaves_the_parts_as_they_were() -> None:
    one, two = _reasons([(place(), "x")]), _reasons([(place(position=3), "x"), (place(), "y")])
    whole = one + two
    whole.add(place(), "x", None)
    assert [reason.count for reason in one.commonest()] == [1]
    assert [reason.count for reason in two.commonest()] == [1, 1]
    assert [reason.count for reason in whole.commonest()] == [3, 1]


def test_however_many_kinds_there_are_few_are_kept_and_none_is_lost() -> None:
    whole = Reasons()
    for part in range(10):
        reasons = Reasons()
        for kind in range(50):
            reasons.add(place(position=kind), f"rule {part} {kind}", None)
        reasons.add(place(), "common", None)
        reasons.add(place(), "common", None)
        whole += reasons
    assert len(whole.kinds) == MOST_KINDS
    assert whole.commonest()[0].count == 20
    assert sum(reason.count for reason in whole.commonest()) + whole.others == 10 * 52


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.title, others))


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (
            json.dumps({camel(name): value for name, value in ACTIVITY.items()}),
            "names in camelCase, which need to be renamed: recordId is",
        ),
        (json.dumps({name.title().replace("_", ""): 1 for name in ACTIVITY}), "names in CapitalCase, which need"),
        (json.dumps({name.replace("_", "-").upper(): 1 for name in ACTIVITY}), "names in capitals, which need to be"),
        (json.dumps(STATEMENT), "xAPI statements: give --input_format xapi"),
        (json.dumps([STATEMENT]), "xAPI statements: give --input_format xapi"),
        (json.dumps({"statements": [STATEMENT], "more": ""}), "an LRS's answer, with statements in it: give --input_f"),
        (json.dumps({"statement": STATEMENT}), "xAPI statements in an envelope: give --input_format xapi"),
        (
            json.dumps({"took": 1, "hits": {"hits": [{"_source": STATEMENT}]}}),
            "an answer of Elasticsearch: give --input_f",
        ),
        (json.dumps({"_id": "1", "_source": STATEMENT}), "xAPI statements in an envelope: give --input_format xapi"),
        (
            json.dumps({"_id": {"$oid": "a"}, "statement": STATEMENT}),
            "a mongoexport of an LRS: give --input",
        ),
        (json.dumps({"_id": {"$oid": "a"}, "name": "x"}), "a mongoexport of documents that are no session activity"),
        (json.dumps({"meta": {"status": True}, "data": []}), "an answer of Learnosity's Data API"),
        (json.dumps({"event": "session-started", "user_id": "u"}), "messages that this job derives"),
        (json.dumps({"@context": "http://purl.imsglobal.org/ctx/caliper/v1p2"}), "IMS Caliper events"),
        (json.dumps({"Records": [{"kinesis": {}}]}), "an event of AWS Lambda"),
        ("record_id,user_id,session_id,activity_id,action,occurred_at", "CSV: "),
        ("r1;u1;s1;a1;START;2026-03-01T09:00:00Z", "CSV: "),
        ("r1\tu1\ts1\ta1\tSTART\t2026-03-01T09:00:00Z", "CSV: "),
        ("\ufeffrecord_id,user_id,session_id,activity_id,action,occurred_at", "CSV: "),
        (str(ACTIVITY), "a dict as Python prints it: write it with json.dumps"),
        ("{record_id: 'r1'}", "JavaScript, not JSON: names need double quotes"),
        ("<!DOCTYPE html><html>", "a page of HTML"),
        ("\n  <html lang=en>", "a page of HTML"),
        ('<?xml version="1.0"?><Error>', "XML"),
    ],
)
def test_what_refused_activity_looks_like(content: str, looks_like: str) -> None:
    assert str(guess(content.encode())).startswith(looks_like)


@pytest.mark.parametrize(
    ("content", "looks_like"),
    [
        (json.dumps(ACTIVITY).encode("utf-16"), "UTF-16: "),
        (b"\xfe\xff" + json.dumps(ACTIVITY).encode("utf-16-be"), "UTF-16: "),
        (json.dumps(ACTIVITY).encode("utf-16-be"), "UTF-16: "),
        (json.dumps(ACTIVITY).encode("utf-32"), "UTF-32: "),
        (json.dumps(ACTIVITY).encode("utf-32-be"), "UTF-32: "),
        (b"PK\x03\x04\x00", "a zip archive"),
        (b"PAR1\x15", "a Parquet file: name it .parquet"),
        (b"Obj\x01\x04", "an Avro file: name it .avro"),
        (b"%PDF-1.7", "a PDF"),
    ],
)
def test_what_refused_bytes_look_like(content: bytes, looks_like: str) -> None:
    assert str(guess(content)).startswith(looks_like)


@pytest.mark.parametrize(
    "content",
    [
        line(),
        line(seq="1"),
        line(**{"@context": "caliper", "meta": 1, "data": 2, "verb": 1, "actor": 2, "object": 3}),
        b"",
        b"{",
        b"[]",
        b"null",
        b'"a, b, c, d, e, f, g"'[:5],
        b"START RequestId: 1 Version: $LATEST",
        json.dumps({"record_id": "r", "user_id": "u"}).encode(),
        gzip.compress(b"x"),
        b"\0" * 100,
        b"2026-03-01T09:00:00Z INFO " + line(),
        json.dumps(line().decode()).encode(),
        b"a.jsonl" + b"\0" * 250 + b"ustar\0" + line(),
        b"\xe2\x80\xa8" + line(),
    ],
)
def test_no_guess_where_nothing_is_known(content: bytes) -> None:
    assert guess(content) is None


def test_where_statements_are_read_they_are_no_surprise_and_activity_is() -> None:
    assert guess_of_statement(json.dumps(STATEMENT).encode()) is None
    assert guess_of_statement(line()) == "session activity: leave --input_format xapi out"
    assert str(guess_of_statement(b"<html>")).startswith("a page of HTML")


@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_may_be_looked_at(content: bytes) -> None:
    for look in (guess, guess_of_statement):
        assert look(content) is None or isinstance(look(content), str)


def test_what_looks_alike_is_one_kind_whatever_it_lacks_first() -> None:
    found = reasons_of(json.dumps(STATEMENT).encode(), json.dumps(STATEMENT | {"record_id": "x"}).encode())
    assert [(reason.count, reason.guess) for reason in found] == [(2, "xAPI statements: give --input_format xapi")]


def test_a_part_that_cannot_be_cut_up_is_a_reason_with_its_bytes() -> None:
    broken = Broken(7, "damaged", b"x" * 10, 5000, line=3)
    counts, (reject,) = sort_in(broken, "f", ActivityDecoder(), BucketBlobs())
    assert (counts.rejected, counts.rejected_bytes, reject.length) == (1, 5000, 5000)
    (reason,) = counts.reasons.commonest()
    assert (reason.first.line, reason.first.position, reason.first.reason) == (3, 7, "damaged")


def test_a_damaged_container_does_not_look_like_what_it_is_named_as() -> None:
    damaged = Broken(0, "not readable as Avro: the file is cut short", b"Obj\x01" + b"x" * 20, 24)
    counts, _ = sort_in(damaged, "f.avro", ActivityDecoder(), BucketBlobs(), 0, "row")
    assert [reason.guess for reason in counts.reasons.commonest()] == [None]


def test_accepted_and_rejected_bytes_are_those_of_the_input() -> None:
    lines = [line(), b"", b"{", line(extra="x" * 100)]
    counts, _ = sort_in(Block(0, lines, "lines", line=1), "f", ActivityDecoder(), BucketBlobs())
    assert (counts.accepted_bytes, counts.rejected_bytes) == (len(lines[0]) + len(lines[3]), 1)


def test_a_line_is_counted_from_the_beginning_of_its_file() -> None:
    counts = ReadCounts(line_ends={"f": {100: 7}}) + ReadCounts(line_ends={"f": {0: 10}, "g": {0: 99}})
    assert counts.line_of(Place("f", 0, 5, 2, "line", None, "x")) == 2
    assert counts.line_of(Place("f", 100, 105, 2, "line", None, "x")) == 12
    assert counts.line_of(Place("f", 200, 205, 2, "line", None, "x")) == 19
    assert counts.line_of(Place("h", 0, 5, 2, "line", None, "x")) == 2
    assert counts.line_of(Place("f", 0, 5, None, "row", None, "x")) is None


def test_an_error_says_its_field() -> None:
    error = ActivityError("wrong", "seq", "rule")
    assert (str(error), error.field, error.rule) == ("seq: wrong", "seq", "rule")
    assert (str(ActivityError("wrong")), ActivityError("wrong").field) == ("wrong", None)
