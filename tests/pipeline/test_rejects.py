"""What is refused, as whoever runs the job sees it: on the terminal, in the report, and by the exit status."""

import gzip
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from tests.support.activity import of_user, sessions
from tests.support.forwarder_documents import http_document
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop
from transforms import read
from transforms.reading.activity import encode

ONLY_RECORDS = ("--write_records", "jsonl", "--runner=DirectRunner")


def activity(number: int = 0, **fields: Any) -> bytes:
    values = json.loads(encode(of_user(number, "START", 0)))
    return json.dumps(values | fields).encode()


def run_on(workshop: Workshop, *more: str) -> int:
    """The job without forwarders, on all of the input; gives its exit status."""
    from pipeline.command import main

    return main(["--input", str(workshop.path / "in" / "*"), "--output", str(workshop.output), *ONLY_RECORDS, *more])


def reasons(workshop: Workshop) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = workshop.report()["input"]["reject_reasons"]
    return found


def test_reasons_are_told_with_their_count_first_place_and_where_all_are(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_lines([activity(), activity(seq="1"), b"", activity(seq="2"), activity(1)], "a.jsonl")
    workshop.write_lines([activity(2), b"{", activity(seq="3")], "b.jsonl")
    assert run_on(workshop) == 3
    first, second = reasons(workshop)
    a, b = (str(workshop.path / "in" / name) for name in ("a.jsonl", "b.jsonl"))
    assert first == {
        "count": 3,
        "field": "seq",
        "reason": 'seq: "1" is a number in quotes; write 1, or give --lenient_numbers',
        "guess": None,
        "file": a,
        "position": len(activity()) + 1,
        "line": 2,
    }
    assert (second["count"], second["field"], second["file"], second["line"]) == (1, None, b, 2)
    (rejects,) = workshop.report()["input"]["reject_files"]
    with Path(rejects).open("rb") as file:
        rows: list[Any] = list(fastavro.reader(file))
    assert {(row["file"], row["position"]) for row in rows} >= {(a, first["position"])}
    shown = capsys.readouterr().out
    assert f"        3  {first['reason']}\n           first in {a}, line 2\n" in shown
    assert f"first in {b}, line 2\n" in shown
    assert f"all of them, with what they hold: {rejects}\n" in shown


def test_lines_are_counted_through_all_ranges_of_a_file(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "RANGE_SIZE", 1000)
    lines = [activity(number) for number in range(100)]
    lines[77] = activity(seq="1")
    workshop.write_lines(lines)
    assert run_on(workshop) == 3
    (reason,) = reasons(workshop)
    assert (reason["line"], reason["position"]) == (78, sum(len(line) + 1 for line in lines[:77]))


def test_a_compressed_file_has_lines_too(workshop: Workshop) -> None:
    workshop.write_lines([])
    (workshop.path / "in" / "b.jsonl.gz").write_bytes(gzip.compress(activity() + b"\n\nnonsense\n"))
    assert run_on(workshop) == 3
    assert reasons(workshop)[0]["line"] == 3


def test_a_guess_says_what_the_input_looks_like(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    looks_like = {
        b'{"recordId":"r","userId":"u","action":"START"}': "names in camelCase, which need to be renamed: recordId is",
        b'{"actor":{},"verb":{"id":"v"},"object":{}}': "xAPI statements: give --input_format xapi",
        b'{"meta":{},"data":[]}': "an answer of Learnosity's Data API",
        b"record_id,user_id,session_id,activity_id,action,occurred_at": "CSV",
    }
    workshop.write_lines(looks_like)
    assert run_on(workshop) == 3
    told = {reason["line"]: reason["guess"] for reason in reasons(workshop)}
    shown = capsys.readouterr().out
    for line, guess in enumerate(looks_like.values(), 1):
        assert told[line].startswith(guess)
        assert f"it looks like {guess}" in shown
    assert "nothing in the input could be read" in shown


def test_a_dry_run_tells_the_reasons_too(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_lines([activity(), activity(seq="1")])
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run("--dry_run") == 0
    assert 'seq: "1" is a number in quotes; write 1, or give --lenient_numbers' in capsys.readouterr().out


def test_what_the_rules_refuse_is_read_where_that_is_asked_for(workshop: Workshop) -> None:
    workshop.write_lines(
        [activity(0, seq="1"), activity(1, user_id=42), activity(2, occurred_at="2026-03-01T09:00:00")]
    )
    assert run_on(workshop) == 3
    assert workshop.records("event") == []
    assert run_on(workshop, "--lenient_numbers", "--naive_times", "utc") == 0
    assert {record["user_id"] for record in workshop.records("event")} == {"u0", "42", "u2"}
    assert "2026-03-01 09:00:00" in {record["time"] for record in workshop.records("event")}


def test_too_many_rejects_end_the_run_before_anything_is_delivered(
    workshop: Workshop, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.write_lines([*map(encode, sessions(3)), *[b"{"] * 10])
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 1
    assert receiver.log == []
    assert workshop.report()["state"] == "too_many_rejects"
    assert len(workshop.avro("rejects")) == 10
    shown = capsys.readouterr()
    assert "do as the reasons above say" in shown.out
    assert "run the same command again" not in shown.out + shown.err
    assert workshop.run("--max_reject_ratio=1") == 3
    assert len(receiver.log) == 12


def test_a_handful_of_rejects_ends_no_run_whatever_their_share_is(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_lines([*map(encode, sessions(1)), *[b"{"] * 9])
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 3
    assert len(receiver.log) == 4
    assert workshop.run("--max_rejects=9") == 1
    assert workshop.run("--max_rejects=1", "--max_reject_ratio=1") == 3


def test_one_reject_that_is_most_of_the_input_is_too_much(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_lines([*map(encode, sessions(3)), b'"' + b"x" * 100_000])
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 1
    assert receiver.log == []
