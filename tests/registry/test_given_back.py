"""What the registry takes it gives back: the same JSON in every list and to the job. What it could not, it refuses."""

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from registry.access import ALL, DELIVER, EDIT_ALL
from registry.connection import PATH as CONNECTION
from registry.documents import MOST_BYTES, FaultyDocumentError
from registry.keyring import KEYS
from registry.rest import PATH
from registry.stores.base import Draft, Store
from registry.stores.mongo import mongo_store
from registry.stores.sqlite import SqliteStore
from tests.support.receiver import Receiver
from tests.support.registry_house import KEY, ORGANISATION, House, create, forwarder_body, house_on, served
from tests.support.workshop import Workshop
from transforms.forwarders import Rules, load_forwarders, read_documents
from transforms.forwarders import source as forwarder_source
from transforms.forwarders.service import CLIENT_KEY, CLIENT_SECRET, read_remote
from transforms.query import compile_query

JSON_TYPE = {"Content-Type": "application/json"}


def nested(deep: int, value: str = "1") -> str:
    """JSON text of so many objects inside of each other."""
    return '{"a":' * deep + value + "}" * deep


UNKEEPABLE = {
    "a number beyond double": ('{"labels": [1, {"n": 1e400}]}', "labels[1].n", "beyond the range of a double"),
    "a number of 5,000 digits": ('{"n": ' + "9" * 5000 + "}", "n", "beyond the range of a double"),
    "a whole number beyond 64 bits": ('{"n": 9223372036854775808}', "n", "more than 64 bits"),
    "NUL in a text": ('{"n": "a\\u0000b"}', "n", "NUL"),
    "NUL in a name": ('{"n": {"a\\u0000": 1}}', "'n.a\\x00'", "control character"),
    "the service's own field": ('{"_invalid": "me"}', "_invalid", "the service's own"),
}
UNREADABLE = {
    "half of a pair": ('{"n": "\\ud800"}', "surrogate"),
    "half of a pair in a name": ('{"n": {"\\udfff": 1}}', "surrogate"),
    "nested too deeply": ('{"n": ' + nested(100) + "}", "nested more than 100 deep"),
    "nested far too deeply": ('{"n": ' + nested(50_000) + "}", "nested more than 100 deep"),
    "NaN": ('{"n": NaN}', "NaN"),
}


def ways_in(client: TestClient, document_id: str) -> Iterator[tuple[str, str]]:
    """Method and address of everything that takes a document."""
    yield "POST", PATH
    for method in ("PUT", "POST", "PATCH"):
        yield method, f"{PATH}/{document_id}"


@pytest.mark.parametrize(("text", "field", "said"), UNKEEPABLE.values(), ids=UNKEEPABLE)
@pytest.mark.parametrize("active", [True, False])
def test_what_could_not_be_given_back_is_refused_by_every_way_in(
    editor: TestClient, text: str, field: str, said: str, active: bool
) -> None:
    before = create(editor, _id="a", active=active)
    whole = json.dumps(forwarder_body(active=active))[:-1] + "," + text[1:]
    for method, path in ways_in(editor, "a"):
        answer = editor.request(method, path, content=whole, headers=JSON_TYPE)
        assert answer.status_code == 422, (method, path)
        faults = answer.json()["faults"]
        assert any(fault["field"] == field and said in fault["message"] for fault in faults), faults
    assert editor.get(f"{PATH}/a").json() == before


@pytest.mark.parametrize(("text", "said"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused_by_every_way_in(editor: TestClient, text: str, said: str) -> None:
    create(editor, _id="a")
    for method, path in ways_in(editor, "a"):
        answer = editor.request(method, path, content=text, headers=JSON_TYPE)
        assert (answer.status_code, said in answer.json()["message"]) == (400, True), (method, path)


def test_a_document_does_not_grow_without_end(editor: TestClient) -> None:
    create(editor, _id="a")
    piece = "x" * (MOST_BYTES // 3)
    statuses = [editor.patch(f"{PATH}/a", json={f"more{number}": piece}).status_code for number in range(4)]
    assert statuses == [200, 200, 422, 422]
    # As little as it takes to say it, it is the kept form that counts.
    answer = editor.post(PATH, content=b'{"n": [' + b"1e15," * 100_000 + b"1]}", headers=JSON_TYPE)
    assert "larger than" in answer.json()["faults"][0]["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (nested(500), "nested more than 100 deep"),
        (nested(50_000), "nested more than 100 deep"),
        ('{"n": 1e400}', "beyond the range of a double"),
        ('{"n": {"$in": ["\\ud800"]}}', "surrogate"),
        ('{"$and": [' * 100 + "{}" + "]}" * 100, "nested more than 100 deep"),
    ],
)
@pytest.mark.parametrize(("path", "name"), [(PATH, "query"), (f"{PATH}/count", "query"), (CONNECTION, "filter")])
def test_filters_go_by_the_same_rules(editor: TestClient, text: str, said: str, path: str, name: str) -> None:
    # A query string has room for some 60 kB, of which httpx takes a little itself.
    answer = editor.get(path, params={name: text[:10_000] if len(text) > 60_000 else text})
    assert answer.status_code == 400
    assert said in answer.json()["message"] or len(text) > 60_000


@pytest.mark.parametrize(("text", "field", "said"), list(UNKEEPABLE.values())[:4], ids=list(UNKEEPABLE)[:4])
def test_the_job_goes_by_the_same_rules_for_files(text: str, field: str, said: str) -> None:
    good = {"_id": "good", "organisation": "o", **forwarder_body()}
    bad = json.dumps({**good, "_id": "bad"})[:-1] + "," + text[1:]
    loaded = load_forwarders(read_documents({"f": f"{json.dumps(good)}\n{bad}".encode()}), Rules(compile_query))
    (fault,) = loaded.faults
    assert (fault.forwarder_id, fault.field, said in fault.message) == ("bad", field, True)
    assert [forwarder.id for forwarder in loaded.forwarders] == ["good"]


# The law

names = st.text(st.characters(codec="utf-8"), max_size=8)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["[redacted]", "\u2028", "59c8d14b0d82b3864a450604", "2017-09-25T09:50:03.880Z"])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
NAMES = ["labels", "note", "owner", "createdAt", "__v", "$ref", "$id", "a.b", "_registry", "query", "configuration"]
fields = st.dictionaries(st.sampled_from(NAMES) | names, values, max_size=4)


@pytest.fixture(params=["sqlite", "mongodb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[], Store], str]:
    """Opens a store, and its url."""
    if request.param == "mongodb":
        server = request.getfixturevalue("mongo_server")
        url = f"{server}/back_{tmp_path.name.replace('-', '_')[:40]}"
        return lambda: mongo_store(url, {}), url
    path = tmp_path / "law.db"
    return lambda: SqliteStore(str(path)), f"sqlite:///{path}"


def test_whatever_is_accepted_is_given_back_by_every_list_and_to_the_job(
    open_store: tuple[Callable[[], Store], str],
) -> None:
    make, url = open_store
    store = make()
    house = house_on(store)
    editor, job = house.client(ALL, user="ann"), house.client(ALL, DELIVER)
    environment = {KEYS: base64.b64encode(KEY).decode()}
    taken = 0

    @settings(
        max_examples=60,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(content=fields, active=st.booleans())
    def law(content: dict[str, Any], active: bool) -> None:
        nonlocal taken
        body = {**forwarder_body(), **content, "_id": f"law-{taken}", "active": active}
        text = json.dumps(body)
        answer = editor.post(PATH, content=text, headers=JSON_TYPE)
        assert answer.status_code in (201, 400, 422), answer.text
        if answer.status_code != 201:
            return
        taken += 1
        document_id = body["_id"]
        shown = answer.json()
        full = job.get(f"{PATH}/{document_id}", params={"secrets": "full"}).json()
        ours = {"organisation", "owner", "createdAt", "updatedAt"}
        asked = {name: value for name, value in body.items() if value is not None and name not in ours}
        assert {name: value for name, value in full.items() if name in asked} == asked
        where = {"query": json.dumps({"_id": document_id}), "filter": json.dumps({"_id": document_id})}
        assert editor.get(f"{PATH}/{document_id}").json() == shown
        assert editor.get(PATH, params=where).json() == [shown]
        assert [edge["node"] for edge in editor.get(CONNECTION, params=where).json()["edges"]] == [shown]
        read = [document.content for document in read_remote(url, environment).documents]
        assert [document for document in read if document["_id"] == document_id] == [full]

    law()
    assert taken > 10
    store.close()


@pytest.mark.parametrize("note", [nested(99), "[" * 99 + "]" * 99, '[{"pwd": ' * 49 + "1" + "}]" * 49])
def test_what_is_as_deep_as_may_be_is_given_back(
    request: pytest.FixtureRequest, open_store: tuple[Callable[[], Store], str], note: str
) -> None:
    if open_store[1].startswith("mongodb") and not request.getfixturevalue("is_atomic"):
        pytest.skip("FerretDB 1 holds no list in a list, and takes minutes for so deep a document; set MONGODB_URL")
    store = open_store[0]()
    house = house_on(store)
    editor, job = house.client(ALL, user="ann"), house.client(ALL, DELIVER)
    text = json.dumps(forwarder_body(_id="deep"))[:-1] + f', "note": {note}}}'
    answer = editor.post(PATH, content=text, headers=JSON_TYPE)
    assert answer.status_code == 201, answer.text
    assert editor.get(PATH).json() == [answer.json()]
    assert job.get(f"{PATH}/deep", params={"secrets": "full"}).json()["note"] == json.loads(note)
    assert editor.patch(f"{PATH}/deep", json={"description": "x"}).status_code == 200
    store.close()


# What is stored already, by an earlier version or another program


OLD = {
    "a number beyond double": '{"_id":"old","organisation":"%s","owner":"ann","active":true,"labels":{"n":Infinity}}',
    "NUL": '{"_id":"old","organisation":"%s","owner":"ann","active":true,"note":"a\\u0000"}',
    "half of a pair": '{"_id":"old","organisation":"%s","owner":"ann","active":true,"note":"\\ud800"}',
    "depth": '{"_id":"old","organisation":"%s","owner":"ann","active":true,"note":' + nested(120) + "}",
    "no JSON": '{"_id":"old","organisation":"%s","owner":"ann","act',
}


def put_old(path: Path, text: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "INSERT INTO change (id, organisation, action, by, at) VALUES ('old', ?, 'create', 'x', 'x')",
            (ORGANISATION,),
        )
        row = ("old", ORGANISATION, text % ORGANISATION)
        connection.execute("INSERT INTO forwarder VALUES (?, ?, ?, NULL, 99)", row)


@pytest.mark.parametrize("text", OLD.values(), ids=OLD)
def test_one_bad_document_is_listed_as_such_beside_the_others(
    house: House, editor: TestClient, deliverer: TestClient, sqlite_path: Path, text: str
) -> None:
    good = create(editor, _id="good")
    put_old(sqlite_path, text)
    for client, secrets in ((editor, {}), (deliverer, {"secrets": "full"})):
        listed = {document["_id"]: document for document in client.get(PATH, params=secrets).json()}
        assert listed["good"] == good
        assert listed["old"]["organisation"] == ORGANISATION
        assert listed["old"]["_invalid"]
    assert len(editor.get(CONNECTION, params={"sort": "labels,note"}).json()["edges"]) == 2
    assert editor.get(f"{PATH}/old").json() == listed["old"]
    matched = editor.post(f"{PATH}/match", json=SCORE).json()["forwarders"]
    assert {one["_id"]: one["reached"] for one in matched} == {"good": True, "old": False}
    changed = editor.patch(f"{PATH}/old", json={"description": "x"})
    assert changed.status_code == 422
    assert "delete it, and create it anew" in changed.json()["faults"][0]["message"]
    assert editor.post(f"{PATH}/old/test", json={}).status_code == 422
    assert editor.delete(f"{PATH}/old").status_code == 204
    create(editor, _id="old")


SCORE = {
    "user_id": "u",
    "activity_id": "a",
    "session_id": "s",
    "score": 9,
    "max_score": 10,
    "subscores": [],
    "status": "Completed",
}


@pytest.mark.parametrize("by_rest", [True, False])
def test_one_bad_document_does_not_stop_the_runs_of_its_organisation(
    workshop: Workshop,
    receiver: Receiver,
    house: House,
    editor: TestClient,
    sqlite_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    by_rest: bool,
) -> None:
    monkeypatch.setattr(forwarder_source, "_last_launched", {})
    configuration = {"protocol": "http", "url": receiver.url("in")}
    create(editor, _id="scores", query='{"kind": "score"}', payload="record", configuration=configuration)
    put_old(sqlite_path, OLD["a number beyond double"])
    monkeypatch.setenv(KEYS, base64.b64encode(KEY).decode())
    key, secret = house.add_client(ALL, DELIVER)
    monkeypatch.setenv(CLIENT_KEY, key)
    monkeypatch.setenv(CLIENT_SECRET, secret)
    workshop.write_activity([])
    with served(house.registry) as address:
        location = address + PATH if by_rest else f"sqlite:///{sqlite_path}"
        arguments = ("--organisation", ORGANISATION, "--forwarders", location)
        assert workshop.run(*arguments) == 2
        assert "forwarder old" in caplog.text
        assert "labels.n is a number beyond the range of a double" in caplog.text
        assert workshop.run(*arguments, "--skip_invalid_forwarders") == 0
    assert [entry["id"] for entry in workshop.report()["forwarders"]] == ["scores"]


def test_what_another_program_has_put_into_mongodb_is_listed(mongo_server: str, tmp_path: Path) -> None:
    database = f"odd_{tmp_path.name.replace('-', '_')[:40]}"
    with MongoClient[dict[str, Any]](mongo_server) as client:
        common = {"organisation": ObjectId(ORGANISATION), "active": True, "updatedAt": datetime(2026, 1, 1, tzinfo=UTC)}
        client[database]["statementForwarding"].insert_many(
            [
                {"_id": "odd", **common, "note": "a\0b"},
                {"_id": "late", **common, "note": DatetimeMS(400_000_000_000_000)},
                {"_id": "good", **common, "note": 1},
            ]
        )
    store = mongo_store(f"{mongo_server}/{database}", {})
    editor = house_on(store).client(EDIT_ALL)
    listed = {document["_id"]: document for document in editor.get(PATH).json()}
    assert listed["good"]["note"] == 1
    assert "NUL" in listed["odd"]["_invalid"]
    assert "late" in listed
    store.close()


def test_names_that_mongodb_reads_otherwise_are_faults(mongo_server: str, tmp_path: Path) -> None:
    store = mongo_store(f"{mongo_server}/names_{tmp_path.name.replace('-', '_')[:40]}", {})
    client = house_on(store).client(EDIT_ALL)
    for more, field in (
        ({"note": {"$ref": "a", "$id": 1}}, "note.$ref"),
        ({"$note": 1}, "$note"),
        ({"note": [{"a.b": 1}]}, "note[0].a.b"),
        ({"_registry": {"sealed": "x"}}, ""),
    ):
        answer = client.post(PATH, json=forwarder_body(**more))
        assert answer.status_code == 422
        assert field in [fault["field"] for fault in answer.json()["faults"]]
    store.close()


def test_a_store_itself_refuses_what_it_could_not_give_back(open_store: tuple[Callable[[], Store], str]) -> None:
    store = open_store[0]()
    content = {"_id": "a", "organisation": ORGANISATION}
    for value in (float("inf"), float("nan"), 2**63, "\0"):
        with pytest.raises(FaultyDocumentError):
            store.create(Draft({**content, "n": value}), "key")
    store.create(Draft(content), "key")
    with pytest.raises(FaultyDocumentError):
        store.update("a", lambda stored: Draft({**content, "n": [float("-inf")]}), "key")
    assert store.get("a") is not None
    store.close()
