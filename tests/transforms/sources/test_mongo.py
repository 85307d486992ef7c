"""A collection of Learning Locker's statements as a source, on a real server."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from bson import Binary, Int64, ObjectId, json_util
from pymongo import MongoClient
from pymongo.collection import Collection

from schemas.times import millis_of
from tests.support.cutting_proxy import cutting
from tests.support.limits import no_descriptors
from tests.support.lrs_feed import statement
from transforms.reading.blocks import Block
from transforms.reading.positions import NOWHERE, OVERLAP_MS, Position
from transforms.sources import mongo_reading
from transforms.sources.base import Access, SourceError
from transforms.sources.mongo_collection import PASSWORD, USERNAME, MongoCollection, Selection
from transforms.sources.mongo_reading import MongoReader, selections_of

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PATIENT = Access(max_backoff=0.01, outage_budget=20)
Documents = Collection[dict[str, Any]]


@pytest.fixture
def documents(mongo_server: str) -> Iterator[Documents]:
    with MongoClient[dict[str, Any]](mongo_server) as client:
        name = f"test_{uuid.uuid4().hex[:12]}"
        yield client[name]["statements"]
        client.drop_database(name)


@pytest.fixture
def source(mongo_server: str, documents: Documents) -> MongoCollection:
    return MongoCollection(f"{mongo_server}/{documents.database.name}.statements", PATIENT)


def id_at(minutes: float, number: int = 0) -> ObjectId:
    seconds = int((BEGIN + timedelta(minutes=minutes)).timestamp())
    return ObjectId(f"{seconds:08x}{number:016x}")


def document(number: int, **given: Any) -> dict[str, Any]:
    """A document as Learning Locker writes one, a minute after the one before."""
    return {
        "_id": id_at(number),
        "active": True,
        "client": ObjectId("5f0000000000000000000001"),
        "lrs_id": ObjectId("5f0000000000000000000002"),
        "organisation": ObjectId("5f0000000000000000000003"),
        "statement": json.loads(statement(number)),
        "stored": BEGIN + timedelta(minutes=number),
        "timestamp": BEGIN + timedelta(minutes=number),
        "voided": False,
        **given,
    }


def selections(source: MongoCollection) -> list[Selection]:
    return list(selections_of(source, lambda: False, {}))


def read(source: MongoCollection) -> tuple[list[Any], Position]:
    """All that the parts give, as Extended JSON says it, and where they got to."""
    found: list[Any] = []
    position = Position()
    for selection in selections(source):
        reader = MongoReader(source, selection, lambda: False, {})
        for block in reader.blocks():
            assert isinstance(block, Block), block
            found += map(json_util.loads, (item.decode() for item in block.items))
        position |= reader.position or NOWHERE
    return found, position


def ids(found: list[Any]) -> list[Any]:
    return sorted((each["_id"] for each in found), key=str)


def test_each_document_is_in_one_part_whatever_its_id_is(
    documents: Documents, source: MongoCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_reading, "RANGE_DOCUMENTS", 7)
    mixed: list[Any] = [id_at(number) for number in range(20)]
    mixed += [f"text {number:02}" for number in range(15)] + [3, 4.5, Int64(2**40)]
    mixed += [Binary(uuid.UUID(int=number).bytes, 4) for number in range(3)]
    mixed += [True, {"a": 1}, BEGIN]
    documents.insert_many([document(number, _id=id_) for number, id_ in enumerate(mixed)])
    parts = selections(source)
    assert len([part for part in parts if part.by_id]) == 3 + 3 + 1 + 1
    found, position = read(source)
    assert len(found) == len(mixed)
    assert len({str(each["_id"]) for each in found}) == len(mixed)
    last = BEGIN + timedelta(minutes=len(mixed) - 1)
    assert position == Position(millis_of(last), int((BEGIN + timedelta(minutes=19)).timestamp()))


def test_ranges_that_end_with_the_last_document_leave_nothing_out(
    documents: Documents, source: MongoCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_reading, "RANGE_DOCUMENTS", 5)
    documents.insert_many([document(number) for number in range(10)])
    assert len(selections(source)) == 2, "nothing is asked for that cannot be there"
    assert ids(read(source)[0]) == [id_at(number) for number in range(10)]


@pytest.mark.parametrize("other", [None, 1, "text", Binary(b"1"), True, BEGIN], ids=lambda other: type(other).__name__)
def test_one_id_of_another_type_is_enough(documents: Documents, source: MongoCollection, other: Any) -> None:
    documents.insert_many([document(number) for number in range(3)] + [document(3, _id=other)])
    found, _ = read(source)
    assert len(found) == 4


def test_an_empty_collection_is_a_quiet_one(source: MongoCollection) -> None:
    assert read(source) == ([], NOWHERE)


def test_a_document_is_a_line_of_extended_json(documents: Documents, source: MongoCollection) -> None:
    documents.insert_one(document(1, great=Int64(2**60 + 1), double=1.0))
    (block,) = MongoReader(source, selections(source)[0], lambda: False, {}).blocks()
    assert isinstance(block, Block)
    (line,) = block.items
    raw = documents.find_one({})
    assert json.loads(line) == json.loads(json_util.dumps(raw, json_options=json_util.CANONICAL_JSON_OPTIONS))
    assert b'"great":{"$numberLong":"1152921504606846977"},"double":{"$numberDouble":"1.0"}' in line


# Positions


def going_on(source: MongoCollection, position: Position) -> MongoCollection:
    return MongoCollection(source.location, source.access, position)


def test_the_next_run_reads_what_is_new_and_an_overlap(documents: Documents, source: MongoCollection) -> None:
    documents.insert_many([document(number) for number in range(60)])
    _, position = read(source)
    overlap = OVERLAP_MS // 60_000
    assert ids(read(going_on(source, position))[0]) == [id_at(number) for number in range(59 - overlap, 60)]
    late = document(1000, _id=id_at(30), stored=BEGIN + timedelta(minutes=61))
    documents.replace_one({"_id": id_at(30)}, late)
    by_text = [document(61, _id="new text"), document(2, _id="old text")]
    documents.insert_many([*by_text, document(62, _id=id_at(62))])
    timeless = document(3, _id="text without a time")
    del timeless["stored"]
    documents.insert_one(timeless)
    found = ids(read(going_on(source, position))[0])
    expected = [id_at(number) for number in (30, *range(59 - overlap, 60), 62)]
    assert found == [*expected, "new text", "text without a time"]


def test_a_late_writer_within_the_overlap_is_read_and_nothing_is_read_twice(
    documents: Documents, source: MongoCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_reading, "RANGE_DOCUMENTS", 3)
    documents.insert_many([document(number) for number in range(0, 30, 2)])
    _, position = read(source)
    documents.insert_many([document(number) for number in range(1, 30, 2)])
    found = ids(read(going_on(source, position))[0])
    assert found == sorted(set(found))
    assert [id_at(number) for number in range(19, 30)] == [each for each in found if each >= id_at(19)]


def test_an_id_ahead_of_the_clock_of_the_server_moves_no_position_there(
    documents: Documents, source: MongoCollection
) -> None:
    ahead = datetime(2099, 1, 1, tzinfo=UTC)
    documents.insert_one(document(0, _id=ObjectId("f" * 24), stored=ahead))
    _, position = read(source)
    assert position.stored < millis_of(ahead)
    assert position.created == position.stored // 1000
    documents.insert_one(document(1, _id=ObjectId(), stored=datetime.now(UTC)))
    assert len(read(going_on(source, position))[0]) == 2


# A bad day


def proxied(source: MongoCollection, port: int) -> MongoCollection:
    location = urlsplit(source.location)
    return MongoCollection(f"mongodb://127.0.0.1:{port}{location.path}", source.access)


def test_a_server_that_goes_away_in_mid_read_costs_nothing(
    documents: Documents, source: MongoCollection, mongo_server: str
) -> None:
    count = 200
    documents.insert_many([document(number) for number in range(count)])
    documents.insert_many([document(number, _id=str(number)) for number in range(count)])
    documents.insert_many([document(number, _id={"key": number}) for number in range(count)])
    address = urlsplit(mongo_server)
    with cutting(address.hostname or "", address.port or 0) as proxy:
        there = proxied(source, proxy.port)
        parts = selections(there)
        found: list[Any] = []
        for part in parts:
            proxy.cuts = [30_000, 58_000] if part.label == parts[0].label else [58_000]
            for block in MongoReader(there, part, lambda: False, {}).blocks():
                assert isinstance(block, Block)
                found += [json.loads(item)["_id"] for item in block.items]
        assert proxy.cut == 4
    assert len(found) == 3 * count
    assert len({json.dumps(id_) for id_ in found}) == 3 * count


def test_a_server_that_stays_away_is_given_up(source: MongoCollection) -> None:
    gone = MongoCollection(
        "mongodb://127.0.0.1:1/db.statements?serverSelectionTimeoutMS=50", Access(None, (), 0.01, 0.1)
    )
    with pytest.raises(SourceError, match=r"0.1 s \(--outage_budget\), last: ServerSelectionTimeoutError"):
        selections(gone)
    selection = selections(source)[0]
    with pytest.raises(SourceError, match="--outage_budget"):
        list(MongoReader(gone, selection, lambda: False, {}).blocks())
    reader = MongoReader(gone, selection, lambda: True, {})
    assert list(reader.blocks()) == []
    assert reader.stopped


def test_a_login_that_is_given_is_used(source: MongoCollection) -> None:
    """FerretDB without accounts refuses one that it does not know."""
    environment = {USERNAME: "somebody", PASSWORD: "hunter2"}
    with pytest.raises(SourceError) as caught:
        list(selections_of(source, lambda: False, environment))
    assert "hunter2" not in str(caught.value)


def test_an_address_that_the_driver_does_not_take_is_told() -> None:
    there = MongoCollection("mongodb://127.0.0.1:99999/db.statements", PATIENT)
    with pytest.raises(SourceError, match=r"^mongodb://127.0.0.1:99999/db.statements: is not an address"):
        selections(there)


def test_a_lack_of_descriptors_here_is_told_and_is_not_said_of_the_server() -> None:
    location = "mongodb://127.0.0.1/x.statements?serverSelectionTimeoutMS=100"
    source = MongoCollection(location, Access(max_backoff=0.001, outage_budget=0.01))
    told = "this machine lacks something: Too many open files: allow this process more"
    with no_descriptors(), pytest.raises(SourceError, match=told):
        list(selections_of(source, lambda: False, {}))
