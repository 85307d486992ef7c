"""The check finds what is missing, twice, out of order, wrong or extra; and nothing when all is well."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import pytest

from local.check import (
    Arrival,
    Due,
    check_data_stream,
    check_delivery_stream,
    check_http,
    compare,
    count_receipts,
    read_lines,
    table,
)
from local.examples import Example, Line
from local.receiver import Attempt, InjectedFault
from local.stack import StreamRecord
from schemas import avro_schema

EVERYTHING = Example("x", "record", lambda line: True)
DUE = [Due(content, user) for content, user in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("a3", "a"))]
ALL_HEADERS = {
    "Content-Type": "application/json",
    "Idempotency-Key": "x",
    "User-Agent": "session-forwarder",
    "X-Forward-Hops": "1",
}


def found(*arrivals: str | Arrival) -> dict[str, int | None]:
    """The counts that are not nought, for arrivals held against DUE."""
    came = [Arrival(arrival) if isinstance(arrival, str) else arrival for arrival in arrivals]
    finding = compare(EVERYTHING, DUE, came, ordered=True)
    names = ("missing", "unexpected", "out_of_order", "duplicates", "resent")
    counts = {name: getattr(finding, name) for name in names if getattr(finding, name)}
    assert finding.arrived_as_due == (set(counts) <= {"resent"})
    return counts


def test_all_in_order_is_as_due_whatever_the_order_across_users() -> None:
    assert found("a1", "b1", "a2", "a3") == {}
    assert found("a1", "a2", "a3", "b1") == {}


def test_a_missing_record() -> None:
    assert found("a1", "b1", "a3") == {"missing": 1}


def test_a_record_that_was_not_due() -> None:
    assert found("a1", "b1", "a2", "a3", "c1") == {"unexpected": 1}


def test_a_user_out_of_order() -> None:
    assert found("a2", "b1", "a1", "a3") == {"out_of_order": 1}
    assert found("a3", "a1", "a2", "b1") == {"out_of_order": 2}


def test_a_duplicate_and_its_late_repeat_is_not_out_of_order() -> None:
    assert found("a1", "b1", "a2", "a3", "a1") == {"duplicates": 1}


def test_a_resend_of_what_could_not_be_known_to_have_arrived_is_no_fault() -> None:
    lost = Arrival("a1", resend_expected=True)
    assert found(lost, "a1", "b1", "a2", "a3") == {"resent": 1}
    assert found(lost, "a1", "a1", "b1", "a2", "a3") == {"resent": 1, "duplicates": 1}


def test_receipts_that_do_not_agree() -> None:
    finding = compare(EVERYTHING, DUE, [Arrival(one.content) for one in DUE], ordered=True)
    finding.receipts = 3
    assert finding.arrived_as_due
    assert not finding.as_due
    assert table([finding]).endswith("NOT AS DUE")
    finding.receipts = 4
    assert finding.as_due


def test_receipts_are_counted_by_forwarder(tmp_path: Path) -> None:
    receipt = {"id": "1", "user_id": "a", "kind": "event", "attempts": 1, "ambiguous": False}
    receipt |= {"settled_at": 0, "run_id": "run"}
    outcomes = [("x", "delivered"), ("x", "dead_lettered"), ("y", "delivered"), ("x", "delivered")]
    rows = [{**receipt, "forwarder_id": forwarder, "outcome": outcome} for forwarder, outcome in outcomes]
    for number, part in enumerate((rows[:1], rows[1:])):
        with (tmp_path / f"{number}.avro").open("wb") as file:
            fastavro.writer(file, avro_schema("receipt"), part)
    assert count_receipts(tmp_path) == {"x": 2, "y": 1}


def test_equal_messages_that_are_due_twice() -> None:
    due = [Due("same", "a"), Due("other", "a"), Due("same", "a")]
    in_order = [Arrival("same"), Arrival("other"), Arrival("same")]
    assert compare(EVERYTHING, due, in_order, ordered=True).arrived_as_due
    assert compare(EVERYTHING, due, in_order[:2], ordered=True).missing == 1
    assert compare(EVERYTHING, due, [*in_order, Arrival("same")], ordered=True).duplicates == 1


def test_an_equal_message_before_its_turn_is_a_repeat_of_the_first() -> None:
    due = [Due(content, "a") for content in ("same", "other", "same")]

    def counts(*arrivals: str) -> tuple[int, int, int | None]:
        finding = compare(EVERYTHING, due, list(map(Arrival, arrivals)), ordered=True)
        return finding.missing, finding.duplicates, finding.out_of_order

    assert counts("same", "other", "same") == (0, 0, 0)
    assert counts("same", "same", "other", "same") == (0, 1, 0)
    assert counts("same", "same", "other") == (1, 1, 0)
    assert counts("other", "same", "same") == (0, 0, 1)


def test_nothing_due_proves_nothing() -> None:
    finding = compare(EVERYTHING, [], [], ordered=True)
    assert not finding.arrived_as_due
    assert "nothing was due" in table([finding])


# From here on with whole records.


def line(number: int, user: str = "ann", **fields: Any) -> Line:
    message = {"event": "session-started", "session_id": "s", "activity_id": "a", "user_id": user, "time": str(number)}
    return {
        **message,
        "id": f"id-{number}",
        "kind": "event",
        "organisation": None,
        "lrs_id": None,
        "timestamp": f"2026-03-01T09:00:{number:02}.000Z",
        "record_id": f"r{number}",
        "place": number,
        "metadata": {"grade": 1.0},
        **fields,
    }


def message(line: Line) -> dict[str, Any]:
    return {name: line[name] for name in ("event", "session_id", "activity_id", "user_id", "time")}


def statement(line: Line) -> dict[str, Any]:
    return {
        "id": line["id"],
        "actor": {"account": {"name": line["user_id"], "homePage": "https://learner.invalid"}},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/initialized"},
        "timestamp": line["timestamp"],
    }


def document(line: Line) -> dict[str, Any]:
    names = ("kind", "organisation", "lrs_id", "timestamp", "metadata")
    return {"_id": line["id"], **message(line), **{name: line[name] for name in names}, "statement": statement(line)}


LINES = [line(1), line(2), line(3, "ben")]


def stream_record(line: Line, key: str | None = None) -> StreamRecord:
    return StreamRecord("shard-0", key or line["user_id"], json.dumps(message(line)).encode())


def test_a_data_stream_with_all_of_it_and_with_the_wrong_partition_key() -> None:
    assert check_data_stream(EVERYTHING, LINES, [stream_record(one) for one in LINES]).arrived_as_due
    finding = check_data_stream(EVERYTHING, LINES, [stream_record(one, "constant") for one in LINES])
    assert not finding.arrived_as_due
    assert finding.remarks == ["3 records have a partition key that is not their user_id"]


@pytest.mark.parametrize(("payload", "make"), [("statement", statement), ("document", document)])
def test_a_delivery_stream_keeps_no_order_but_its_contents_count(
    payload: Any, make: Callable[[Line], dict[str, Any]]
) -> None:
    example = Example("x", payload, lambda line: line["user_id"] == "ann")
    good = [json.dumps(make(one)).encode() for one in (LINES[1], LINES[0])]
    assert check_delivery_stream(example, LINES, good).arrived_as_due
    other = json.dumps({**make(LINES[0]), "timestamp": "2026-03-01T09:00:00.000Z"}).encode()
    finding = check_delivery_stream(example, LINES, [good[0], other, b"{", b"[]"])
    assert (finding.missing, finding.unexpected) == (1, 3)


def attempt(line: Line, at: float = 0.0, **fields: Any) -> Attempt:
    values: dict[str, Any] = {
        "path": "/x",
        "key": line["id"],
        "body": json.dumps(message(line)).encode(),
        "headers": ALL_HEADERS,
        "status": 200,
        "fault": None,
        "taken": True,
        "at": at,
        **fields,
    }
    return Attempt(**values)


def test_http_with_faults_that_were_dealt_with() -> None:
    attempts = [
        attempt(LINES[0], status=429, fault=InjectedFault.THROTTLED, taken=False),
        attempt(LINES[2], status=None, fault=InjectedFault.ANSWER_LOST),
        attempt(LINES[2]),
        attempt(LINES[0], at=1.1),
        attempt(LINES[1], status=200, fault=InjectedFault.BODY_CUT),
    ]
    finding = check_http(EVERYTHING, LINES, attempts)
    assert finding.arrived_as_due
    assert (finding.arrived, finding.resent) == (4, 1)


def test_http_under_another_key_is_another_message() -> None:
    finding = check_http(EVERYTHING, LINES, [attempt(LINES[0]), attempt(LINES[1]), attempt(LINES[2], key="made-up")])
    assert (finding.missing, finding.unexpected) == (1, 1)


def test_http_remarks_on_what_was_refused_and_how_it_was_asked() -> None:
    example = Example("x", "record", lambda line: True, headers={"Test-Header-Key": "Test-Header-Value"})
    attempts = [
        attempt(LINES[0], status=401, taken=False),
        attempt(LINES[0], status=429, fault=InjectedFault.THROTTLED, taken=False, at=1.0),
        attempt(LINES[0], at=1.2),
    ]
    finding = check_http(example, LINES[:1], attempts)
    assert not finding.arrived_as_due
    assert finding.remarks == [
        "1 requests answered 401",
        "3 requests: Test-Header-Key is None, not 'Test-Header-Value'",
        "1 retries came before the Retry-After of a 429 was over",
    ]
    assert "x: 1 requests answered 401" in table([finding])


def test_records_are_read_in_the_order_they_are_to_leave(tmp_path: Path) -> None:
    one_cause = [line(5, kind=kind, id=kind, place=2) for kind in ("score", "event", "status")]
    (tmp_path / "score").mkdir()
    (tmp_path / "score" / "0.jsonl").write_text(json.dumps(one_cause[0]) + "\n")
    (tmp_path / "rest.jsonl").write_text("".join(json.dumps(one) + "\n" for one in (*one_cause[1:], line(4))))
    assert [one["id"] for one in read_lines(tmp_path)] == ["id-4", "event", "status", "score"]
