"""The tester: what a query says of a record clause by clause, what can never match, and how many records would."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest
from fastapi.testclient import TestClient

from registry.access import EDIT_PUBLIC
from registry.console.tester import PATH
from registry.recent_records import MOST_OF_A_KIND
from registry.sample_delivery import sample_record
from schemas import Kind, Record, avro_schema
from schemas.record import encode_record
from tests.support.registry_house import ORGANISATION, House
from transforms.receipts.journal import PART


def asked(client: TestClient, query: Any = None, **given: Any) -> dict[str, Any]:
    body = {**({} if query is None else {"query": query}), **given}
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def sample(client: TestClient, name: str) -> str:
    """The text of the sample of this name."""
    samples = client.get(PATH).json()["samples"]
    return str(next(each["text"] for each in samples if each["name"] == name))


def scores(count: int, organisation: str | None = ORGANISATION, kind: Kind = "score") -> list[Record]:
    """Records with the scores 0, 1, ..."""
    made = []
    for number in range(count):
        record = sample_record(kind, organisation, "maths")
        message = {**record.message, "score": number}
        made.append(msgspec.structs.replace(record, message=message, body=msgspec.json.encode(message)))
    return made


def write_records(output: Path, records: Sequence[Record]) -> None:
    (output / "records").mkdir(parents=True)
    for kind in {record.kind for record in records}:
        lines = [encode_record(record) + b"\n" for record in records if record.kind == kind]
        (output / f"records/{kind}-00000-of-00001.jsonl").write_bytes(b"".join(lines))


def test_each_clause_says_what_it_found_and_one_decides(editor: TestClient) -> None:
    query = '{"kind": "score", "score": {"$gte": 10}, "user_id": "nobody"}'
    result = asked(editor, query, record=sample(editor, "score"))
    assert result["faults"] == result["warnings"] == []
    record = result["record"]
    assert (record["matches"], record["reason"]) == (False, "no match: score $gte 10 (found 9)")
    assert [(clause["text"], clause["outcome"], clause["decides"]) for clause in record["clauses"]["children"]] == [
        ('kind $eq "score"', "match", False),
        ("score $gte 10", "no match", True),
        ('user_id $eq "nobody"', "no match", False),
    ]


@pytest.mark.parametrize(
    "name", ["session-started", "session-resumed", "session-completed", "status", "score", "statement"]
)
def test_there_is_a_sample_of_each_kind_and_a_query_may_want_it(editor: TestClient, name: str) -> None:
    verbs = {"status": "progressed", "score": "scored"}
    verbs |= {"session-started": "initialized", "session-resumed": "resumed"}
    verb = f"http://adlnet.gov/expapi/verbs/{verbs.get(name, 'completed')}"
    kinds = ["event", "status", "score", "statement"]
    result = asked(editor, {"statement.verb.id": verb}, kinds=kinds, record=sample(editor, name))
    assert result["record"]["matches"] is True


@pytest.mark.parametrize(
    ("query", "warning"),
    [
        ({"scores": {"$gte": 5}}, "which no record has; did you mean score?"),
        ({"score": {"$gt": "5"}}, "score is a number, and is compared with text"),
        ({"kind": "event", "score": 5}, "no record matches all of it"),
        ({"kind": "scored"}, "kind is one of event, status, score, statement"),
    ],
)
def test_what_can_never_match_is_told(editor: TestClient, query: dict[str, Any], warning: str) -> None:
    (told,) = asked(editor, query)["warnings"]
    assert warning in told["message"]


def test_a_query_that_breaks_a_rule_and_a_record_that_is_none_say_what_is_wrong(editor: TestClient) -> None:
    result = asked(editor, '{"score": {"$greater": 5}}', record='{"kind": "score"')
    assert result["faults"][0]["field"] == "query"
    assert "unknown operator: $greater" in result["faults"][0]["message"]
    assert "the record is no JSON" in result["record"]["problem"]
    assert "is no record" in asked(editor, "{}", record="{}")["record"]["problem"]
    assert editor.post(PATH, json={"query": "{}", "nonsense": 1}).status_code == 422


def test_the_scope_decides_before_the_query(editor: TestClient) -> None:
    record = sample(editor, "score")
    result = asked(editor, '{"score": 9}', lrs_id="maths", record=record)
    assert result["record"]["matches"] is False
    assert "not in scope: lrs_id" in result["record"]["reason"]
    assert result["record"]["clauses"]["outcome"] == "match"


def test_rows_become_a_query_and_a_query_becomes_rows(editor: TestClient) -> None:
    rows = [
        {"field": "kind", "operator": "is", "type": "text", "values": ["score"]},
        {"field": "score", "operator": "is at least", "type": "number", "values": ["5"]},
    ]
    form = {"join": "all", "rows": rows}
    result = asked(editor, form=form, record=sample(editor, "score"))
    assert result["query"] == '{"kind": "score", "score": {"$gte": 5}}'
    assert result["record"]["matches"] is True
    assert asked(editor, result["query"])["form"] == result["form"] == form
    assert asked(editor, '{"score": {"$mod": [2, 0]}}')["form"] is None
    rows[1]["values"] = ["five"]
    (fault,) = asked(editor, form=form)["faults"]
    assert fault == {"field": "form.rows.1", "message": "row 2 has 'five', which is not a number"}


def count(client: TestClient, query: Any) -> dict[str, Any]:
    answer = client.post(f"{PATH}/count", json={"query": query})
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_records_of_the_last_run_are_counted(house: House, editor: TestClient, tmp_path: Path) -> None:
    write_records(
        tmp_path / "out", [*scores(10), *scores(5, "another school"), sample_record("event", ORGANISATION, None)]
    )
    result = count(editor, {"score": {"$gte": 4}})
    assert (result["source"], result["looked_at"], result["matched"]) == ("records", 11, 6)
    assert result["is_complete"] is True
    assert result["kinds"] == [
        {"kind": "event", "looked_at": 1, "matched": 0},
        {"kind": "score", "looked_at": 10, "matched": 6},
    ]
    assert "Records of the last run" in result["message"]
    assert "all of them" in result["message"]
    shown = editor.get(f"{PATH}/records").json()["records"]
    assert len(shown) == 9
    assert all(json.loads(each["text"])["organisation"] == ORGANISATION for each in shown)


def test_without_files_of_records_those_of_dead_letters_are_counted_and_that_is_said(
    editor: TestClient, tmp_path: Path
) -> None:
    letters = [
        {
            "forwarder_id": "a", "id": record.id, "user_id": record.user_id, "kind": record.kind,
            "outcome": "dead_lettered", "attempts": 1, "ambiguous": False, "settled_at": 0, "run_id": "run",
            "reason": "http_404", "payload": b"", "payload_kind": "record", "record": encode_record(record),
        }
        for record in scores(5)
    ]  # fmt: skip
    path = tmp_path / "out/dead_letters" / f"20260301T000000Z-1{PART}"
    path.parent.mkdir(parents=True)
    with path.open("wb") as stream:
        fastavro.writer(stream, avro_schema("dead_letter"), letters)
    result = count(editor, {"score": {"$gte": 4}})
    assert (result["source"], result["looked_at"], result["matched"]) == ("dead_letters", 5, 1)
    assert "did not get" in result["message"]
    assert "--write_records" in result["message"]


def test_of_a_large_run_it_is_said_that_not_all_was_looked_at(editor: TestClient, tmp_path: Path) -> None:
    write_records(tmp_path / "out", scores(MOST_OF_A_KIND + 1))
    result = count(editor, {})
    assert (result["looked_at"], result["matched"]) == (MOST_OF_A_KIND, MOST_OF_A_KIND)
    assert result["is_complete"] is False
    assert "there are more than are looked at" in result["message"]


def test_nothing_is_counted_and_that_is_said_where_nothing_is_kept(house: House, editor: TestClient) -> None:
    result = count(editor, {})
    assert (result["source"], result["looked_at"]) == (None, 0)
    assert "--write_records" in result["message"]


def test_who_sees_a_part_of_the_organisation_sees_no_learners_records(house: House, tmp_path: Path) -> None:
    write_records(tmp_path / "out", scores(3))
    client = house.client(EDIT_PUBLIC, user="bo")
    assert client.get(f"{PATH}/records").json()["records"] == []
    assert count(client, {})["looked_at"] == 0
    assert house.client().get(PATH).status_code == 403
    assert house.visitor().post(PATH, json={}).status_code == 401
    # A form of another site cannot send this type.
    assert client.post(PATH, content="{}", headers={"Content-Type": "text/plain"}).status_code == 415
