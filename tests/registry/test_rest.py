"""The REST interface, at the edge: requests in, answers out (docs/spec/forwarders.md section 5)."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from registry.access import EDIT_ALL
from registry.rest import PATH
from registry.stores.sqlite import SqliteStore
from tests.support.registry_house import ORGANISATION, House, create, forwarder_body, house_on
from transforms.forwarders import Rules, documents_from, load_forwarders
from transforms.forwarders.secrets import REDACTED
from transforms.query import compile_query

EXAMPLE: dict[str, Any] = {
    "_id": "59c8d14b0d82b3864a450604",
    "createdAt": "2017-09-25T09:50:03.880Z",
    "updatedAt": "2017-11-06T14:07:27.212Z",
    "owner": "59198183d8ea540933227030",
    "query": "{}",
    "organisation": "59c209c4ad95fd50960c0362",
    "isPublic": False,
    "configuration": {
        "authType": "no auth",
        "protocol": "https",
        "url": "example.org/endpoint",
        "maxRetries": 10,
        "headers": '{"Test-Header-Key":"Test-Header-Value"}',
        "secret": "Dave",
    },
    "__v": 0,
    "active": True,
    "description": "Statement forwarder",
}
"""The example model of Learning Locker's documentation (docs/spec/forwarders.md), as it stands there."""


def test_the_contracts_example_goes_in_and_comes_out_with_its_secrets_redacted(
    editor: TestClient, deliverer: TestClient
) -> None:
    shown = {
        **EXAMPLE,
        "configuration": {
            **EXAMPLE["configuration"],
            "headers": json.dumps({"Test-Header-Key": REDACTED}, separators=(",", ":")),
            "secret": REDACTED,
        },
    }

    created = editor.post(PATH, json=EXAMPLE)

    assert created.status_code == 201
    assert created.headers["Location"] == f"{PATH}/{EXAMPLE['_id']}"
    assert created.json() == shown
    assert editor.get(f"{PATH}/{EXAMPLE['_id']}").json() == shown
    assert editor.get(PATH).json() == [shown]
    assert deliverer.get(f"{PATH}/{EXAMPLE['_id']}?secrets=full").json() == EXAMPLE
    assert deliverer.get(f"{PATH}?secrets=full").json() == [EXAMPLE]


def test_a_new_forwarder_is_the_clients(house: House) -> None:
    client = house.client(EDIT_ALL, user="ann")
    document = create(client, organisation="somebody-else", description="mine")
    assert document["organisation"] == ORGANISATION
    assert document["owner"] == "ann"
    assert document["createdAt"] == document["updatedAt"]
    assert len(document["_id"]) == 24


def test_the_organisation_cannot_be_changed_nor_the_id_nor_the_times(editor: TestClient) -> None:
    before = create(editor)
    changes = {"_id": "x", "organisation": "other", "createdAt": "2000-01-01T00:00:00Z", "updatedAt": "2000-01-01"}
    after = editor.patch(f"{PATH}/{before['_id']}", json=changes).json()
    assert after.pop("updatedAt") > before.pop("updatedAt")
    assert after == before


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_a_change_is_merged_in(editor: TestClient, method: str) -> None:
    before = create(editor, lrs_id="store", configuration={"maxRetries": 3})
    changes = {"description": "new", "lrs_id": None, "configuration": {"url": "other.example"}}

    answer = editor.request(method, f"{PATH}/{before['_id']}", json=changes)

    assert answer.status_code == 200
    after = answer.json()
    assert after["description"] == "new"
    assert "lrs_id" not in after
    assert after["configuration"] == {**before["configuration"], "url": "other.example"}
    assert editor.get(f"{PATH}/{before['_id']}").json() == after


def test_a_query_given_as_an_object_replaces_the_one_before(editor: TestClient) -> None:
    before = create(editor, query={"kind": "score"})
    after = editor.patch(f"{PATH}/{before['_id']}", json={"query": {"kind": "event"}}).json()
    assert after["query"] == {"kind": "event"}


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "PATCH", "DELETE"])
def test_what_is_not_there_is_a_404(editor: TestClient, method: str) -> None:
    answer = editor.request(method, f"{PATH}/absent", json=None if method in ("GET", "DELETE") else {"active": False})
    assert answer.status_code == 404


def test_a_forwarder_is_deleted_and_only_one_by_one(editor: TestClient) -> None:
    kept, gone = create(editor), create(editor)
    assert editor.delete(PATH).status_code == 405
    assert editor.get(f"{PATH}/count").json() == {"count": 2}
    assert editor.delete(f"{PATH}/{gone['_id']}").status_code == 204
    assert editor.get(f"{PATH}/{gone['_id']}").status_code == 404
    assert [document["_id"] for document in editor.get(PATH).json()] == [kept["_id"]]


def test_an_id_is_taken_once_and_never_by_another_organisation(house: House, editor: TestClient) -> None:
    stranger = house.client(EDIT_ALL, organisation="other")
    create(editor, _id="gradebook")
    assert editor.post(PATH, json=forwarder_body(_id="gradebook")).status_code == 409
    assert stranger.post(PATH, json=forwarder_body(_id="gradebook")).status_code == 409
    editor.delete(f"{PATH}/gradebook")
    assert stranger.post(PATH, json=forwarder_body(_id="gradebook")).status_code == 409
    create(editor, _id="gradebook")


@pytest.mark.parametrize("document_id", ["a/b", "..", "count", "match", "deliveries", "x" * 201, "", 7, "a\nb"])
def test_an_id_that_could_not_be_addressed_is_refused(editor: TestClient, document_id: Any) -> None:
    answer = editor.post(PATH, json=forwarder_body(_id=document_id))
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["faults"]] == ["_id"]


# Faults


def test_every_fault_is_told_at_once_by_field_as_the_job_tells_it(editor: TestClient) -> None:
    document = forwarder_body(
        query='{"$where": "1"}',
        payload="letter",
        configuration={"url": "https://receiver.example", "authType": "token", "maxRetries": 11},
    )

    answer = editor.post(PATH, json=document)

    assert answer.status_code == 422
    job = load_forwarders(
        documents_from([{"_id": "x", "organisation": ORGANISATION, **document}], "job"),
        Rules(compile_query, trusted=False, require_organisation=True),
    )
    assert answer.json()["faults"] == [{"field": fault.field, "message": fault.message} for fault in job.faults]
    assert {fault["field"] for fault in answer.json()["faults"]} == {
        "query",
        "payload",
        "configuration.url",
        "configuration.secret",
        "configuration.maxRetries",
    }
    assert editor.get(f"{PATH}/count").json() == {"count": 0}


def test_a_change_that_breaks_a_rule_changes_nothing(editor: TestClient) -> None:
    before = create(editor)
    answer = editor.patch(f"{PATH}/{before['_id']}", json={"configuration": {"maxRetries": -1}})
    assert answer.status_code == 422
    assert editor.get(f"{PATH}/{before['_id']}").json() == before


def test_what_is_wrong_with_an_inactive_forwarder_is_a_warning(editor: TestClient) -> None:
    answer = editor.post(PATH, json={"active": False, "configuration": {"maxRetires": 3}})
    assert answer.status_code == 201
    warnings = json.loads(answer.headers["Forwarder-Warnings"])
    assert {"field": "configuration.maxRetires", "message": "is not a known field and has no effect; did you mean "
            "maxRetries?"} in warnings  # fmt: skip
    refused = editor.patch(f"{PATH}/{answer.json()['_id']}", json={"active": True})
    assert [fault["field"] for fault in refused.json()["faults"]] == ["configuration.url"]


def test_a_document_may_not_read_the_workers_secrets(editor: TestClient) -> None:
    token = {"authType": "token", "secret": "env:FORWARDER_TOKEN"}
    kinesis = {"streamName": "s", "awsRegion": "eu-west-1"}
    by_reference = editor.post(PATH, json=forwarder_body(configuration=token))
    by_default = editor.post(PATH, json=forwarder_body(configuration={"protocol": "Kinesis"}, kinesisOptions=kinesis))
    assert [fault["field"] for fault in by_reference.json()["faults"]] == ["configuration.secret"]
    assert [fault["field"] for fault in by_default.json()["faults"]] == ["kinesisOptions.awsClientKey"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "as JSON"),
        (b"[]", "not a JSON object"),
        (b"{", "as JSON"),
        (b'{"a": NaN}', "as JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a":' * 101 + b"1" + b"}" * 101, "nested more than 100 deep"),
        (b'{"a":' * 60_000 + b"1" + b"}" * 60_000, "nested"),
    ],
)
def test_a_body_that_is_no_object_is_a_400(editor: TestClient, body: bytes, said: str) -> None:
    answer = editor.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_key_that_comes_twice_is_a_fault(editor: TestClient) -> None:
    body = b'{"active": false, "description": "a", "description": "b"}'
    answer = editor.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["faults"]] == ["description"]


def test_a_body_must_be_said_to_be_json_and_of_a_bounded_size(editor: TestClient) -> None:
    form = editor.post(PATH, content=b'{"active": false}', headers={"Content-Type": "text/plain"})
    large = editor.post(PATH, json={"description": "x" * 2**20})
    assert (form.status_code, large.status_code) == (415, 413)


# Two editors


def test_two_editors_do_not_overwrite_each_other(editor: TestClient) -> None:
    document_id = create(editor)["_id"]
    seen = editor.get(f"{PATH}/{document_id}").headers["ETag"]
    first = editor.patch(f"{PATH}/{document_id}", json={"description": "first"}, headers={"If-Match": seen})
    second = editor.patch(f"{PATH}/{document_id}", json={"description": "second"}, headers={"If-Match": seen})
    deletion = editor.delete(f"{PATH}/{document_id}", headers={"If-Match": seen})
    assert (first.status_code, second.status_code, deletion.status_code) == (200, 412, 412)
    assert editor.get(f"{PATH}/{document_id}").json()["description"] == "first"
    latest = first.headers["ETag"]
    assert editor.get(f"{PATH}/{document_id}", headers={"If-None-Match": latest}).status_code == 304
    assert editor.get(f"{PATH}/{document_id}", headers={"If-None-Match": seen}).status_code == 200
    assert editor.delete(f"{PATH}/{document_id}", headers={"If-Match": f'"0", {latest}'}).status_code == 204


# Lists


def test_a_list_is_filtered_by_the_jobs_query_language(editor: TestClient) -> None:
    names = ["one", "two", "three"]
    for number, name in enumerate(names):
        create(editor, _id=name, lrs_id="59c8d14b0d82b3864a450604", configuration={"maxRetries": number})

    def ids(query: Any) -> list[str]:
        answer = editor.get(PATH, params={"query": json.dumps(query), "sort": "configuration.maxRetries"})
        assert answer.status_code == 200, answer.text
        assert editor.get(f"{PATH}/count", params={"query": json.dumps(query)}).json() == {"count": len(answer.json())}
        return [document["_id"] for document in answer.json()]

    assert ids({}) == names
    assert ids({"configuration.maxRetries": {"$gte": 1}}) == ["two", "three"]
    assert ids({"$or": [{"_id": "one"}, {"_id": {"$regex": "^th"}}]}) == ["one", "three"]
    assert ids({"lrs_id": {"$oid": "59c8d14b0d82b3864a450604"}}) == names
    assert ids({"createdAt": {"$gt": {"$dte": "2026-02-01"}}}) == names
    assert ids({"createdAt": {"$gt": {"$date": "2026-04-01T00:00:00Z"}}}) == []


def test_a_list_is_sorted_paged_and_cut_down(editor: TestClient) -> None:
    for number in range(5):
        create(editor, _id=f"f{number}", description=f"{number % 2}")
    ids = [document["_id"] for document in editor.get(PATH, params={"sort": "-description,_id"}).json()]
    assert ids == ["f1", "f3", "f0", "f2", "f4"]
    in_json = {"sort": '{"description": -1, "_id": -1}', "skip": "1", "limit": "2"}
    assert [document["_id"] for document in editor.get(PATH, params=in_json).json()] == ["f1", "f4"]
    assert editor.get(PATH, params={"skip": "5"}).json() == []
    one = {"limit": "1"}
    assert editor.get(PATH, params={**one, "select": "description"}).json() == [{"_id": "f0", "description": "0"}]
    assert editor.get(PATH, params={**one, "select": '{"description": 1, "_id": 0}'}).json() == [{"description": "0"}]
    assert editor.get(PATH, params={**one, "select": "configuration.url"}).json() == [
        {"_id": "f0", "configuration": {"url": "receiver.example/records"}}
    ]
    without = editor.get(PATH, params={**one, "select": "-configuration.url,-_id"}).json()[0]
    assert without["configuration"] == {"protocol": "https"}
    assert "_id" not in without
    assert editor.get(f"{PATH}/f3", params={"select": "description,-_id"}).json() == {"description": "1"}


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("query", "{"),
        ("query", "[]"),
        ("query", '{"$where": "sleep(1)"}'),
        ("query", '{"a": 1, "a": 2}'),
        ("sort", '{"_id": 2}'),
        ("sort", '{"": 1}'),
        ("sort", "$natural"),
        ("sort", "a,b,c,d,e,f,g,h,i"),
        ("select", '{"a": 1, "b": 0}'),
        ("select", '{"a": {"$slice": 1}}'),
        ("skip", "-1"),
        ("skip", "many"),
        ("limit", "0"),
        ("limit", "1001"),
        ("secrets", "some"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(editor: TestClient, parameter: str, value: str) -> None:
    answer = editor.get(PATH, params={parameter: value})
    assert answer.status_code == 400
    assert [fault["field"] for fault in answer.json()["faults"]] == [parameter]


def test_a_list_names_a_version_that_every_change_changes(editor: TestClient) -> None:
    def version() -> str:
        return editor.get(PATH).headers["Forwarders-Version"]

    versions = [version()]
    document_id = create(editor)["_id"]
    versions.append(version())
    assert version() == versions[-1]
    editor.patch(f"{PATH}/{document_id}", json={"description": "x"})
    versions.append(version())
    editor.delete(f"{PATH}/{document_id}")
    versions.append(version())
    assert len(set(versions)) == 4


def test_a_slash_at_the_end_is_no_other_address(editor: TestClient) -> None:
    answer = editor.post(f"{PATH}/", json=forwarder_body(_id="a"), follow_redirects=False)
    assert answer.status_code == 201
    assert [document["_id"] for document in editor.get(f"{PATH}/", follow_redirects=False).json()] == ["a"]
    assert editor.delete(f"{PATH}/", follow_redirects=False).status_code == 405


# The service


def test_health_docs_and_description_are_for_everybody(house: House) -> None:
    visitor = house.visitor()
    assert visitor.get("/health").json() == {"status": "ok"}
    docs = visitor.get("/docs")
    assert "/docs/swagger-ui-bundle.js" in docs.text
    assert "https://" not in docs.text
    assert len(visitor.get("/docs/swagger-ui-bundle.js").content) > 100_000
    assert PATH in visitor.get("/openapi.json").json()["paths"]


def test_a_store_that_does_not_answer_is_told(house: House, editor: TestClient, sqlite_path: Path) -> None:
    house.store.close()
    assert house.visitor().get("/health").status_code == 503
    for answer in (editor.get(PATH), editor.post(PATH, json=forwarder_body())):
        assert answer.status_code == 503
        assert "does not answer" in answer.json()["message"]
        assert str(sqlite_path) not in answer.text


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(path)], capture_output=True)  # noqa: S603, S607
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)  # noqa: S603, S607


def test_a_full_disk_is_told_and_survived(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(200_000))
    store = SqliteStore(str(small_disk / "forwarders.db"))
    house = house_on(store)
    client, visitor = house.client(EDIT_ALL), house.visitor()
    create(client, _id="a")
    answers = [client.patch(f"{PATH}/a", json={"note": f"{number}" + "x" * 60_000}) for number in range(20)]
    statuses = [answer.status_code for answer in answers]
    assert statuses[-1] == 503
    assert set(statuses) == {200, 503}
    assert "no room left" in answers[-1].json()["message"]
    health = visitor.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "full")
    # What is there is there, and can be read.
    kept = statuses.count(200) - 1
    assert client.get(f"{PATH}/a").json()["note"].startswith(str(kept))
    assert "Traceback" not in caplog.text
    assert {path.name for path in small_disk.iterdir()} <= {"ballast", *(f"forwarders.db{end}" for end in ENDS)}
    ballast.unlink()
    assert client.patch(f"{PATH}/a", json={"note": "again"}).status_code == 200
    assert visitor.get("/health").json() == {"status": "ok"}
    # Others may fill it, too.
    with suppress(OSError):
        ballast.write_bytes(bytes(1_000_000))
    assert visitor.get("/health").json()["status"] == "full"
    store.close()


ENDS = ("", "-wal", "-shm")


def test_answers_are_kept_by_nobody(editor: TestClient) -> None:
    assert editor.get(PATH).headers["Cache-Control"] == "no-store"
