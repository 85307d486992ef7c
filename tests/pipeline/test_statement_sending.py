"""Statements over HTTP, through the whole job: versions, attachments, and stores that have them already."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.forwarder_documents import http_document
from tests.support.laboratory.http_fault_server import Answer, Arrival
from tests.support.multipart import received
from tests.support.receiver import Receiver
from tests.support.statements import statement, text
from tests.support.workshop import Workshop

XAPI = "--input_format=xapi"
DATA = {hashlib.sha256(content).hexdigest(): content for content in (b"\r\n--x--\r\n" * 99, b"\0\xff" * 50_000, b"c")}
WITH, LOST, CORRUPT = DATA


def attached(number: int, *digests: str, **more: Any) -> dict[str, Any]:
    """A statement with an attachment for each hash."""
    attachments = [
        {
            "usageType": "https://u.example",
            "display": {"en": "a"},
            "contentType": "image/png",
            "length": 1,
            "sha2": digest,
        }
        for digest in digests
    ]
    return statement(number, attachments=[{**each, **more} for each in attachments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / f"{WITH}.png").write_bytes(DATA[WITH])
    (folder / CORRUPT).write_bytes(DATA[CORRUPT] + b"!")
    return folder


def prepare(workshop: Workshop, receiver: Receiver, *statements: dict[str, Any], **document: Any) -> None:
    workshop.write_lines([text(each).encode() for each in statements], "s.jsonl")
    workshop.write_forwarders({**http_document(receiver, **document), "payload": "statement"})


def test_attachments_arrive_and_what_is_wrong_with_one_harms_no_other(
    workshop: Workshop, receiver: Receiver, data: Path
) -> None:
    sent = [attached(1, WITH), attached(2, LOST), attached(3, CORRUPT), attached(4, LOST, fileUrl="https://f.example")]
    prepare(workshop, receiver, *sent, statement(5), sendAttachments=True)
    assert workshop.run(XAPI, f"--attachments={data}") == 3
    first, fourth, fifth = receiver.log
    parts = received(first.headers["content-type"], first.body)
    assert [content for _, content in parts] == [text(sent[0]).encode(), DATA[WITH]]
    assert [fourth.body, fifth.body] == [text(sent[3]).encode(), text(statement(5)).encode()]
    account = workshop.account("http")
    assert account["dead_letter_reasons"] == {"attachment_corrupt": 1, "attachment_missing": 1}
    assert (account["delivered"], account["attempts"], account["remarks"]) == (3, 3, {"attachment_left_out": 1})
    letters = {row["reason"]: row for row in workshop.avro("dead_letters")}
    assert letters["attachment_missing"]["payload"] == text(sent[1]).encode()

    (data / LOST).write_bytes(DATA[LOST])
    (data / CORRUPT).write_bytes(DATA[CORRUPT])
    assert workshop.redrive(f"--attachments={data}") == 0
    arrived = [received(arrival.headers["content-type"], arrival.body) for arrival in receiver.log[3:]]
    assert [content for (_, _), (_, content) in arrived] == [DATA[LOST], DATA[CORRUPT]]


def test_the_output_s_own_folder_holds_data_too(workshop: Workshop, receiver: Receiver) -> None:
    prepare(workshop, receiver, attached(1, WITH), sendAttachments=True)
    (workshop.output / "attachments").mkdir(parents=True)
    (workshop.output / "attachments" / WITH).write_bytes(DATA[WITH])
    assert workshop.run(XAPI) == 0
    assert received(receiver.log[0].headers["content-type"], receiver.log[0].body)[1][1] == DATA[WITH]


def test_who_does_not_send_attachments_is_told_once_what_to_set(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(workshop, receiver, *(attached(number, WITH) for number in range(1, 5)), statement(5))
    assert workshop.run(XAPI) == 3
    assert workshop.account("http")["dead_letter_reasons"] == {"attachment_not_sent": 4}
    assert [arrival.body for arrival in receiver.log] == [text(statement(5)).encode()]
    told = [record.getMessage() for record in caplog.records if "sendAttachments" in record.getMessage()]
    assert len(told) == 1
    assert "Set sendAttachments to true" in told[0]


def test_what_is_known_at_the_start_is_told_at_the_start(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(workshop, receiver, statement(1), sendAttachments=True)
    assert workshop.run(XAPI) == 0
    assert [warning for warning in workshop.report()["warnings"] if "no --attachments says where data is" in warning]
    caplog.set_level(logging.ERROR)
    assert workshop.run(XAPI, "--attachments=/nowhere") == 2
    assert "--attachments /nowhere: there is no such directory" in caplog.text


OF_THE_SECOND: dict[str, Any] = {
    "contextAgents": [{"objectType": "contextAgent", "agent": {"mbox": "mailto:a@example.org"}}],
    "contextGroups": [{"objectType": "contextGroup", "group": {"objectType": "Group", "mbox": "mailto:g@example.org"}}],
}
KEPT = {"instructor": {"mbox": "mailto:i@example.org"}, "team": {"objectType": "Group", "mbox": "mailto:t@example.org"}}
SIGNATURE = {"usageType": "http://adlnet.gov/expapi/attachments/signature", "fileUrl": "https://f.example"}
NOT_SENT = "not sent"


def signed(number: int, **more: Any) -> dict[str, Any]:
    return attached(number, "0" * 64, **SIGNATURE) | more


def within(context: dict[str, Any]) -> dict[str, Any]:
    thing = {"objectType": "SubStatement", "object": {"objectType": "Activity", "id": "https://e.example"}}
    return thing | {"actor": {"mbox": "mailto:b@example.org"}, "verb": {"id": "https://v.example"}, "context": context}


TO_THE_FIRST: list[tuple[dict[str, Any], Any]] = [
    (statement(1, version="1.0.0", context=KEPT), None),
    (statement(2), None),
    (statement(3, version="1.0.3", context=KEPT | OF_THE_SECOND), None),
    (statement(4, version="2.0.0"), {"version": "1.0.3"}),
    (statement(5, version="2.0.0", context=KEPT | OF_THE_SECOND), {"version": "1.0.3", "context": KEPT}),
    (statement(6, context=OF_THE_SECOND), {"context": {}}),
    (statement(7, version="2.0.0", object=within(KEPT | OF_THE_SECOND)), {"version": "1.0.3", "object": within(KEPT)}),
    (signed(8, version="2.0.0", context=OF_THE_SECOND), NOT_SENT),
    (signed(9, context=OF_THE_SECOND), NOT_SENT),
    (signed(10, version="2.0.0", context=KEPT), {"version": "1.0.3"}),
    (statement(11, version="2.1.0"), NOT_SENT),
    (statement(12, version="3.0.0"), NOT_SENT),
    (statement(13, version="2.0.0", timestamp="2026-03-01T10:00:00.123456Z"), {"version": "1.0.3"}),
]
"""The rows of docs/spec/statements.md section 5: a statement, and what of it is another to a receiver of 1.0.3."""


def test_each_row_of_the_table_of_versions(workshop: Workshop, receiver: Receiver) -> None:
    prepare(workshop, receiver, *(each for each, _ in TO_THE_FIRST), sendAttachments=True)
    assert workshop.run(XAPI) == 3
    arrived = {arrival.key: json.loads(arrival.body) for arrival in receiver.log}
    assert arrived == {
        each["id"]: each if another is None else each | another
        for each, another in TO_THE_FIRST
        if another is not NOT_SENT
    }
    letters = {row["id"]: row["reason"] for row in workshop.avro("dead_letters")}
    assert letters == {each["id"]: "version" for each, another in TO_THE_FIRST if another is NOT_SENT}


def test_a_statement_of_the_second_version_is_counted_where_it_lost_something(
    workshop: Workshop, receiver: Receiver
) -> None:
    context = {"contextGroups": [], "language": "en"}
    sent = [statement(1, version="2.0.0", context=context), statement(2), statement(3, version="2.1.0")]
    prepare(workshop, receiver, *sent)
    assert workshop.run(XAPI) == 3
    first, second = (json.loads(arrival.body) for arrival in receiver.log)
    assert (first, second) == ({**sent[0], "version": "1.0.3", "context": {"language": "en"}}, sent[1])
    account = workshop.account("http")
    assert (account["remarks"], account["dead_letter_reasons"]) == ({"as_1_0_3": 1}, {"version": 1})
    remarks = {row["id"]: row["remarks"] for row in workshop.avro("receipts")}
    assert remarks == {sent[0]["id"]: ["as_1_0_3"], sent[1]["id"]: [], sent[2]["id"]: []}

    prepare(workshop, receiver, *sent, configuration={"xapiVersion": "2.0.0"})
    assert workshop.run(XAPI, "--replay=all") == 0
    assert [json.loads(arrival.body) for arrival in receiver.log[2:]] == sent


def holding(*held: dict[str, Any], looks: Callable[[Arrival], Answer | None] = lambda _: None) -> Any:
    """A store that has statements, refuses what has their ids, and shows them."""
    known = {each["id"]: each for each in held}

    def script(arrival: Arrival) -> Answer:
        method, target, _ = arrival.request_line.split()
        if method == "POST":
            return Answer(409 if arrival.key in known else 200)
        found = known[target.partition("tatementId=")[2]]
        return looks(arrival) or Answer(200, body=text(found).encode())

    return script


def test_a_store_that_has_a_statement_is_asked_and_not_believed(workshop: Workshop, receiver: Receiver) -> None:
    sent = [statement(number, result={"score": {"raw": 1}}) for number in (1, 2, 3)]
    other = {**sent[1], "result": {"score": {"raw": 2}}}
    failures = iter([Answer(503)])
    receiver.script = holding(
        {**sent[0], "stored": "2026-03-09T00:00:00Z"}, other, looks=lambda _: next(failures, None)
    )
    prepare(workshop, receiver, *sent)
    assert workshop.run(XAPI) == 3
    methods = [arrival.request_line.split()[0] for arrival in receiver.log]
    assert methods == ["POST", "GET", "POST", "GET", "POST", "GET", "POST"]
    account = workshop.account("http")
    assert (account["delivered"], account["remarks"]) == (2, {"already_there": 1})
    assert account["dead_letter_reasons"] == {"conflict": 1}
    assert account["attempts"] == 4
    (letter,) = workshop.avro("dead_letters")
    assert (letter["id"], json.loads(letter["response"])) == (sent[1]["id"], other)
    receipts = {row["id"]: (row["outcome"], row["remarks"]) for row in workshop.avro("receipts")}
    assert receipts[sent[0]["id"]] == ("delivered", ["already_there"])


def test_a_store_that_shows_nothing_leaves_it_unknown(workshop: Workshop, receiver: Receiver) -> None:
    receiver.script = holding(statement(1), looks=lambda _: Answer(403))
    prepare(workshop, receiver, statement(1), statement(2))
    assert workshop.run(XAPI) == 3
    account = workshop.account("http")
    assert (account["delivered"], account["dead_letter_reasons"]) == (1, {"conflict_unknown": 1})
