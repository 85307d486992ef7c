"""Statements as they are, to real LRSs that have them already, take attachments, or take none."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.forwarder_documents import http_document
from tests.support.lrs_server import Lrs
from tests.support.multipart import received
from tests.support.receiver import Receiver
from tests.support.statements import statement, text
from tests.support.workshop import Workshop
from transforms.sources.lrs_url import KEY, SECRET

XAPI = "--input_format=xapi"


def prepare(workshop: Workshop, lrs: Lrs, *statements: dict[str, Any], **document: Any) -> None:
    workshop.write_lines([text(each).encode() for each in statements], "s.jsonl")
    configuration = {
        "protocol": "http",
        "url": lrs.host_and_path,
        "authType": "basic auth",
        "basicUsername": lrs.username,
        "basicPassword": lrs.password,
        **document.pop("configuration", {}),
    }
    workshop.write_forwarders({"_id": "lrs", "active": True, "configuration": configuration, **document})


def numbered(number: int, **more: Any) -> dict[str, Any]:
    """A statement of an id that no other test of the session uses."""
    return statement(700_000 + number, timestamp=f"2026-03-01T09:{number:02}:00Z", **more)


def attached(data: Path, content: bytes) -> dict[str, Any]:
    """An attachment, its data in a file of the folder."""
    digest = hashlib.sha256(content).hexdigest()
    (data / f"{digest}.bin").write_bytes(content)
    return {
        "usageType": "https://usage.example/certificate",
        "display": {"en": "a certificate"},
        "contentType": "application/octet-stream",
        "length": len(content),
        "sha2": digest,
    }


def test_arrays_are_taken_and_read_back_and_one_conflict_is_alone(workshop: Workshop, lrs: Lrs) -> None:
    sent = [statement(800_000 + number, timestamp="2026-03-01T09:00:00Z") for number in range(40)]
    batch = {"batch": {"records": 15}, "compression": "none", "concurrency": 1}
    prepare(workshop, lrs, *sent, configuration=batch)
    assert workshop.run(XAPI) == 0
    account = workshop.account("lrs")
    assert account["delivered"] == account["attempts"] == 40
    assert account["calls"] < 10
    held = lrs.statements()
    for each in sent:
        assert {name: held[each["id"]][name] for name in each} == each

    other = {**sent[7], "result": {"score": {"raw": 2}}}
    new = [statement(800_100 + number, timestamp="2026-03-01T09:00:00Z") for number in range(10)]
    prepare(workshop, lrs, *sent[:7], other, *sent[8:20], *new, configuration=batch)
    assert workshop.run(XAPI, "--replay=all") == 3
    account = workshop.account("lrs")
    assert account["dead_letter_reasons"] == {"conflict": 1}
    assert account["delivered"] == 29
    held = lrs.statements()
    assert all(each["id"] in held for each in new)
    assert "result" not in held[other["id"]] or held[other["id"]]["result"] == sent[7].get("result")


def test_what_it_has_is_compared_by_what_it_shows(workshop: Workshop, lrs: Lrs) -> None:
    first = [numbered(number, result={"score": {"raw": 1}}) for number in range(3)]
    prepare(workshop, lrs, *first)
    assert workshop.run(XAPI) == 0

    # Ralph compares times as texts, and answers 409 to the first. It is the same statement.
    same = {**first[0], "timestamp": "2026-03-01T10:00:00+01:00"}
    other = {**first[1], "result": {"score": {"raw": 2}}}
    prepare(workshop, lrs, same, other, first[2], numbered(3))
    assert workshop.run(XAPI, "--replay=all") == 3
    account = workshop.account("lrs")
    assert (account["delivered"], account["remarks"]) == (3, {"already_there": 1})
    assert account["dead_letter_reasons"] == {"conflict": 1}
    receipts = {row["id"]: row for row in workshop.avro("receipts") if row["remarks"]}
    assert {id_: (row["status"], row["remarks"]) for id_, row in receipts.items()} == {
        same["id"]: (409, ["already_there"])
    }
    (letter,) = workshop.avro("dead_letters")
    assert letter["id"] == other["id"]
    assert lrs.statements()[other["id"]]["result"] == first[1]["result"]

    prepare(workshop, lrs, other, configuration={"onConflict": "accept"})
    assert workshop.run(XAPI, "--replay=all") == 0
    assert workshop.account("lrs")["remarks"] == {"conflict_accepted": 1}


def test_an_lrs_that_takes_no_multipart_refuses_the_statement_and_nothing_else(
    workshop: Workshop, lrs: Lrs, tmp_path: Path
) -> None:
    """Ralph reads JSON alone. What has a url goes to it without the data."""
    data = tmp_path / "data"
    data.mkdir()
    attachment = attached(data, b"data")
    linked = {**attachment, "sha2": "0" * 64, "fileUrl": "https://files.example/1"}
    sent = [numbered(10, attachments=[attachment]), numbered(11, attachments=[linked]), numbered(12)]
    prepare(workshop, lrs, *sent, sendAttachments=True)
    assert workshop.run(XAPI, f"--attachments={data}") == 3
    account = workshop.account("lrs")
    (reason,) = account["dead_letter_reasons"]
    assert reason.startswith("http_4")
    assert (account["delivered"], account["remarks"]) == (2, {"attachment_left_out": 1})
    found = lrs.statements()
    assert sent[0]["id"] not in found
    assert json.loads(json.dumps(found[sent[1]["id"]]["attachments"])) == [linked]


def test_data_goes_through_an_lrs_byte_for_byte(
    workshop: Workshop, lrs_2: Lrs, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a file to an LRS of xAPI 2.0, and from there, as a source, to another receiver."""
    contents = [b"\r\n--x--\r\n" * 99, bytes(range(256)) * 4000]
    data = tmp_path / "data"
    data.mkdir()
    sent = [
        numbered(20, attachments=[attached(data, content) for content in contents]),
        numbered(21, version="2.0.0", result={"score": {"raw": 1}}),
    ]
    prepare(workshop, lrs_2, *sent, sendAttachments=True, configuration={"xapiVersion": "2.0.0"})
    assert workshop.run(XAPI, f"--attachments={data}") == 0
    other = {**sent[1], "result": {"score": {"raw": 2}}}
    prepare(workshop, lrs_2, sent[0], other, sendAttachments=True, configuration={"xapiVersion": "2.0.0"})
    assert workshop.run(XAPI, f"--attachments={data}", "--replay=all") == 3
    assert workshop.account("lrs")["dead_letter_reasons"] == {"conflict": 1}

    again = Workshop(tmp_path / "again")
    again.path.mkdir()
    ours = json.dumps({"statement.id": {"$in": [each["id"] for each in sent]}})
    again.write_forwarders({**http_document(receiver, query=ours), "payload": "statement", "sendAttachments": True})
    monkeypatch.setenv(KEY, lrs_2.username)
    monkeypatch.setenv(SECRET, lrs_2.password)
    assert again._run("--input", f"{lrs_2.url}?attachments=true", XAPI) == 0
    first, second = receiver.log
    (_, statement_), *parts = received(first.headers["content-type"], first.body)
    assert json.loads(statement_)["id"] == sent[0]["id"]
    assert [content for _, content in parts] == contents
    # The receiver speaks 1.0.3 unless its document says another, so the version is that.
    assert json.loads(second.body)["version"] == "1.0.3"
    assert again.account("http")["remarks"] == {"as_1_0_3": 1}
