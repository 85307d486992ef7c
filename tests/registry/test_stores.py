"""Every store, by the same tests: what is kept, what is refused, and that nothing is lost between many writers."""

import json
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.collection import Collection

from registry.access import ALL, DELIVER, Client
from registry.credentials import StoredClient
from registry.keyring import Keyring
from registry.rest import PATH
from registry.stores.base import (
    EDITS_KEPT,
    Draft,
    IdTakenError,
    NoSuchDocumentError,
    Store,
    StoredDocument,
    StoredSession,
    StoreError,
    reseal,
    seal,
    whole,
)
from registry.stores.mongo import mongo_store
from registry.stores.sqlite import SqliteStore
from tests.support.registry_house import KEY, ORGANISATION, create, house_on
from transforms.forwarders.service import read_remote

OpenStore = Callable[[], Store]

EDITS = 200
"""So many of eight threads through two services meet each other often enough."""


@pytest.fixture(params=["sqlite", "mongodb"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same store each time it is called."""
    opened: list[Store] = []
    make: OpenStore = (
        (lambda: SqliteStore(str(tmp_path / "forwarders.db")))
        if request.param == "sqlite"
        else request.getfixturevalue("mongo_stores")()
    )

    def open_it() -> Store:
        opened.append(make())
        return opened[-1]

    yield open_it
    for store in opened:
        store.close()


@pytest.fixture
def open_shared(request: pytest.FixtureRequest, open_store: OpenStore) -> OpenStore:
    """A store that several write to at once."""
    if request.node.callspec.params["open_store"] == "mongodb" and not request.getfixturevalue("is_atomic"):
        pytest.skip("FerretDB 1 reads, then writes: its updates are not atomic, MongoDB's are; set MONGODB_URL to one")
    return open_store


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    return open_store()


def draft(document_id: str, organisation: str = ORGANISATION, **content: object) -> Draft:
    return Draft({"_id": document_id, "organisation": organisation, **content})


def counted(count: int, stored: StoredDocument) -> Draft:
    return draft(stored.id, count=count)


def described(text: str) -> Callable[[StoredDocument], Draft]:
    return lambda stored: Draft({**stored.content, "description": text}, stored.sealed)


def test_what_is_created_is_there_for_every_opener(open_store: OpenStore) -> None:
    here, there = open_store(), open_store()
    assert there.snapshot(None).documents == []
    document_id = "59c8d14b0d82b3864a450604"
    content = {
        "_id": document_id,
        "organisation": ORGANISATION,
        "owner": "59198183d8ea540933227030",
        "createdAt": "2017-09-25T09:50:03.880Z",
        "updatedAt": "2017-11-06T14:07:27.212Z",
        "active": True,
        "configuration": {"maxRetries": 3, "timeout": 0.5, "headers": "[]"},
        "more": [None, {"ä": "\u2028"}],
    }
    stored = here.create(Draft(content, "sealed"), "key")
    for store in (here, there):
        found = store.get(document_id)
        assert found is not None
        assert found == stored
        assert found.content == content
        assert found.sealed == "sealed"
        assert store.snapshot(ORGANISATION).documents == [stored]
        assert store.snapshot("other").documents == []


def test_a_snapshot_is_sorted_and_its_version_is_that_of_its_documents(open_store: OpenStore) -> None:
    store, other = open_store(), open_store()
    for name in ("b", "a", "c"):
        store.create(draft(name), "key")
    before = other.snapshot(ORGANISATION)
    assert [stored.id for stored in before.documents] == ["a", "b", "c"]
    assert other.snapshot(ORGANISATION).version == before.version
    store.update("b", described("new"), "key")
    store.delete("c", lambda stored: None, "key")
    after = other.snapshot(ORGANISATION)
    assert after.version != before.version
    assert [stored.content.get("description") for stored in after.documents] == [None, "new"]
    # What was handed out stays as it was.
    assert [stored.content.get("description") for stored in before.documents] == [None, None, None]


def test_every_change_has_a_revision_of_its_own(store: Store) -> None:
    revisions = [store.create(draft("a"), "key").revision]
    for number in range(3):
        revisions.append(store.update("a", described(str(number)), "key").revision)
    found = store.get("a")
    assert found is not None
    assert found.revision == revisions[-1]
    assert len(set(revisions)) == 4


def test_an_id_is_taken_once_and_stays_with_its_organisation(store: Store) -> None:
    store.create(draft("a"), "key")
    for organisation in (ORGANISATION, "other"):
        with pytest.raises(IdTakenError):
            store.create(draft("a", organisation), "key")
    store.delete("a", lambda stored: None, "key")
    with pytest.raises(IdTakenError):
        store.create(draft("a", "other"), "key")
    store.create(draft("a"), "key")


def test_what_is_not_there_cannot_be_changed(store: Store) -> None:
    assert store.get("a") is None
    with pytest.raises(NoSuchDocumentError):
        store.update("a", described("x"), "key")
    with pytest.raises(NoSuchDocumentError):
        store.delete("a", lambda stored: None, "key")


def test_a_change_that_raises_leaves_everything_as_it_was(store: Store) -> None:
    created = store.create(draft("a"), "key")

    def refuse(stored: StoredDocument) -> NoReturn:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        store.update("a", refuse, "key")
    with pytest.raises(ValueError, match="no"):
        store.delete("a", refuse, "key")
    assert store.get("a") == created
    store.update("a", described("still works"), "key")


def test_secrets_go_in_and_come_out(store: Store) -> None:
    keyring = Keyring([KEY])
    document = {"_id": "a", "organisation": ORGANISATION, "configuration": {"secret": "hunter", "url": "h/?q=hunter"}}
    store.create(seal(document, keyring), "key")
    found = store.get("a")
    assert found is not None
    assert "hunter" not in json.dumps(found.content) + repr(found)
    assert whole(found, keyring) == document


def test_what_a_document_was_is_kept_of_its_latest_changes(open_store: OpenStore) -> None:
    store, other = open_store(), open_store()
    store.create(draft("b"), "key")
    store.create(draft("a", count=0), "ann")
    for number in range(1, EDITS_KEPT + 5):
        store.update("a", partial(counted, number), "bob")
    store.delete("a", lambda stored: None, "eve")
    edits = other.edits("a", 1000)
    assert [(edit.action, edit.by) for edit in edits[:2]] == [("delete", "eve"), ("update", "bob")]
    assert (edits[-1].action, edits[-1].by) == ("create", "ann")
    assert len({edit.version for edit in edits}) == len(edits) == EDITS_KEPT + 6
    assert all(earlier.at <= later.at for later, earlier in pairwise(edits))
    counts = [edit.content and edit.content["count"] for edit in edits]
    assert counts[1:EDITS_KEPT] == list(range(EDITS_KEPT + 4, 5, -1))
    assert counts[0] is None
    assert counts[EDITS_KEPT + 1 :] == [None] * 5
    assert [edit.version for edit in other.edits("a", 3)] == [edit.version for edit in edits[:3]]
    assert [edit.action for edit in other.edits("b")] == ["create"]
    assert other.edits("none") == []


def test_clients_are_kept(open_store: OpenStore) -> None:
    here, there = open_store(), open_store()
    ann = StoredClient(Client("key", "school", "ann", frozenset([ALL])), "hash")
    here.add_client(ann)
    here.add_client(StoredClient(Client("key2", "school"), "hash2"))
    found = there.client("key")
    assert found is not None
    assert replace(found, created_at="") == ann
    assert found.created_at
    assert [stored.client.key for stored in there.clients()] == ["key", "key2"]
    assert there.remove_client("key")
    assert not here.remove_client("key")
    assert here.client("key") is None


def test_many_writers_lose_nothing(open_shared: OpenStore) -> None:
    """Four openers of the store, each with threads: counters in five documents grow by every single change."""
    stores = [open_shared() for _ in range(4)]
    for name in "abcde":
        stores[0].create(draft(name, count=0), "key")

    def increase(number: int) -> None:
        def increased(stored: StoredDocument) -> Draft:
            return Draft({**stored.content, "count": stored.content["count"] + 1})

        stores[number % 4].update("abcde"[number % 5], increased, "key")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(increase, range(400)))
    assert [stored.content["count"] for stored in stores[3].snapshot(None).documents] == [80] * 5


def test_hundreds_of_concurrent_edits_lose_nothing(open_shared: OpenStore) -> None:
    """Over REST, through two services on one store, as fast as they go."""
    houses = [house_on(open_shared()) for _ in range(2)]
    clients = [house.client(ALL) for house in houses]
    document_id = create(clients[0])["_id"]
    statuses: list[int] = []

    def edit(number: int) -> None:
        answer = clients[number % 2].patch(f"{PATH}/{document_id}", json={"edits": {str(number): number}})
        statuses.append(answer.status_code)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(edit, range(EDITS)))
    assert statuses == [200] * EDITS
    edits = clients[1].get(f"{PATH}/{document_id}").json()["edits"]
    assert edits == {str(number): number for number in range(EDITS)}


def test_of_two_editors_with_if_match_one_wins_each_round(open_shared: OpenStore) -> None:
    houses = [house_on(open_shared()) for _ in range(2)]
    clients = [house.client(ALL) for house in houses]
    document_id = create(clients[0])["_id"]
    for _ in range(20):
        seen = clients[0].get(f"{PATH}/{document_id}").headers["ETag"]
        start = threading.Barrier(2)

        def edit(number: int, seen: str = seen, start: threading.Barrier = start) -> int:
            start.wait()
            change = {"description": f"editor {number}"}
            return clients[number].patch(f"{PATH}/{document_id}", json=change, headers={"If-Match": seen}).status_code

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(edit, range(2))) == [200, 412]


# SQLite alone


WRITER = """
import sys
from registry.stores.sqlite import SqliteStore
from registry.stores.base import Draft
store = SqliteStore(sys.argv[1])
for number in range(60):
    store.update("a", lambda stored: Draft({**stored.content, "count": stored.content["count"] + 1}), "key")
"""


def test_processes_that_write_to_one_file_lose_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "forwarders.db")
    store = SqliteStore(path)
    store.create(draft("a", count=0), "key")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path]) for _ in range(3)]  # noqa: S603
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    found = store.get("a")
    assert found is not None
    assert found.content["count"] == 180
    store.close()


def test_many_that_open_a_new_file_at_once_make_one_store(tmp_path: Path) -> None:
    path = str(tmp_path / "forwarders.db")
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: SqliteStore(path), range(8)))
    stores[0].create(draft("a"), "key")
    assert all(store.get("a") is not None for store in stores)
    for store in stores:
        store.close()


def test_every_change_is_on_record(tmp_path: Path) -> None:
    path = tmp_path / "forwarders.db"
    store = SqliteStore(str(path))
    store.create(draft("a"), "ann")
    store.update("a", described("x"), "bob")
    store.delete("a", lambda stored: None, "eve")
    store.close()
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT id, action, by FROM change ORDER BY number").fetchall()
    connection.close()
    assert rows == [("a", "create", "ann"), ("a", "update", "bob"), ("a", "delete", "eve")]


def test_a_file_of_the_version_before_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "forwarders.db"
    store = SqliteStore(str(path))
    store.create(draft("a"), "ann")
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE change DROP COLUMN content")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    store = SqliteStore(str(path))
    store.update("a", described("x"), "bob")
    edits = store.edits("a")
    assert [edit.by for edit in edits] == ["bob", "ann"]
    assert [edit.content and edit.content.get("description") for edit in edits] == ["x", None]
    store.close()


def test_a_file_that_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt cannot be opened"):
        SqliteStore(str(tmp_path / "notes.txt"))


# MongoDB alone


@pytest.fixture
def locker(mongo_server: str) -> Iterator[tuple[Collection[dict[str, Any]], str]]:
    """A collection as Learning Locker keeps it, and the url of a store on it."""
    name = f"locker_{uuid.uuid4().hex[:12]}"
    with MongoClient[dict[str, Any]](mongo_server) as client:
        collection = client[name]["statementForwarding"]
        collection.insert_one(
            {
                "_id": ObjectId("59c8d14b0d82b3864a450604"),
                "createdAt": datetime(2017, 9, 25, 9, 50, 3, 880_000, tzinfo=UTC),
                "updatedAt": datetime(2017, 11, 6, 14, 7, 27, 212_000, tzinfo=UTC),
                "owner": ObjectId("59198183d8ea540933227030"),
                "organisation": ObjectId(ORGANISATION),
                "query": "{}",
                "active": True,
                "isPublic": False,
                "configuration": {"protocol": "https", "url": "example.org/in", "authType": "token", "secret": "Dave"},
                "__v": 0,
            }
        )
        yield collection, f"{mongo_server}/{name}"
        client.drop_database(name)


LOCKERS = "59c8d14b0d82b3864a450604"


def test_learning_lockers_own_collection_is_used_in_place(locker: tuple[Collection[dict[str, Any]], str]) -> None:
    collection, url = locker
    house = house_on(mongo_store(url, {}))
    client, job = house.client(ALL), house.client(ALL, DELIVER)
    shown = client.get(f"{PATH}/{LOCKERS}").json()
    assert shown["configuration"]["secret"] == "[redacted]"
    assert shown["updatedAt"] == "2017-11-06T14:07:27.212Z"
    assert shown["owner"] == "59198183d8ea540933227030"
    assert client.get(f"{PATH}/count", params={"query": '{"configuration.secret": "Dave"}'}).json() == {"count": 0}

    def secret() -> str:
        full = job.get(f"{PATH}/{LOCKERS}", params={"secrets": "full"}).json()
        assert isinstance(full["configuration"]["secret"], str)
        return full["configuration"]["secret"]

    assert secret() == "Dave"
    changed = client.put(f"{PATH}/{LOCKERS}", json={**shown, "description": "edited"})
    assert changed.status_code == 200
    assert secret() == "Dave"
    raw = collection.find_one({"_id": ObjectId(LOCKERS)})
    assert raw is not None
    assert raw["organisation"] == ObjectId(ORGANISATION)
    assert isinstance(raw["updatedAt"], datetime)
    assert "Dave" not in str(raw)
    house.store.close()


def test_a_change_by_learning_locker_is_not_overwritten(locker: tuple[Collection[dict[str, Any]], str]) -> None:
    collection, url = locker
    house = house_on(mongo_store(url, {}))
    client = house.client(ALL)
    for number in range(2):
        seen = client.get(f"{PATH}/{LOCKERS}").headers["ETag"]
        theirs = {"description": f"theirs {number}", "updatedAt": datetime(2026, 1, 1, number, tzinfo=UTC)}
        collection.update_one({"_id": ObjectId(LOCKERS)}, {"$set": theirs})
        refused = client.patch(f"{PATH}/{LOCKERS}", json={"active": False}, headers={"If-Match": seen})
        assert refused.status_code == 412
        merged = client.patch(f"{PATH}/{LOCKERS}", json={"active": number == 1}).json()
        assert (merged["description"], merged["active"]) == (f"theirs {number}", number == 1)
    house.store.close()


def test_rotation_seals_what_learning_locker_wrote(locker: tuple[Collection[dict[str, Any]], str]) -> None:
    collection, url = locker
    store = mongo_store(url, {})
    assert reseal(store, Keyring([KEY]), "test") == 1
    assert "Dave" not in str(collection.find_one())
    content = whole(store.snapshot(None).documents[0], Keyring([KEY]))
    assert content["configuration"]["secret"] == "Dave"
    assert reseal(store, Keyring([KEY]), "test") == 0
    store.close()


def test_what_mongodb_cannot_hold_is_a_fault(locker: tuple[Collection[dict[str, Any]], str]) -> None:
    house = house_on(mongo_store(locker[1], {}))
    client = house.client(ALL)
    # The name is the store's own, so that it would not come back as it was.
    answer = client.post(PATH, json={"active": False, "_registry": {"revision": "x"}})
    assert answer.status_code == 422
    assert "cannot be stored in MongoDB" in answer.json()["faults"][0]["message"]
    house.store.close()


def test_a_server_that_is_not_there_is_told() -> None:
    store = mongo_store("mongodb://127.0.0.1:1/db?serverSelectionTimeoutMS=100", {})
    with pytest.raises(StoreError, match="does not answer"):
        store.check()
    store.close()


def test_the_job_reads_a_mongodb(locker: tuple[Collection[dict[str, Any]], str]) -> None:
    (document,) = read_remote(locker[1], {}).documents
    content: Any = document.content
    assert content["_id"] == LOCKERS
    assert content["configuration"]["secret"] == "Dave"


def test_sessions_and_names_are_kept_and_forgotten(store: Store) -> None:
    client = Client(f"key-{uuid.uuid4().hex}", uuid.uuid4().hex, "ann")
    store.add_client(StoredClient(client, "hash", name="Ann Lee"))
    stored = store.client(client.key)
    assert stored is not None
    assert stored.name == "Ann Lee"
    assert store.organisation_name(client.organisation) is None
    store.name_organisation(client.organisation, "Springfield")
    store.name_organisation(client.organisation, "Springfield School District")
    assert store.organisation_name(client.organisation) == "Springfield School District"

    day = 86_400_000
    sessions = [
        StoredSession(uuid.uuid4().hex, client.key, begun * day, seen * day) for begun, seen in [(1, 9), (8, 8), (8, 9)]
    ]
    for session in sessions:
        store.add_session(session)
    assert [store.session(session.token_hash) for session in sessions] == sessions
    store.touch_session(sessions[2].token_hash, 10 * day)
    touched = store.session(sessions[2].token_hash)
    assert touched == replace(sessions[2], seen_at=10 * day)
    # The first began too long ago, the second was not used for too long.
    store.remove_sessions(created_before=2 * day, seen_before=9 * day)
    assert [store.session(session.token_hash) for session in sessions] == [None, None, touched]
    store.remove_session(sessions[2].token_hash)
    store.remove_session(sessions[2].token_hash)
    store.touch_session(sessions[2].token_hash, 11 * day)
    assert store.session(sessions[2].token_hash) is None

    store.add_session(sessions[0])
    assert store.remove_client(client.key)
    assert store.session(sessions[0].token_hash) is None


def test_a_store_of_the_version_before_keeps_its_clients(tmp_path: Path) -> None:
    path = tmp_path / "forwarders.db"
    with sqlite3.connect(path) as connection:
        for statement in (
            "CREATE TABLE change (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, organisation TEXT, "
            "action TEXT NOT NULL, by TEXT NOT NULL, at TEXT NOT NULL)",
            "CREATE INDEX change_of_document ON change (id, number)",
            "CREATE TABLE forwarder (id TEXT PRIMARY KEY, organisation TEXT, content TEXT NOT NULL, sealed TEXT, "
            "revision INTEGER NOT NULL) WITHOUT ROWID",
            "CREATE TABLE client (key TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, organisation TEXT NOT NULL, "
            "user TEXT, scopes TEXT NOT NULL, created_at TEXT NOT NULL) WITHOUT ROWID",
            "INSERT INTO client VALUES ('k', 'hash', 'school', NULL, '[]', '2026-01-01T00:00:00.000Z')",
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
    store = SqliteStore(str(path))
    (client,) = store.clients()
    assert (client.client.key, client.secret_hash, client.name) == ("k", "hash", "")
    store.add_session(StoredSession("t", "k", 1, 1))
    assert store.session("t") is not None
    store.close()
